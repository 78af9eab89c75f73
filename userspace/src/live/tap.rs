//! Datagrams -> copies for whoever follows them, as far as there is room.
//!
//! Lies in the way of every datagram: with nobody following, a look at a flag. A copy takes as long as
//! it takes to move the bytes, and what does not fit is counted and left out.

use crate::clock::Timestamp;
use crate::datagram::{Datagram, Source, Transport};

/// Bytes that are kept until the next time they are fetched; at twenty times a second.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Datagrams, for they may be small.
const BATCH_DATAGRAMS_MAX: usize = 16_384;

/// Where copies are put.
#[derive(Debug, Default)]
pub struct Tap {
    open: bool,
    batch: Batch,
}

/// Copies, in the order of arrival.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    taken: Vec<Taken>,
    /// Datagrams that found no room.
    pub skipped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    end: usize,
    received: Timestamp,
    source: Source,
    transport: Transport,
}

impl Tap {
    /// Whether somebody follows.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Copies the datagram if somebody follows.
    #[inline]
    pub fn see(&mut self, datagram: &Datagram<'_>) {
        if self.open {
            self.take(datagram);
        }
    }

    #[cold]
    fn take(&mut self, datagram: &Datagram<'_>) {
        let Batch { bytes, taken, skipped } = &mut self.batch;
        if bytes.len() + datagram.payload.len() > BATCH_BYTES_MAX || taken.len() >= BATCH_DATAGRAMS_MAX {
            *skipped += 1;
            return;
        }
        bytes.extend_from_slice(datagram.payload);
        taken.push(Taken {
            end: bytes.len(),
            received: datagram.received,
            source: datagram.source,
            transport: datagram.transport,
        });
    }

    /// Fetches what there is into `batch`, whose memory is used again. Shut, nothing more is copied,
    /// and no memory kept.
    pub fn swap(&mut self, batch: &mut Batch, open: bool) {
        batch.bytes.clear();
        batch.taken.clear();
        batch.skipped = 0;
        std::mem::swap(&mut self.batch, batch);
        self.open = open;
        if !open {
            self.batch = Batch::default();
        }
    }
}

impl Batch {
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let mut begin = 0;
        self.taken.iter().map(move |taken| {
            let payload = self.bytes.get(begin..taken.end).unwrap_or_default();
            begin = taken.end;
            let Taken { received, source, transport, .. } = *taken;
            Datagram { payload, received, source, transport }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(payload: &[u8]) -> Datagram<'_> {
        Datagram { payload, received: Timestamp(7), source: Source::Nameless, transport: Transport::Udp }
    }

    #[test]
    fn nothing_is_kept_until_it_is_open_and_after_it_was_shut() {
        let (mut tap, mut batch) = (Tap::default(), Batch::default());
        tap.see(&datagram(b"a"));
        tap.swap(&mut batch, true);
        assert_eq!(batch.iter().count(), 0);
        tap.see(&datagram(b"b"));
        tap.see(&datagram(b""));
        tap.see(&datagram(b"c"));
        tap.swap(&mut batch, false);
        assert_eq!(batch.iter().map(|d| d.payload).collect::<Vec<_>>(), [&b"b"[..], b"", b"c"]);
        tap.see(&datagram(b"d"));
        tap.swap(&mut batch, false);
        assert_eq!(batch.iter().count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (mut tap, mut batch) = (Tap::default(), Batch::default());
        tap.swap(&mut batch, true);
        let large = vec![b'x'; 65_000];
        for _ in 0..20 {
            tap.see(&datagram(&large));
        }
        tap.swap(&mut batch, true);
        assert_eq!((batch.iter().count(), batch.skipped), (16, 4));
        for _ in 0..BATCH_DATAGRAMS_MAX + 5 {
            tap.see(&datagram(b""));
        }
        tap.swap(&mut batch, true);
        assert_eq!((batch.iter().count(), batch.skipped), (BATCH_DATAGRAMS_MAX, 5));
    }
}
