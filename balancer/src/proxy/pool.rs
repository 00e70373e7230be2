//! Idle connections to one replica, of one thread: the one that was used last is used first.
//!
//! Last in, first out keeps few connections warm and lets the others grow old and go. A connection that the
//! replica has ended, or on which it has said something unasked, is noticed before it is used again, without a
//! system call: the reactor has seen it. The race that is left is mended by the caller. Where a header of the PROXY
//! protocol says whose a connection is, it is kept for that client alone; the oldest make room.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use super::proxy_protocol::Ends;

/// Idle connections kept to one replica by one thread.
const MOST_IDLE: usize = 512;

/// See the module. Only its own thread takes and gives, so nobody ever waits for the lock; others may clear it.
#[derive(Debug, Default)]
pub struct Pool {
    /// The oldest in front, with the thread's time of its last use.
    idle: Mutex<VecDeque<(Connection, u64)>>,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, VecDeque<(Connection, u64)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was well when last heard of, opened by the transport with this mark, and for a client with
    /// these ends if connections are one client's.
    pub fn take(&self, mark: u64, ends: Option<&Ends>) -> Option<Connection> {
        let mut idle = self.idle();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].0.mark() == mark && !idle[at].0.is_for(ends) {
                continue; // another client's
            }
            let (mut connection, _) = idle.remove(at)?;
            if connection.mark() == mark && connection.is_well() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn give_back(&self, connection: Connection, now_ms: u64) {
        let mut idle = self.idle();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back((connection, now_ms));
    }

    /// Closes those that were idle for longer than `timeout`, or that the replica has ended.
    pub fn prune(&self, now_ms: u64, timeout: Duration) {
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.idle().retain_mut(|(connection, since_ms)| {
            now_ms.saturating_sub(*since_ms) <= timeout && connection.is_well()
        });
    }

    /// Closes those that are this client's alone.
    pub fn forget(&self, client: SocketAddr) {
        self.idle().retain(|(connection, _)| !connection.is_of(client));
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle().clear();
    }
}
