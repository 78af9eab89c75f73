//! Keys with weights, many -> the heaviest, few.
//!
//! Space-saving (Metwally, Agrawal, El Abbadi 2005) over weights that decay: whoever has more than a
//! share of 1 in [`KEYS_MAX`] of the stream is in the table for certain, and memory is bounded however
//! many keys there are.

use hashbrown::HashMap;

/// Keys that are told apart.
pub(super) const KEYS_MAX: usize = 256;
/// What was seen this long ago weighs 1/e of what is seen now.
const MEMORY_SECONDS: f64 = 10.0;
/// Bytes of a key that are kept.
const KEY_BYTES_MAX: usize = 512;
/// Less than this weight is nothing.
const WEIGHT_MIN: f64 = 0.01;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Weights {
    entries: HashMap<Box<[u8]>, Entry>,
    /// Seconds that the weights stand for, decayed as they are.
    seconds: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    weight: f64,
    /// How much of the weight another key may have left behind.
    error: f64,
}

impl Weights {
    /// Adds `weight` to `key`. With the table full, the lightest key makes room.
    pub(super) fn add(&mut self, key: &[u8], weight: f64) {
        let key = key.get(..KEY_BYTES_MAX).unwrap_or(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.weight += weight;
            return;
        }
        let mut inherited = 0.0;
        if self.entries.len() >= KEYS_MAX {
            let lightest = self.entries.iter().min_by(|a, b| a.1.weight.total_cmp(&b.1.weight));
            if let Some((lightest, entry)) = lightest.map(|(key, entry)| (key.clone(), *entry)) {
                inherited = entry.weight;
                self.entries.remove(&lightest);
            }
        }
        self.entries.insert(key.into(), Entry { weight: inherited + weight, error: inherited });
    }

    /// Ends a window of `seconds`, which was added since the last one ended.
    pub(super) fn end_window(&mut self, seconds: f64) {
        self.seconds += seconds;
        let decay = (-seconds / MEMORY_SECONDS).exp();
        self.seconds *= decay;
        self.entries.retain(|_, entry| {
            entry.weight *= decay;
            entry.error *= decay;
            entry.weight >= WEIGHT_MIN
        });
    }

    /// Keys with their weight per second, in no order. Those whose weight may mostly be another's are
    /// left out.
    pub(super) fn rates(&self) -> impl Iterator<Item = (&[u8], f64)> {
        let seconds = self.seconds;
        let sure = self.entries.iter().filter(|(_, entry)| entry.error * 2.0 <= entry.weight);
        sure.filter(move |_| seconds > 0.0).map(move |(key, entry)| (&**key, entry.weight / seconds))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(weights: &Weights, key: &str) -> f64 {
        weights.rates().find(|(found, _)| *found == key.as_bytes()).map_or(0.0, |(_, rate)| rate)
    }

    #[test]
    fn a_steady_key_has_its_rate_from_the_first_window_on() {
        let mut weights = Weights::default();
        for _ in 0..50 {
            weights.add(b"a", 30.0);
            weights.end_window(0.5);
            assert!((rate(&weights, "a") - 60.0).abs() < 1e-6);
        }
    }

    #[test]
    fn what_stops_fades_and_leaves() {
        let mut weights = Weights::default();
        weights.add(b"a", 100.0);
        weights.end_window(1.0);
        for _ in 0..30 {
            weights.end_window(1.0);
        }
        assert!(rate(&weights, "a") < 100.0 / 20.0, "{}", rate(&weights, "a"));
        for _ in 0..100 {
            weights.end_window(1.0);
        }
        assert_eq!(weights.len(), 0);
    }

    #[test]
    fn a_heavy_key_survives_any_number_of_light_ones() {
        let mut weights = Weights::default();
        for n in 0..20_000_u32 {
            weights.add(format!("light{n}").as_bytes(), 1.0);
            if n % 20 == 0 {
                weights.add(b"heavy", 1.0);
            }
        }
        weights.end_window(1.0);
        assert_eq!(weights.len(), KEYS_MAX);
        let mut rates: Vec<_> = weights.rates().collect();
        rates.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(rates[0].0, b"heavy");
        // The others' weights are mostly inherited, and nobody is told so.
        assert!(rates.len() < 10, "{}", rates.len());
    }
}
