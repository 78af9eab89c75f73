//! Registry -> exposition.
//!
//! Order and progress are decided here, once for all formats; a format writes the head of a family
//! and one series. A scrape is made of many short steps under the registry's lock, so it never
//! stops ingestion; each series is shown as it is when its step comes.

mod format;
mod number;
mod text;

mod openmetrics;

mod fields;
mod labels;
mod protobuf;

pub mod compress;

use std::cmp::Ordering;
use std::ops::ControlFlow;

pub use format::{Encoding, Escaping, Format, OpenMetricsVersion};

use crate::clock::{Timestamp, WallClock};
use crate::registry::{FamilyId, FamilyKind, FamilyView, Registry, SeriesMark};
use openmetrics::Names;
use protobuf::Message;

/// Takes an exposition as it is written, part by part.
pub trait Sink {
    /// Takes what `part` holds and leaves it empty. `Break` says that nobody wants the rest.
    fn take(&mut self, part: &mut Vec<u8>) -> ControlFlow<()>;
}

impl Sink for Vec<u8> {
    fn take(&mut self, part: &mut Vec<u8>) -> ControlFlow<()> {
        self.append(part);
        ControlFlow::Continue(())
    }
}

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
    format: Format,
    clock: WallClock,
    /// Descending by name; the next one is at the end.
    own: Vec<OwnFamily>,
    /// The registry's family that was begun last, and whether there may be more of it.
    family: Option<FamilyId>,
    /// Its name, which the registry may have forgotten by the next step.
    name: Option<String>,
    inside: bool,
    mark: SeriesMark,
    /// The registry's next families, the nearest at the end; known only within one step.
    upcoming: Vec<FamilyId>,
    /// Names of the own families, ascending, and the families that the registry had when the scrape
    /// began. OpenMetrics derives names from names, so it must not write a family that came later.
    own_names: Vec<String>,
    known_before: Option<FamilyId>,
}

/// What a family costs beside its series, so that a step over many small families is bounded too.
const FAMILY_COST: usize = 1;

/// What a series costs in a step, in counters: an observer has many samples, and a summary's quantiles
/// are computed from what came since the last scrape.
const fn series_cost(kind: FamilyKind) -> usize {
    match kind {
        FamilyKind::Counter | FamilyKind::Gauge => 1,
        FamilyKind::Histogram | FamilyKind::Summary => 16,
    }
}

/// How many families are looked up at once: finding the place is a search over all names.
const UPCOMING_MAX: usize = 128;

impl Cursor {
    #[must_use]
    pub fn new(mut own: Vec<OwnFamily>, format: Format, clock: WallClock) -> Self {
        own.retain(|family| !family.samples.is_empty());
        own.sort_by(|a, b| b.name.cmp(&a.name));
        let own_names = match format {
            Format::OpenMetrics(_) => own.iter().rev().map(|family| family.name.clone()).collect(),
            Format::Text | Format::Protobuf(_) => Vec::new(),
        };
        Self {
            format,
            clock,
            own,
            family: None,
            name: None,
            inside: false,
            mark: SeriesMark::default(),
            upcoming: Vec::new(),
            own_names,
            known_before: None,
        }
    }

    /// Appends what costs about as much as `series_max` counters to `out`; own families are written
    /// whole. The caller locks the registry for each call, and releases it in between.
    pub fn write_slice(
        &mut self,
        registry: &mut Registry,
        out: &mut Vec<u8>,
        series_max: usize,
        now: Timestamp,
    ) -> Progress {
        let known_before = *self.known_before.get_or_insert_with(|| registry.next_family());
        // What was known of the registry's families may have changed since the last step.
        self.upcoming.clear();
        let mut left = series_max.max(1);
        while left > 0 {
            if self.inside {
                left = left.saturating_sub(self.write_family_part(registry, out, left, series_max, now));
                continue;
            }
            if self.upcoming.is_empty() {
                registry.families_after(self.name.as_deref(), left.min(UPCOMING_MAX), &mut self.upcoming);
                self.upcoming.reverse();
            }
            let next = self.upcoming.last().and_then(|id| registry.family(*id));
            let order = match (self.own.last(), next) {
                (None, None) => {
                    if matches!(self.format, Format::OpenMetrics(_)) {
                        out.extend_from_slice(openmetrics::END);
                    }
                    return Progress::Done;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(next)) => own.name.as_str().cmp(next.name),
            };
            if let Some(next) = next.filter(|_| order.is_ge()) {
                self.family = self.upcoming.pop();
                let name = self.name.get_or_insert_default();
                name.clear();
                name.push_str(next.name);
                self.mark.reset();
                // Two families of one name are no valid exposition: our own goes first.
                self.inside = order.is_gt();
                match self.format {
                    // A family that is listed has series, so the head never stands alone.
                    Format::Text if self.inside => text::write_family(out, next),
                    Format::OpenMetrics(_) if self.inside => {
                        if self.family < Some(known_before) {
                            openmetrics::write_family(
                                out,
                                self.names(registry, next.name, next.kind),
                                next.help,
                            );
                        } else {
                            self.inside = false;
                            left = left.saturating_sub(FAMILY_COST);
                        }
                    }
                    // Each part of a family is a message with a head of its own.
                    _ => {}
                }
            }
            if order.is_le()
                && let Some(own) = self.own.pop()
            {
                self.write_own(registry, out, &own);
                left = left.saturating_sub(own.samples.len() + FAMILY_COST);
            }
        }
        Progress::More
    }

