//! Capture -> its lines, each once apart from its value.

use std::collections::HashSet;
use std::path::Path;

use super::{PortFlags, Reader};
use crate::line::{lines, split_value};

/// Different lines that are looked at.
const LINES_MAX: usize = 1_000_000;

/// What was seen.
pub(crate) struct Distinct {
    pub(crate) lines: usize,
    /// How the file ends: an error if it was cut off, or holds nothing for us.
    pub(crate) end: anyhow::Result<()>,
}

/// Hands each different line to `see`, and tells on standard error what was left out.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn distinct_lines(
    path: &Path,
    ports: &PortFlags,
    mut see: impl FnMut(&[u8]),
) -> anyhow::Result<Distinct> {
    let mut seen = HashSet::new();
    let mut reader = Reader::open(path, ports)?;
    while let Some(entry) = reader.next()? {
        for line in lines(&entry.payload) {
            if seen.len() < LINES_MAX && seen.insert(key(line)) {
                see(line);
            }
        }
    }
    reader.missing().iter().for_each(|missing| eprintln!("# left out: {missing}"));
    if seen.len() >= LINES_MAX {
        eprintln!("# left out: what came behind the first {LINES_MAX} different lines");
    }
    Ok(Distinct { lines: seen.len(), end: reader.end("looked at") })
}

fn key(line: &[u8]) -> Vec<u8> {
    match split_value(line) {
        Some((head, value, tail)) => {
            // A sign makes another sample of a gauge.
            let sign = value.get(..1).filter(|first| [&b"+"[..], b"-"].contains(first));
            [head, b":", sign.unwrap_or_default(), tail].concat()
        }
        None => line.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_that_differ_in_their_value_are_one() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        // The third one is "a:1|c", "b:2|c".
        write!(file, "x:1|c\nx:2|c\n{{\"t\":0.1,\"p\":1,\"b\":\"YToxfGMKYjoyfGM=\"}}\ny:2|g\ny:+2|g")
            .unwrap();
        let mut seen = Vec::new();
        let see = |line: &[u8]| seen.push(String::from_utf8(line.to_vec()).unwrap());
        let distinct = distinct_lines(file.path(), &PortFlags::default(), see).unwrap();
        distinct.end.unwrap();
        assert_eq!(
            (distinct.lines, seen),
            (5, ["x:1|c", "a:1|c", "b:2|c", "y:2|g", "y:+2|g"].map(str::to_owned).to_vec())
        );
    }
}
