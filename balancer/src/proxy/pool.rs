//! Kept-alive connections to one replica, the most recently used first.
//!
//! Last in, first out keeps the set of warm connections small and lets the others age out. hyper-util's pooled
//! client was the alternative: it cannot hand a request back for another replica, and costs more per request.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::body::Forwarded;
use super::upload::Upload;
use crate::socket;

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
    idle: Arc<Mutex<Idle>>,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct Idle {
    /// The oldest in front.
    connections: VecDeque<(Sender, Instant)>,
    /// Whether somebody waits to close the oldest.
    swept: bool,
}

impl Idle {
    fn drop_those_before(&mut self, then: Option<Instant>) {
        let old = |(_, since): &(Sender, Instant)| then.is_some_and(|then| *since <= then);
        while self.connections.front().is_some_and(old) {
            self.connections.pop_front();
        }
    }
}

impl Pool {
    /// An empty pool; a connection is kept for at most `idle_timeout`.
    pub fn new(idle_timeout: Duration) -> Self {
        Self { idle: Arc::default(), idle_timeout }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was ready when last looked at.
    pub fn take(&self) -> Option<Sender> {
        let mut idle = self.idle();
        while let Some((sender, since)) = idle.connections.pop_back() {
            if since.elapsed() > self.idle_timeout {
                idle.connections.clear(); // the others are older still
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
        idle.drop_those_before(now.checked_sub(self.idle_timeout));
        if idle.connections.len() >= MOST_IDLE {
            idle.connections.pop_front();
        }
        idle.connections.push_back((sender, now));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.idle), self.idle_timeout));
        }
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle().connections.clear();
    }
}

/// Closes connections when their time is over, also where no request comes any more; ends with the last of them.
async fn sweep(idle: Weak<Mutex<Idle>>, idle_timeout: Duration) {
    while let Some(idle) = idle.upgrade() {
        let due = {
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.drop_those_before(Instant::now().checked_sub(idle_timeout));
            let Some((_, oldest)) = idle.connections.front() else {
                idle.swept = false;
                return;
            };
            *oldest + idle_timeout
        };
        drop(idle);
        sleep_until(due).await;
    }
}

/// Opens a connection to `address`, for a replica that may leave nothing of a request unread for `unread`.
pub async fn connect(
    address: SocketAddr,
    within: Duration,
    unread: Duration,
) -> Result<Sender, ConnectError> {
    let stream = match timeout(within, TcpStream::connect(address)).await {
        Err(_) => return Err(ConnectError::Timeout(within)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(ConnectError::Refused);
        }
        Ok(Err(error)) => return Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => stream,
    };
    socket::prepare(&stream, unread).map_err(ConnectError::Io)?;
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(ConnectError::Handshake)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %address, "a connection to a replica ended");
        }
    });
    Ok(sender)
}
