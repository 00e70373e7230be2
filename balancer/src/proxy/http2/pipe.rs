//! An answer's body on its way from the task that carries it to the connection that sends it, on one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

/// Bytes that lie between the two; more make the replica wait.
const CAPACITY: usize = 64 * 1024;

/// The answer ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

#[derive(Debug, Default)]
struct Between {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    ended: bool,
    broken: bool,
    deserted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The end that is written to.
#[derive(Debug)]
pub(super) struct PipeWriter(Rc<RefCell<Between>>);

/// The end that is a body.
#[derive(Debug)]
pub struct PipeBody(Rc<RefCell<Between>>);

/// A pipe with nothing in it.
pub(super) fn pipe() -> (PipeWriter, PipeBody) {
    let between = Rc::new(RefCell::new(Between::default()));
    (PipeWriter(between.clone()), PipeBody(between))
}

impl PipeWriter {
    /// Takes some of `data`; how much. An error when nobody reads any more.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, BrokenOff>> {
        let mut between = self.0.borrow_mut();
        if between.deserted {
            return Poll::Ready(Err(BrokenOff));
        }
        if between.bytes >= CAPACITY {
            between.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        between.bytes += data.len();
        between.frames.push_back(Frame::data(Bytes::copy_from_slice(data)));
        wake(between.reader.take());
        Poll::Ready(Ok(data.len()))
    }

    /// Nothing more comes, but for these trailers.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) {
        let mut between = self.0.borrow_mut();
        between.frames.extend(trailers.map(Frame::trailers));
        between.ended = true;
        wake(between.reader.take());
    }

    /// Resolves when everything was read, or nobody reads any more.
    pub(super) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut between = self.0.borrow_mut();
        if between.deserted || between.frames.is_empty() {
            return Poll::Ready(());
        }
        between.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Resolves when nobody reads any more.
    pub(super) fn poll_deserted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut between = self.0.borrow_mut();
        if between.deserted {
            return Poll::Ready(());
        }
        between.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut between = self.0.borrow_mut();
        between.broken = !between.ended;
        wake(between.reader.take());
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut between = self.0.borrow_mut();
        between.deserted = true;
        between.frames.clear();
        wake(between.writer.take());
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut between = self.0.borrow_mut();
        if let Some(frame) = between.frames.pop_front() {
            between.bytes -= frame.data_ref().map_or(0, Bytes::len);
            wake(between.writer.take());
            return Poll::Ready(Some(Ok(frame)));
        }
        if between.broken {
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        if between.ended {
            return Poll::Ready(None);
        }
        between.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let between = self.0.borrow();
        between.ended && between.frames.is_empty()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
