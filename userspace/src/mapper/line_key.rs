//! Line without its value -> its hash, and whether it is the same as another.
//!
//! Both are done for every line, on texts of 20 to 60 bytes of ever other lengths. A loop over them, as
//! libraries have it for any length, costs most where it ends, because the processor did not expect it
//! there; so here a text of up to 64 bytes is a [`block`], and one of up to 128 bytes is two, which overlap as
//! they must.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::RangeInclusive,
};

use super::line_text::{LineText, SHORT_TAIL_BYTES};
use crate::{
    line::block::{self, BLOCK_BYTES, BYTES_MIN, fold, piece},
    sender::SenderId,
};

/// A line without its value, as the cache looks for it.
#[derive(Clone, Copy, Debug)]
pub struct LineKey<'a> {
    pub(super) hash: u64,
    pub(super) shape: Shape,
    /// A short tail as a number, or the hash of a longer one.
    pub(super) tail_word: u64,
    /// The line up to its `:`.
    pub(super) head: &'a [u8],
    /// The line from the `|` behind its value.
    pub(super) tail: &'a [u8],
}

/// The lengths of both, as far as 16 bits hold them, and the sender: what two lines are told apart by first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape(u64);

impl Shape {
    #[inline]
    pub(super) fn new(head: &[u8], tail: &[u8], sender: SenderId) -> Self {
        Self(head.len() as u64 & 0xffff | (tail.len() as u64 & 0xffff) << 16 | u64::from(sender.0) << 32)
    }

    #[inline]
    pub(super) fn head_bytes(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    #[inline]
    pub(super) fn tail_bytes(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }
}

/// What makes hashes unforeseeable: names come from the network.
#[derive(Clone, Debug)]
pub(super) struct LineHasher {
    seeds: [u64; 8],
    last: u64,
}

/// Bytes of a piece of a text that is longer than two blocks.
const PIECE: usize = 16;

/// Tails of so many bytes are told apart by one word.
const SHORT_TAILS: RangeInclusive<usize> = 2..=SHORT_TAIL_BYTES;

impl LineHasher {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self { seeds: std::array::from_fn(|at| random.hash_one(at)), last: random.hash_one(u64::MAX) }
    }

    #[inline(always)]
    pub(super) fn key<'a>(&self, sender: SenderId, head: &'a [u8], tail: &'a [u8]) -> LineKey<'a> {
        let tail_word =
            if SHORT_TAILS.contains(&tail.len()) { block::word(tail) } else { self.any_text(tail) };
        let shape = Shape::new(head, tail, sender);
        let texts = self.text(head) ^ tail_word;
        LineKey { hash: fold(texts ^ self.last, shape.0 ^ self.seeds[0]), shape, tail_word, head, tail }
    }

    #[inline(always)]
    fn text(&self, text: &[u8]) -> u64 {
        if (BYTES_MIN..=BLOCK_BYTES).contains(&text.len()) {
            return block::hash(text, &self.seeds);
        }
        match (text.first_chunk::<BLOCK_BYTES>(), text.last_chunk::<BLOCK_BYTES>()) {
            (Some(first), Some(last)) if text.len() <= 2 * BLOCK_BYTES => {
                let (first, last) = (block::hash(first, &self.seeds), block::hash(last, &self.seeds));
                fold(first ^ self.last, last ^ self.seeds[1])
            }
            _ => self.any_text(text),
        }
    }

    #[inline(never)]
    fn any_text(&self, text: &[u8]) -> u64 {
        let (pieces, rest) = text.as_chunks::<PIECE>();
        let mut sum = 0;
        for part in pieces {
            let (low, high) = piece(part, 0);
            sum = fold(sum ^ low ^ self.seeds[1], high ^ self.seeds[2]);
        }
        let (first, last) = first_and_last(rest);
        fold(sum ^ first ^ self.seeds[3], last ^ self.seeds[4])
    }
}

