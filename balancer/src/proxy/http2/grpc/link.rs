//! One connection of HTTP/2 to a replica, and the calls that it carries.
//!
//! It is h2's and not hyper's: how many streams the replica takes, whether it has said farewell, and whether a stream
//! that was lost was ever looked at are what decides where a call goes next, and hyper tells none of these. A connection
//! counts as one when the replica has answered a PING on it: then it speaks HTTP/2, and its limits are known.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::PING;
use crate::proxy::connection::{ConnectError, bytes_to};
use crate::proxy::proxy_protocol::Ends;
use crate::proxy::stream::Stream;
use crate::proxy::transport::Transport;
use crate::proxy::upstream_tls::{Protocol, refuses_us};

/// Bytes of one call's answer that may lie here unread. A caller that reads nothing costs no more.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes in flight on one connection to a replica: more than all its calls together may have, so that those whose
/// callers do not read never stop the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The largest head of an answer.
const LARGEST_HEAD: u32 = 64 * 1024;
/// Servers of gRPC cut connections whose PINGs are more frequent, but for those that follow an answer of theirs.
const SPARING: Duration = Duration::from_secs(5 * 60);
/// Bytes of one call's request that wait for the replica to read.
const SEND_BUFFER: usize = 64 * 1024;
/// Calls taken back that are remembered until what their replica had sent meanwhile has come. What comes for one that was
/// forgotten is answered with a reset.
const REMEMBERED: usize = 4096;

/// See the module.
pub(super) struct Link {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    /// Later ones have higher numbers.
    number: u64,
    /// Its end was held against its replica.
    blamed: Cell<bool>,
}

/// What its task and its calls know of it.
#[derive(Debug, Default)]
struct State {
    carried: Cell<usize>,
    idle_since_ms: Cell<u64>,
    /// Nobody will call over it any more.
    retired: Cell<bool>,
    /// The replica has refused one more call than these.
    refuses_above: Cell<Option<usize>>,
    written: Cell<u64>,
    read: Cell<u64>,
    /// Something of an answer has come since the last PING.
    heard: Cell<bool>,
    /// As many as there were connections when the first call was lost over it.
    lost: Cell<Option<u64>>,
}

/// How a replica is reached.
#[derive(Clone, Debug)]
pub(super) struct To {
    pub(super) address: std::net::SocketAddr,
    pub(super) transport: Transport,
    pub(super) ends: Option<Ends>,
    pub(super) within: Duration,
    /// It may leave nothing of what it is sent unread for longer.
    pub(super) unread: Duration,
}

impl State {
    /// Whether a PING is none too many, so long after the last one. What moves nothing ends by itself, long before.
    fn may_ping(&self, after: Duration) -> bool {
        self.heard.get() || after >= SPARING
    }
}

impl Link {
    /// Opens one; all of it may take as long as a connection may.
    ///
    /// # Errors
    /// When the replica takes no connection, or speaks something else on it.
    pub(super) async fn open(to: To, number: u64, now_ms: u64) -> Result<Rc<Self>, ConnectError> {
        let deadline = Instant::now() + to.within;
        let patience = (to.within, to.unread);
        let stream = bytes_to(to.address, &to.transport, to.ends.as_ref(), Protocol::Http2, patience).await?;
        let state = Rc::new(State { idle_since_ms: Cell::new(now_ms), ..State::default() });
        let is_tls = matches!(stream, Stream::Tls(_));
        let agreed = timeout_at(deadline, agree(Metered { stream, state: state.clone() })).await;
        let (sender, connection, pings) = match agreed {
            Ok(Ok(agreed)) => agreed,
            Ok(Err(error)) if is_tls && refuses_us(&error) => return Err(ConnectError::tls(error)),
            Ok(Err(error)) => return Err(ConnectError::NotHttp2(error)),
            Err(_) => return Err(ConnectError::NotHttp2(io::ErrorKind::TimedOut.into())),
        };
        if sender.current_max_send_streams() == 0 {
            return Err(ConnectError::NoStreams);
        }
        tokio::task::spawn_local(run(connection, pings, state.clone()));
        Ok(Rc::new(Self { sender, state, number, blamed: Cell::new(false) }))
    }

