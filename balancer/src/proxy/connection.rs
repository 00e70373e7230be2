//! A connection to a replica, and why there may be none.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsStream;

use super::buffer::Buffer;
use super::proxy_protocol::Ends;
use super::stream::Stream;
use super::transport::Transport;
use super::upstream_tls::{Protocol, advice, wants_another_protocol};
use crate::{chain, socket};

/// Records of TLS that a replica may send at a time on a connection on which nothing was asked: tickets, new keys.
const MOST_RECORDS: usize = 16;

/// A connection to a replica.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// What has arrived.
    pub input: Buffer,
    /// Of the transport that it was opened with.
    mark: u64,
    /// Whose it is, if it is one client's.
    ends: Option<Box<Ends>>,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No accept, or no end of a handshake, in time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The replica was given up meanwhile.
    #[error("the replica died")]
    Gone,
    /// As many wait for a place as may.
    #[error("too many requests wait for the replica")]
    Full,
    /// Another failure of the network.
    #[error("no connection")]
    Io(#[source] io::Error),
    /// The replica speaks no TLS, is not who it should be, or does not want us.
    #[error("no TLS with the replica")]
    Tls {
        /// What a user can do.
        advice: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The replica speaks no HTTP/2, or says nothing when it is spoken to in it.
    #[error("the replica speaks no HTTP/2, which gRPC needs")]
    NotHttp2(#[source] io::Error),
    /// The replica takes no streams over HTTP/2.
    #[error("the replica takes no calls at this time")]
    NoStreams,
    /// It ended before anything of the request was sent.
    #[error("the connection ended at once")]
    Ended,
}

impl ConnectError {
    /// A handshake that failed.
    pub(super) fn tls(source: io::Error) -> Self {
        Self::Tls { advice: advice(&source), source }
    }

    /// Whether the replica speaks something else than it was asked to: a client chose that.
    pub(super) fn is_about_protocol(&self) -> bool {
        match self {
            Self::NotHttp2(_) => true,
            Self::Tls { source, .. } => wants_another_protocol(source),
            _ => false,
        }
    }

    /// Whether what is wanting is ours: descriptors, ports, memory.
    pub(super) fn is_our_own_want(&self) -> bool {
        use rustix::io::Errno;
        let Self::Io(error) = self else { return false };
        let wanting = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
        Errno::from_io_error(error).is_some_and(|error| wanting.contains(&error))
    }

    /// All of it in one line: what happened, why, and what to do about it.
    pub fn words(&self) -> String {
        match self {
            Self::Tls { advice, .. } => format!("{}: {advice}", chain::words(self)),
            _ => chain::words(self),
        }
    }
}

/// A connection to `address`, which is to accept it within `within`, on which nothing was said.
async fn reach(address: SocketAddr, within: Duration) -> Result<TcpStream, ConnectError> {
    match timeout(within, TcpStream::connect(address)).await {
        Err(_) => Err(ConnectError::Timeout(within)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(ConnectError::Refused),
        Ok(Err(error)) => Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// A connection's bytes, with everything said that comes before a request of `protocol`; all of it within `within`. It ends
/// when its replica has left something of what it is sent unread for `unread`.
///
/// # Errors
/// When the replica takes no connection, or not this one.
pub async fn bytes_to(
    address: SocketAddr,
    transport: &Transport,
    ends: Option<&Ends>,
    protocol: Protocol,
    (within, unread): (Duration, Duration),
) -> Result<Stream, ConnectError> {
    let deadline = Instant::now() + within;
    let stream = reach(address, within).await?;
    socket::prepare(&stream, unread).map_err(ConnectError::Io)?;
    let preparing = transport.prepare(stream, address, ends, protocol);
    timeout_at(deadline, preparing).await.map_err(|_| ConnectError::Timeout(within))?
}

impl Connection {
    /// Opens a connection to `address` by `transport`, for a client with `ends`, and for a replica that may leave
    /// nothing of a request unread for `unread`.
    pub async fn open(
        address: SocketAddr,
        (transport, ends): (&Transport, Option<&Ends>),
        within: Duration,
        unread: Duration,
    ) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + within;
        let stream = reach(address, within).await?;
        socket::prepare(&stream, unread).map_err(ConnectError::Io)?;
        let stream = if transport.is_plain() {
            Stream::Plain(stream)
        } else {
            // In a box: who speaks in the clear has no room for a handshake.
            let preparing = Box::pin(transport.prepare(stream, address, ends, Protocol::Http1));
            timeout_at(deadline, preparing).await.map_err(|_| ConnectError::Timeout(within))??
        };
        let ends = ends.copied().map(Box::new);
        Ok(Self { stream, input: Buffer::default(), mark: transport.mark(), ends })
    }

    /// Of the transport that it was opened with.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Whether it may carry a request of a client with these ends.
    pub fn is_for(&self, ends: Option<&Ends>) -> bool {
        self.ends.as_deref() == ends
    }

    /// Whether it is this client's alone.
    pub fn is_of(&self, client: SocketAddr) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.client == client)
    }

    /// Whether it is idle and open, as far as the reactor has seen.
    pub fn is_well(&mut self) -> bool {
        match &mut self.stream {
            Stream::Plain(_) => !self.stream.has_news(&mut Context::from_waker(Waker::noop())),
            // Also if nothing has come since: what was not asked for may have been read together with an answer.
            Stream::Tls(stream) => is_still_idle(stream, TcpStream::try_read),
        }
    }

    /// The same, asked of the kernel itself: the reactor may not have looked yet.
    pub fn is_open(&mut self) -> bool {
        let now = rustix::net::RecvFlags::DONTWAIT;
        match &mut self.stream {
            Stream::Plain(stream) => {
                let looked = rustix::net::recv(&*stream, &mut [0_u8; 1], rustix::net::RecvFlags::PEEK | now);
                matches!(looked, Err(rustix::io::Errno::AGAIN))
            }
            Stream::Tls(stream) => {
                is_still_idle(stream, |socket, room| Ok(rustix::net::recv(socket, room, now)?.1))
            }
        }
    }
}

/// Reads what has come on an idle connection over TLS. A server sends tickets after the handshake, and may change keys
/// whenever it likes: that is no word of an answer, and no end.
fn is_still_idle(
    stream: &mut TlsStream<TcpStream>,
    read: impl Fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
) -> bool {
    let TlsStream::Client(stream) = stream else { return false };
    let (socket, session) = stream.get_mut();
    let mut reading = Reading { socket, read };
    for _ in 0..MOST_RECORDS {
        match session.process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
            _ => return false,
        }
        match session.read_tls(&mut reading) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    false
}

struct Reading<'a, F> {
    socket: &'a TcpStream,
    read: F,
}

impl<F: Fn(&TcpStream, &mut [u8]) -> io::Result<usize>> io::Read for Reading<'_, F> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        (self.read)(self.socket, room)
    }
}

#[cfg(test)]
pub(super) mod tests;
