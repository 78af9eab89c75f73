//! Capture, recording, pcap, or plain lines -> datagrams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::packet::PortFlags;
use super::pcap::{self, Packets};
use crate::tools::counted;

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
    form: Form,
    packed: bool,
    datagrams: u64,
    end: End,
}

enum Form {
    Lines(Lines),
    Packets(Box<Packets>),
}

struct Lines {
    file: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl Reader {
    /// Opens a file; what it is shows in its first bytes. Of packets, those to `ports` are taken.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn open(path: &Path, ports: &PortFlags) -> anyhow::Result<Self> {
        let opening = || format!("opening capture {}", path.display());
        let mut file = BufReader::new(File::open(path).with_context(opening)?);
        let packed = file.fill_buf().with_context(opening)?.starts_with(&GZIP);
        let mut file: Box<dyn BufRead + Send> = if packed {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        // What cannot be unpacked says so when it is read.
        let is_pcap = file.fill_buf().is_ok_and(pcap::is_one);
        let form = if is_pcap {
            Form::Packets(Box::new(Packets::new(file, ports.ports()).with_context(opening)?))
        } else {
            Form::Lines(Lines { file, line: Vec::new(), number: 0 })
        };
        Ok(Self { path: path.to_owned(), form, packed, datagrams: 0, end: End::Whole })
    }

    /// The next datagram; `None` at the end, whose kind [`Reader::end`] then knows.
    ///
    /// # Errors
    ///
    /// The file cannot be read; a line of JSON or a block holds no datagram.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Entry>> {
        let next = match &mut self.form {
            Form::Lines(lines) => lines.next(&self.path, self.packed)?,
            Form::Packets(packets) => {
                packets.next().with_context(|| format!("reading capture {}", self.path.display()))?
            }
        };
        Ok(match next {
            Ok(entry) => {
                self.datagrams += 1;
                Some(entry)
            }
            Err(end) => {
                self.end = end;
                None
            }
        })
    }

    /// What is wrong with the file behind the last datagram, once there is no other. `done` says what
    /// became of those before: `sent`, `looked at`.
    ///
    /// # Errors
    ///
    /// It was cut off; it holds packets, and none of them to the ports that are asked for.
    pub(crate) fn end(&self, done: &str) -> anyhow::Result<()> {
        let path = self.path.display();
        if self.end == End::Cut {
            let number = usize::try_from(self.datagrams).unwrap_or(usize::MAX);
            let before = match number {
                0 => "before its first datagram".to_owned(),
                1 => format!("behind its first datagram, which was {done}"),
                _ => format!("behind its first {}, which were {done}", counted(number, "datagram")),
            };
            bail!("capture {path} is cut off {before}; what followed is lost, record it again to have it");
        }
        match &self.form {
            Form::Packets(packets) if packets.tally.taken == 0 => {
                let nothing = packets.tally.nothing(packets.ports());
                Err(anyhow!("capture {path} of {}: {nothing}", packets.number_shown()))
            }
            _ => Ok(()),
        }
    }

    /// What packets were left out, a phrase each.
    pub(crate) fn missing(&self) -> Vec<String> {
        match &self.form {
            Form::Packets(packets) => packets.tally.missing(),
            Form::Lines(_) => Vec::new(),
        }
    }
}

