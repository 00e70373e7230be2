//! The answer on its way to the client.

use std::task::{Context, Poll};

use httparse::EMPTY_HEADER;

use super::{Client, ClientFailure, Exchange, Failure, Manner, Outcome, Stage, TRAILERS};
use crate::proxy::connection::Connection;
use crate::proxy::error::ProxyError;
use crate::proxy::upstream::Upstream;
use crate::proxy::wire::body::{BodyReader, Next};
use crate::proxy::wire::chunked;
use crate::proxy::wire::fields::{MOST_FIELDS, room};
use crate::proxy::wire::response::Response;

impl<C: Client> Exchange<'_, C> {
    /// Moves the answer.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
        upstream: &Upstream,
    ) -> Result<Poll<Outcome>, Failure> {
        loop {
            let step = match self.stage {
                Stage::Head => self.poll_head(cx, replica, upstream)?,
                Stage::Body => self.poll_body(cx, replica)?,
                Stage::Flush => {
                    let step =
                        self.client.poll_flush(cx).map_err(|_| Failure::Client(ClientFailure::Gone))?;
                    if step.is_ready() {
                        self.stage = Stage::Done;
                    } else {
                        self.reader_waits = true;
                    }
                    step
                }
                Stage::Done => return Ok(Poll::Ready(self.outcome(replica))),
            };
            if step.is_pending() {
                return Ok(Poll::Pending);
            }
            self.moved = true;
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
        upstream: &Upstream,
    ) -> Result<Poll<()>, Failure> {
        loop {
            if self.informing {
                match self.client.poll_flush(cx) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(flushed) => flushed.map_err(|_| Failure::Client(ClientFailure::Gone))?,
                }
                self.informing = false;
            }
            if !replica.input.is_empty() && self.take_head(replica, upstream)? {
                return Ok(Poll::Ready(()));
            }
            if self.informing {
                continue;
            }
            if replica.input.is_full() {
                return Err(Failure::Before(ProxyError::Garbled));
            }
            match replica.input.poll_fill(cx, &mut replica.stream) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(Ok(_)) if !replica.input.is_empty() => {
                    return Err(Failure::Before(ProxyError::Garbled));
                }
                Poll::Ready(ended) => return Err(Failure::Before(ProxyError::Lost(ended.err()))),
            }
        }
    }

    /// Reads one head from what has arrived: whether it was the final one.
    fn take_head(&mut self, replica: &mut Connection, upstream: &Upstream) -> Result<bool, Failure> {
        let mut storage = room();
        let parsed = Response::parse(replica.input.data(), &mut storage, self.terms.to_head);
        let Some((response, length)) = parsed.map_err(|_| Failure::Before(ProxyError::Garbled))? else {
            return Ok(false);
        };
        let upgraded = response.status == 101;
        if response.status < 200 && !upgraded {
            self.client.inform(&response);
            self.expects &= response.status != 100;
            replica.input.consume(length);
            self.informing = true; // it goes before the next is read: a replica may have any number of them
            return Ok(false);
        }
        // Before the request's end, the rest of it would go to another protocol.
        let may_upgrade = self.terms.may_upgrade && self.upload.is_none();
        if upgraded && !(may_upgrade && response.said.upgrade.is_some()) {
            return Err(Failure::Before(ProxyError::Garbled));
        }
        let last = self.upload.is_some() || self.terms.draining.get().is_some();
        upstream.metrics.answered(response.status, self.terms.began.elapsed());
        self.client.answer(&response, upstream, Manner { last, panic: self.panic });
        self.status = response.status;
        self.reusable = response.keeps_alive();
        self.answer = BodyReader::new(response.framing);
        self.upgraded = upgraded;
        replica.input.consume(length);
        self.stage = if upgraded { Stage::Flush } else { Stage::Body };
        Ok(true)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, replica: &mut Connection) -> Result<Poll<()>, Failure> {
        loop {
            let broken = |error| Failure::During(error);
            let next = self.answer.next(replica.input.data(), TRAILERS);
            match next.map_err(|_| broken(ProxyError::Garbled))? {
                Next::Data { skip, len } => {
                    replica.input.consume(skip);
                    let data = &replica.input.data()[..len];
                    let taken = match self.client.poll_data(cx, data) {
                        Poll::Pending => {
                            self.reader_waits = true;
                            return Ok(Poll::Pending);
                        }
                        Poll::Ready(taken) => taken.map_err(|_| Failure::Client(ClientFailure::Gone))?,
                    };
                    replica.input.consume(taken);
                    self.answer.took(taken);
                    self.sent += taken as u64;
                    self.moved = true;
                }
                Next::More { skip } => {
                    replica.input.consume(skip);
                    // What is there goes to the client before more is asked for.
                    match self.client.poll_flush(cx) {
                        Poll::Pending => {
                            self.reader_waits = true;
                            return Ok(Poll::Pending);
                        }
                        Poll::Ready(flushed) => {
                            flushed.map_err(|_| Failure::Client(ClientFailure::Gone))?;
                        }
                    }
                    match replica.input.poll_fill(cx, &mut replica.stream) {
                        Poll::Pending => return Ok(Poll::Pending),
                        Poll::Ready(Ok(count)) if count > 0 => self.moved = true,
                        Poll::Ready(Ok(_)) if self.answer.ends_with_the_connection() => {
                            self.client.end(&[]);
                            self.stage = Stage::Flush;
                            return Ok(Poll::Ready(()));
                        }
                        Poll::Ready(ended) => return Err(broken(ProxyError::Lost(ended.err()))),
                    }
                }
                Next::End { skip, trailers } => {
                    replica.input.consume(skip);
                    self.end_body(replica, trailers);
                    self.stage = Stage::Flush;
                    return Ok(Poll::Ready(()));
                }
            }
        }
    }

    fn end_body(&mut self, replica: &mut Connection, trailers: usize) {
        if trailers <= 2 {
            self.client.end(&[]); // an empty line, or no section at all
        } else {
            let mut storage = [EMPTY_HEADER; MOST_FIELDS];
            let section = &replica.input.data()[..trailers];
            let fields = chunked::parse_trailers(section, &mut storage);
            self.client.end(&fields.expect("the decoder has looked at them"));
        }
        replica.input.consume(trailers);
    }
}