impl LineKey<'_> {
    /// Bytes of the head, and of the tail.
    #[must_use]
    pub fn lengths(&self) -> (usize, usize) {
        (self.head.len(), self.tail.len())
    }

    #[must_use]
    pub fn sender(&self) -> SenderId {
        SenderId((self.shape.0 >> 32) as u32)
    }

    /// The part of the hash that tables go by.
    #[inline]
    pub(super) fn table_hash(&self) -> u32 {
        (self.hash >> 32) as u32
    }

    /// Whether `known` is the text of this line. The caller has compared shapes and the words of the tails.
    #[inline(always)]
    pub(super) fn is_of(&self, known: &LineText) -> bool {
        if self.head.len() <= BLOCK_BYTES && SHORT_TAILS.contains(&self.tail.len()) {
            return is_same(self.head, known.short_head(self.head.len()));
        }
        let (head, tail) = known.parts(self.shape);
        head.len() == self.head.len() && is_same(self.head, head) && tail == self.tail
    }
}

/// Whether two texts of one length are the same.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if (BYTES_MIN..=BLOCK_BYTES).contains(&one.len()) {
        return block::is_same(one, other);
    }
    match (one.first_chunk::<BLOCK_BYTES>(), one.last_chunk::<BLOCK_BYTES>()) {
        (Some(first), Some(last)) if one.len() <= 2 * BLOCK_BYTES => {
            let (other_first, other_last) = (other.first_chunk(), other.last_chunk());
            let is_same = |one, other: Option<&[u8; BLOCK_BYTES]>| {
                other.is_some_and(|other| block::is_same(one, other))
            };
            is_same(first, other_first) && is_same(last, other_last)
        }
        _ => one == other,
    }
}

/// A text of less than 16 bytes as two numbers.
fn first_and_last(text: &[u8]) -> (u64, u64) {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_byte_and_each_length_counts() {
        let hasher = LineHasher::new();
        for length in 0..150 {
            let text: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(37)).collect();
            // Tails of all the lengths that make a difference.
            for tail in [0, 1, 2, 3, 4, 8, 9, 16, 17, 65].into_iter().filter(|tail| *tail <= text.len()) {
                let split = text.len() - tail;
                let (head, tail) = text.split_at(split);
                let key = hasher.key(SenderId::UNKNOWN, head, tail);
                let known = LineText::new(head, tail);
                let is_same = |other: &LineKey<'_>| {
                    key.shape == other.shape && key.tail_word == other.tail_word && other.is_of(&known)
                };
                assert!(is_same(&key));
                for at in 0..text.len() {
                    let mut other = text.clone();
                    other[at] ^= 1;
                    let (head, tail) = other.split_at(split);
                    let other_key = hasher.key(SenderId::UNKNOWN, head, tail);
                    assert!(!is_same(&other_key), "byte {at} of {length}, split at {split}");
                    assert_ne!(other_key.hash, key.hash);
                }
            }
        }
    }

    #[test]
    fn lines_that_differ_little_are_spread_over_all_of_a_table() {
        let hasher = LineHasher::new();
        let mut hashes = HashSet::new();
        let mut places = vec![0_u32; 1024];
        for n in 0..20_000 {
            let head = format!("airflow.ti.finish.dag_{}.task_{n}.success", n % 500);
            for tail in [&b"|c"[..], b"|ms", b"|c|#dag_id:x"] {
                let key = hasher.key(SenderId::UNKNOWN, head.as_bytes(), tail);
                hashes.insert(key.hash);
                places[key.table_hash() as usize % 1024] += 1;
            }
        }
        assert_eq!(hashes.len(), 60_000);
        assert!(places.iter().all(|count| (10..120).contains(count)), "{places:?}");
    }

    #[test]
    fn another_sender_or_another_cut_is_another_line() {
        let hasher = LineHasher::new();
        let hash = |sender, head, tail| hasher.key(SenderId(sender), head, tail).hash;
        assert_ne!(hash(1, b"a", b"|c"), hash(2, b"a", b"|c"));
        assert_ne!(hash(1, b"a|", b"c"), hash(1, b"a", b"|c"));
    }
}
