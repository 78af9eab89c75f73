//! Exposition -> gzip.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// `body` compressed at the fast level: a scrape goes over a near network, and processor time on
/// a busy node is dearer than bytes.
#[must_use]
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8 + 64), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing into a Vec cannot fail")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_compressed_reads_back() {
        for body in [Vec::new(), b"airflow_ti_failures 4\n".repeat(10_000)] {
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(gzip(&body).as_slice()).read_to_end(&mut back).unwrap();
            assert_eq!(back, body);
        }
    }
}
