//! Names -> families and their vectors, bound until the room is needed.

use super::label_budget::Tracked;
use super::order::SortedIds;
use super::series::SeriesId;
use crate::clock::Timestamp;

/// The Prometheus type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FamilyKind {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

impl FamilyKind {
    pub const ALL: [Self; 4] = [Self::Counter, Self::Gauge, Self::Summary, Self::Histogram];

    /// As written in a `# TYPE` line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }

    /// What is appended to the family's name in the names of its samples.
    pub(super) const fn sample_suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter | Self::Gauge => &[],
            Self::Summary => &["_sum", "_count"],
            Self::Histogram => &["_sum", "_count", "_bucket"],
        }
    }
}

/// A metric name, with its type and help.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: Box<str>,
    pub(super) hash: u32,
    /// How many families came before it, those that are gone included.
    pub(super) serial: u64,
    pub(super) kind: FamilyKind,
    /// Place in the registry's list of help texts; nearly all families share one.
    pub(super) help: u32,
    /// The live series, in the order of the exposition.
    pub(super) series: SortedIds,
    /// How many of them are no overflow series.
    pub(super) own_series: u32,
    /// Its newest vector, the head of a list.
    pub(super) newest: u32,
    /// Its first vector with label names, or [`NO_VECTOR`].
    pub(super) labelled: u32,
    /// [`SeriesId::NONE`] until the family had no room.
    pub(super) overflow: SeriesId,
    /// The label of which each value has a budget.
    pub(super) tracked: Option<Tracked>,
    /// When its last series went.
    pub(super) idle_since: Timestamp,
    /// Stands in the queue of idle families.
    pub(super) queued: bool,
}

/// No place among the vectors.
pub(super) const NO_VECTOR: u32 = u32::MAX;

/// No place among the families; of a vector that is free.
pub(super) const NO_FAMILY: u32 = u32::MAX;

/// What the series of one family with the same label names have in common. statsd_exporter calls
/// it so, and counts them.
#[derive(Debug)]
pub(super) struct Vector {
    pub(super) family: u32,
    pub(super) hash: u32,
    /// Sorted, joined by [`SEPARATOR`](super::labels::SEPARATOR).
    pub(super) names: Box<str>,
    /// Place in the registry's list of summary plans or bucket bounds, by the family's kind.
    pub(super) plan: u32,
    /// The next older vector of the family, or [`NO_VECTOR`].
    pub(super) older: u32,
}

/// The place of `item` in `list`, appended if it is new. Lists here hold what the mapping rules
/// say, so they are short.
pub(super) fn intern<T: PartialEq>(list: &mut Vec<T>, item: T) -> u32 {
    let place = list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}
