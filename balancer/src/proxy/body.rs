//! Bodies pass through frame by frame, never held whole; one that stalls is ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Nothing came for this long.
    #[error("the body stalled for {0:?}")]
    Stalled(Duration),
    /// The connection that it came over broke.
    #[error("the body's connection broke")]
    Broken(#[from] hyper::Error),
}

/// A body that is being forwarded, or none at all.
#[derive(Debug)]
pub struct Forwarded<G> {
    body: Option<Incoming>,
    idle_timeout: Duration,
    /// Made at the first wait, set anew at each.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    guard: Option<G>,
}

/// Told when the last frame of a body has passed. One that is dropped instead learns it from its `Drop`.
pub trait AtEnd {
    /// The body is complete.
    fn at_end(self);

    /// The body failed.
    fn at_failure(self, _error: &BodyError)
    where
        Self: Sized,
    {
    }
}

impl<G: AtEnd> Forwarded<G> {
    /// Forwards `body`; between two of its frames at most `idle_timeout` may pass.
    pub fn new(body: Incoming, idle_timeout: Duration, guard: G) -> Self {
        let mut forwarded =
            Self { body: Some(body), idle_timeout, timer: None, waiting: false, guard: Some(guard) };
        if forwarded.body.as_ref().is_none_or(Body::is_end_stream) {
            forwarded.finish();
        }
        forwarded
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.body = None;
        if let Some(guard) = self.guard.take() {
            guard.at_failure(&error);
        }
        error
    }

    fn finish(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.at_end();
        }
    }
}

impl<G> Forwarded<G> {
    /// No body.
    pub fn none() -> Self {
        Self { body: None, idle_timeout: Duration::ZERO, timer: None, waiting: false, guard: None }
    }
}

impl<G: AtEnd + Unpin> Body for Forwarded<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let body_ended = this.body.as_ref().is_none_or(Body::is_end_stream);
                this.waiting = false;
                if let Some(Err(error)) = frame {
                    return Poll::Ready(Some(Err(this.fail(BodyError::Broken(error)))));
                }
                if frame.is_none() || body_ended {
                    this.finish();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending => {
                let timeout = this.idle_timeout;
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
                if !std::mem::replace(&mut this.waiting, true) {
                    timer.as_mut().reset(Instant::now() + timeout);
                }
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(this.fail(BodyError::Stalled(timeout)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
