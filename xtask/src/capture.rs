//! A recorded capture, gzip with one JSON object per line -> datagrams.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// A longer line cannot be a datagram: 64 KiB in base64 and the fields around it.
const LINE_BYTES_MAX: u64 = 128 * 1024;

/// The biggest recording has some fifty thousand; this bounds the memory of a wrong file.
const DATAGRAMS_MAX: usize = 1_000_000;

/// One datagram as it was recorded.
pub(crate) struct Recorded {
    /// Since the recording began.
    pub(crate) at: Duration,
    /// The sender's UDP port.
    pub(crate) source_port: u16,
    pub(crate) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Line {
    t: f64,
    p: u16,
    b: String,
}

/// Reads a whole capture, in the order of the recording.
pub(crate) fn read(file: &Path) -> Result<Vec<Recorded>> {
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let mut lines = BufReader::new(GzDecoder::new(opened));
    let mut datagrams = Vec::new();
    let mut text = Vec::new();
    while datagrams.len() < DATAGRAMS_MAX {
        text.clear();
        let number = datagrams.len() + 1;
        let length = (&mut lines)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
            .with_context(|| format!("reading {}", file.display()))?;
        if length == 0 {
            break;
        }
        let datagram = parse(&text).with_context(|| format!("line {number} of {}", file.display()))?;
        datagrams.push(datagram);
    }
    Ok(datagrams)
}

fn parse(text: &[u8]) -> Result<Recorded> {
    let line: Line = serde_json::from_slice(text)?;
    let at = Duration::try_from_secs_f64(line.t).context("the time is no time")?;
    let payload = decode_base64(&line.b).context("the payload is no base64")?;
    Ok(Recorded { at, source_port: line.p, payload })
}

/// All captures in the corpus, by name.
pub(crate) fn list() -> Result<Vec<PathBuf>> {
    let folder = paths_of(&crate::paths::captures())?;
    if folder.is_empty() {
        bail!("no *.jsonl.gz in {}", crate::paths::captures().display());
    }
    Ok(folder)
}

fn paths_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".jsonl.gz"));
    files.sort();
    Ok(files)
}

/// Standard alphabet, padding allowed and not asked for. `None` at any other byte.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (bits >> count).to_be_bytes();
            bytes.push(byte);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[u8]>) {
        assert_eq!(decode_base64(text).as_deref(), expected);
    }

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        check("YTox", Some(b"a:1"));
        check("YToxMg==", Some(b"a:12"));
        check("YToxMg", Some(b"a:12"));
        check("//79", Some(b"\xff\xfe\xfd"));
    }

    #[test]
    fn a_byte_outside_the_alphabet_is_refused() {
        check("YT x", None);
        check("YT=x", None);
    }

    #[test]
    fn a_line_of_a_recording_becomes_a_datagram() {
        let datagram = parse(br#"{"t":6.5,"p":54908,"b":"YToxfGM="}"#).expect("the line is whole");
        assert_eq!(datagram.at, Duration::from_millis(6500));
        assert_eq!((datagram.source_port, datagram.payload.as_slice()), (54908, b"a:1|c".as_slice()));
    }

    #[test]
    fn a_negative_time_is_an_error() {
        assert!(parse(br#"{"t":-1.0,"p":1,"b":""}"#).is_err());
    }
}
