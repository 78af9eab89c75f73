//! Hashes -> an estimate of how many different ones there were (HyperLogLog).
//!
//! Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality
//! estimation algorithm", 2007.

const REGISTERS: usize = 256;

/// A count of different things in 256 bytes, with a standard error of 6.5 %.
#[derive(Debug)]
pub struct Distinct {
    /// Each the most zeros that a hash of its share began with, plus one.
    registers: [u8; REGISTERS],
}

impl Default for Distinct {
    fn default() -> Self {
        Self { registers: [0; REGISTERS] }
    }
}

impl Distinct {
    pub fn add(&mut self, hash: u64) {
        let hash = mixed(hash);
        let [lowest, ..] = hash.to_le_bytes();
        // The eight bits that name the register are gone, so at most 56 zeros can follow.
        let zeros = (hash >> 8).leading_zeros() - 8;
        let rank = u8::try_from(zeros + 1).unwrap_or(u8::MAX);
        let register = &mut self.registers[usize::from(lowest)];
        *register = rank.max(*register);
    }

    #[must_use]
    pub fn estimate(&self) -> f64 {
        const COUNT: f64 = REGISTERS as f64;
        /// The correction for 256 registers.
        const ALPHA: f64 = 0.7213 / (1.0 + 1.079 / COUNT);
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let estimate = ALPHA * COUNT * COUNT / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        let counted = match u32::try_from(empty) {
            // Few of them leave registers empty, and those say more.
            Ok(empty) if empty > 0 && estimate <= 2.5 * COUNT => COUNT * (COUNT / f64::from(empty)).ln(),
            _ => estimate,
        };
        counted.round()
    }
}

/// Each bit of the result depends on all of `hash`, which a hash for tables does not promise. The
/// last step of MurmurHash3.
fn mixed(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn the_estimate_is_near_and_does_not_count_twice() {
        let hasher = foldhash::fast::FixedState::with_seed(7);
        for count in [0_u32, 1, 10, 100, 1000, 30_000, 1_000_000] {
            let mut distinct = Distinct::default();
            for _ in 0..if count < 100_000 { 3 } else { 1 } {
                (0..count).for_each(|n| distinct.add(hasher.hash_one(n)));
            }
            let off = (distinct.estimate() - f64::from(count)).abs() / f64::from(count.max(1));
            assert!(off < 0.2, "{count}: {}", distinct.estimate());
        }
    }

    #[test]
    fn any_hash_has_its_register() {
        let mut distinct = Distinct::default();
        [0, u64::MAX, 1, 0xff, 0x100].into_iter().for_each(|hash| distinct.add(hash));
        assert!(distinct.estimate() > 0.0);
    }
}
