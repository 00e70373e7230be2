//! One request and its answer over one connection to a replica.
//!
//! Both directions move in the task of the client's connection, each as far as it can: a request's body while the
//! answer already comes, an answer's body no faster than the client reads it. Nothing is held beyond one buffer a
//! direction. No other task is woken, and no channel stands between the two sockets: that is what a request costs
//! elsewhere.

mod answer;
mod patience;
mod upload;

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use httparse::Header;

use super::buffer::Outbox;
use super::connection::Connection;
use super::error::ProxyError;
use super::upstream::Upstream;
use super::watch::Ticket;
use super::wire::Framing;
use super::wire::body::BodyReader;
use super::wire::response::Response;
use patience::Waited;

/// A body's beginning that is sent together with its head rather than by itself.
pub const TOGETHER: usize = 16 * 1024;
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
    /// Resolves when the client asks nothing more while it waits.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure>;
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

/// How a client ceases to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Nobody is there to read an answer.
    Gone,
    /// It has ended its side of the connection. It may have left; it may as well listen on, as `nc -N` does: the two
    /// look alike until something is written.
    Ended,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of a body, and while either side takes nothing.
    pub idle: Duration,
    /// Bytes a second of a body that a client sends or takes at the least; 0: any number.
    pub min_rate: u64,
    /// How long it may be slower.
    pub grace: Duration,
    /// How long one that has ended its side is still waited for with its answer, counted anew with each piece of it.
    pub half_closed: Duration,
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
    /// The client waits for the replica's word before it sends its body.
    expects: bool,
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
    /// Since when the client asks nothing more.
    ended_ms: Option<u64>,
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
    /// The client sends its body when the replica has said so (`Expect: 100-continue`), or when it likes.
    pub expects: bool,
    /// When it came.
    pub began: Instant,
    /// Whether the client's connection ends after its present request.
    pub draining: &'a Cell<Option<u64>>,
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
            expects: terms.expects,
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
            waited: Waited::since(terms.ticket.now_ms()),
            ended_ms: None,
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
    /// be sent before it is due within `left`, which is less for each replica that it was offered to.
    pub async fn over(
        &mut self,
        replica: &mut Connection,
        upstream: &Upstream,
        left: Duration,
    ) -> Result<Outcome, Failure> {
        self.first_byte = match self.terms.framing {
            Framing::None => left,
            _ => self.terms.patience.first_byte,
        };
        self.begun = false;
        self.refused = false;
        self.since_ms = self.terms.ticket.now_ms();
        self.terms.ticket.engage(true);
        let ended = std::future::poll_fn(|cx| self.poll(cx, replica, upstream)).await;
        self.terms.ticket.engage(false);
        ended
    }

    /// Waits for something that has to come before the exchange goes on, for as long as the client waits for its
    /// answer.
    ///
    /// # Errors
    /// When the client is gone; nobody needs it any more.
    pub async fn unless_gone<T>(&mut self, waiting: impl Future<Output = T>) -> Result<T, ClientFailure> {
        let mut waiting = std::pin::pin!(waiting);
        self.since_ms = self.terms.ticket.now_ms();
        std::future::poll_fn(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(come) => Poll::Ready(Ok(come)),
            Poll::Pending if self.has_left(cx) => Poll::Ready(Err(ClientFailure::Gone)),
            Poll::Pending => {
                match self.left_for_an_ended_client() {
                    Some(left) => self.terms.ticket.set(left),
                    None => self.terms.ticket.unset(),
                }
                match self.terms.ticket.has_expired(cx) {
                    true => Poll::Ready(Err(ClientFailure::Gone)),
                    false => Poll::Pending,
                }
            }
        })
        .await
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
        self.reader_waits = false;
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
        let waits =
            self.upload.is_none() && matches!(self.stage, Stage::Head | Stage::Body) && !self.reader_waits;
        if self.moved {
            self.since_ms = self.terms.ticket.now_ms();
        }
        if waits && self.has_left(cx) {
            return Poll::Ready(Err(Failure::Client(ClientFailure::Gone)));
        }
        self.poll_patience(cx, waits)
    }

    /// The status of the answer that has begun, or 0, and the bytes of its body up to now.
    pub fn answered(&self) -> (u16, u64) {
        (self.status, self.sent)
    }

    fn outcome(&self, replica: &Connection) -> Outcome {
        if self.upgraded {
            return Outcome::Upgraded;
        }
        let whole = self.upload.is_none();
        let reusable = self.reusable && whole && replica.input.is_empty();
        Outcome::Answered { replica: reusable, client: whole }
    }
}
