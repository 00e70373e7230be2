//! One call over one connection: its head, its messages as they come, and the head of its answer.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::task::AbortHandle;

use super::asking::{Asking, Piece};
use super::link::Slot;
use super::words::is_refusal;
use crate::proxy::forward::Pool;
use crate::proxy::upstream::Flight;

/// What is left of a call's request when its answer has begun.
pub(super) type Rest = Option<(SendStream<Bytes>, Asking)>;

/// A call got no answer.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) error: h2::Error,
    /// The replica has not looked at it: it never left, the connection was closed before it (RFC 9113 section 6.8), or
    /// it was refused unread (section 8.7). Whatever it is, it may be sent again.
    pub(super) unread: bool,
}

/// Sends a call, and waits for the head of its answer. It waits for ever if the caller has gone: whoever wanted the
/// answer drops this, and neither the caller nor the replica is told anything.
///
/// # Errors
/// When none comes.
pub(super) async fn ask(
    slot: &Slot,
    head: Request<()>,
    asking: &mut Asking,
) -> Result<(Response<RecvStream>, Option<SendStream<Bytes>>), Lost> {
    let mut over = asking.is_over();
    let before = slot.written();
    let sent = slot.sender().send_request(head, over);
    let (response, mut stream) = sent.map_err(|error| Lost { error, unread: true })?;
    let answered = {
        let mut response = pin!(response);
        let mut sending = pin!(send(&mut stream, asking));
        loop {
            tokio::select! {
                biased;
                answered = &mut response => break answered,
                sent = &mut sending, if !over => match sent {
                    Sent::Over => over = true,
                    Sent::Gone => std::future::pending().await,
                },
            }
        }
    };
    match answered {
        Ok(response) => {
            slot.heard();
            Ok((response, Some(stream).filter(|_| !over)))
        }
        Err(error) => {
            let farewell = error.is_go_away() && error.is_remote();
            let unread = farewell || is_refusal(&error) || slot.written() == before;
            Err(Lost { error, unread })
        }
    }
}

/// How the sending of a call's messages ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// All were sent, or the replica wants no more of them: its answer says why.
    Over,
    /// The caller has gone, and the replica was told.
    Gone,
}

/// Sends a call's messages to their end.
async fn send(stream: &mut SendStream<Bytes>, asking: &mut Asking) -> Sent {
    // A piece that is held waits for the replica to take some of it; one that is waited for reserves nothing that another
    // call could use. This may be dropped while it waits, and another one goes on.
    loop {
        let piece = std::future::poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            if asking.held.is_none() {
                match ready!(asking.poll(cx)) {
                    Piece::Data(data) if !data.is_empty() => asking.held = Some(data),
                    piece => return Poll::Ready(Some(piece)),
                }
            }
            stream.reserve_capacity(1);
            while stream.capacity() == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending if asking.gather(cx) => return Poll::Ready(Some(Piece::Gone)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(asking.held.take().map(Piece::Data))
        });
        let sent = match piece.await {
            None => return Sent::Over,
            Some(Piece::Gone) => {
                stream.send_reset(Reason::CANCEL);
                return Sent::Gone;
            }
            Some(Piece::End) => {
                drop(stream.send_data(Bytes::new(), true)); // its answer says what came of it
                asking.is_sent();
                return Sent::Over;
            }
            Some(Piece::Trailers(trailers)) => {
                stream.reserve_capacity(0);
                drop(stream.send_trailers(trailers));
                asking.is_sent();
                return Sent::Over;
            }
            Some(Piece::Data(data)) => {
                let last = asking.is_over();
                if data.is_empty() && !last {
                    continue;
                }
                stream.send_data(data, last).map(|()| last)
            }
        };
        if !matches!(sent, Ok(false)) {
            asking.is_sent();
            return Sent::Over;
        }
    }
}

/// The rest of a request on its way; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Sending(AbortHandle);

impl Sending {
    /// Sends it beside the answer.
    pub(super) fn beside((mut stream, mut asking): (SendStream<Bytes>, Asking)) -> Self {
        let task = tokio::task::spawn_local(async move {
            send(&mut stream, &mut asking).await;
        });
        Self(task.abort_handle())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a call is, for as long as its answer is wanted.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) pool: Arc<Pool>,
    pub(super) flight: Flight,
    pub(super) slot: Option<Slot>,
    pub(super) traffic: Rc<super::traffic::Traffic>,
    /// Of its answer.
    pub(super) status: u16,
    /// The replica has ended it before its end.
    pub(super) has_broken: bool,
    pub(super) _sending: Option<Sending>,
}

impl Drop for Carried {
    fn drop(&mut self) {
        let upstream = &self.flight.upstream;
        if !self.has_broken {
            upstream.health.answered(self.status);
        }
        self.pool.judge(upstream);
        if let Some(slot) = self.slot.take() {
            slot.leave(self.traffic.now_ms());
        }
    }
}
