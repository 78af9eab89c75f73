//! Observations -> counts per bucket.

use super::native::{Native, NativePlan};
use super::observe::add_repeatedly;
use crate::clock::Timestamp;

/// How the histograms of one rule are built.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramOptions {
    /// Inclusive upper bounds; `+Inf` is added. Order, duplicates and NaN do not matter.
    pub buckets: Vec<f64>,
    /// By how much one native bucket's bound may exceed the one below it, at most; a factor that is
    /// not above 1 means no native buckets.
    pub native_bucket_factor: f64,
    /// With more native buckets than this the resolution is halved; zero means that only the
    /// registry's own bound holds.
    pub native_max_buckets: u32,
}

impl Default for HistogramOptions {
    fn default() -> Self {
        Self {
            buckets: vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
            native_bucket_factor: 1.1,
            native_max_buckets: 256,
        }
    }
}

/// Checked options, one for all series of a vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HistogramPlan {
    /// In order, each once, all below `+Inf`.
    pub(super) bounds: Vec<f64>,
    native: Option<NativePlan>,
}

impl HistogramPlan {
    pub(super) fn new(options: &HistogramOptions) -> Self {
        let mut bounds: Vec<f64> =
            options.buckets.iter().copied().filter(|bound| *bound < f64::INFINITY).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        Self { bounds, native: NativePlan::new(options.native_bucket_factor, options.native_max_buckets) }
    }
}

/// The state of one histogram series; the bounds live with its vector.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    pub(super) sum: f64,
    pub(super) created: Timestamp,
    /// One per bound, and one for `+Inf`; not cumulative.
    pub(super) counts: Box<[u64]>,
    pub(super) native: Option<Box<Native>>,
}

impl Histogram {
    pub(super) fn new(plan: &HistogramPlan, now: Timestamp) -> Self {
        Self {
            sum: 0.0,
            created: now,
            counts: vec![0; plan.bounds.len() + 1].into_boxed_slice(),
            native: plan.native.map(|native| Box::new(Native::new(native))),
        }
    }

    pub(super) fn observe(&mut self, plan: &HistogramPlan, value: f64, times: u64) {
        // NaN is below no bound and so goes to `+Inf`.
        let bucket = plan.bounds.partition_point(|bound| value.is_nan() || *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(times);
        }
        self.sum = add_repeatedly(self.sum, value, times);
        if let (Some(native), Some(plan)) = (&mut self.native, plan.native) {
            native.observe(plan, value, times);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let native = self.native.as_ref().map_or(0, |native| native.heap_bytes());
        size_of::<Self>() + size_of_val(&*self.counts) + native
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, bucket: usize) {
        let plan = HistogramPlan::new(&HistogramOptions {
            buckets: vec![5.0, 1.0, f64::INFINITY, 1.0, f64::NAN],
            ..HistogramOptions::default()
        });
        assert_eq!(plan.bounds, [1.0, 5.0]);
        let mut histogram = Histogram::new(&plan, Timestamp(7));
        histogram.observe(&plan, value, 3);
        let mut expected = [0, 0, 0];
        expected[bucket] = 3;
        assert_eq!((&*histogram.counts, histogram.created), (&expected[..], Timestamp(7)));
    }

    #[test]
    fn bounds_are_inclusive() {
        check(1.0, 0);
        check(1.000_001, 1);
        check(-7.0, 0);
        check(5.0, 1);
        check(f64::INFINITY, 2);
    }

    #[test]
    fn nan_goes_to_the_last_bucket() {
        check(f64::NAN, 2);
    }
}
