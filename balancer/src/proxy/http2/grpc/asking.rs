//! A call's messages on their way to the replica: counted, and kept while the call may still have to begin anew.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;

use super::traffic::Traffic;

/// Bytes of a call that are kept in case that its replica refuses it unread. Most calls are one short message.
const KEPT: usize = 32 * 1024;
/// A frame below this costs its connection more than it weighs for as long as nobody takes it off (h2's
/// `too_many_data_frames`): a replica that pauses would cost a client of short messages all its other calls.
const SMALL: usize = 256;
/// Bytes of short messages that are taken off all the same. Beyond them a client is left to that limit.
const GATHERED: usize = 256 * 1024;
/// Bytes of them that are sent at a time: no more wait for the replica than do of longer messages.
const TOGETHER: usize = 16 * 1024;

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
    /// What was taken since behind that piece.
    gathered: BytesMut,
    gathers: bool,
    ended: bool,
    gone: bool,
}

/// What comes of the caller.
enum Came {
    Data(Bytes),
    /// Nothing more; trailers are kept.
    End,
    Gone,
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
        Self {
            body,
            traffic,
            kept,
            trailers: None,
            again: Bytes::new(),
            held: None,
            gathered: BytesMut::new(),
            gathers: true,
            ended,
            gone: false,
        }
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        let all_taken = self.again.is_empty() && self.held.is_none() && self.gathered.is_empty();
        self.ended && all_taken && self.trailers.is_none()
    }

    /// Back to the beginning; whether that can be.
    pub(super) fn rewind(&mut self) -> bool {
        if let Some(kept) = &self.kept {
            self.again = Bytes::copy_from_slice(kept);
            self.held = None;
            self.gathered.clear();
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
        if !self.gathered.is_empty() {
            self.traffic.moved();
            let now = self.gathered.len().min(TOGETHER);
            return Poll::Ready(Piece::Data(self.gathered.split_to(now).freeze()));
        }
        if self.ended {
            return Poll::Ready(self.last());
        }
        Poll::Ready(match ready!(self.poll_body(cx, true)) {
            Came::Data(data) => Piece::Data(data),
            Came::End => self.last(),
            Came::Gone => Piece::Gone,
        })
    }

    /// Waits for what the call cannot go on without.
    pub(super) async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            let polled = wait.as_mut().poll(cx);
            if polled.is_pending() {
                self.gather(cx); // one who has gone takes all of the call along
            }
            polled
        })
        .await
    }

    /// Takes what comes in short messages, behind the piece that is held; whether the caller has gone.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        self.gathers |= self.gathered.is_empty();
        while self.gathers && self.gathered.len() < GATHERED && !self.ended && !self.gone {
            match self.poll_body(cx, false) {
                Poll::Ready(Came::Data(data)) => {
                    self.gathers = data.len() < SMALL;
                    self.gathered.extend_from_slice(&data);
                }
                Poll::Ready(Came::End | Came::Gone) => {}
                Poll::Pending => break,
            }
        }
        self.gone
    }

    /// What comes next. Unless it `moves` the call, it is not the caller that is waited for.
    fn poll_body(&mut self, cx: &mut Context<'_>, moves: bool) -> Poll<Came> {
        if self.gone {
            return Poll::Ready(Came::Gone);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.traffic.waits_for_client(moves && polled.is_pending());
        let frame = match ready!(polled) {
            Some(Ok(frame)) => frame,
            // As for other requests: reset with NO_ERROR.
            None if self.body.is_end_stream() => {
                self.ended = true;
                return Poll::Ready(Came::End);
            }
            None | Some(Err(_)) => {
                self.gone = true;
                return Poll::Ready(Came::Gone);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.ended = self.body.is_end_stream();
                self.traffic.took(&data, moves);
                self.keep(&data);
                Poll::Ready(Came::Data(data))
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                self.ended = true;
                Poll::Ready(Came::End)
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
