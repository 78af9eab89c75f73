//! Hash of a line -> whether such a line came before.
//!
//! Names that come once and never again, as those with the number of a job in them, are not worth
//! remembering: they would take memory, and the places of lines that come all the time.

/// From this share of its bits on it forgets all, for then so many of the strangers would pass for known.
const SET_SHARE: usize = 8;

/// A set of hashes, each by one bit. May take a stranger for known, never the other way round, until it
/// forgets.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    words: Box<[u64]>,
    bits_set: usize,
}

impl Doorkeeper {
    /// One of `bits` bits, a power of two and 64 at least.
    pub(super) fn new(bits: usize) -> Self {
        Self { words: vec![0; bits / 64].into_boxed_slice(), bits_set: 0 }
    }

    /// Brings what is known of a hash into the cache, for one who will ask later.
    #[inline]
    pub(super) fn touch(&self, hash: u64) {
        let Some(word) = self.words.get(self.bit(hash) / 64) else { return };
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "a load would be waited for: some 40 of 660 ns for a new name")]
        // SAFETY: each processor of this architecture has the instruction, and it loads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        std::hint::black_box(*word);
    }

    /// The bits that the cache's table does not begin with.
    #[inline]
    fn bit(&self, hash: u64) -> usize {
        (hash >> 20) as usize & (self.words.len() * 64 - 1)
    }

    /// Whether this hash was seen since it forgot last; from now on it was.
    pub(super) fn has_seen(&mut self, hash: u64) -> bool {
        let bit = self.bit(hash);
        let Some(word) = self.words.get_mut(bit / 64) else { return true };
        let mask = 1_u64 << (bit % 64);
        if *word & mask != 0 {
            return true;
        }
        *word |= mask;
        self.bits_set += 1;
        if self.bits_set >= self.words.len() * 64 / SET_SHARE {
            self.words.fill(0);
            self.bits_set = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers as a hash would.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn the_second_time_it_is_known() {
        let mut doorkeeper = Doorkeeper::new(1 << 21);
        assert!(!doorkeeper.has_seen(hash(1)));
        assert!(doorkeeper.has_seen(hash(1)));
    }

    #[test]
    fn few_strangers_pass_however_many_came() {
        let mut doorkeeper = Doorkeeper::new(1 << 21);
        let strangers = 2_000_000;
        let passed = (0..strangers).filter(|number| doorkeeper.has_seen(hash(*number))).count();
        assert!(passed < 160_000, "{passed} of {strangers}");
    }
}
