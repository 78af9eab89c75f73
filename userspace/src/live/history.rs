//! A count a second -> rates of the last ten minutes.

use std::collections::VecDeque;

use super::report::{Columns, Now, Totals};

/// Points that are kept.
const POINTS_MAX: usize = 600;

/// The last ten minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
    last: Option<(f64, Totals)>,
}

#[derive(Clone, Debug, Default)]
struct Point {
    time: f64,
    now: Now,
}

impl History {
    /// Takes the sums at `time`; sizes stand in `sizes`, whose rates are not looked at.
    pub(super) fn push(&mut self, time: f64, totals: Totals, sizes: Now) {
        let Some((before, last)) = self.last.replace((time, totals.clone())) else { return };
        let seconds = time - before;
        // The clock was set back, or two came at once: then there is no rate.
        if seconds <= 0.0 {
            return;
        }
        let rate = |now: f64, before: f64| ((now - before) / seconds).max(0.0);
        let lines = rate(totals.lines, last.lines);
        let kernel = rate(totals.kernel_lines, last.kernel_lines);
        let now = Now {
            lines_per_second: lines,
            lost_per_second: rate(totals.lost, last.lost),
            refused_per_second: rate(totals.refused, last.refused),
            kernel_share: (lines > 0.0).then(|| (kernel / lines).min(1.0)),
            ..sizes
        };
        if self.points.len() >= POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point { time, now });
    }

    /// The last point.
    pub(super) fn now(&self) -> Now {
        self.points.back().map(|point| point.now.clone()).unwrap_or_default()
    }

    pub(super) fn totals(&self) -> Totals {
        self.last.as_ref().map(|(_, totals)| totals.clone()).unwrap_or_default()
    }

    pub(super) fn columns(&self) -> Columns {
        let column = |of: fn(&Now) -> f64| self.points.iter().map(|point| rounded(of(&point.now))).collect();
        Columns {
            time: self.points.iter().map(|point| rounded(point.time)).collect(),
            lines_per_second: column(|now| now.lines_per_second),
            lost_per_second: column(|now| now.lost_per_second),
            refused_per_second: column(|now| now.refused_per_second),
            kernel_share: self.points.iter().map(|point| point.now.kernel_share.map(rounded)).collect(),
            series: column(|now| now.series),
        }
    }
}

/// Three digits behind the point: more is noise, and text to send.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: f64, kernel_lines: f64, lost: f64) -> Totals {
        Totals { lines, kernel_lines, lost, ..Totals::default() }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut history = History::default();
        history.push(100.0, totals(1000.0, 500.0, 0.0), Now::default());
        assert_eq!(history.columns(), Columns::default());
        history.push(102.0, totals(1400.0, 800.0, 10.0), Now { series: 7.0, ..Now::default() });
        let now = history.now();
        assert_eq!((now.lines_per_second, now.lost_per_second, now.series), (200.0, 5.0, 7.0));
        assert_eq!(now.kernel_share, Some(0.75));
    }

    #[test]
    fn a_quiet_second_has_no_share_and_a_clock_set_back_no_point() {
        let mut history = History::default();
        history.push(100.0, totals(1.0, 0.0, 0.0), Now::default());
        history.push(101.0, totals(1.0, 0.0, 0.0), Now::default());
        assert_eq!(history.now().kernel_share, None);
        history.push(50.0, totals(2.0, 0.0, 0.0), Now::default());
        assert_eq!(history.columns().time, [101.0]);
        history.push(51.0, totals(3.0, 0.0, 0.0), Now::default());
        assert_eq!(history.columns().time, [101.0, 51.0]);
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for second in 0..2 * u32::try_from(POINTS_MAX).expect("small") {
            history.push(second.into(), Totals::default(), Now::default());
        }
        assert_eq!(history.columns().time.len(), POINTS_MAX);
    }
}
