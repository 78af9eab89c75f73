//! Slot of one promoted identity -> what it gained since it was last read.

use ingest_ebpf::layout::{LastValue, Slot};

use super::slots::SlotTable;
use crate::{mapper::cache::EntryIndex, registry::SeriesId};

/// One promoted identity.
#[derive(Clone, Copy, Debug)]
pub struct Promoted {
    pub slot: u32,
    pub entry: EntryIndex,
    /// Smoothed over a few looks.
    pub lines_per_second: f64,
    pub(super) hash: u64,
    pub(super) gauge: Option<SeriesId>,
    /// The slot's total when it was last read.
    pub(super) last: Slot,
    /// When the newest value that was read, or was there before, had been received.
    pub(super) last_received_ns: u64,
    /// Lines since the last look.
    pub(super) window_lines: u64,
    /// When that was, on promotion's own clock.
    pub(super) looked_at_seconds: f64,
    /// Looks in a row at which it was quiet.
    pub(super) quiet_looks: u32,
    /// Whether it is looked at in each round.
    pub(super) busy: bool,
}

/// What a slot gained since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub entry: EntryIndex,
    pub lines: u64,
    pub sum: u64,
    /// Of a gauge, its newest value; `None` if all that came is older than what was told before.
    pub last: Option<LastValue>,
}

/// Weight of the newest window in a rate.
const SMOOTHING: f64 = 0.3;
/// Lines per second from which an identity is looked at in each round.
const BUSY_LINES_PER_SECOND: f64 = 1.0;
/// Of an identity that has to go, however busy it is.
pub(super) const QUIET_FOR_EVER: u32 = u32::MAX;

impl Promoted {
    /// Reads the slot.
    pub(super) fn read(&mut self, table: &impl SlotTable) -> Growth {
        let total = table.total(self.slot);
        let mut growth = Growth {
            entry: self.entry,
            lines: total.lines.wrapping_sub(self.last.lines),
            sum: total.sum.wrapping_sub(self.last.sum),
            last: None,
        };
        if growth.lines != 0 && self.gauge.is_some() {
            let value = table.last(self.slot);
            // What the slot's last identity left there is not newer. Nor is anything, if a value could not
            // be read: then its lines are for the next time.
            if value.received_ns <= self.last_received_ns {
                return Growth { lines: 0, sum: 0, ..growth };
            }
            self.last_received_ns = value.received_ns;
            growth.last = Some(value);
        }
        self.last = total;
        self.window_lines += growth.lines;
        growth
    }

    /// The last reading. Lines whose values are older than what another CPU has said wait for a newer
    /// value; now none will come, and they are told without one.
    pub(super) fn read_last(&mut self, table: &impl SlotTable) -> Growth {
        let growth = self.read(table);
        let total = table.total(self.slot);
        let lines = total.lines.wrapping_sub(self.last.lines);
        if growth.lines != 0 || lines == 0 {
            return growth;
        }
        self.last = total;
        Growth { lines, ..growth }
    }

    /// Takes its rate from the lines since the last look. How often in a row it was below `quiet_below`.
    pub(super) fn look(&mut self, now_seconds: f64, quiet_below: f64) -> u32 {
        let seconds = (now_seconds - self.looked_at_seconds).max(1e-3);
        self.looked_at_seconds = now_seconds;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = std::mem::take(&mut self.window_lines) as f64 / seconds;
        self.lines_per_second += (rate - self.lines_per_second) * SMOOTHING;
        self.busy = self.lines_per_second >= BUSY_LINES_PER_SECOND;
        let quiet = rate < quiet_below && self.lines_per_second < quiet_below * 10.0;
        if self.quiet_looks != QUIET_FOR_EVER {
            self.quiet_looks = if quiet { self.quiet_looks + 1 } else { 0 };
        }
        self.quiet_looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promoted(gauge: Option<SeriesId>) -> Promoted {
        Promoted {
            slot: 0,
            entry: 3,
            lines_per_second: 0.0,
            hash: 0,
            gauge,
            last: Slot::default(),
            last_received_ns: 50,
            window_lines: 0,
            looked_at_seconds: 0.0,
            quiet_looks: 0,
            busy: false,
        }
    }

    #[test]
    fn the_last_reading_leaves_no_line_behind() {
        let of = |lines, number, received_ns| {
            vec![(Slot { lines, ..Slot::default() }, LastValue { number, received_ns })]
        };
        let mut promoted = promoted(Some(SeriesId::NONE));
        let first = promoted.read(&of(2, 7, 100));
        assert_eq!((first.lines, first.last.map(|value| value.number)), (2, Some(7)));
        // Another CPU had received its value earlier, and wrote it later.
        let late = of(3, 7, 100);
        assert_eq!(promoted.read(&late).lines, 0, "it waits for a newer value");
        let last = promoted.read_last(&late);
        assert_eq!((last.lines, last.last), (1, None));
        assert_eq!(promoted.read_last(&late).lines, 0);
    }

    #[test]
    fn a_rate_is_that_of_the_time_since_the_last_look() {
        let mut promoted = promoted(None);
        promoted.window_lines = 160;
        promoted.look(16.0, 0.1);
        assert_eq!((promoted.lines_per_second, promoted.busy), (3.0, true));
        for second in 17..40 {
            promoted.look(f64::from(second), 0.1);
        }
        assert!(!promoted.busy);
        assert!(promoted.quiet_looks > 5, "{}", promoted.quiet_looks);
    }
}
