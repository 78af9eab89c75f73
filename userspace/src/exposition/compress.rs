//! Parts of an exposition -> the same, compressed.
//!
//! At the fastest level: a scrape goes over a near network, and processor time on a busy node is
//! dearer than bytes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A content coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    #[default]
    Identity,
    Gzip,
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Coding {
    /// As in the header `Content-Encoding`; `None` where there is no need for one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            #[cfg(feature = "zstd")]
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Compressed bytes are given out from this number on.
const OUTPUT_BYTES: usize = 64 << 10;

/// Compresses part by part.
pub struct Compressor(Stage);

enum Stage {
    /// The part that came last: it is given out when the next one comes.
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self(match coding {
            Coding::Identity => Stage::Identity(Vec::new()),
            Coding::Gzip => Stage::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            #[cfg(feature = "zstd")]
            Coding::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), 1);
                Stage::Zstd(encoder.expect("level 1 is one of the levels"))
            }
        })
    }

    /// Takes `part` and leaves it empty; gives out what is ready to be sent.
    pub fn push(&mut self, part: &mut Vec<u8>) -> Option<Vec<u8>> {
        const INFALLIBLE: &str = "writing into a Vec cannot fail";
        let output = match &mut self.0 {
            Stage::Identity(held) => {
                let capacity = part.capacity();
                let ready = std::mem::replace(held, std::mem::replace(part, Vec::with_capacity(capacity)));
                return Some(ready).filter(|ready| !ready.is_empty());
            }
            Stage::Gzip(encoder) => {
                encoder.write_all(part).expect(INFALLIBLE);
                encoder.get_mut()
            }
            #[cfg(feature = "zstd")]
            Stage::Zstd(encoder) => {
                encoder.write_all(part).expect(INFALLIBLE);
                encoder.get_mut()
            }
        };
        part.clear();
        (output.len() >= OUTPUT_BYTES).then(|| std::mem::take(output))
    }

    /// What is left.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let finished = match self.0 {
            Stage::Identity(held) => return held,
            Stage::Gzip(encoder) => encoder.finish(),
            #[cfg(feature = "zstd")]
            Stage::Zstd(encoder) => encoder.finish(),
        };
        finished.expect("writing into a Vec cannot fail")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compressed(coding: Coding, parts: &[&[u8]]) -> Vec<u8> {
        let (mut compressor, mut out) = (Compressor::new(coding), Vec::new());
        for part in parts {
            let mut part = part.to_vec();
            out.extend(compressor.push(&mut part).unwrap_or_default());
            assert!(part.is_empty());
        }
        out.extend(compressor.finish());
        out
    }

    #[test]
    fn what_was_compressed_reads_back() {
        let line = b"airflow_ti_failures{dag_id=\"etl\"} 4\n".repeat(10_000);
        let noise: Vec<u8> = (0..400_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let expositions: [&[&[u8]]; 3] = [&[], &[b"a 1\n"], &[&line, b"", &noise, &line]];
        for parts in expositions {
            let body = parts.concat();
            assert_eq!(compressed(Coding::Identity, parts), body);
            let mut back = Vec::new();
            let gzip = compressed(Coding::Gzip, parts);
            flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut back).unwrap();
            assert_eq!(back, body);
            #[cfg(feature = "zstd")]
            assert_eq!(zstd::stream::decode_all(compressed(Coding::Zstd, parts).as_slice()).unwrap(), body);
        }
    }
}
