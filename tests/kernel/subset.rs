//! Any line -> the kernel's grammar is a strict subset of the daemon's.

use ingest_ebpf::identity::{Identity, split_line};
use ingest_ebpf::layout::Payload;
use proptest::prelude::*;
use rotameter::line::{self, Parser, number};

use super::generate;
use super::model::{Key, decimal, events, key};
use crate::corpus;

/// What the kernel splits the line into: head and tail, and the value.
fn split(line: &[u8]) -> Option<(Key, f64)> {
    let mut payload = Payload { bytes: [b'7'; size_of::<Payload>()] };
    payload.bytes.get_mut(..line.len())?.copy_from_slice(line);
    payload.terminate(line.len());
    let mut identity = Identity::EMPTY;
    let split = split_line(&payload, 0, line.len(), 0, &mut identity).ok()?;
    if !identity.is_printable() {
        // The daemon inserts no such one.
        return None;
    }
    assert!(!split.newline && split.next == line.len(), "there is one line");
    Some((key(&identity), decimal(split)))
}

/// Whatever the splitter accepts, the parser reads as the same identity and value. Whether it did.
#[track_caller]
fn check(parser: &mut Parser, line: &[u8]) -> bool {
    let Some(((head, tail), value)) = split(line) else { return false };
    let shown = line.escape_ascii();
    let cut = line::split_value(line).unwrap_or_else(|| panic!("{shown}: the daemon cannot split it"));
    assert_eq!((cut.0, cut.2), (head.as_slice(), tail.as_slice()), "{shown}");
    assert_eq!(number::parse(cut.1), Ok(value), "{shown}");
    // Only an identity of which the parser says this is ever promoted.
    if let [(raw, true)] = events(parser, line)[..] {
        assert_eq!(raw.to_bits(), value.to_bits(), "{shown}");
    }
    true
}

#[test]
fn every_recorded_line_that_the_kernel_splits_the_daemon_reads_alike() {
    let mut parser = Parser::default();
    for name in corpus::names().expect("the corpus is there") {
        let (mut split, mut all) = (0_u32, 0_u32);
        for datagram in corpus::load(&name).expect("the recording loads") {
            for line in line::lines(&datagram.payload) {
                split += u32::from(check(&mut parser, line));
                all += 1;
            }
        }
        assert!(split > all / 4, "{name}: the kernel splits {split} of {all} lines");
    }
}

proptest! {
    #![proptest_config(generate::config(20_000))]

    #[test]
    fn every_line_that_the_kernel_splits_the_daemon_reads_alike(line in generate::line()) {
        // A spoilt byte may be the end of the line.
        for line in line::lines(&line) {
            check(&mut Parser::default(), line);
        }
    }
}
