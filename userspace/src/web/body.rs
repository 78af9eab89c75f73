//! Parts of an exposition -> the body of an answer, sent while it is written.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
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

/// Yields parts as they come.
pub(super) struct Parts {
    next: Option<Part>,
    rest: UnboundedReceiver<Part>,
    /// The last part was yielded. A channel without a sender says nothing: the writer may have failed.
    ended: bool,
    /// Held until the body is sent, or given up.
    _permit: OwnedSemaphorePermit,
}

/// Where the writer puts the parts. What the client has not taken yet waits in memory, so that a slow
/// one holds up nobody; it is no more than one exposition.
pub(super) struct Outlet {
    compressor: Compressor,
    sender: UnboundedSender<Part>,
}

/// Both ends.
pub(super) fn parts(coding: Coding, permit: OwnedSemaphorePermit) -> (Outlet, Parts) {
    let (sender, rest) = unbounded_channel();
    (
        Outlet { compressor: Compressor::new(coding), sender },
        Parts { next: None, rest, ended: false, _permit: permit },
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
        match self.sender.send(Part::More(bytes.into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
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
            Some(Part::More(bytes)) => Ok(Frame::data(bytes)),
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
