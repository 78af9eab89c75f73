//! Recorded Airflow traffic -> datagrams, in the order in which they were sent.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;

/// One datagram of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Since the recording began.
    pub at: Duration,
    /// The sender's UDP source port, which tells processes apart.
    pub port: u16,
    pub payload: Vec<u8>,
}

impl AsRef<[u8]> for Recorded {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

/// A line of the file; the field names are those of the format.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    t: f64,
    p: u16,
    b: String,
}

const SUFFIX: &str = ".jsonl.gz";
/// A longer line cannot be a datagram: 64 KiB in base64 and the fields around it.
const LINE_BYTES_MAX: u64 = 128 << 10;
/// Bounds the memory that a wrong file takes.
const DATAGRAMS_MAX: usize = 5_000_000;

/// The folder that holds the recordings, for every crate of the workspace that takes this file in.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus"))
}

/// Names of all recordings, sorted; for [`load`].
pub fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).context("listing the corpus")? {
        let file = entry.context("listing the corpus")?.file_name();
        names.extend(file.to_str().and_then(|file| file.strip_suffix(SUFFIX)).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// The datagrams of the recording `name`, oldest first.
///
/// # Errors
///
/// If there is no such recording, or it is not what the format says.
pub fn load(name: &str) -> anyhow::Result<Vec<Recorded>> {
    read(&folder().join(format!("{name}{SUFFIX}")))
}

/// The datagrams of a recording anywhere, oldest first; a name that ends in `.gz` is unpacked.
///
/// # Errors
///
/// If it cannot be opened, is not what the format says, or is too long.
pub fn read(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let bytes: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = BufReader::new(bytes);
    let mut datagrams: Vec<Recorded> = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let number = datagrams.len() + 1;
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).context("reading");
        if read.with_context(|| format!("{}, line {number}", path.display()))? == 0 {
            break;
        }
        ensure!(number <= DATAGRAMS_MAX, "{}: more than {DATAGRAMS_MAX} datagrams", path.display());
        let parsed = parse(line.trim_end());
        datagrams.push(parsed.with_context(|| format!("{}, line {number}", path.display()))?);
    }
    ensure!(datagrams.is_sorted_by_key(|datagram| datagram.at), "{} is out of order", path.display());
    Ok(datagrams)
}

fn parse(line: &str) -> anyhow::Result<Recorded> {
    let entry: Entry = serde_json::from_str(line)?;
    let at = Duration::try_from_secs_f64(entry.t)?;
    Ok(Recorded { at, port: entry.p, payload: base64(entry.b.as_bytes())? })
}

/// Decodes base64 with the usual alphabet and padding.
fn base64(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(4), "base64 comes in groups of four");
    let unpadded = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in text.iter().take(unpadded) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => anyhow::bail!("`{}` is not base64", byte.escape_ascii()),
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA==", "abcd")]
        {
            assert_eq!(base64(text.as_bytes()).expect("valid base64"), bytes.as_bytes());
        }
        assert_eq!(base64(b"+/8=").expect("valid base64"), [0xfb, 0xff]);
        assert!(base64(b"a").is_err());
        assert!(base64(b"a b=").is_err());
    }

    #[test]
    fn every_recording_loads() {
        let names = names().expect("the corpus is there");
        assert_eq!(names.len(), 12);
        for name in names {
            let datagrams = load(&name).expect("the recording loads");
            assert!(datagrams.len() > 10_000, "{name}");
        }
    }
}
