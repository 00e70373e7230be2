//! A call's answer: it ends with its deadline, its patience or its replica, in words that a caller of gRPC
//! understands, and its replica counts it as in flight as long.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::super::pipe::BrokenOff;
use super::call::Carried;
use super::link::Slot;
use super::words::{Code, Ended, is_cancelled, is_the_replicas_fault, meaning, status};
use super::{GIVEN_UP, TOO_LATE};
use crate::metrics::Metrics;

/// See the module.
#[derive(Debug)]
pub(super) struct Answering {
    open: Rc<RefCell<Open>>,
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
    guard: AbortHandle,
}

/// What ends with the answer.
#[derive(Debug, Default)]
struct Open {
    /// Dropped as soon as nothing more of it is wanted: the replica learns of that, and its place is free.
    call: Option<(RecvStream, Carried)>,
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
    pub(super) fn new(body: RecvStream, carried: Carried, metrics: std::sync::Arc<Metrics>) -> Self {
        let given_up = Box::pin(carried.flight.upstream.given_up());
        let watched = carried.traffic.clone();
        watched.moved();
        let open = Rc::new(RefCell::new(Open { call: Some((body, carried)), ..Open::default() }));
        let guarded = open.clone();
        let guard = tokio::task::spawn_local(async move {
            let late = async {
                match watched.ends() {
                    Some(ends) => sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                () = late => Ended { code: Code::DeadlineExceeded, limit: None, words: TOO_LATE.to_owned() },
                over = watched.over(false) => Ended::of(over, "nothing of the answer passed for"),
            };
            ended.limit.into_iter().for_each(|limit| metrics.limit_hit(limit));
            guarded.borrow_mut().end(ended.code, ended.words);
        });
        Self { open, given_up, guard: guard.abort_handle() }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.guard.abort();
        self.open.borrow_mut().call = None;
    }
}

/// The next frame of an answer; its bytes make room for others.
fn poll_frame(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    match stream.poll_data(cx) {
        Poll::Ready(Some(Ok(data))) => {
            let room = stream.flow_control().release_capacity(data.len());
            Poll::Ready(Some(room.map(|()| Frame::data(data))))
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
        Poll::Ready(None) => {
            stream.poll_trailers(cx).map(|trailers| Some(trailers.transpose()?.map(Frame::trailers)))
        }
        Poll::Pending => Poll::Pending,
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
        if let Some((body, carried)) = &mut open.call {
            match poll_frame(body, cx) {
                // It keeps the deadline as well.
                Poll::Ready(Some(Err(error))) if is_cancelled(&error) && carried.traffic.is_late() => {
                    open.end(Code::DeadlineExceeded, TOO_LATE.to_owned());
                }
                Poll::Ready(Some(Err(error))) => {
                    let upstream = &carried.flight.upstream;
                    // A caller that leaves ends it, too.
                    if is_the_replicas_fault(&error) {
                        carried.has_broken = true;
                        upstream.metrics.broke_off();
                        // The end of a connection counts once, however many answers it breaks off.
                        if error.is_reset() || carried.slot.as_ref().is_some_and(Slot::blames) {
                            upstream.health.failed();
                        }
                    }
                    open.end(meaning(&error), "the replica ended the call before its status".to_owned());
                }
                Poll::Ready(frame) => {
                    carried.traffic.moved();
                    carried.slot.iter().for_each(Slot::heard);
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
}
