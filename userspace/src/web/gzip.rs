//! Exposition -> the same, compressed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// `text` as one gzip member. Fast rather than small: expositions repeat themselves so much that the
/// fastest level already saves nine tenths.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing into a Vec cannot fail")
}
