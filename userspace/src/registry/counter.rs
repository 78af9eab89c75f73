//! Amounts -> a sum that only grows.

/// A counter: whole amounts and fractions are summed apart, as client_golang does, so that whole
/// ones stay exact and the sum prints the same digits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    whole: u64,
    fraction: f64,
}

impl Counter {
    /// Adds `amount`. A negative one is not added: a counter that falls reads as a restart.
    pub(super) fn add(&mut self, amount: f64) {
        if amount < 0.0 {
            return;
        }
        match whole(amount).and_then(|amount| self.whole.checked_add(amount)) {
            Some(sum) => self.whole = sum,
            None => self.fraction += amount,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the exposition knows only floats; exact up to 2^53")]
    pub(super) fn value(&self) -> f64 {
        self.fraction + self.whole as f64
    }
}

/// `amount` as an integer, if it is one below 2^63.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn whole(amount: f64) -> Option<u64> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    (amount < TWO_TO_63 && amount.trunc() == amount).then_some(amount as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(amounts: &[f64], expected: f64) {
        let mut counter = Counter::default();
        amounts.iter().for_each(|amount| counter.add(*amount));
        assert!(counter.value() == expected || counter.value().is_nan() && expected.is_nan());
    }

    #[test]
    fn whole_amounts_stay_exact_beside_fractions() {
        check(&[1.0, 9_007_199_254_740_990.0], 9_007_199_254_740_991.0);
        check(&[0.1, 1.0, 0.2, 1.0], 2.0 + (0.1 + 0.2));
    }

    #[test]
    fn odd_amounts_do_what_they_do_in_the_peer() {
        check(&[5.0, -0.0, 0.0], 5.0);
        check(&[1.0, f64::INFINITY], f64::INFINITY);
        check(&[1.0, f64::NAN], f64::NAN);
        check(&[1e300, 1.0], 1e300);
        check(&[9.3e18, 9.3e18], 1.86e19);
    }

    #[test]
    fn a_negative_amount_is_not_added() {
        check(&[3.0, -1.0], 3.0);
    }
}
