//! What the streams of one connection are doing: whether the client is waited for, and what it does not wait for.
//!
//! A connection ends when, for its patience, no stream waits for a replica and none moves: nothing was asked, or
//! nothing that was answered is read. And it ends when the client takes back too much of what it asked: a request
//! that was begun has cost its replica something, so that limiting the streams at a time limits nothing
//! (CVE-2023-44487).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::AnswerBody;
use super::pipe::BrokenOff;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::proxy::watch::Ticket;

/// Resets are counted for so long.
const RESETS_WITHIN_MS: u64 = 10_000;

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing moved.
    Idle,
    /// The client reset too many streams.
    Resets,
}

/// What a connection may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Streams at a time.
    pub(super) streams: u32,
    /// Streams that are taken back, in ten seconds.
    pub(super) resets: u32,
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    ticket: Ticket,
    patience: Cell<Duration>,
    /// Those that wait for a replica.
    busy: Cell<usize>,
    /// Those that have not ended.
    open: Cell<u32>,
    most: Most,
    /// That it has as many as it may was counted.
    crowded: Cell<bool>,
    metrics: Arc<Metrics>,
    resets: Cell<u32>,
    counting_since_ms: Cell<u64>,
}

impl Streams {
    /// None yet: the first is to come so long after that moment; later ones, and whatever a client is to read, within
    /// `patience`.
    pub(super) fn new(
        ticket: Ticket,
        (since_ms, first): (u64, Duration),
        patience: Duration,
        most: Most,
        metrics: Arc<Metrics>,
    ) -> Rc<Self> {
        ticket.set_from(since_ms, first);
        Rc::new(Self {
            counting_since_ms: Cell::new(ticket.now_ms()),
            ticket,
            patience: Cell::new(patience),
            busy: Cell::new(0),
            open: Cell::new(0),
            most,
            crowded: Cell::new(false),
            metrics,
            resets: Cell::new(0),
        })
    }

    /// A stream begins.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        let open = Open { streams: self.clone(), busy: Cell::new(false), answered: false };
        open.waits_for_replica();
        self.open.set(self.open.get() + 1);
        // More are refused below, unseen: that there is no room for them is what can be counted.
        if self.open.get() >= self.most.streams && !self.crowded.replace(true) {
            self.metrics.limit_hit(Limit::Streams);
        }
        open
    }

    /// From now on this is the patience.
    pub(super) fn patience(&self, patience: Duration) {
        self.patience.set(patience);
        if self.busy.get() == 0 {
            self.ticket.set(patience);
        }
    }

    /// Resolves when the connection is to end.
    pub(super) async fn over(&self) -> Over {
        std::future::poll_fn(|cx| {
            let expired = self.ticket.has_expired(cx);
            if self.resets.get() > self.most.resets {
                return Poll::Ready(Over::Resets);
            }
            if expired { Poll::Ready(Over::Idle) } else { Poll::Pending }
        })
        .await
    }

    fn moved(&self) {
        if self.busy.get() == 0 {
            self.ticket.set(self.patience.get());
        }
    }

    fn was_reset(&self) {
        let now = self.ticket.now_ms();
        if now.saturating_sub(self.counting_since_ms.get()) > RESETS_WITHIN_MS {
            self.counting_since_ms.set(now);
            self.resets.set(0);
        }
        self.resets.set(self.resets.get().saturating_add(1));
        if self.resets.get() > self.most.resets {
            self.ticket.wake();
        }
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Open {
    streams: Rc<Streams>,
    busy: Cell<bool>,
    answered: bool,
}

impl Open {
    /// The stream has its answer.
    pub(super) fn answer(mut self, answer: Response<AnswerBody>) -> Response<Counted> {
        self.answered = true;
        answer.map(|body| Counted { body, open: self })
    }

    fn waits_for_replica(&self) {
        if !self.busy.replace(true) {
            self.streams.busy.set(self.streams.busy.get() + 1);
            self.streams.ticket.unset();
        }
    }

    fn waits_for_client(&self) {
        if self.busy.replace(false) {
            self.streams.busy.set(self.streams.busy.get() - 1);
        }
        self.streams.moved();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.waits_for_client();
        self.streams.open.set(self.streams.open.get() - 1);
        if !self.answered {
            self.streams.was_reset();
        }
    }
}

/// An answer's body that says what it waits for: a piece that was asked for waits for a replica; when none is asked
/// for, the client has not read the last one.
pub(super) struct Counted {
    body: AnswerBody,
    open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match polled {
            Poll::Pending => self.open.waits_for_replica(),
            Poll::Ready(_) => self.open.waits_for_client(),
        }
        polled.map_err(|error| match error.downcast() {
            Ok(broken) => *broken,
            Err(_) => BrokenOff,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
