//! One request and its answer over one connection to a replica.
//!
//! Both directions move in the task of the client's connection, each as far as it can: a request's body while the
//! answer already comes, an answer's body no faster than the client reads it. Nothing is held beyond one buffer a
//! direction. No other task is woken, and no channel stands between the two sockets: that is what a request costs
//! elsewhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Header};
use tokio::io::AsyncWrite;

use super::buffer::Outbox;
use super::connection::Connection;
use super::error::ProxyError;
use super::upstream::Upstream;
use super::watch::Ticket;
use super::wire::body::{BodyReader, Next};
use super::wire::request::MOST_FIELDS;
use super::wire::response::Response;
use super::wire::{Framing, chunked, emit};

/// A body's beginning that is sent together with its head rather than by itself.
pub const TOGETHER: usize = 16 * 1024;
/// How often the speed of a client that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of trailers.
pub const TRAILERS: usize = 8 * 1024;

/// What the client's side of a request is to its exchange, whatever protocol the client speaks.
pub trait Client {
    /// How much of the body is at hand behind what was taken. `Ok(None)`: it has ended.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, ClientFailure>>;
    /// The bytes that [`Client::poll_body`] spoke of.
    fn body(&self) -> &[u8];
    /// The first `count` of them were taken.
    fn took(&mut self, count: usize);
    /// Writes the last chunk for a replica, with the trailers of the body if it had some.
    fn put_last_chunk(&mut self, out: &mut Vec<u8>);
    /// Resolves when the client has gone away while it waits.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// An informational answer on the way to the final one.
    fn inform(&mut self, response: &Response<'_>);
    /// The head of the answer.
    fn answer(&mut self, response: &Response<'_>, replica: &Upstream, how: Manner);
    /// Takes some of the answer's body; how much.
    fn poll_data(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;
    /// The answer's body has ended, with these trailers.
    fn end(&mut self, trailers: &[Header<'_>]);
    /// Sends everything that was taken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What is to be known of an answer beside its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The connection ends after it.
    pub last: bool,
    /// It is a sick replica's, because none is well.
    pub panic: bool,
}

/// How the client let its request down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// It went away.
    Gone,
    /// Its body is not framed as it says.
    Garbled,
    /// Its body is longer than allowed.
    TooLarge,
}

/// How long a request's stages may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of a body, and while either side takes nothing.
    pub idle: Duration,
    /// Bytes a second of a body that a client sends or takes at the least; 0: any number.
    pub min_rate: u64,
    /// How long it may be slower.
    pub grace: Duration,
}

/// What an exchange came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is with the client. `replica`, `client`: whether their connections carry another one.
    Answered {
        /// The replica's connection may be used again.
        replica: bool,
        /// The client's body was read to its end.
        client: bool,
    },
    /// The connection now belongs to another protocol.
    Upgraded,
}

/// Why an exchange ended early.
#[derive(Debug)]
pub enum Failure {
    /// Before the answer's head: the client can still be told.
    Before(ProxyError),
    /// In the middle of the answer: all that is left is to break off.
    During(ProxyError),
    /// The client is to blame, or gone.
    Client(ClientFailure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    /// Everything was read; the client has not got it all yet.
    Flush,
    Done,
}

/// See the module.
pub struct Exchange<'a, C> {
    client: &'a mut C,
    terms: Terms<'a>,
    /// What is to be sent to the replica: it outlives a connection that took nothing of it.
    out: Outbox,
    /// How the request's body goes on, until it has.
    upload: Option<Framing>,
    /// The replica takes no more of the body, or wants none: its answer is all that matters.
    refused: bool,
    /// Nothing more of the body has come.
    client_waits: bool,
    /// Something of the request has reached the replica.
    begun: bool,
    /// An informational answer may not have gone to the client yet.
    informing: bool,
    stage: Stage,
    answer: BodyReader,
    reusable: bool,
    upgraded: bool,
    /// Something moved since the last look at the clock.
    moved: bool,
    since_ms: u64,
    first_byte: Duration,
    panic: bool,
    /// Of the answer that has begun.
    status: u16,
    /// Bytes of its body.
    sent: u64,
    /// Bytes of the request's body.
    received: u64,
    /// The client has not taken what is there for it.
    reader_waits: bool,
    waited: Waited,
}

/// How long the client was waited for.
#[derive(Clone, Copy, Debug, Default)]
struct Waited {
    sending_ms: u64,
    taking_ms: u64,
    since_ms: u64,
}

/// What an exchange is about.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The head of the request, as it is sent.
    pub head: &'a [u8],
    /// The task's deadline.
    pub ticket: &'a Ticket,
    /// How long things may take.
    pub patience: Patience,
    /// How the request's body is framed for the replica.
    pub framing: Framing,
    /// The request is a HEAD.
    pub to_head: bool,
    /// The request asks for another protocol.
    pub may_upgrade: bool,
    /// When it came.
    pub began: Instant,
}

impl<'a, C: Client> Exchange<'a, C> {
    /// An exchange that has not begun.
    pub fn new(client: &'a mut C, terms: Terms<'a>) -> Self {
        let mut exchange = Self {
            client,
            terms,
            out: Outbox::default(),
            upload: Some(terms.framing),
            refused: false,
            client_waits: false,
            begun: false,
            informing: false,
            stage: Stage::Head,
            answer: BodyReader::Length(0),
            reusable: false,
            upgraded: false,
            moved: false,
            since_ms: terms.ticket.now_ms(),
            first_byte: terms.patience.first_byte,
            panic: false,
            status: 0,
            sent: 0,
            received: 0,
            reader_waits: false,
            waited: Waited { since_ms: terms.ticket.now_ms(), ..Waited::default() },
        };
        exchange.out.bytes().extend_from_slice(terms.head);
        exchange
    }

