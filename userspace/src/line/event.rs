//! One sample of a line, typed: what the parser hands to the mapper.

/// One sample with its name and tags; borrowed from the line and from the parser's scratch space.
///
/// `Event::value` is what goes to the registry: `raw / divisor`. A line that holds exactly one
/// sample, without any error, has `cacheable` set: then for every other value text `V` that parses
/// as a number and holds neither `:` nor `|`, the same line with `V` in the place of its value
/// gives the same event with another `raw` (and, for gauges, `relative` if `V` begins with a sign).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// The name as sent, without tags, not escaped.
    pub name: &'a str,
    pub kind: EventKind,
    /// The number on the wire; 0 for a set. A counter with several sample rates is not cacheable and
    /// has all but the last divided out already, as one division rounds differently from two.
    pub raw: f64,
    /// What `raw` is divided by: the sample rate for counters, 1000 for `ms` (milliseconds to
    /// seconds), else 1.
    pub divisor: f64,
    /// How often an observation counts: `trunc(1 / rate)` for observers, else 1. Never 0.
    pub times: u64,
    /// Tags in order of first appearance; keys escaped, each key once.
    pub tags: &'a [(&'a str, &'a str)],
    /// The line has a tag section of DogStatsD, which was read.
    pub dogstatsd: bool,
    pub cacheable: bool,
}

impl Event<'_> {
    #[must_use]
    pub fn value(&self) -> f64 {
        self.raw / self.divisor
    }
}

/// What an event does to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Counter,
    /// A relative gauge's value has a sign on the wire and is added; an absolute one is set.
    Gauge {
        relative: bool,
    },
    /// Timer, histogram or distribution: one observation.
    Observer,
}
