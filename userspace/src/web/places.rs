//! Connections -> which of them must go when there is no more room.
//!
//! Whoever opens connections and asks for nothing must not keep Prometheus out. When all places are
//! taken, the connection that has been idle longest makes room; one with a request under way stays.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::task::Id;

/// One connection's place.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Requests under way, until their answers are handed over.
    busy: AtomicU32,
    /// Number of the last event; smaller is longer ago.
    active: AtomicU64,
    /// Answers under way that end only when somebody ends them.
    following: AtomicU32,
    leave: Notify,
}

impl Place {
    /// Ends when the connection must make room.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }

    /// Counts a request as under way until the guard goes.
    pub(super) fn busy(self: &Arc<Self>, clock: &Arc<AtomicU64>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy { place: Arc::clone(self), clock: Arc::clone(clock) }
    }

    /// Says until the guard goes that the connection may become as old as it likes.
    pub(super) fn following(self: &Arc<Self>) -> Follows {
        self.following.fetch_add(1, Ordering::Relaxed);
        Follows { place: Arc::clone(self) }
    }

    /// Ends once the connection is old enough to be asked to end.
    pub(super) async fn is_old(&self, age: Duration) {
        loop {
            tokio::time::sleep(age).await;
            if self.following.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// An answer without an end of its own; there are few of those.
#[derive(Debug)]
pub(super) struct Follows {
    place: Arc<Place>,
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.place.following.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy {
    place: Arc<Place>,
    clock: Arc<AtomicU64>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.place.active.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.place.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places of all connections.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Orders events; only their order matters.
    clock: Arc<AtomicU64>,
    taken: HashMap<Id, Arc<Place>>,
}

impl Places {
    pub(super) fn clock(&self) -> &Arc<AtomicU64> {
        &self.clock
    }

    /// A place for a connection that begins now.
    pub(super) fn new_place(&self) -> Arc<Place> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        Arc::new(Place { active: AtomicU64::new(now), ..Place::default() })
    }

    pub(super) fn take(&mut self, task: Id, place: Arc<Place>) {
        self.taken.insert(task, place);
    }

    pub(super) fn free(&mut self, task: Id) {
        self.taken.remove(&task);
    }

    /// Asks the connection that has been idle longest to go. False if all have requests under way.
    pub(super) fn make_room(&self) -> bool {
        let idle = self.taken.values().filter(|place| place.busy.load(Ordering::Relaxed) == 0);
        let longest = idle.min_by_key(|place| place.active.load(Ordering::Relaxed));
        if let Some(place) = longest {
            place.leave.notify_one();
        }
        longest.is_some()
    }
}

/// A body that keeps its connection's place until it is handed over.
#[derive(Debug)]
pub(super) struct Kept<B> {
    pub(super) body: B,
    pub(super) _busy: Busy,
    pub(super) _follows: Option<Follows>,
}

impl<B: Body + Unpin> Body for Kept<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the connection was asked to go.
    async fn leaves(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.must_leave()).await.is_ok()
    }

    #[tokio::test]
    async fn who_follows_makes_a_connection_no_older() {
        let place = Arc::new(Place::default());
        let follows = place.following();
        let age = Duration::from_millis(5);
        assert!(tokio::time::timeout(Duration::from_millis(100), place.is_old(age)).await.is_err());
        drop(follows);
        place.is_old(age).await;
    }

    #[tokio::test]
    async fn the_one_that_has_been_idle_longest_goes() {
        let mut places = Places::default();
        assert!(!places.make_room());
        let mut all = Vec::new();
        for _ in 0..3 {
            let place = places.new_place();
            places.take(tokio::spawn(async {}).id(), Arc::clone(&place));
            all.push(place);
        }
        // The first asks, and is done; the second is at it.
        drop(all[0].busy(places.clock()));
        let busy = all[1].busy(places.clock());
        assert!(places.make_room());
        assert_eq!(
            [leaves(&all[0]).await, leaves(&all[1]).await, leaves(&all[2]).await],
            [false, false, true]
        );
        drop(busy);
        let _busy = (all[0].busy(places.clock()), all[2].busy(places.clock()));
        assert!(places.make_room());
        assert!(leaves(&all[1]).await);
        let _busy = all[1].busy(places.clock());
        assert!(!places.make_room());
    }
}
