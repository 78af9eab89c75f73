//! Sent datagrams -> sums that an exposition must come to, whatever became of names.

use std::collections::BTreeMap;

use crate::{
    judge::{Copy, Judge, text::same},
    load::{self, LineType},
    server::Figures,
};

/// What datagrams add up to. Of an event that is sent as several lines, only the best copy counts that
/// ever came, so each copy has sums of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    lines: f64,
    sums: Sums,
    copies: BTreeMap<Copy, Sums>,
}

/// Over all series that senders feed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    pub counters: f64,
    pub observations: f64,
}

impl Sums {
    fn add(&mut self, other: Self, times: f64) {
        self.counters += other.counters * times;
        self.observations += other.observations * times;
    }
}

impl Totals {
    /// What one datagram adds, under a mapping file.
    #[must_use]
    pub fn of(payload: &[u8], judge: &Judge) -> Self {
        let mut read = load::Totals::default();
        read.add(payload);
        let mut totals = Self::default();
        for (identity, total) in read.iter() {
            let Some(place) = judge.place(identity) else { continue };
            let sums = match identity.line_type {
                LineType::Counter if place.up_down => continue,
                LineType::Counter => Sums { counters: total.sum * place.scale, observations: 0.0 },
                LineType::Observer => Sums { counters: 0.0, observations: total.observations },
                LineType::Gauge => continue,
            };
            let own = place.copy.map_or(&mut totals.sums, |copy| totals.copies.entry(copy).or_default());
            own.add(sums, 1.0);
        }
        // Servers count the empty one behind a last line feed, too.
        #[expect(clippy::cast_precision_loss, reason = "a few lines")]
        let lines = payload.split(|&byte| byte == b'\n').count() as f64;
        totals.lines = lines;
        totals
    }

    /// Adds what `other` is, so many times.
    pub fn add(&mut self, other: &Self, times: f64) {
        self.lines += other.lines * times;
        self.sums.add(other.sums, times);
        for (copy, sums) in &other.copies {
            // A lookup by reference spares the clone that `entry` would take.
            match self.copies.get_mut(copy) {
                Some(own) => own.add(*sums, times),
                None => self.copies.entry(copy.clone()).or_default().add(*sums, times),
            }
        }
    }

    #[must_use]
    pub const fn lines(&self) -> f64 {
        self.lines
    }

    /// What the best copies and all else come to.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = self.sums;
        let mut event = None;
        // In order of event and rank: the first of an event is the best.
        for (copy, of_copy) in &self.copies {
            if event != Some(&copy.event) {
                sums.add(*of_copy, 1.0);
                event = Some(&copy.event);
            }
        }
        sums
    }

    /// Takes what is shown for what was sent, after a loss: nobody knows which ones were lost. A better copy
    /// that comes only now would make the count wrong, and be found out.
    pub fn settle(&mut self, figures: &Figures) {
        self.lines = figures.lines();
        self.sums = shown(figures);
        self.copies.values_mut().for_each(|sums| *sums = Sums::default());
    }

    /// Whether a server shows what was sent, not more and not less.
    #[must_use]
    pub fn is_shown(&self, figures: &Figures) -> bool {
        self.check(figures).is_ok()
    }

    /// Checks that a server shows what was sent, not more and not less.
    ///
    /// # Errors
    ///
    /// It shows something else.
    pub fn check(&self, figures: &Figures) -> anyhow::Result<()> {
        let (sent, shown) = (self.sums(), shown(figures));
        for (what, sent, shown) in [
            ("lines", self.lines, figures.lines()),
            ("the sum of all counters", sent.counters, shown.counters),
            ("observations", sent.observations, shown.observations),
        ] {
            // Sums of whole numbers below 2^53 are exact; a rule may scale to others.
            let whole = sent.fract() == 0.0;
            anyhow::ensure!(
                sent == shown || (!whole && same(sent, shown)),
                "{what}: {sent} sent, {shown} shown; the count is not exact"
            );
        }
        Ok(())
    }
}

fn shown(figures: &Figures) -> Sums {
    Sums { counters: figures.counters, observations: figures.observations }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_the_types() {
        let mut totals = Totals::default();
        totals.add(&Totals::of(b"a:3|c\nb:1.5|ms\nc:7|g\nd:-1|c", &Judge::default()), 10.0);
        assert_eq!((totals.lines(), totals.sums()), (40.0, Sums { counters: 30.0, observations: 10.0 }));
        let shown = |counters: u32| {
            Figures::read(&format!(
                "# TYPE a counter\na {counters}\n# TYPE b summary\nb_count 10\n\
                 # TYPE statsd_exporter_lines_total counter\nstatsd_exporter_lines_total 40\n"
            ))
        };
        totals.check(&shown(30)).expect("equal");
        let error = totals.check(&shown(29)).expect_err("one is lacking").to_string();
        assert!(error.contains("30 sent, 29 shown"), "{error}");
    }

    #[test]
    fn a_better_copy_takes_the_place_of_worse_ones() {
        let judge = Judge::read(
            "mappings:\n- {match: s.*, name: n, same_event: {name: e, rank: 1}}\n\
             - {match: s, name: n, same_event: {name: e, rank: 2}}\n- {match: x, name: n, action: drop}\n",
        )
        .expect("rules");
        let mut totals = Totals::default();
        let mut add = |payload: &[u8], expected: f64| {
            totals.add(&Totals::of(payload, &judge), 1.0);
            assert_eq!(totals.sums().counters, expected);
        };
        add(b"s:1|c\nx:7|c", 1.0);
        add(b"s.a:5|c", 5.0);
        add(b"s:1|c\ns.a:5|c", 10.0);
        let shown = "# TYPE n counter\nn 8\n# TYPE statsd_exporter_lines_total counter\nstatsd_exporter_lines_total 4\n";
        totals.settle(&Figures::read(shown));
        totals.add(&Totals::of(b"s:1|c\ns.a:5|c", &judge), 1.0);
        assert_eq!((totals.lines(), totals.sums().counters), (6.0, 13.0));
    }
}
