//! Registry -> exposition text.
//!
//! Order and progress are decided here, once for all formats; a format writes the head of a family
//! and one series. A scrape is made of many short steps under the registry's lock, so it never
//! stops ingestion; each series is shown as it is when its step comes.

pub mod gzip;
pub mod number;
pub mod text;

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::registry::{FamilyId, FamilyKind, FamilyView, Registry, SeriesMark};

/// One of the daemon's own metrics, counted before the scrape began.
#[derive(Clone, Debug)]
pub struct OwnFamily {
    pub name: String,
    pub help: String,
    /// A counter or a gauge.
    pub kind: FamilyKind,
    /// Encoded labels, such as `type="counter"`, with the value; in the order of the output.
    pub samples: Vec<(String, f64)>,
}

/// Whether [`Cursor::write_slice`] is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
}

/// One scrape in progress: what is already written, by family and key, so that families and series
/// may come and go between two steps.
#[derive(Debug)]
pub struct Cursor {
    /// Descending by name; the next one is at the end.
    own: Vec<OwnFamily>,
    /// The registry's family that was begun last, and whether there may be more of it.
    family: Option<FamilyId>,
    inside: bool,
    mark: SeriesMark,
    /// The registry's next families, the nearest at the end; known only within one step.
    upcoming: Vec<FamilyId>,
}

/// What a family costs beside its series, so that a step over many small families is bounded too.
const FAMILY_COST: usize = 1;

/// How many families are looked up at once: finding the place is a search over all names.
const UPCOMING_MAX: usize = 128;

impl Cursor {
    #[must_use]
    pub fn new(mut own: Vec<OwnFamily>) -> Self {
        own.retain(|family| !family.samples.is_empty());
        own.sort_by(|a, b| b.name.cmp(&a.name));
        Self { own, family: None, inside: false, mark: SeriesMark::default(), upcoming: Vec::new() }
    }

    /// Appends at most about `series_max` series to `out`; own families are written whole. The
    /// caller locks the registry for each call, and releases it in between.
    pub fn write_slice(
        &mut self,
        registry: &mut Registry,
        out: &mut Vec<u8>,
        series_max: usize,
        now: Timestamp,
    ) -> Progress {
        // What was known of the registry's families may have changed since the last step.
        self.upcoming.clear();
        let mut left = series_max.max(1);
        while left > 0 {
            if self.inside {
                left -= self.write_family_part(registry, out, left, now);
                continue;
            }
            if self.upcoming.is_empty() {
                registry.families_after(self.family, left.min(UPCOMING_MAX), &mut self.upcoming);
                self.upcoming.reverse();
            }
            let next = self.upcoming.last().map(|id| registry.family(*id));
            let order = match (self.own.last(), next) {
                (None, None) => return Progress::Done,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(next)) => own.name.as_str().cmp(next.name),
            };
            if let Some(next) = next.filter(|_| order.is_ge()) {
                self.family = self.upcoming.pop();
                self.mark.reset();
                // Two families of one name are no valid exposition: our own goes first.
                self.inside = order.is_gt();
                if self.inside {
                    // A family that is listed has series, so the head never stands alone.
                    text::write_family(out, next);
                }
            }
            if order.is_le()
                && let Some(own) = self.own.pop()
            {
                write_own(out, &own);
                left = left.saturating_sub(own.samples.len() + FAMILY_COST);
            }
        }
        Progress::More
    }

    /// Writes up to `series_max` series of the present family; returns what that cost.
    fn write_family_part(
        &mut self,
        registry: &mut Registry,
        out: &mut Vec<u8>,
        series_max: usize,
        now: Timestamp,
    ) -> usize {
        let Some(family) = self.family else { return 0 };
        let written = registry.visit_series(family, &mut self.mark, series_max, now, |family, series| {
            text::write_series(out, family.name, series);
        });
        self.inside = written == series_max;
        // The end of a family costs one as well, so that each turn of the caller's loop does.
        if self.inside { written } else { (written + FAMILY_COST).min(series_max) }
    }
}

fn write_own(out: &mut Vec<u8>, own: &OwnFamily) {
    text::write_family(out, FamilyView { name: &own.name, help: &own.help, kind: own.kind });
    for (labels, value) in &own.samples {
        text::write_encoded_sample(out, &own.name, labels, *value);
    }
}

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;
