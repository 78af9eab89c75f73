//! Any bytes -> the kernel's splitter: no panic, no step out of bounds, and nothing accepted that the
//! daemon would read otherwise.

#![no_main]

use ingest_ebpf::identity::{Identity, split_line};
use ingest_ebpf::layout::{PAYLOAD_BYTES_MAX, Payload};
use libfuzzer_sys::fuzz_target;
use rotameter::line::{self, number};

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(PAYLOAD_BYTES_MAX)];
    // Two fillings behind the end: what lies there must make no difference.
    let (seven, bar) = (split_all(bytes, b'7'), split_all(bytes, b'|'));
    assert_eq!(seven, bar);
    for split in &seven {
        let read = line::split_value(&split.text).expect("the daemon can split the line, too");
        assert_eq!((read.0, read.2), (split.head.as_slice(), split.tail.as_slice()));
        #[expect(clippy::cast_precision_loss, reason = "below 10^15")]
        let value = split.value as f64 / 10_u64.pow(split.decimals) as f64;
        assert_eq!(number::parse(read.1), Ok(value));
    }
});

#[derive(Debug, PartialEq)]
struct Split {
    text: Vec<u8>,
    head: Vec<u8>,
    value: u64,
    decimals: u32,
    tail: Vec<u8>,
}

/// Lines up to the first that is not for the slots, each with its head, value and tail.
fn split_all(bytes: &[u8], filling: u8) -> Vec<Split> {
    let mut payload = Payload { bytes: [filling; size_of::<Payload>()] };
    payload.bytes[..bytes.len()].copy_from_slice(bytes);
    payload.terminate(bytes.len());
    let mut identity = Identity::EMPTY;
    let (mut at, mut lines) = (0, Vec::new());
    while at < bytes.len() {
        let Ok(line) = split_line(&payload, at, bytes.len(), 0, &mut identity) else { break };
        assert!(line.next > at && line.next <= bytes.len());
        assert!(line.newline || line.next == bytes.len());
        assert!(line.value < 1_000_000_000_000_000);
        if !identity.is_printable() {
            // Never in the table, so it is not hot.
            break;
        }
        lines.push(Split {
            text: bytes[at..line.next - usize::from(line.newline)].to_vec(),
            head: identity.head().collect(),
            value: line.value,
            decimals: line.decimals,
            tail: identity.tail().collect(),
        });
        at = line.next;
    }
    lines
}
