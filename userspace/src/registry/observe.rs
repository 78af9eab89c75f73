//! One value, many times -> a sum, in bounded time.

/// How often one observation is really repeated. Up to here sums and quantiles are what a sender
/// without sampling would have caused; beyond it (a sample rate below 0.001) count and sum stay
/// complete, but the remaining repetitions are one multiplication and stay out of the quantiles.
pub(super) const REPETITIONS_MAX: u64 = 1_000;

/// `sum` after adding `value` `times` times, one by one, because the order of float additions
/// shows in the last digits and statsd_exporter repeats the observation.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 repetitions the sum is an estimate anyway")]
pub(super) fn add_repeatedly(mut sum: f64, value: f64, times: u64) -> f64 {
    for _ in 0..times.min(REPETITIONS_MAX) {
        sum += value;
    }
    match times.checked_sub(REPETITIONS_MAX) {
        None | Some(0) => sum,
        Some(rest) => sum + value * rest as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_repetitions_add_one_by_one_and_many_end_soon() {
        assert!(add_repeatedly(0.0, 0.1, 10) == 0.999_999_999_999_999_9);
        assert!(add_repeatedly(1.0, 0.5, u64::MAX).is_finite());
        assert!(add_repeatedly(1.0, 0.5, 0) == 1.0);
    }
}
