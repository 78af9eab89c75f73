//! Slots -> series, and ids that outlive them.

use super::counter::Counter;
use super::gauge::Gauge;
use super::histogram::Histogram;
use super::sender_gauge::SenderGauge;
use super::summary::Summary;
use crate::clock::Timestamp;
use crate::memory::reserve_one;

/// Names one series for as long as it lives; afterwards it names nothing, never another series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SeriesId {
    /// Names no series at any time.
    pub const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };
}

#[derive(Debug)]
pub(super) enum Value {
    /// The slot is free.
    Vacant,
    Counter(Counter, Created),
    Gauge(Gauge),
    SenderGauge(Box<SenderGauge>),
    Summary(Box<Summary>),
    Histogram(Box<Histogram>),
}

/// When a counter was made, rounded down to a tenth of a second: four bytes lie beside it anyway.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Created(u32);

const CREATED_UNIT_NANOS: u64 = 100_000_000;

impl Created {
    /// Reaches for 13 years from the boot of the machine, where the clock begins.
    pub(super) fn at(now: Timestamp) -> Self {
        Self(u32::try_from(now.0 / CREATED_UNIT_NANOS).unwrap_or(u32::MAX))
    }

    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp(u64::from(self.0) * CREATED_UNIT_NANOS)
    }
}

/// One slot. A fleet has millions of them, so the size matters.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) generation: u32,
    pub(super) hash: u32,
    pub(super) vector: u32,
    /// Slot among the deadlines.
    pub(super) deadline: u32,
    /// See [`labels`](super::labels).
    pub(super) key: Box<[u8]>,
    pub(super) value: Value,
}

const _: () = assert!(size_of::<Series>() <= 56);

/// All series, by index.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) all: Vec<Series>,
    free: Vec<u32>,
    /// How many there will be at most, but for a few.
    series_max: usize,
}

impl Slots {
    /// None yet, and addresses for so many when there are some.
    pub(super) fn new(series_max: usize) -> Self {
        Self { series_max, ..Self::default() }
    }

    /// Live series.
    pub(super) fn live(&self) -> usize {
        // Slots that are worn out count as live: they are gone for good, as memory is.
        self.all.len() - self.free.len()
    }

    #[inline]
    pub(super) fn is_live(&self, id: SeriesId) -> bool {
        self.all.get(id.index as usize).is_some_and(|series| series.generation == id.generation)
    }

    pub(super) fn get(&self, id: SeriesId) -> Option<&Series> {
        self.all.get(id.index as usize).filter(|series| series.generation == id.generation)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: SeriesId) -> Option<&mut Series> {
        self.all.get_mut(id.index as usize).filter(|series| series.generation == id.generation)
    }

    /// The id of the series in this slot.
    pub(super) fn id(&self, index: u32) -> SeriesId {
        let generation = self.all.get(index as usize).map_or(u32::MAX, |series| series.generation);
        SeriesId { index, generation }
    }

    /// Puts a series into a free slot. Its generation is the slot's.
    pub(super) fn insert(&mut self, mut series: Series) -> SeriesId {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.all.get_mut(index as usize)
        {
            series.generation = slot.generation;
            *slot = series;
            return SeriesId { index, generation: slot.generation };
        }
        series.generation = 0;
        reserve_one(&mut self.all, self.series_max);
        self.all.push(series);
        let index = u32::try_from(self.all.len() - 1).expect("the budget of series is below 2^32");
        SeriesId { index, generation: 0 }
    }

    /// Takes the series out, and makes its ids stale.
    pub(super) fn remove(&mut self, id: SeriesId) -> Option<Series> {
        let slot = self.get_mut(id)?;
        let generation = slot.generation.checked_add(1);
        let vacant = Series {
            generation: generation.unwrap_or(u32::MAX),
            hash: 0,
            vector: 0,
            deadline: super::expiry::NEVER,
            key: Box::default(),
            value: Value::Vacant,
        };
        let series = std::mem::replace(slot, vacant);
        // A slot whose generations are used up is never used again, so no id can come back to life.
        if generation.is_some() {
            self.free.push(id.index);
        }
        Some(series)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.all.len() * size_of::<Series>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            generation: 7,
            hash: 0,
            vector: 0,
            deadline: 0,
            key: Box::default(),
            value: Value::Counter(Counter::default(), Created::default()),
        }
    }

    #[test]
    fn a_stale_id_never_names_another_series() {
        let mut slots = Slots::default();
        let first = slots.insert(series());
        assert!(slots.remove(first).is_some() && slots.remove(first).is_none());
        let second = slots.insert(series());
        assert!(second.index == first.index && slots.get_mut(first).is_none());
        assert!(slots.get_mut(second).is_some() && slots.live() == 1);
    }

    #[test]
    fn a_worn_out_slot_is_left_alone() {
        let mut slots = Slots::default();
        let first = slots.insert(series());
        slots.all[0].generation = u32::MAX;
        slots.remove(SeriesId { generation: u32::MAX, ..first });
        assert_eq!(slots.insert(series()).index, 1);
    }
}
