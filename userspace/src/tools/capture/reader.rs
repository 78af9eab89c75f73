//! Capture, recording, pcap, or plain lines -> datagrams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Bytes of a line; the largest datagram in base64 has 88 KB.
const LINE_BYTES_MAX: u64 = 1 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One datagram of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Since the first one; zero where the file does not say.
    pub(crate) at: Duration,
    /// Tells senders apart.
    pub(crate) sender: (Option<std::net::IpAddr>, u16),
    pub(crate) payload: Vec<u8>,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// It was cut off, as by a full disk or a process that was killed.
    Cut,
}

/// A file that is being read.
pub(crate) struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    line: Vec<u8>,
    packed: bool,
    number: u64,
    end: End,
}

impl Reader {
    /// Opens a file; what it is shows in its first bytes.
    ///
    /// # Errors
    ///
    /// It cannot be read, or holds a form that we do not know.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let opening = || format!("opening capture {}", path.display());
        let mut file = BufReader::new(File::open(path).with_context(opening)?);
        let begins = file.fill_buf().with_context(opening)?;
        let packed = begins.starts_with(&GZIP);
        if [
            &[0xd4, 0xc3, 0xb2, 0xa1][..],
            &[0x4d, 0x3c, 0xb2, 0xa1],
            &[0xa1, 0xb2],
            &[0x0a, 0x0d, 0x0d, 0x0a],
        ]
        .iter()
        .any(|magic| begins.starts_with(magic))
        {
            bail!(
                "capture {}: this is a pcap; `tshark -r FILE -Y udp -T fields -e data` gives payloads in hex, \
                 and `rotameter capture --listen` records without it",
                path.display()
            );
        }
        let lines: Box<dyn BufRead> = if packed {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Self { path: path.to_owned(), lines, line: Vec::new(), packed, number: 0, end: End::Whole })
    }

    /// The next datagram; `None` at the end, whose kind [`Reader::end`] then knows.
    ///
    /// # Errors
    ///
    /// The file cannot be read; a line of JSON holds no datagram.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // Of gzip the end is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.end = End::Cut;
                    return Ok(None);
                }
                Err(error) => {
                    let packed = if self.packed { ", which begins as gzip" } else { "" };
                    return Err(error).with_context(|| {
                        format!("reading capture {}{packed}, line {}", self.path.display(), self.number)
                    });
                }
            }
            let whole = self.line.ends_with(b"\n");
            let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            if let Some(entry) = entry(text) {
                return Ok(Some(entry));
            }
            // Of our own, and of no datagram; or the last line of one that was cut off.
            if text.starts_with(b"{\"") && (whole || self.packed) {
                if serde_json::from_slice::<serde_json::Value>(text).is_err() {
                    bail!(
                        "capture {}, line {}: neither a datagram as JSON, {{\"b\": base64}}, nor a StatsD line",
                        self.path.display(),
                        self.number
                    );
                }
                continue;
            }
            if text.starts_with(b"{\"") {
                self.end = End::Cut;
                return Ok(None);
            }
            return Ok(Some(Entry { payload: text.to_vec(), ..Entry::default() }));
        }
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }
}

/// A datagram as JSON.
fn entry(text: &[u8]) -> Option<Entry> {
    if !text.starts_with(b"{") {
        return None;
    }
    #[derive(serde::Deserialize)]
    struct Read {
        #[serde(default)]
        t: f64,
        #[serde(default)]
        p: u16,
        #[serde(default)]
        s: Option<std::net::IpAddr>,
        b: String,
    }
    let Read { t, p, s, b } = serde_json::from_slice(text).ok()?;
    let payload = BASE64_STANDARD.decode(b).ok()?;
    Some(Entry { at: Duration::try_from_secs_f64(t).ok()?, sender: (s, p), payload })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::writer::Writer;
    use super::*;
    use crate::datagram::Source;
    use crate::live::tail::Captured;

    fn read(bytes: &[u8]) -> anyhow::Result<(Vec<Entry>, End)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut reader = Reader::open(file.path())?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            entries.push(entry);
        }
        Ok((entries, reader.end()))
    }

    fn capture(datagrams: u32) -> (Vec<u8>, Vec<Entry>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::new(file.reopen().unwrap(), u64::MAX);
        let mut entries = Vec::new();
        for n in 0..datagrams {
            let payload = format!("name{n}:{n}|c\nother:{}|ms", n * 7919 % 1000).into_bytes();
            let at = Duration::from_millis(n.into());
            let source = Source::Address("10.0.0.1:77".parse().unwrap());
            let captured = Captured::new(&payload, source, at);
            assert!(writer.push(&serde_json::to_vec(&captured).unwrap()).unwrap());
            entries.push(Entry { at, sender: (Some([10, 0, 0, 1].into()), 77), payload });
        }
        writer.finish().unwrap();
        (std::fs::read(file.path()).unwrap(), entries)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, entries) = capture(1000);
        assert_eq!(read(&bytes).unwrap(), (entries, End::Whole));
    }

    #[test]
    fn one_that_is_cut_off_is_read_up_to_the_cut() {
        let (bytes, entries) = capture(2000);
        let mut most = 0;
        for cut in (10..bytes.len()).step_by(997).chain([bytes.len() - 1, bytes.len() - 8]) {
            let (read, end) = read(&bytes[..cut]).unwrap();
            assert_eq!(end, End::Cut, "{cut}");
            assert_eq!(read, entries[..read.len()], "{cut}");
            most = most.max(read.len());
        }
        assert!(most > 1900, "{most}");
    }

    #[test]
    fn plain_lines_and_recordings_are_read_too() {
        let text = b"x:1|c\n{\"t\":0.1,\"p\":1,\"b\":\"YToxfGM=\"}\n{\"skipped\":3}\ny:2|g";
        let (entries, end) = read(text).unwrap();
        let payloads: Vec<_> = entries.iter().map(|entry| entry.payload.as_slice()).collect();
        assert_eq!((payloads, end), (vec![&b"x:1|c"[..], b"a:1|c", b"y:2|g"], End::Whole));
        assert_eq!(entries[1].at, Duration::from_millis(100));
        assert_eq!(read(b"{\"t\":1,\"p\":2,\"b\":\"YTo").unwrap(), (vec![], End::Cut));
    }

    #[test]
    fn what_is_none_is_said() {
        for bytes in [
            &b"{\"b\":\"?\n{}\n"[..],
            b"\xd4\xc3\xb2\xa1\0\0",
            b"\x1f\x8b\x08\0garbage that is no deflate stream",
        ] {
            let said = format!("{:#}", read(bytes).unwrap_err());
            assert!(said.contains("capture /"), "{said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&GZIP[..], &bytes].concat());
            let _ = read(&[&b"{\"b\":\""[..], &bytes].concat());
        }
    }
}
