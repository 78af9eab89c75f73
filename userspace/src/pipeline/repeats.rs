//! Observations of a series -> which of them repeat an earlier one.
//!
//! Some clients send an observation twice under one name: Airflow from 3.2 on does with
//! `dagrun.<dag_id>.first_task_scheduling_delay`. Times are measured to the microsecond, so that the same
//! value twice within moments is one observation. If one of the two is lost, the other one still counts.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::registry::{Registry, SeriesId};

/// Observations of one series that may wait for their repeats: schedulers send side by side.
const WAITING_MAX: usize = 4;
/// Series that are kept before dead ones are looked for.
const SERIES_MIN: usize = 1024;

/// What was observed of late, in the series of rules that ask for it.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    series: HashMap<SeriesId, Waiting, foldhash::fast::RandomState>,
    prune_at: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The oldest gives way.
    values: [Option<(u64, Timestamp)>; WAITING_MAX],
    next: usize,
}

impl Repeats {
    /// Whether the value repeats one that counted, and that nothing has repeated yet.
    pub(super) fn repeats(
        &mut self,
        id: SeriesId,
        value: f64,
        within: Duration,
        received: Timestamp,
        registry: &Registry,
    ) -> bool {
        if self.series.len() >= self.prune_at.max(SERIES_MIN) {
            self.series.retain(|id, _| registry.is_live(*id));
            self.prune_at = self.series.len().saturating_mul(2);
        }
        let waiting = self.series.entry(id).or_default();
        let bits = value.to_bits();
        // Rings and sockets deliver side by side, so the repeat may come first.
        let apart = |at: Timestamp| if received < at { at.since(received) } else { received.since(at) };
        let same = |known: &&mut Option<(u64, Timestamp)>| {
            known.is_some_and(|(other, at)| other == bits && apart(at) <= within)
        };
        if let Some(known) = waiting.values.iter_mut().find(same) {
            *known = None;
            return true;
        }
        let next = waiting.next % WAITING_MAX;
        if let Some(place) = waiting.values.get_mut(next) {
            *place = Some((bits, received));
        }
        waiting.next = next + 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryConfig;

    #[test]
    fn each_observation_has_one_repeat() {
        let registry = Registry::new(RegistryConfig::default());
        let mut repeats = Repeats::default();
        let mut check = |value: f64, millis: u64, expected: bool| {
            let (within, at) = (Duration::from_secs(1), Timestamp(millis * 1_000_000));
            let found = repeats.repeats(SeriesId::NONE, value, within, at, &registry);
            assert_eq!(found, expected, "{value} at {millis} ms");
        };
        check(1.5, 0, false);
        check(1.5, 1, true);
        check(1.5, 2, false);
        check(2.5, 3, false);
        check(1.5, 4, true);
        check(2.5, 5, true);
        // One whose repeat was lost.
        check(3.5, 6, false);
        check(4.5, 7, false);
        check(4.5, 8, true);
        // Chance, much later.
        check(3.5, 5000, false);
        check(3.5, 4999, true);
        for n in 0..10 {
            check(f64::from(n), 6000, false);
        }
        check(9.0, 6001, true);
        check(0.0, 6001, false);
    }
}
