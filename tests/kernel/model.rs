//! Promoted identities, a payload -> what a door must do with it, in two ways that share little.

use std::collections::BTreeMap;

use ingest_ebpf::identity::{Identity, Line, NoIdentity, split_line};
use ingest_ebpf::layout::{
    LINES_MAX, OPERATION_ADD, OPERATION_LAST, PAYLOAD_BYTES_MAX, Payload, SLOT_VALUE_MAX, VALUE_DIGITS_MAX,
};
use ingest_ebpf::verdict::Verdict;
use rotameter::line::{self, Parser, Tally};

/// A line with its value taken out: head, and tail from the `|`.
pub(super) type Key = (Vec<u8>, Vec<u8>);

/// The promoted identities, their slots, and what is done there.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot(BTreeMap<Key, (u32, u32)>);

/// What a door must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) verdict: Verdict,
    /// Slot -> growth of lines and sum; empty unless counted.
    pub(super) slots: BTreeMap<u32, (u64, u64)>,
    /// Slot -> digits and decimals of the last value that it was given.
    pub(super) values: BTreeMap<u32, (u64, u32)>,
    pub(super) empty_lines: u64,
}

impl Expected {
    fn uncounted(verdict: Verdict) -> Self {
        Self { verdict, slots: BTreeMap::new(), values: BTreeMap::new(), empty_lines: 0 }
    }

    /// Counts a line, unless its value is not for the slot: then the verdict.
    fn count(&mut self, slot: u32, operation: u32, value: u64, decimals: u32) -> Result<(), Verdict> {
        let growth = self.slots.entry(slot).or_default();
        if operation == OPERATION_LAST {
            growth.0 += 1;
            self.values.insert(slot, (value, decimals));
        } else if decimals != 0 {
            return Err(Verdict::OddLine);
        } else if value > SLOT_VALUE_MAX {
            return Err(Verdict::LargeValue);
        } else {
            *growth = (growth.0 + 1, growth.1 + value);
        }
        Ok(())
    }
}

/// What is done in the slot of a line: the kernel keeps the last value of a gauge.
pub(super) fn operation(tail: &[u8]) -> u32 {
    if tail.starts_with(b"|g") { OPERATION_LAST } else { OPERATION_ADD }
}

/// Whether nothing is looked up, because no timer is ever promoted.
fn ends_in_timer(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes.strip_suffix(b"\n").unwrap_or(bytes).ends_with(b"|ms")
}

/// Digits and decimals of a value, the slow and obvious way.
fn fixed_point(text: &str) -> Option<(u64, u32)> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.replacen('.', "", 1);
    if !is_plain(whole) || !is_plain(decimals) || digits.len() > VALUE_DIGITS_MAX {
        return None;
    }
    let decimals = if text.contains('.') { decimals.len() } else { 0 };
    Some((digits.parse().ok()?, u32::try_from(decimals).ok()?))
}

impl Hot {
    /// Adds the identity of `line`, cut as the daemon's own cache cuts it.
    #[track_caller]
    pub(super) fn insert(&mut self, line: &[u8], slot: u32) {
        let (head, _, tail) = line::split_value(line).expect("the line has one value");
        self.0.insert((head.to_vec(), tail.to_vec()), (slot, operation(tail)));
    }

    /// By the splitter that the kernel has, compiled for this machine.
    pub(super) fn by_splitter(&self, bytes: &[u8]) -> Expected {
        if bytes.is_empty() {
            return Expected::uncounted(Verdict::Empty);
        }
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Expected::uncounted(Verdict::LongPayload);
        }
        if ends_in_timer(bytes) {
            return Expected::uncounted(Verdict::OddLine);
        }
        // Bytes behind the end must not matter, so they are the most misleading ones.
        let mut payload = Payload { bytes: [b'7'; size_of::<Payload>()] };
        payload.bytes[..bytes.len()].copy_from_slice(bytes);
        payload.terminate(bytes.len());
        let mut identity = Identity::EMPTY;
        let mut expected = Expected::uncounted(Verdict::Counted);
        let mut at = 0;
        for _ in 0..LINES_MAX {
            let line = match split_line(&payload, at, bytes.len(), 0, &mut identity) {
                Ok(line) => line,
                Err(NoIdentity::Odd) => return Expected::uncounted(Verdict::OddLine),
                Err(NoIdentity::Long) => return Expected::uncounted(Verdict::LongLine),
            };
            let Some((slot, operation)) = self.0.get(&key(&identity)) else {
                return Expected::uncounted(Verdict::NotHot);
            };
            if let Err(verdict) = expected.count(*slot, *operation, line.value, line.decimals) {
                return Expected::uncounted(verdict);
            }
            at = line.next;
            if at == bytes.len() {
                return Expected { empty_lines: u64::from(line.newline), ..expected };
            }
        }
        Expected::uncounted(Verdict::ManyLines)
    }

    /// By the daemon's own reading of lines and values; `None` where the datagram must be ringed,
    /// whatever the reason.
    pub(super) fn by_parser(&self, bytes: &[u8]) -> Option<Expected> {
        if ends_in_timer(bytes) {
            return None;
        }
        let mut lines: Vec<&[u8]> = line::lines(bytes).collect();
        let empty_lines = u64::from(lines.len() > 1 && lines.last().is_some_and(|line| line.is_empty()));
        if empty_lines == 1 {
            lines.pop();
        }
        if lines.len() > LINES_MAX {
            return None;
        }
        let mut expected = Expected { empty_lines, ..Expected::uncounted(Verdict::Counted) };
        for line in lines {
            let (head, value, tail) = line::split_value(line)?;
            let (slot, operation) = self.0.get(&(head.to_vec(), tail.to_vec()))?;
            let (value, decimals) = fixed_point(std::str::from_utf8(value).ok()?)?;
            expected.count(*slot, *operation, value, decimals).ok()?;
        }
        Some(expected)
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
