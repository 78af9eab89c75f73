//! Series that are over -> room for others.

use super::{Expired, Registry, SeriesId, Value, by_key::ByKey, owned_bytes, series::Series, spread};
use crate::clock::Timestamp;

/// Deadlines looked at in one call of [`Registry::expire`]: a few milliseconds.
const EXPIRE_MAX: usize = 4096;

impl Registry {
    /// Whether [`Registry::expire`] would have something to do.
    #[must_use]
    pub fn is_any_due(&self, now: Timestamp) -> bool {
        self.deadlines.is_any_due(now)
    }

    /// Whether [`Registry::expire`] would remove this series.
    #[must_use]
    pub fn is_due(&self, id: SeriesId, now: Timestamp) -> bool {
        self.slots.get(id).is_some_and(|series| self.deadlines.is_due(series.deadline, now))
    }

    /// Removes series that were idle for longer than their TTL, in bounded time.
    pub fn expire(&mut self, now: Timestamp) -> Expired {
        let mut budget = EXPIRE_MAX;
        let mut expired = Expired::default();
        while let Some(id) = self.deadlines.next_due(now, &mut budget) {
            self.remove(id, now);
            expired.series += 1;
        }
        expired.more = budget == 0;
        expired
    }

    /// Removes a series before its time, if it is still there, with those that expire together with it.
    pub fn discard(&mut self, id: SeriesId, now: Timestamp) {
        let Some(series) = self.slots.get_mut(id) else { return };
        let deadline = series.deadline;
        for other in self.deadlines.stop(deadline) {
            self.remove(other, now);
        }
        self.remove(id, now);
    }

    fn remove(&mut self, id: SeriesId, now: Timestamp) {
        if self.slots.get_mut(id).is_none() {
            return;
        }
        let all = &self.slots.all;
        let Series { hash, vector, .. } = all[id.index as usize];
        if let Ok(entry) = self.series_index.find_entry(spread(hash), |at| *at == id.index) {
            entry.remove();
        }
        let family = self.vectors[vector as usize].family;
        let order = &mut self.families[family as usize].series;
        order.remove(id.index, &ByKey(all));
        if order.is_empty() {
            self.family_order.remove(family, &ByKey(&self.families));
            self.note_idle(family, now);
        }
        self.note_removed(family, id);
        if let Some(series) = self.slots.remove(id) {
            if let Value::SenderGauge(gauge) = &series.value {
                self.shares.live = self.shares.live.saturating_sub(gauge.shares());
            }
            self.owned_bytes = self.owned_bytes.saturating_sub(owned_bytes(&series));
        }
    }
}
