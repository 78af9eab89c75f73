//! Parts of an exposition -> the body of an answer, sent while it is written.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::exposition::Sink;
use crate::exposition::compress::{Coding, Compressor};

/// Whole, or in parts of which the later ones are still to come.
pub(super) enum Body {
    Whole(Full<Bytes>),
    Parts(Parts),
    /// Until the sender goes.
    Pieces(Receiver<Bytes>),
}

/// The writing of the exposition came to an end too early. The connection is cut, so that nobody takes
/// what came so far for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the exposition ended early")]
pub(super) struct Cut;

enum Part {
    More(Bytes),
    Last(Bytes),
}

/// How far the writer is ahead of the connection.
#[derive(Default)]
struct Ahead {
    /// Bytes written and not yet handed to the connection.
    bytes: Mutex<usize>,
    fewer: Condvar,
}

/// Here the writer waits for the connection, and goes on at half of it.
const AHEAD_BYTES_MAX: usize = 2 << 20;
/// As long as a writer waits in all. A client that is slower than that has the rest kept for it, so that
/// others get their turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// Yields parts as they come.
pub(super) struct Parts {
    next: Option<Part>,
    rest: UnboundedReceiver<Part>,
    ahead: Arc<Ahead>,
    /// The last part was yielded. A channel without a sender says nothing: the writer may have failed.
    ended: bool,
    /// Held until the body is sent, or given up.
    _permit: OwnedSemaphorePermit,
}

/// Where the writer puts the parts. It waits for the client, so that a scrape takes the same memory however
/// many series there are; but not for ever, so that a slow one holds up nobody. What such a one has not taken
/// yet waits in memory, and is no more than one exposition.
pub(super) struct Outlet {
    compressor: Compressor,
    sender: UnboundedSender<Part>,
    ahead: Arc<Ahead>,
    patience: Duration,
}

/// Both ends.
pub(super) fn parts(coding: Coding, permit: OwnedSemaphorePermit) -> (Outlet, Parts) {
    let (sender, rest) = unbounded_channel();
    let ahead = Arc::new(Ahead::default());
    (
        Outlet { compressor: Compressor::new(coding), sender, ahead: Arc::clone(&ahead), patience: PATIENCE },
        Parts { next: None, rest, ahead, ended: false, _permit: permit },
    )
}

impl Outlet {
    /// Sends what is left. Without this call the body is cut.
    pub(super) fn finish(self) {
        // Nobody is left to tell that the client went away.
        let _ = self.sender.send(Part::Last(self.compressor.finish().into()));
    }
}

impl Sink for Outlet {
    fn take(&mut self, part: &mut Vec<u8>) -> ControlFlow<()> {
        let Some(bytes) = self.compressor.push(part) else { return ControlFlow::Continue(()) };
        self.ahead.add(bytes.len());
        if self.sender.send(Part::More(bytes.into())).is_err() {
            return ControlFlow::Break(());
        }
        self.patience = self.ahead.wait(self.patience);
        ControlFlow::Continue(())
    }
}

impl Ahead {
    fn add(&self, bytes: usize) {
        *self.bytes.lock() += bytes;
    }

    fn subtract(&self, bytes: usize) {
        let mut ahead = self.bytes.lock();
        *ahead = ahead.saturating_sub(bytes);
        if *ahead <= AHEAD_BYTES_MAX / 2 {
            self.fewer.notify_one();
        }
    }

    /// Nothing is written any more, or nobody wants it.
    fn end(&self) {
        *self.bytes.lock() = 0;
        self.fewer.notify_one();
    }

    /// Waits while too much is ahead, for no longer than `patience`; returns what is left of that.
    fn wait(&self, patience: Duration) -> Duration {
        let mut ahead = self.bytes.lock();
        if *ahead < AHEAD_BYTES_MAX || patience.is_zero() {
            return patience;
        }
        let began = Instant::now();
        let enough = |ahead: &mut usize| *ahead > AHEAD_BYTES_MAX / 2;
        self.fewer.wait_while_for(&mut ahead, enough, patience);
        patience.saturating_sub(began.elapsed())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.ahead.end();
    }
}

impl Parts {
    /// Waits for the first part. An exposition that is no longer has a known length.
    pub(super) async fn begin(mut self) -> Result<Body, Cut> {
        match self.rest.recv().await {
            Some(Part::Last(bytes)) => {
                Ok(Body::Whole(Full::new(Bytes::from_owner(Held { bytes, _parts: self }))))
            }
            Some(part) => {
                self.next = Some(part);
                Ok(Body::Parts(self))
            }
            None => Err(Cut),
        }
    }
}

/// Bytes that keep the permit until the connection lets go of them.
struct Held {
    bytes: Bytes,
    _parts: Parts,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let parts = match self.get_mut() {
            Self::Whole(whole) => {
                return Pin::new(whole).poll_frame(context).map_err(|never| match never {});
            }
            Self::Parts(parts) => parts,
            Self::Pieces(pieces) => {
                return pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))));
            }
        };
        let next = match parts.next.take() {
            Some(part) => Some(part),
            None if parts.ended => return Poll::Ready(None),
            None => std::task::ready!(parts.rest.poll_recv(context)),
        };
        Poll::Ready(Some(match next {
            Some(Part::More(bytes)) => {
                parts.ahead.subtract(bytes.len());
                Ok(Frame::data(bytes))
            }
            Some(Part::Last(bytes)) => {
                parts.ended = true;
                Ok(Frame::data(bytes))
            }
            None => Err(Cut),
        }))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Parts(_) | Self::Pieces(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::Semaphore;

    use super::*;

    const PART_BYTES: usize = 256 << 10;
    const PARTS: usize = 40;

    /// A writer of forty parts on a thread of its own, and what it writes into.
    async fn written(patience: Duration) -> (std::thread::JoinHandle<()>, Body, Arc<Ahead>) {
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (mut outlet, parts) = parts(Coding::Identity, permit);
        outlet.patience = patience;
        let ahead = Arc::clone(&outlet.ahead);
        let writer = std::thread::spawn(move || {
            for _ in 0..PARTS {
                if outlet.take(&mut vec![b'x'; PART_BYTES]).is_break() {
                    return;
                }
            }
            outlet.finish();
        });
        (writer, parts.begin().await.unwrap(), ahead)
    }

    async fn read(mut body: Body) -> usize {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        bytes
    }

    #[tokio::test]
    async fn the_writer_waits_for_the_client() {
        let (writer, body, ahead) = written(Duration::from_secs(600)).await;
        let began = Instant::now();
        while *ahead.bytes.lock() < AHEAD_BYTES_MAX && began.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        // One part more is with the body, which has looked at it already.
        assert!(*ahead.bytes.lock() <= AHEAD_BYTES_MAX + PART_BYTES);
        assert!(!writer.is_finished());
        assert_eq!(read(body).await, PARTS * PART_BYTES);
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn the_writer_does_not_wait_for_ever() {
        let (writer, body, _) = written(Duration::from_millis(10)).await;
        writer.join().unwrap();
        assert_eq!(read(body).await, PARTS * PART_BYTES);
    }

    #[tokio::test]
    async fn the_writer_ends_when_the_client_goes() {
        let (writer, body, _) = written(Duration::from_secs(600)).await;
        drop(body);
        writer.join().unwrap();
    }
}
