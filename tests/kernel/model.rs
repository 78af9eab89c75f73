//! Promoted identities, a payload -> what a door must do with it, in two ways that share little.

use std::collections::BTreeMap;

use ingest_ebpf::identity::{Identity, Line, NoIdentity, split_line};
use ingest_ebpf::layout::{LINES_MAX, PAYLOAD_BYTES_MAX, Payload, SLOT_VALUE_MAX, VALUE_DIGITS_MAX};
use ingest_ebpf::verdict::Verdict;
use rotameter::line::{self, Parser, Tally};

/// A line with its value taken out: head, and tail from the `|`.
pub(super) type Key = (Vec<u8>, Vec<u8>);

/// The promoted identities and their slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot(BTreeMap<Key, u32>);

/// What a door must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) verdict: Verdict,
    /// Slot -> growth of lines and sum; empty unless counted.
    pub(super) slots: BTreeMap<u32, (u64, u64)>,
    pub(super) empty_lines: u64,
}

impl Expected {
    fn uncounted(verdict: Verdict) -> Self {
        Self { verdict, slots: BTreeMap::new(), empty_lines: 0 }
    }
}

impl Hot {
    /// Adds the identity of `line`, cut as the daemon's own cache cuts it.
    #[track_caller]
    pub(super) fn insert(&mut self, line: &[u8], slot: u32) {
        let (head, _, tail) = line::split_value(line).expect("the line has one value");
        self.0.insert((head.to_vec(), tail.to_vec()), slot);
    }

    /// By the splitter that the kernel has, compiled for this machine.
    pub(super) fn by_splitter(&self, bytes: &[u8]) -> Expected {
        if bytes.is_empty() {
            return Expected::uncounted(Verdict::Empty);
        }
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Expected::uncounted(Verdict::LongPayload);
        }
        // Bytes behind the end must not matter, so they are the most misleading ones.
        let mut payload = Payload { bytes: [b'7'; size_of::<Payload>()] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        let mut identity = Identity::EMPTY;
        let mut slots: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut at = 0;
        for _ in 0..LINES_MAX {
            let line = match split_line(&payload, at, bytes.len(), 0, &mut identity) {
                Ok(line) => line,
                Err(NoIdentity::Odd) => return Expected::uncounted(Verdict::OddLine),
                Err(NoIdentity::Long) => return Expected::uncounted(Verdict::LongLine),
            };
            let Some(slot) = self.0.get(&key(&identity)) else {
                return Expected::uncounted(Verdict::NotHot);
            };
            if line.decimals != 0 {
                return Expected::uncounted(Verdict::OddLine);
            }
            if line.value > SLOT_VALUE_MAX {
                return Expected::uncounted(Verdict::LargeValue);
            }
            let growth = slots.entry(*slot).or_default();
            *growth = (growth.0 + 1, growth.1 + line.value);
            at = line.next;
            if at == bytes.len() {
                return Expected { verdict: Verdict::Counted, slots, empty_lines: u64::from(line.newline) };
            }
        }
        Expected::uncounted(Verdict::ManyLines)
    }

    /// By the daemon's own reading of lines and values; `None` where the datagram must be ringed,
    /// whatever the reason.
    pub(super) fn by_parser(&self, bytes: &[u8]) -> Option<Expected> {
        let mut lines: Vec<&[u8]> = line::lines(bytes).collect();
        let empty_lines = u64::from(lines.len() > 1 && lines.last().is_some_and(|line| line.is_empty()));
        if empty_lines == 1 {
            lines.pop();
        }
        if lines.len() > LINES_MAX {
            return None;
        }
        let mut slots: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for line in lines {
            let (head, value, tail) = line::split_value(line)?;
            let slot = self.0.get(&(head.to_vec(), tail.to_vec()))?;
            if value.len() > VALUE_DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let value: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
            if value > SLOT_VALUE_MAX {
                return None;
            }
            let growth = slots.entry(*slot).or_default();
            *growth = (growth.0 + 1, growth.1 + value);
        }
        Some(Expected { verdict: Verdict::Counted, slots, empty_lines })
    }
}

/// Head and tail of an identity, from the words in which the table compares them.
pub(super) fn key(identity: &Identity) -> Key {
    (identity.head().collect(), identity.tail().collect())
}

/// The value of a line as a number.
#[expect(clippy::cast_precision_loss, reason = "below 10^15")]
pub(super) fn decimal(line: Line) -> f64 {
    // Both are exact, so the quotient is the nearest number, as it is where a text is read.
    line.value as f64 / 10_u64.pow(line.decimals) as f64
}

/// The events of one line as numbers on the wire, and whether a cache may keep the only one.
pub(super) fn events(parser: &mut Parser, line: &[u8]) -> Vec<(f64, bool)> {
    let mut events = Vec::new();
    parser.parse_line(line, &mut Tally::default(), &mut |event| events.push((event.raw, event.cacheable)));
    events
}
