//! Idle connections to one replica, of one thread: the one that was used last is used first.
//!
//! Last in, first out keeps few connections warm and lets the others grow old and go. A connection that the
//! replica has ended, or on which it has said something unasked, is noticed before it is used again, without a
//! system call: the reactor has seen it. The race that is left is mended by the caller.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use super::connection::Connection;

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

    /// A connection that was well when last heard of.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some((mut connection, _)) = idle.pop_back() {
            if !connection.stream.has_news(&mut Context::from_waker(Waker::noop())) {
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
        let mut cx = Context::from_waker(Waker::noop());
        self.idle().retain_mut(|(connection, since_ms)| {
            now_ms.saturating_sub(*since_ms) <= timeout && !connection.stream.has_news(&mut cx)
        });
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.idle().clear();
    }
}
