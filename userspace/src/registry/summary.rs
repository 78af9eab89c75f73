//! Observations -> quantiles over a sliding window.
//!
//! statsd_exporter keeps `age_buckets` streams, each fed every observation; the oldest answers
//! queries, and is emptied and becomes the youngest when its turn ends. Each stream is therefore a
//! suffix of the observations, and most of what the streams hold is the same. Here it is held once:
//! streams that began together and were treated alike are one [`Stream`] with `copies`, and what no
//! stream has compressed yet is one log, of which each stream knows how many of the last
//! observations are its own. A test compares the answers with independent streams.

use std::time::Duration;

use super::ascending::{SortSpace, sort_into};
use super::ckms::{Ckms, MergeSpace};
use super::observe::{REPETITIONS_MAX, add_repeatedly};
use crate::clock::Timestamp;

/// A quantile to report and its allowed error, both as fractions of all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    pub quantile: f64,
    pub error: f64,
}

/// How the summaries of one rule are built.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    pub quantiles: Vec<Quantile>,
    /// How long an observation stays visible, at most; zero means 10 minutes.
    pub max_age: Duration,
    /// In how many steps the window slides; zero means 5.
    pub age_buckets: u32,
    /// Accepted for the sake of existing files; the answers do not depend on it.
    pub buf_cap: u32,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        let quantiles = [(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];
        Self {
            quantiles: quantiles.map(|(quantile, error)| Quantile { quantile, error }).to_vec(),
            max_age: Duration::from_secs(600),
            age_buckets: 5,
            buf_cap: 500,
        }
    }
}

/// Checked options, one for all series of a vector.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SummaryPlan {
    /// Ascending, each quantile once, all within 0 and 1.
    pub(super) quantiles: Vec<Quantile>,
    age_buckets: u32,
    stream_nanos: u64,
}

impl SummaryPlan {
    pub(super) fn new(options: &SummaryOptions) -> Self {
        let mut quantiles: Vec<Quantile> = Vec::new();
        for wanted in options.quantiles.iter().filter(|wanted| (0.0..=1.0).contains(&wanted.quantile)) {
            // Of two entries for one quantile the later one holds.
            quantiles.retain(|quantile| quantile.quantile != wanted.quantile);
            quantiles.push(*wanted);
        }
        quantiles.sort_by(|a, b| a.quantile.total_cmp(&b.quantile));
        let age_buckets = if options.age_buckets == 0 { 5 } else { options.age_buckets };
        let max_age = if options.max_age.is_zero() { Duration::from_secs(600) } else { options.max_age };
        let max_age_nanos = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
        Self { quantiles, age_buckets, stream_nanos: (max_age_nanos / u64::from(age_buckets)).max(1) }
    }
}

/// Observations that a stream gathers before it compresses them; below it, answers are exact.
const PENDING_MAX: u32 = 500;

/// Streams that hold the same observations, compressed at the same moments.
#[derive(Clone, Debug)]
struct Stream {
    copies: u32,
    /// How many of the log's last observations this stream has not compressed yet.
    pending: u32,
    /// `None` until the first [`PENDING_MAX`] observations are compressed.
    ckms: Option<Box<Ckms>>,
}

impl Stream {
    fn is_empty(&self) -> bool {
        self.pending == 0 && self.ckms.is_none()
    }
}

/// Working space shared by all summaries; holds nothing between calls.
#[derive(Debug, Default)]
pub(super) struct SummarySpace {
    sort: SortSpace,
    sorted: Vec<f64>,
    merge: MergeSpace,
}

/// The state of one summary series.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) sum: f64,
    pub(super) count: u64,
    pub(super) created: Timestamp,
    head_expires: Timestamp,
    /// The last observations, oldest first; as many as the stream with the most pending needs.
    log: Vec<f64>,
    /// How many of them no stream's `pending` counts yet.
    unsettled: u32,
    /// How many more can be appended before a stream has to compress, at least.
    room: u32,
    /// In the order of their turns: the first answers queries. Never empty.
    streams: Vec<Stream>,
}

impl Summary {
    pub(super) fn new(plan: &SummaryPlan, now: Timestamp) -> Self {
        Self {
            sum: 0.0,
            count: 0,
            created: now,
            head_expires: Timestamp(now.0.saturating_add(plan.stream_nanos)),
            log: Vec::new(),
            unsettled: 0,
            room: 0,
            streams: vec![Stream { copies: plan.age_buckets, pending: 0, ckms: None }],
        }
    }

    pub(super) fn observe(
        &mut self,
        plan: &SummaryPlan,
        space: &mut SummarySpace,
        value: f64,
        times: u64,
        now: Timestamp,
    ) {
        self.settle();
        self.rotate(plan, now);
        self.count = self.count.saturating_add(times);
        self.sum = add_repeatedly(self.sum, value, times);
        if plan.quantiles.is_empty() {
            return;
        }
        for _ in 0..times.min(REPETITIONS_MAX) {
            self.insert(plan, space, value);
        }
        let pending_most = self.streams.iter().map(|stream| stream.pending).max().unwrap_or(0);
        self.room = PENDING_MAX - 1 - pending_most;
    }