    /// A place for one more call, if it takes one.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Slot> {
        if self.state.carried.get() >= self.most() || self.has_ended() {
            return None;
        }
        self.state.carried.set(self.state.carried.get() + 1);
        Some(Slot { link: self.clone(), refused: Cell::new(false) })
    }

    /// Whether it takes no calls any more, however many it may still carry: its replica has said farewell, refuses even
    /// a single one, or is gone.
    pub(super) fn has_ended(&self) -> bool {
        if self.most() == 0 && self.state.carried.get() == 0 {
            return true;
        }
        let mut sender = self.sender.clone();
        !matches!(sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    /// Calls that it carries at a time.
    pub(super) fn most(&self) -> usize {
        self.sender.current_max_send_streams().min(self.state.refuses_above.get().unwrap_or(usize::MAX))
    }

    /// Which one it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Since when it carries nothing.
    pub(super) fn idle_since_ms(&self) -> Option<u64> {
        (self.state.carried.get() == 0).then(|| self.state.idle_since_ms.get())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.retired.set(true);
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A call's place on a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    link: Rc<Link>,
    /// The replica had no room for it.
    refused: Cell<bool>,
}

impl Slot {
    /// What requests are sent with.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.link.sender.clone()
    }

    /// The connection's number.
    pub(super) fn number(&self) -> u64 {
        self.link.number
    }

    /// Bytes that have left over the connection.
    pub(super) fn written(&self) -> u64 {
        self.link.state.written.get()
    }

    /// Something of an answer has come over it.
    pub(super) fn heard(&self) {
        self.link.state.heard.set(true);
    }

    /// A call was lost over it; above which number are connections that have begun since the first one was. All who lose
    /// by the same end go on over the same other connection.
    pub(super) fn lost(&self, latest: u64) -> u64 {
        let lost = &self.link.state.lost;
        lost.set(lost.get().or(Some(latest.max(self.number()))));
        lost.get().unwrap_or(latest)
    }

    /// Whether the end of the connection is to be held against the replica: once, however many calls it carried.
    pub(super) fn blames(&self) -> bool {
        !self.link.blamed.replace(true)
    }

    /// The replica has refused this call unread: the connection takes no more than the others until one of those ends.
    pub(super) fn is_refused(&self) {
        self.refused.set(true);
        self.link.state.refuses_above.set(Some(self.link.state.carried.get() - 1));
    }

    /// It carries this call no more, as of now.
    pub(super) fn leave(self, now_ms: u64) {
        self.link.state.idle_since_ms.set(now_ms);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.link.state.carried.set(self.link.state.carried.get() - 1);
        // However it ended, there is room for another, unless there was none for this one.
        if !self.refused.get() {
            self.link.state.refuses_above.set(None);
        }
    }
}

type Agreed = (SendRequest<Bytes>, Connection<Metered>, PingPong);

async fn agree(stream: Metered) -> io::Result<Agreed> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(LARGEST_HEAD)
        .max_concurrent_reset_streams(REMEMBERED)
        // Bounded by the calls that there were: an end of the connection would be the end of everybody's.
        .max_local_error_reset_streams(None)
        .max_send_buffer_size(SEND_BUFFER);
    let (sender, mut connection) = builder.handshake(stream).await.map_err(as_io)?;
    let mut pings = connection.ping_pong().ok_or(io::ErrorKind::NotConnected)?;
    tokio::select! {
        biased;
        // It may end as soon as it has answered; then there is no use in it either.
        ended = &mut connection => {
            return Err(ended.err().map_or(io::ErrorKind::UnexpectedEof.into(), as_io));
        }
        pong = pings.ping(Ping::opaque()) => pong.map_err(as_io)?,
    };
    Ok((sender, connection, pings))
}

fn as_io(error: h2::Error) -> io::Error {
    if !error.is_io() {
        return io::Error::other(error);
    }
    error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Moves a connection to its end, or until it answers no more.
async fn run(connection: Connection<Metered>, pings: PingPong, state: Rc<State>) {
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a replica's HTTP/2 connection ended early");
            }
        }
        () = silence(pings, state) => tracing::debug!("a replica's HTTP/2 connection is cut"),
    }
}

/// Resolves when a PING has no answer while calls wait, or what has retired does not end.
async fn silence(mut pings: PingPong, state: Rc<State>) {
    let mut last = Instant::now();
    loop {
        let read = state.read.get();
        sleep(PING).await;
        if state.retired.get() {
            return;
        }
        // A replica that says anything is there.
        if state.carried.get() == 0 || state.read.get() != read || !state.may_ping(last.elapsed()) {
            continue;
        }
        state.heard.set(false);
        last = Instant::now();
        match timeout(PING, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// A connection's bytes; those that leave are counted: what was asked after the last of them was never sent.
#[derive(Debug)]
struct Metered {
    stream: Stream,
    state: Rc<State>,
}

impl Metered {
    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.state.written.set(self.state.written.get() + *count as u64);
        }
        polled
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.state.read.set(self.state.read.get() + count as u64);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// grpc-go: three PINGs within five minutes of each other, without HEADERS or DATA of its own in between, are one too many.
    #[test]
    fn pings_are_rare_unless_the_replica_answers() {
        let state = State::default();
        let after = |seconds| state.may_ping(Duration::from_secs(seconds));
        assert!(!after(20) && !after(299) && after(300));
        state.heard.set(true);
        assert!(after(20));
    }
}
