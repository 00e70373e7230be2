//! A connection to a replica, and why there may be none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::buffer::Buffer;
use super::stream::Stream;
use crate::socket;

/// A connection to a replica.
#[derive(Debug)]
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// What has arrived.
    pub input: Buffer,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No accept, or no free place, in time.
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
    /// It ended before anything of the request was sent.
    #[error("the connection ended at once")]
    Ended,
}

impl Connection {
    /// Opens a connection to `address`, for a replica that may leave nothing of a request unread for `unread`.
    pub async fn open(address: SocketAddr, within: Duration, unread: Duration) -> Result<Self, ConnectError> {
        let stream = match tokio::time::timeout(within, TcpStream::connect(address)).await {
            Err(_) => return Err(ConnectError::Timeout(within)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(ConnectError::Refused);
            }
            Ok(Err(error)) => return Err(ConnectError::Io(error)),
            Ok(Ok(stream)) => stream,
        };
        socket::prepare(&stream, unread).map_err(ConnectError::Io)?;
        Ok(Self { stream: Stream::Plain(stream), input: Buffer::default() })
    }
}

impl Connection {
    /// Asks the kernel itself whether the other side has ended: the reactor may not have looked yet.
    pub fn is_open(&self) -> bool {
        let mut nothing = [0_u8; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(&self.stream, &mut nothing, flags), Err(rustix::io::Errno::AGAIN))
    }
}
