//! Identity -> slot, in the table that the kernel program looks up.
//!
//! A hash table of buckets with four places, over two arrays that both sides have mapped. Writing
//! order is the whole protocol: an identity is complete before its place names it, and a slot is not
//! used again until every program that could have read the old place has ended (the caller's grace
//! period between [`IdentityTable::remove`] and the next [`IdentityTable::insert`] of that slot).

use std::sync::atomic::Ordering;

use ingest_ebpf::{
    identity::{Identity, split_line},
    layout::{BUCKET_PLACES, IDENTITY_WORDS_MAX, PAYLOAD_BYTES_MAX, Payload, TAG_MASK, place, tag},
};

use super::memory_map::MemoryMap;

/// The table, written by us only.
#[derive(Debug)]
pub struct IdentityTable {
    buckets: MemoryMap,
    entries: MemoryMap,
    bucket_mask: u64,
}

/// An identity with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedIdentity {
    pub hash: u64,
    pub identity: Identity,
}

/// Why an identity cannot be in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its bucket has no place left.
    BucketFull,
    /// Another identity with the same bucket and tag is there.
    Collision,
}

/// Words of one element of the entries array.
const ENTRY_WORDS: usize = 1 + IDENTITY_WORDS_MAX;

impl IdentityTable {
    /// A table over `bucket_count` buckets, a power of two, and as many entries as there are slots.
    #[must_use]
    pub fn new(buckets: MemoryMap, entries: MemoryMap, bucket_count: u32) -> Self {
        Self { buckets, entries, bucket_mask: u64::from(bucket_count) - 1 }
    }

    /// Makes the kernel count `identity` in `slot`, which must be unused.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then, and the identity stays cold.
    pub fn insert(&self, identity: &HashedIdentity, slot: u32, operation: u32) -> Result<(), Refused> {
        let mut free = None;
        for at in self.places(identity.hash) {
            let word = self.buckets.load(at);
            if word == 0 {
                free = free.or(Some(at));
            } else if word & TAG_MASK == tag(identity.hash) {
                return Err(Refused::Collision);
            }
        }
        let at = free.ok_or(Refused::BucketFull)?;
        let entry = identity.identity.entry(operation);
        let first = u64::from(entry.shape) << 32 | u64::from(entry.operation);
        let words = std::iter::once(first).chain(entry.words);
        for (offset, word) in words.enumerate() {
            self.store(&self.entries, slot as usize * ENTRY_WORDS + offset, word, Ordering::Relaxed);
        }
        self.store(&self.buckets, at, place(identity.hash, slot), Ordering::Release);
        Ok(())
    }

    /// Takes `slot` out of the table. Programs that run now may still add to it.
    pub fn remove(&self, hash: u64, slot: u32) {
        for at in self.places(hash) {
            if self.buckets.load(at) == place(hash, slot) {
                self.store(&self.buckets, at, 0, Ordering::Release);
            }
        }
    }

    fn places(&self, hash: u64) -> std::ops::Range<usize> {
        // The kernel takes the low half of the hash, too.
        let bucket = usize::try_from(hash & 0xffff_ffff & self.bucket_mask).unwrap_or(0);
        let places = BUCKET_PLACES as usize;
        bucket * places..(bucket + 1) * places
    }

    fn store(&self, memory: &MemoryMap, at: usize, word: u64, order: Ordering) {
        if let Some(to) = memory.word(at) {
            to.store(word, order);
        }
    }
}

/// The identity of a whole line (without its `\n`), or `None` if it is not for the slots.
#[must_use]
pub fn identity_of(line: &[u8], seed: u64) -> Option<HashedIdentity> {
    // The doors do not look up what ends in a timer's type.
    if line.len() > PAYLOAD_BYTES_MAX || line.ends_with(b"|ms") {
        return None;
    }
    let mut payload = Payload::EMPTY;
    payload.bytes[..line.len()].copy_from_slice(line);
    payload.terminate(line.len());
    let mut identity = Identity::EMPTY;
    let split = split_line(&payload, 0, line.len(), seed, &mut identity).ok()?;
    let whole = split.next == line.len() && !split.newline;
    (whole && identity.is_printable()).then_some(HashedIdentity { hash: split.hash, identity })
}
