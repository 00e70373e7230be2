//! Whether a call moves, in whichever direction.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::proxy::exchange::Patience;
use crate::proxy::watch::Ticket;

/// When a call last moved, and how long it may stand still.
#[derive(Debug)]
pub(super) struct Traffic {
    ticket: Ticket,
    patience: Patience,
    /// The call has no deadline of its own.
    bounded: bool,
    moved_ms: Cell<u64>,
    asked: Cell<bool>,
}

impl Traffic {
    /// Of a call that begins; `bounded`: by the patience that all requests have, for want of a deadline of its own.
    pub(super) fn new(ticket: Ticket, patience: Patience, bounded: bool) -> Rc<Self> {
        let moved_ms = Cell::new(ticket.now_ms());
        Rc::new(Self { ticket, patience, bounded, moved_ms, asked: Cell::new(false) })
    }

    /// Something passed.
    pub(super) fn moved(&self) {
        self.moved_ms.set(self.ticket.now_ms());
    }

    /// Resolves when nothing has passed for too long, with how long that is. `first`: the answer has not begun.
    pub(super) async fn silence(&self, first: bool) -> Duration {
        std::future::poll_fn(|cx| {
            if !self.bounded {
                return Poll::Pending;
            }
            // As for other requests: the answer is due so long after the end of the request, and until then each piece.
            let patience =
                if first && self.asked.get() { self.patience.first_byte } else { self.patience.idle };
            self.ticket.set_from(self.moved_ms.get(), patience);
            if self.ticket.has_expired(cx) { Poll::Ready(patience) } else { Poll::Pending }
        })
        .await
    }
}

/// A call's messages on their way to the replica.
#[derive(Debug)]
pub struct Asking {
    body: Incoming,
    traffic: Rc<Traffic>,
}

impl Asking {
    pub(super) fn new(body: Incoming, traffic: Rc<Traffic>) -> Self {
        traffic.asked.set(body.is_end_stream());
        Self { body, traffic }
    }
}

impl Body for Asking {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.traffic.moved();
            self.traffic.asked.set(frame.is_none() || self.body.is_end_stream());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
