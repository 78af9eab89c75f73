//! Registry -> its size.

use super::family::{Family, Vector};
use super::order::SortedIds;
use super::{FamilyKind, Registry};

/// What the registry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Live series.
    pub series: usize,
    /// Those of them that take what had no room.
    pub overflow_series: u32,
    /// How many series there may be beside those.
    pub series_max: u32,
    /// Values that gauges keep for their senders.
    pub sender_values: usize,
    /// Names bound to a type.
    pub families: usize,
    vectors: [u64; 4],
    /// Estimate of the memory in use, without the allocator's own.
    pub bytes: usize,
}

impl Stats {
    /// Names with their sets of label names ever created; statsd_exporter's `metrics_total`.
    #[must_use]
    pub const fn vectors(&self, kind: FamilyKind) -> u64 {
        self.vectors[kind as usize]
    }
}

impl Registry {
    #[must_use]
    pub fn stats(&self) -> Stats {
        let index_slots =
            self.series_index.capacity() + self.family_index.capacity() + self.vector_index.capacity();
        let bytes = self.owned_bytes
            + self.slots.heap_bytes()
            + self.deadlines.heap_bytes()
            + self.family_order.heap_bytes()
            + self.idle.heap_bytes()
            + self.uses.heap_bytes()
            // A slot of a table and its control byte, and the place in the order.
            + index_slots * (size_of::<u32>() + 1) * 8 / 7
            + self.slots.live() * size_of::<u32>()
            + self.families.len() * size_of::<Family>()
            + self.vectors.len() * size_of::<Vector>()
            + size_of::<SortedIds>();
        Stats {
            series: self.slots.live(),
            overflow_series: self.overflow_series(),
            series_max: self.config.series_max,
            sender_values: self.shares.live,
            families: self.live_families(),
            vectors: self.vectors_by_kind,
            bytes,
        }
    }
}
