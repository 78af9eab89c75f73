//! 64 bytes in one register -> the same in fewer instructions, where the processor has AVX-512.
//!
//! Loads are masked: what lies behind a text is neither read nor touched.

#![expect(
    unsafe_code,
    reason = "wide registers: about 3 of 80 ns for a record on the way from ring to registry"
)]

use std::arch::x86_64::{
    __m512i, _bzhi_u64, _mm_bslli_si128, _mm_cmpgt_epu8_mask, _mm_cvtsi128_si64, _mm_loadu_si128,
    _mm_madd_epi16, _mm_maddubs_epi16, _mm_mask_blend_epi8, _mm_mask_cmpeq_epi8_mask, _mm_maskz_loadu_epi8,
    _mm_maskz_sub_epi8, _mm_packus_epi32, _mm_set1_epi8, _mm_set1_epi16, _mm_set1_epi32, _mm512_add_epi32,
    _mm512_cmpeq_epi8_mask, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_mul_epu32, _mm512_reduce_add_epi64, _mm512_set1_epi8, _mm512_srli_epi64,
};

use super::{super::number::POWERS_OF_TEN, Block};

/// A processor with AVX-512; whoever has a value of it is on one.
#[derive(Clone, Copy, Debug)]
pub struct Wide(());

impl Wide {
    /// What this processor has. Each function that is to have the methods inlined says that it needs
    /// `avx512f,avx512bw,avx512vl,bmi1,bmi2,lzcnt,popcnt`.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has_all.then_some(Self(()))
    }
}

impl Block for Wide {
    const BYTES_MIN: usize = 0;

    #[inline(always)]
    fn marks(self, bytes: &[u8]) -> u64 {
        // SAFETY: `self` says that the processor has what the function needs; so below.
        unsafe { marks(bytes) }
    }

    #[inline(always)]
    fn hash(self, text: &[u8], seeds: &[u64; 8]) -> u64 {
        // SAFETY: as above.
        unsafe { hash(text, seeds) }
    }

    #[inline(always)]
    fn word(self, text: &[u8]) -> u64 {
        // SAFETY: as above.
        unsafe { word(text) }
    }

    #[inline(always)]
    fn is_same(self, one: &[u8], other: &[u8]) -> bool {
        // SAFETY: as above.
        one.len() == other.len() && unsafe { is_same(one, other) }
    }

    #[inline(always)]
    fn decimal(self, front: &[u8], value: &[u8]) -> Option<f64> {
        // SAFETY: as above.
        unsafe { decimal(front, value) }
    }
}

/// The first 64 bytes, and zeros behind the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn load(bytes: &[u8]) -> __m512i {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(64);
    // SAFETY: only bytes of the slice are read; a masked load does not touch the others.
    unsafe { _mm512_maskz_loadu_epi8(_bzhi_u64(u64::MAX, length), bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn marks(bytes: &[u8]) -> u64 {
    let block = load(bytes);
    let of = |byte: u8| _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(byte.cast_signed()));
    of(b':') | of(b'|') | of(b'\n')
}

/// Sums of products of seeded words: two texts have one hash for one in 2^32 seeds.
///
/// Source: Black, Halevi, Krawczyk, Krovetz, Rogaway, "UMAC: Fast and Secure Message Authentication", NH.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn hash(text: &[u8], seeds: &[u64; 8]) -> u64 {
    // SAFETY: the seeds are 64 bytes; the load asks for no alignment.
    let seeds = unsafe { _mm512_loadu_si512(seeds.as_ptr().cast()) };
    let words = _mm512_add_epi32(load(text), seeds);
    _mm512_reduce_add_epi64(_mm512_mul_epu32(words, _mm512_srli_epi64::<32>(words))).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
fn word(text: &[u8]) -> u64 {
    if text.len() > 8 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "up to 8 ones")]
    let there = _bzhi_u64(u64::MAX, text.len() as u32) as u16;
    // SAFETY: only bytes of the slice are read.
    _mm_cvtsi128_si64(unsafe { _mm_maskz_loadu_epi8(there, text.as_ptr().cast()) }).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    _mm512_cmpneq_epi8_mask(load(one), load(other)) == 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2,lzcnt,popcnt")]
fn decimal(front: &[u8], value: &[u8]) -> Option<f64> {
    let length = value.len();
    if !(1..=16).contains(&length) {
        return None;
    }
    let there = u16::MAX << (16 - length);
    let text = match front.last_chunk::<16>() {
        // Need not wait for the mask.
        // SAFETY: the chunk has 16 bytes; the load asks for no alignment.
        Some(chunk) => unsafe { _mm_loadu_si128(chunk.as_ptr().cast()) },
        // SAFETY: of the 16 bytes before the end only the last `length` are read, which are the slice.
        None => unsafe { _mm_maskz_loadu_epi8(there, value.as_ptr_range().end.wrapping_sub(16).cast()) },
    };
    let digits = _mm_maskz_sub_epi8(there, text, _mm_set1_epi8(b'0'.cast_signed()));
    let point = u32::from(_mm_mask_cmpeq_epi8_mask(there, text, _mm_set1_epi8(b'.'.cast_signed())));
    let others = u32::from(_mm_cmpgt_epu8_mask(digits, _mm_set1_epi8(9)));
    if others != point || point & point.wrapping_sub(1) != 0 || point == 1 << 15 && length == 1 {
        return None;
    }
    // The digits before the point move up over it.
    #[expect(clippy::cast_possible_truncation, reason = "16 bits: twice the highest one, less one")]
    let up_to_point = (point * 2).saturating_sub(1) as u16;
    let digits = _mm_mask_blend_epi8(up_to_point, digits, _mm_bslli_si128::<1>(digits));
    let pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010a));
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
    let fours = _mm_packus_epi32(fours, fours);
    let eights = _mm_cvtsi128_si64(_mm_madd_epi16(fours, _mm_set1_epi32(0x0001_2710))).cast_unsigned();
    let mantissa = (eights & 0xffff_ffff) * 100_000_000 + (eights >> 32);
    let behind = if point == 0 { 0 } else { 15 - point.trailing_zeros() as usize };
    // Both operands are exact, so that the division rounds only once, to the right result.
    (mantissa <= 1 << 53).then_some(mantissa as f64 / POWERS_OF_TEN.get(behind)?)
}
