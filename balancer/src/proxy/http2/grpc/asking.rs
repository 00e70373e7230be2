//! A call's messages on their way to the replica: counted, and kept while the call may still have to begin anew.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;

use super::traffic::Traffic;

/// Bytes of a call that are kept in case that its replica refuses it unread. Most calls are one short message.
const KEPT: usize = 32 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Asking {
    body: Incoming,
    traffic: Rc<Traffic>,
    /// What was taken of it; `None`: too much to be kept.
    kept: Option<BytesMut>,
    trailers: Option<HeaderMap>,
    /// What was kept, and is to be sent again.
    again: Bytes,
    /// A piece that was taken and waits for the replica to take some of it. It is here and not with whoever sends, who
    /// may be another one when the answer has begun.
    pub(super) held: Option<Bytes>,
    ended: bool,
}

/// What comes of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
    /// The caller has gone, or its stream is broken.
    Gone,
}

impl Asking {
    /// Nothing of it was sent.
    pub(super) fn new(body: Incoming, traffic: Rc<Traffic>) -> Self {
        let ended = body.is_end_stream();
        traffic.asked(ended);
        let kept = Some(BytesMut::new());
        Self { body, traffic, kept, trailers: None, again: Bytes::new(), held: None, ended }
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.again.is_empty() && self.held.is_none() && self.trailers.is_none()
    }

    /// Back to the beginning; whether that can be.
    pub(super) fn rewind(&mut self) -> bool {
        if let Some(kept) = &self.kept {
            self.again = Bytes::copy_from_slice(kept);
            self.held = None;
        }
        self.kept.is_some()
    }

    /// It will not have to begin anew.
    pub(super) fn settle(&mut self) {
        self.kept = None;
    }

    /// The next piece, when it is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if !self.again.is_empty() {
            return Poll::Ready(Piece::Data(std::mem::take(&mut self.again)));
        }
        if self.ended {
            return Poll::Ready(self.last());
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.traffic.waits_for_client(polled.is_pending());
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Piece::Gone),
            // As for other requests: reset with NO_ERROR.
            None if !self.body.is_end_stream() => return Poll::Ready(Piece::Gone),
            None => {
                self.ended = true;
                return Poll::Ready(self.last());
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.ended = self.body.is_end_stream();
                self.traffic.took(&data);
                self.keep(&data);
                Poll::Ready(Piece::Data(data))
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                self.ended = true;
                Poll::Ready(self.last())
            }
        }
    }

    /// The last of it is on its way: it is for the replica to say something.
    pub(super) fn is_sent(&self) {
        self.traffic.asked(true);
    }

    fn last(&mut self) -> Piece {
        // Kept for as long as what comes before them.
        let trailers = if self.kept.is_some() { self.trailers.clone() } else { self.trailers.take() };
        trailers.map_or(Piece::End, Piece::Trailers)
    }

    fn keep(&mut self, data: &[u8]) {
        match &mut self.kept {
            Some(kept) if kept.len() + data.len() <= KEPT => kept.extend_from_slice(data),
            kept => *kept = None,
        }
    }
}