    /// Whether the next replica is asked although it is sick, because none is well.
    pub fn in_panic(&mut self, panic: bool) {
        self.panic = panic;
    }

    /// Whether nothing of the request has reached a replica since the last connection was given.
    pub fn is_untouched(&self) -> bool {
        !self.begun
    }

    /// Makes a request without a body ready to be sent again.
    pub fn rewind(&mut self) {
        self.out.clear();
        self.out.bytes().extend_from_slice(self.terms.head);
        self.upload = Some(Framing::None);
    }

    /// Carries it to its end over `replica`, a connection to `upstream`. The answer to a request that has nothing to
    /// be sent before it is due at `deadline`, however many replicas it was offered to.
    pub async fn over(
        &mut self,
        replica: &mut Connection,
        upstream: &Upstream,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        self.first_byte = match self.terms.framing {
            Framing::None => deadline.saturating_duration_since(Instant::now()),
            _ => self.terms.patience.first_byte,
        };
        self.begun = false;
        self.refused = false;
        self.since_ms = self.terms.ticket.now_ms();
        std::future::poll_fn(|cx| self.poll(cx, replica, upstream)).await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
        upstream: &Upstream,
    ) -> Poll<Result<Outcome, Failure>> {
        self.moved = false;
        if self.terms.patience.min_rate > 0 {
            self.account();
        }
        self.poll_upload(cx, replica)?;
        match self.poll_answer(cx, replica, upstream) {
            Ok(Poll::Ready(outcome)) => return Poll::Ready(Ok(outcome)),
            Ok(Poll::Pending) => {}
            Err(failure) => {
                // A client that got nothing at all might ask again, and what it asked was done.
                if matches!(failure, Failure::During(_)) && self.client.poll_flush(cx).is_pending() {
                    tracing::debug!("the client has not got what there was of an answer");
                }
                return Poll::Ready(Err(failure));
            }
        }
        if self.stage == Stage::Head && upstream.is_gone() {
            return Poll::Ready(Err(Failure::Before(ProxyError::Died)));
        }
        // Also in the middle of an answer: a replica that sends an event now and then would not notice for long.
        let waits = self.upload.is_none() && matches!(self.stage, Stage::Head | Stage::Body);
        if waits && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::Client(ClientFailure::Gone)));
        }
        self.poll_patience(cx)
    }

    /// Adds the time since the last look to whatever was waited for.
    fn account(&mut self) {
        let now = self.terms.ticket.now_ms();
        let passed = now.saturating_sub(self.waited.since_ms);
        self.waited.since_ms = now;
        if self.client_waits {
            self.waited.sending_ms += passed;
        }
        if self.reader_waits {
            self.waited.taking_ms += passed;
        }
        self.reader_waits = false;
    }

    /// Whether the client is slower than it may be.
    fn drags(&self) -> Option<Failure> {
        let Patience { min_rate, grace, .. } = self.terms.patience;
        let slow = |bytes: u64, ms: u64| {
            u128::from(ms) > grace.as_millis()
                && u128::from(bytes) * 1000 < u128::from(min_rate) * u128::from(ms)
        };
        if self.client_waits && self.stage == Stage::Head && slow(self.received, self.waited.sending_ms) {
            return Some(Failure::Before(ProxyError::SlowBody(min_rate)));
        }
        (self.reader_waits && slow(self.sent, self.waited.taking_ms))
            .then_some(Failure::During(ProxyError::SlowReader(min_rate)))
    }

    /// The status of the answer that has begun, or 0, and the bytes of its body up to now.
    pub fn answered(&self) -> (u16, u64) {
        (self.status, self.sent)
    }

    /// Moves the request.
    fn poll_upload(&mut self, cx: &mut Context<'_>, replica: &mut Connection) -> Result<(), Failure> {
        let Some(framing) = self.upload.filter(|_| !self.refused) else { return Ok(()) };
        self.client_waits = false;
        match self.try_upload(cx, replica, framing) {
            Poll::Ready(Ok(())) => {
                self.upload = None;
                self.moved = true;
            }
            Poll::Ready(Err(Upload::Client(failure))) => {
                // Once the answer has begun there is no other that could say what was wrong.
                let told = self.stage == Stage::Head;
                return Err(Failure::Client(if told { failure } else { ClientFailure::Gone }));
            }
            // It may have answered before it stopped to listen.
            Poll::Ready(Err(Upload::Replica)) => self.refused = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    fn try_upload(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
        framing: Framing,
    ) -> Poll<Result<(), Upload>> {
        loop {
            if framing == Framing::None {
                return self.flush_replica(cx, replica);
            }
            let count = match self.client.poll_body(cx) {
                Poll::Pending => {
                    ready!(self.flush_replica(cx, replica))?;
                    self.client_waits = true;
                    return Poll::Pending;
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(Upload::Client(failure))),
                Poll::Ready(Ok(None)) => {
                    if framing == Framing::Chunked {
                        self.client.put_last_chunk(self.out.bytes());
                        // Written once: from here on there is nothing but to send it.
                        self.upload = Some(Framing::None);
                    }
                    return self.flush_replica(cx, replica);
                }
                Poll::Ready(Ok(Some(count))) => count,
            };
            let queued = self.out.len();
            if framing == Framing::Chunked {
                if queued > TOGETHER {
                    ready!(self.flush_replica(cx, replica))?;
                }
                let out = self.out.bytes();
                emit::chunk_size(out, count);
                out.extend_from_slice(&self.client.body()[..count]);
                out.extend_from_slice(b"\r\n");
                self.client.took(count);
                self.received += count as u64;
            } else if queued > 0 && queued + count <= TOGETHER {
                self.out.bytes().extend_from_slice(&self.client.body()[..count]);
                self.client.took(count);
                self.received += count as u64;
            } else {
                ready!(self.flush_replica(cx, replica))?;
                let body = &self.client.body()[..count];
                match ready!(Pin::new(&mut replica.stream).poll_write(cx, body)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Upload::Replica)),
                    Ok(count) => {
                        self.begun = true;
                        self.client.took(count);
                        self.received += count as u64;
                    }
                }
            }
            self.moved = true;
        }
    }

    fn flush_replica(&mut self, cx: &mut Context<'_>, replica: &mut Connection) -> Poll<Result<(), Upload>> {
        let (before, had) = (self.out.sent(), !self.out.is_empty());
        let polled = self.out.poll_flush(cx, &mut replica.stream);
        let sent = match &polled {
            Poll::Ready(Ok(())) => had,
            _ => self.out.sent() > before,
        };
        self.begun |= sent;
        self.moved |= sent;
        polled.map_err(|_| Upload::Replica)
    }

    /// Moves the answer.
    fn poll_answer(
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

    fn outcome(&self, replica: &Connection) -> Outcome {
        if self.upgraded {
            return Outcome::Upgraded;
        }
        let whole = self.upload.is_none();
        let reusable = self.reusable && whole && replica.input.is_empty();
        Outcome::Answered { replica: reusable, client: whole }
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
        let mut storage = [EMPTY_HEADER; MOST_FIELDS];
        let parsed = Response::parse(replica.input.data(), &mut storage, self.terms.to_head);
        let Some((response, length)) = parsed.map_err(|_| Failure::Before(ProxyError::Garbled))? else {
            return Ok(false);
        };
        let upgraded = response.status == 101;
        if response.status < 200 && !upgraded {
            self.client.inform(&response);
            replica.input.consume(length);
            self.informing = true; // it goes before the next is read: a replica may have any number of them
            return Ok(false);
        }
        // Before the request's end, the rest of it would go to another protocol.
        let may_upgrade = self.terms.may_upgrade && self.upload.is_none();
        if upgraded && !(may_upgrade && response.said.upgrade.is_some()) {
            return Err(Failure::Before(ProxyError::Garbled));
        }
        let early = self.upload.is_some();
        upstream.metrics.answered(response.status, self.terms.began.elapsed());
        upstream.health.answered(response.status);
        self.client.answer(&response, upstream, Manner { last: early, panic: self.panic });
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
                    self.end_body(replica, trailers)?;
                    self.stage = Stage::Flush;
                    return Ok(Poll::Ready(()));
                }
            }
        }
    }

    fn end_body(&mut self, replica: &mut Connection, trailers: usize) -> Result<(), Failure> {
        if trailers <= 2 {
            self.client.end(&[]); // an empty line, or no section at all
        } else {
            let mut storage = [EMPTY_HEADER; MOST_FIELDS];
            let section = &replica.input.data()[..trailers];
            let fields = chunked::parse_trailers(section, &mut storage)
                .map_err(|_| Failure::During(ProxyError::Garbled))?;
            self.client.end(&fields);
        }
        replica.input.consume(trailers);
        Ok(())
    }

    /// Whether anyone has waited too long, and who is to blame.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, Failure>> {
        let now = self.terms.ticket.now_ms();
        if self.moved {
            self.since_ms = now;
        }
        let awaits_head = self.stage == Stage::Head && self.upload.is_none_or(|_| self.refused);
        let patience = if awaits_head { self.first_byte } else { self.terms.patience.idle };
        if self.terms.patience.min_rate > 0 && (self.client_waits || self.reader_waits) {
            if let Some(failure) = self.drags() {
                return Poll::Ready(Err(failure));
            }
            let left = patience.saturating_sub(Duration::from_millis(now - self.since_ms));
            if !left.is_zero() {
                self.terms.ticket.set(left.min(LOOK));
                if !self.terms.ticket.has_expired(cx) {
                    return Poll::Pending;
                }
            }
        }
        self.terms.ticket.set_from(self.since_ms, patience);
        if !self.terms.ticket.has_expired(cx) {
            return Poll::Pending;
        }
        Poll::Ready(Err(match self.stage {
            Stage::Head if !awaits_head && self.client_waits => {
                Failure::Before(ProxyError::ClientStalled(patience))
            }
            Stage::Head if !awaits_head => Failure::Before(ProxyError::Unread(patience)),
            Stage::Head => Failure::Before(ProxyError::Timeout(patience)),
            _ => Failure::During(ProxyError::Stalled(patience)),
        }))
    }
}

enum Upload {
    Client(ClientFailure),
    Replica,
}