impl Lines {
    fn next(&mut self, path: &Path, packed: bool) -> anyhow::Result<Result<Entry, End>> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Ok(Err(End::Whole)),
                Ok(_) => {}
                // Of gzip the end is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Err(End::Cut)),
                Err(error) => {
                    let packed = if packed { ", which begins as gzip" } else { "" };
                    return Err(error).with_context(|| {
                        format!("reading capture {}{packed}, line {}", path.display(), self.number)
                    });
                }
            }
            let whole = self.line.ends_with(b"\n");
            let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
            if let Some(entry) = entry(text) {
                return Ok(Ok(entry));
            }
            // Of our own, and of no datagram; or the last line of one that was cut off.
            if text.starts_with(b"{\"") && (whole || packed) {
                if serde_json::from_slice::<serde_json::Value>(text).is_err() {
                    bail!(
                        "capture {}, line {}: neither a datagram as JSON, {{\"b\": base64}}, nor a StatsD line",
                        path.display(),
                        self.number
                    );
                }
                continue;
            }
            if text.starts_with(b"{\"") {
                return Ok(Err(End::Cut));
            }
            return Ok(Ok(Entry { payload: text.to_vec(), ..Entry::default() }));
        }
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

    use super::super::writer::{Format, Record, Writer};
    use super::*;
    use crate::datagram::Source;

    const FORMATS: [Format; 3] = [Format::Json, Format::Pcap, Format::Pcapng];

    fn read(bytes: &[u8]) -> anyhow::Result<(Vec<Entry>, End)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut reader = Reader::open(file.path(), &PortFlags::default())?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            entries.push(entry);
        }
        Ok((entries, reader.end))
    }

    fn capture(format: Format, datagrams: u32) -> (Vec<u8>, Vec<Entry>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::new(file.reopen().unwrap(), format, u64::MAX).unwrap();
        let mut entries = Vec::new();
        for n in 0..datagrams {
            let payload = format!("name{n}:{n}|c\nother:{}|ms", n * 7919 % 1000).into_bytes();
            let at = Duration::from_millis(n.into());
            let sender = if n % 2 == 0 { "10.0.0.1:77" } else { "[2001:db8::1]:78" }.parse().unwrap();
            let source = Source::Address(sender);
            let record = Record { at, source, destination: None, payload: &payload, packet: None };
            assert!(writer.push(&record).unwrap());
            entries.push(Entry { at, sender: (Some(sender.ip()), sender.port()), payload });
        }
        writer.finish().unwrap();
        (std::fs::read(file.path()).unwrap(), entries)
    }

    #[test]
    fn what_was_written_is_read() {
        for format in FORMATS {
            let (bytes, entries) = capture(format, 1000);
            assert!(read(&bytes).unwrap() == (entries, End::Whole), "{format:?}");
        }
    }

    #[test]
    fn one_that_is_cut_off_is_read_up_to_the_cut() {
        for format in FORMATS {
            let (bytes, entries) = capture(format, 1000);
            let (mut most, mut between) = (0, 0);
            for cut in (60..bytes.len()).step_by(997).chain([bytes.len() - 1, bytes.len() - 8]) {
                let (read, end) = read(&bytes[..cut]).unwrap();
                between += usize::from(end == End::Whole);
                assert!(read == entries[..read.len()], "{format:?} {cut}");
                most = most.max(read.len());
            }
            assert!(most > 900, "{format:?} {most}");
            // Packets have no mark of their end: a file that is cut off between two is whole.
            assert!(between <= if format == Format::Json { 0 } else { 5 }, "{format:?} {between}");
        }
    }

    #[test]
    fn a_packed_pcap_is_read_and_its_cut_is_noticed() {
        let (bytes, entries) = capture(Format::Pcap, 1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(read(&packed).unwrap() == (entries.clone(), End::Whole));
        let (some, end) = read(&packed[..packed.len() / 2]).unwrap();
        assert!((some.as_slice(), end) == (&entries[..some.len()], End::Cut));
        assert!(some.len() > 100, "{}", some.len());
    }

    #[test]
    fn a_cut_and_packets_to_other_ports_are_errors_with_a_way_out() {
        let (bytes, _) = capture(Format::Pcapng, 3);
        let said = |bytes: &[u8], ports: &[&str]| {
            #[derive(clap::Parser)]
            struct Flags {
                #[command(flatten)]
                ports: PortFlags,
            }
            let ports = <Flags as clap::Parser>::parse_from([&["x"], ports].concat()).ports;
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let mut reader = Reader::open(file.path(), &ports).unwrap();
            while reader.next().unwrap().is_some() {}
            reader.end("sent").map_err(|error| error.to_string())
        };
        assert_eq!(said(&bytes, &[]), Ok(()));
        let cut = said(&bytes[..bytes.len() - 3], &[]).unwrap_err();
        assert!(cut.contains("is cut off behind its first 2 datagrams, which were sent"), "{cut}");
        let other = said(&bytes, &["--port=53"]).unwrap_err();
        assert!(
            other.contains("of 3 packets: no datagram to UDP port 53 is in it, but to 9125 (3)"),
            "{other}"
        );
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
            // Of a link that nobody knows, and a packet that is longer than any.
            b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x77\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0x",
            b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\x7f\x01\0\0\0x",
            b"\x1f\x8b\x08\0garbage that is no deflate stream",
        ] {
            let said = format!("{:#}", read(bytes).unwrap_err());
            assert!(said.contains("capture /"), "{said}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&GZIP[..], &bytes].concat());
            let _ = read(&[&b"{\"b\":\""[..], &bytes].concat());
            let _ = read(&[&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], &bytes[..]].concat());
        }

        #[test]
        fn a_damaged_pcap_is_read_without_panic(at in 0..2000_usize, byte: u8) {
            static WHOLE: std::sync::LazyLock<[Vec<u8>; 2]> =
                std::sync::LazyLock::new(|| [Format::Pcap, Format::Pcapng].map(|format| capture(format, 9).0));
            for whole in &*WHOLE {
                let mut damaged = whole.clone();
                let length = damaged.len();
                damaged[at % length] = byte;
                let _ = read(&damaged);
            }
        }
    }
}
