//! Lines that a process sends one right after the other -> datagrams in order of time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{
    Datagram, Sender, World,
    lines::{Lines, Tag, Value},
};

/// Datagrams whose time has come by an event, but not yet by the clock.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BinaryHeap<Reverse<Waiting>>,
    added: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Duration,
    number: u64,
    sender: Sender,
    bytes: Vec<u8>,
}

impl Outbox {
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    pub(super) fn take(&mut self) -> Option<Datagram> {
        let Reverse(Waiting { at, sender, bytes, .. }) = self.waiting.pop()?;
        Some(Datagram { sender, at, bytes })
    }
}

/// One process sending: every line is a datagram, a moment after the one before.
pub(super) struct Burst<'a> {
    lines: &'a Lines,
    encodes_names: bool,
    outbox: &'a mut Outbox,
    sender: Sender,
    at: Duration,
    gap: Duration,
}

impl<'a> Burst<'a> {
    pub(super) fn new(world: &'a mut World, outbox: &'a mut Outbox, sender: Sender, at: Duration) -> Self {
        let (low, high) = world.settings.burst_rate;
        let gap = Duration::try_from_secs_f64(1.0 / world.random.between(low, high)).unwrap_or_default();
        let encodes_names = world.settings.encodes_names();
        Self { lines: &world.lines, encodes_names, outbox, sender, at, gap }
    }

    /// Sends nothing for that long.
    pub(super) fn pause(&mut self, milliseconds: f64) {
        self.at += Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default();
    }

    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// One line under its plain name.
    pub(super) fn line(&mut self, name: &str, tags: &[Tag<'_>], value: Value) {
        let mut bytes = Vec::with_capacity(64);
        self.lines.write(name, tags, value, &mut bytes);
        self.datagram(bytes);
    }

    /// The line under the name that holds the ids, where the fleet sends such, then the plain one.
    pub(super) fn pair(
        &mut self,
        encoded: &str,
        encoded_tags: &[Tag<'_>],
        name: &str,
        tags: &[Tag<'_>],
        value: Value,
    ) {
        if self.encodes_names {
            self.line(encoded, encoded_tags, value);
        }
        self.line(name, tags, value);
    }

    /// As [`Self::pair`], but the plain name comes first.
    pub(super) fn pair_reversed(
        &mut self,
        encoded: &str,
        encoded_tags: &[Tag<'_>],
        name: &str,
        tags: &[Tag<'_>],
        value: Value,
    ) {
        self.line(name, tags, value);
        if self.encodes_names {
            self.line(encoded, encoded_tags, value);
        }
    }

    /// Several lines of names without prefix in one datagram.
    pub(super) fn together(&mut self, lines: &[(&str, Value)], tags: &[Tag<'_>]) {
        let mut bytes = Vec::with_capacity(1400);
        for (name, value) in lines {
            self.lines.write_bare(name, tags, *value, &mut bytes);
        }
        self.datagram(bytes);
    }

    fn datagram(&mut self, bytes: Vec<u8>) {
        self.outbox.added += 1;
        let number = self.outbox.added;
        self.outbox.waiting.push(Reverse(Waiting { at: self.at, number, sender: self.sender, bytes }));
        self.at += self.gap;
    }
}
