//! Datagrams -> a table of payloads that is sent over and over.

use std::time::Duration;

use super::totals::Totals;
use crate::fleet::{Datagram, Sender};

/// Memory for the payloads of one table.
const BYTES_MAX: usize = 1 << 30;

/// One datagram of a table.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    pub bytes: &'a [u8],
    pub sender: Sender,
    /// Since the table's first.
    pub at: Duration,
}

/// A table of payloads with their senders and times; all bytes lie in one piece of memory.
#[derive(Clone, Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// End of the bytes, which begin where the previous entry's end.
    end: usize,
    /// Lines of this and all previous entries.
    lines: u64,
    sender: Sender,
    at: Duration,
}

impl Payloads {
    /// The first `count` datagrams, or as many as there are; less, if they take more than a gigabyte.
    pub fn collect(datagrams: impl IntoIterator<Item = Datagram>, count: usize) -> Self {
        let mut table = Self::default();
        for datagram in datagrams.into_iter().take(count) {
            if table.bytes.len() + datagram.bytes.len() > BYTES_MAX {
                break;
            }
            table.push(&datagram.bytes, datagram.sender, datagram.at);
        }
        let first = table.entries.first().map_or(Duration::ZERO, |entry| entry.at);
        for entry in &mut table.entries {
            entry.at = entry.at.saturating_sub(first);
        }
        table
    }

    /// These payloads, all of one sender and one time.
    pub fn of<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut table = Self::default();
        for bytes in payloads {
            table.push(bytes, Sender::default(), Duration::ZERO);
        }
        table
    }

    fn push(&mut self, bytes: &[u8], sender: Sender, at: Duration) {
        self.bytes.extend_from_slice(bytes);
        let before = self.entries.last().map_or(0, |entry| entry.lines);
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
        let lines = before + lines as u64;
        self.entries.push(Entry { end: self.bytes.len(), lines, sender, at });
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The payload at `place`, which is below [`Self::len`].
    #[must_use]
    pub fn get(&self, place: usize) -> Payload<'_> {
        let entry = self.entries[place];
        Payload { bytes: &self.bytes[self.begin(place)..entry.end], sender: entry.sender, at: entry.at }
    }

    /// The payload that is sent after `sent` others: the table is a circle.
    #[must_use]
    pub fn after(&self, sent: u64) -> Payload<'_> {
        self.get(self.place(sent))
    }

    pub fn iter(&self) -> impl Iterator<Item = Payload<'_>> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// The time of the last payload.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.entries.last().map_or(Duration::ZERO, |entry| entry.at)
    }

    /// The longest payload's bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.iter().map(|payload| payload.bytes.len()).max().unwrap_or(0)
    }

    /// Lines of the first `sent` datagrams.
    #[must_use]
    pub fn lines(&self, sent: u64) -> u64 {
        self.of_first(sent, |table, place| table.entries[place - 1].lines)
    }

    /// Payload bytes of the first `sent` datagrams.
    #[must_use]
    pub fn bytes(&self, sent: u64) -> u64 {
        self.of_first(sent, |table, place| table.entries[place - 1].end as u64)
    }

    /// What the first `sent` datagrams add up to, in their order, all from one sender.
    #[must_use]
    pub fn totals(&self, sent: u64) -> Totals {
        self.totals_between(0, sent, |_| 0)
    }

    /// What the datagrams from that which follows `first` others up to `last` add up to; `number` tells senders
    /// apart.
    #[must_use]
    pub fn totals_between(&self, first: u64, last: u64, number: impl Fn(Sender) -> u32) -> Totals {
        let length = (self.len() as u64).max(1);
        let rounds = last.saturating_sub(first) / length;
        let add = |totals: &mut Totals, from: u64, to: u64| {
            for payload in (from..to).map(|sent| self.after(sent)) {
                totals.add_from(payload.bytes, number(payload.sender));
            }
        };
        let mut totals = Totals::default();
        if rounds > 0 {
            add(&mut totals, first, first + length);
            totals.repeat(rounds);
        }
        add(&mut totals, first + rounds * length, last);
        totals
    }

    fn place(&self, sent: u64) -> usize {
        usize::try_from(sent % (self.len() as u64).max(1)).unwrap_or(0)
    }

    fn begin(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.entries[before].end)
    }

    fn of_first(&self, sent: u64, up_to: impl Fn(&Self, usize) -> u64) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let rounds = sent / self.len() as u64;
        let place = self.place(sent);
        let rest = if place == 0 { 0 } else { up_to(self, place) };
        rounds * up_to(self, self.len()) + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_circle() {
        let table = Payloads::of([b"a:1|c".as_slice(), b"b:1|c\nb:2|c\n"]);
        assert_eq!(table.after(3).bytes, b"b:1|c\nb:2|c\n");
        let (lines, bytes): (Vec<_>, Vec<_>) =
            (0..5).map(|sent| (table.lines(sent), table.bytes(sent))).unzip();
        assert_eq!((lines, bytes), (vec![0, 1, 3, 4, 6], vec![0, 5, 17, 22, 34]));
        assert_eq!(Payloads::default().lines(7), 0);
    }
}
