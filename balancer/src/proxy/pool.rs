//! Kept-alive connections to one replica, the most recently used first.
//!
//! Last in, first out keeps the set of warm connections small and lets the others age out. hyper-util's pooled
//! client was the alternative: it cannot hand a request back for another replica, and costs more per request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::Forwarded;
use super::upload::Upload;

/// Idle connections kept to one replica.
const MOST_IDLE: usize = 1024;

/// The sending half of a connection to a replica.
pub type Sender = http1::SendRequest<Forwarded<Upload>>;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No accept, or no free connection, in time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The replica was given up meanwhile.
    #[error("the replica died")]
    Gone,
    /// Another failure of the network.
    #[error("no connection")]
    Io(#[source] io::Error),
    /// The connection ended before it began.
    #[error("the connection ended at once")]
    Handshake(#[source] hyper::Error),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The oldest in front.
    idle: Arc<Mutex<VecDeque<(Sender, Instant)>>>,
    idle_timeout: Duration,
}

impl Pool {
    /// An empty pool; a connection is kept for at most `idle_timeout`.
    pub fn new(idle_timeout: Duration) -> Self {
        Self { idle: Arc::default(), idle_timeout }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was ready when last looked at.
    pub fn take(&self) -> Option<Sender> {
        let mut idle = self.idle();
        while let Some((sender, since)) = idle.pop_back() {
            if since.elapsed() > self.idle_timeout {
                idle.clear(); // the others are older still
            } else if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for the next request, as soon as it has taken leave of the last.
    pub fn give_back(&self, mut sender: Sender) {
        if sender.is_ready() {
            self.keep(sender);
        } else if !sender.is_closed() {
            let pool = self.clone();
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    pool.keep(sender);
                }
            });
        }
    }

    fn keep(&self, sender: Sender) {
        let now = Instant::now();
        let mut idle = self.idle();
        while idle.len() >= MOST_IDLE
            || idle.front().is_some_and(|(_, since)| now - *since > self.idle_timeout)
        {
            idle.pop_front();
        }
        idle.push_back((sender, now));
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle().clear();
    }
}

/// Opens a connection to `address`.
pub async fn connect(address: SocketAddr, within: Duration) -> Result<Sender, ConnectError> {
    let stream = match timeout(within, TcpStream::connect(address)).await {
        Err(_) => return Err(ConnectError::Timeout(within)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(ConnectError::Refused);
        }
        Ok(Err(error)) => return Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => stream,
    };
    stream.set_nodelay(true).map_err(ConnectError::Io)?;
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(ConnectError::Handshake)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %address, "a connection to a replica ended");
        }
    });
    Ok(sender)
}