    /// Observes `value` if that takes no turn, no compression and no memory, as nearly always; returns
    /// whether it did.
    #[inline]
    pub(super) fn observe_in_place(&mut self, value: f64, times: u64, now: Timestamp) -> bool {
        let in_place =
            times == 1 && self.room > 0 && now <= self.head_expires && self.log.len() < self.log.capacity();
        if in_place {
            self.count = self.count.saturating_add(1);
            self.sum += value;
            self.log.push(value);
            self.unsettled += 1;
            self.room -= 1;
        }
        in_place
    }

    /// Lets the streams know of what was observed in place.
    fn settle(&mut self) {
        let unsettled = std::mem::take(&mut self.unsettled);
        for stream in &mut self.streams {
            stream.pending += unsettled;
        }
    }

    /// Appends the value at each of the plan's quantiles to `out`; NaN if the window is empty.
    pub(super) fn quantiles(
        &mut self,
        plan: &SummaryPlan,
        space: &mut SummarySpace,
        now: Timestamp,
        out: &mut Vec<f64>,
    ) {
        self.settle();
        self.rotate(plan, now);
        self.compress_head(plan, space);
        let Some(head) = self.streams.first_mut() else { return };
        match &mut head.ckms {
            Some(ckms) => out.extend(plan.quantiles.iter().enumerate().map(|(place, wanted)| {
                // Each query of the original compresses anew, which can move a sample.
                if place > 0 {
                    ckms.settle(&plan.quantiles, &mut space.merge);
                }
                ckms.query(wanted.quantile, &plan.quantiles)
            })),
            None => {
                sort_last(&self.log, head.pending, space);
                out.extend(plan.quantiles.iter().map(|wanted| nearest_rank(&space.sorted, wanted.quantile)));
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let streams = self.streams.iter().filter_map(|stream| stream.ckms.as_deref());
        size_of::<Self>()
            + self.log.capacity() * size_of::<f64>()
            + self.streams.capacity() * size_of::<Stream>()
            + streams.map(Ckms::heap_bytes).sum::<usize>()
    }

    fn insert(&mut self, plan: &SummaryPlan, space: &mut SummarySpace, value: f64) {
        self.log.push(value);
        let mut pending_most = 0;
        for stream in &mut self.streams {
            stream.pending += 1;
            if stream.pending == PENDING_MAX {
                sort_last(&self.log, stream.pending, space);
                let ckms = stream.ckms.get_or_insert_default();
                ckms.merge(&space.sorted, &plan.quantiles, &mut space.merge);
                stream.pending = 0;
            }
            pending_most = pending_most.max(stream.pending);
        }
        self.forget_all_but(pending_most);
    }

    /// Ends the turn of each stream whose time is over.
    fn rotate(&mut self, plan: &SummaryPlan, now: Timestamp) {
        if now <= self.head_expires {
            return;
        }
        let turns = (now.0 - self.head_expires.0).div_ceil(plan.stream_nanos);
        self.head_expires =
            Timestamp(self.head_expires.0.saturating_add(turns.saturating_mul(plan.stream_nanos)));
        // After a full round all streams are empty, and further turns change nothing.
        let emptied = u32::try_from(turns).unwrap_or(u32::MAX).min(plan.age_buckets);
        let mut left = emptied;
        self.streams.retain_mut(|stream| {
            let ended = left.min(stream.copies);
            left -= ended;
            stream.copies -= ended;
            stream.copies > 0
        });
        match self.streams.last_mut() {
            Some(youngest) if youngest.is_empty() => youngest.copies += emptied,
            _ => self.streams.push(Stream { copies: emptied, pending: 0, ckms: None }),
        }
        self.forget_all_but(self.streams.iter().map(|stream| stream.pending).max().unwrap_or(0));
        if self.log.capacity() > 4 * self.log.len() {
            self.log.shrink_to(2 * self.log.len());
        }
    }

    /// Compresses what the head has pending, as a query does, unless it never compressed before.
    fn compress_head(&mut self, plan: &SummaryPlan, space: &mut SummarySpace) {
        let Some(head) = self.streams.first_mut() else { return };
        let Some(ckms) = &mut head.ckms else { return };
        if head.pending == 0 && ckms.is_settled() {
            return;
        }
        // Only the head is ever queried: from here on it is no longer what its copies are.
        if head.copies > 1 {
            let others = Stream { copies: head.copies - 1, ..head.clone() };
            head.copies = 1;
            self.streams.insert(1, others);
            return self.compress_head(plan, space);
        }
        if head.pending == 0 {
            ckms.settle(&plan.quantiles, &mut space.merge);
        } else {
            sort_last(&self.log, head.pending, space);
            ckms.merge(&space.sorted, &plan.quantiles, &mut space.merge);
            head.pending = 0;
        }
    }

    fn forget_all_but(&mut self, kept: u32) {
        let surplus = self.log.len().saturating_sub(kept as usize);
        if surplus > 0 {
            self.log.drain(..surplus);
        }
    }
}

/// Puts the last `count` observations of `log` into `space.sorted`, ascending.
fn sort_last(log: &[f64], count: u32, space: &mut SummarySpace) {
    let last = log.get(log.len().saturating_sub(count as usize)..).unwrap_or_default();
    sort_into(last, &mut space.sorted, &mut space.sort);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "fewer than 500 samples, and a quantile within 0 and 1"
)]
fn nearest_rank(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests;