    /// Writes series of the present family that cost up to `left`; returns what they did cost. A
    /// message of protobuf may cost up to `series_max`, so that only large families are split.
    fn write_family_part(
        &mut self,
        registry: &mut Registry,
        out: &mut Vec<u8>,
        left: usize,
        series_max: usize,
        now: Timestamp,
    ) -> usize {
        let Some(family) = self.family else { return 0 };
        let Some(head) = registry.family(family) else {
            self.inside = false;
            return FAMILY_COST;
        };
        let (clock, mark) = (self.clock, &mut self.mark);
        let cost = series_cost(head.kind);
        let mut part_max = left.min(series_max).div_ceil(cost);
        let written = match self.format {
            Format::Text => registry.visit_series(family, mark, part_max, now, |family, series| {
                text::write_series(out, family.name, series);
            }),
            Format::OpenMetrics(_) => {
                let (name, kind) = (head.name.to_owned(), head.kind);
                let names = names(&self.own_names, self.known_before, registry, &name, kind);
                registry.visit_series(family, mark, part_max, now, |_, series| {
                    openmetrics::write_series(out, names, series, clock);
                })
            }
            Format::Protobuf(encoding) => {
                part_max = series_max.div_ceil(cost);
                let mut written = 0;
                Message::write(out, encoding, |out| {
                    if let Some(head) = registry.family(family) {
                        out.family(head);
                    }
                    written = registry.visit_series(family, mark, part_max, now, |_, series| {
                        out.series(series, clock);
                    });
                    written > 0
                });
                written
            }
        };
        self.inside = written == part_max;
        // The end of a family costs one as well, so that each turn of the caller's loop does.
        written * cost + if self.inside { 0 } else { FAMILY_COST }
    }

    fn names<'a>(&self, registry: &Registry, name: &'a str, kind: FamilyKind) -> Names<'a> {
        names(&self.own_names, self.known_before, registry, name, kind)
    }

    fn write_own(&self, registry: &Registry, out: &mut Vec<u8>, own: &OwnFamily) {
        let head = FamilyView { name: &own.name, help: &own.help, kind: own.kind };
        match self.format {
            Format::Text => {
                text::write_family(out, head);
                for (labels, value) in &own.samples {
                    text::write_encoded_sample(out, &own.name, labels, *value);
                }
            }
            Format::OpenMetrics(_) => {
                let names = self.names(registry, &own.name, own.kind);
                openmetrics::write_own(out, names, head, &own.samples, self.clock);
            }
            Format::Protobuf(encoding) => Message::write(out, encoding, |out| {
                out.family(head);
                for (labels, value) in &own.samples {
                    out.own_sample(own.kind, labels, *value, self.clock);
                }
                true
            }),
        }
    }
}
/// How a family is named in OpenMetrics beside the other families of this scrape.
fn names<'a>(
    own_names: &[String],
    known_before: Option<FamilyId>,
    registry: &Registry,
    name: &'a str,
    kind: FamilyKind,
) -> Names<'a> {
    Names::new(name, kind, |other| {
        own_names.binary_search_by(|own| own.as_str().cmp(other)).is_ok()
            || registry.family_id(other).is_some_and(|id| Some(id) < known_before)
    })
}

#[cfg(test)]
mod figures;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
