//! A call's answer: it ends with its deadline, its patience or its replica, in words that a caller of gRPC
//! understands, and its replica counts it as in flight as long.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::pipe::BrokenOff;
use super::traffic::Traffic;
use super::words::{Code, meaning, status};
use super::{GIVEN_UP, TOO_LATE};
use crate::proxy::upstream::Flight;

/// See the module.
#[derive(Debug)]
pub(super) struct Answering {
    open: Rc<RefCell<Open>>,
    traffic: Rc<Traffic>,
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
    guard: AbortHandle,
}

/// What ends with the answer.
#[derive(Debug, Default)]
struct Open {
    /// Dropped as soon as nothing more of it is wanted: the replica learns of that, and its place is free.
    call: Option<(Incoming, Flight)>,
    /// What the caller is told in place of the rest.
    last_words: Option<(Code, String)>,
    reader: Option<Waker>,
}

impl Open {
    fn end(&mut self, code: Code, words: String) {
        self.call = None;
        self.last_words = Some((code, words));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Answering {
    /// An answer that has begun. It is watched by a task of its own: a caller that reads nothing would never ask for
    /// a frame, and so never learn that it is too late.
    pub(super) fn new(body: Incoming, flight: Flight, traffic: Rc<Traffic>, ends: Option<Instant>) -> Self {
        let given_up = Box::pin(flight.upstream.given_up());
        let open = Rc::new(RefCell::new(Open { call: Some((body, flight)), ..Open::default() }));
        traffic.moved();
        let (guarded, watched) = (open.clone(), traffic.clone());
        let guard = tokio::task::spawn_local(async move {
            let words = match ends {
                Some(ends) => {
                    sleep_until(ends).await;
                    TOO_LATE.to_owned()
                }
                None => format!("nothing of the answer passed for {:?}", watched.silence(false).await),
            };
            guarded.borrow_mut().end(Code::DeadlineExceeded, words);
        });
        Self { open, traffic, given_up, guard: guard.abort_handle() }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.guard.abort();
        self.open.borrow_mut().call = None;
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let mut open = this.open.borrow_mut();
        if let Some((body, flight)) = &mut open.call {
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Err(error))) => {
                    flight.upstream.metrics.broke_off();
                    open.end(meaning(&error), "the replica ended the call before its status".to_owned());
                }
                Poll::Ready(frame) => {
                    this.traffic.moved();
                    return Poll::Ready(frame.map(|frame| frame.map_err(|_| BrokenOff)));
                }
                Poll::Pending if this.given_up.as_mut().poll(cx).is_ready() => {
                    open.end(Code::Unavailable, GIVEN_UP.to_owned());
                }
                Poll::Pending => {
                    open.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        let last = open.last_words.take();
        Poll::Ready(last.map(|(code, words)| Ok(Frame::trailers(status(code, &words)))))
    }

    fn is_end_stream(&self) -> bool {
        let open = self.open.borrow();
        match &open.call {
            Some((body, _)) => body.is_end_stream(),
            None => open.last_words.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.open.borrow().call.as_ref().map(|(body, _)| body.size_hint()).unwrap_or_default()
    }
}
