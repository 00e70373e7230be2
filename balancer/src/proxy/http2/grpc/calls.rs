//! Connections of HTTP/2 to replicas: as many to each as its calls need, and it takes streams at a time.
//!
//! A thread has a set of them for all its clients. Where replicas are told whose a connection is (PROXY protocol), each
//! client's connection has a set of its own instead, which ends with it: many calls share a connection, but never
//! those of two clients. One connection to each replica was here before: a replica that takes two streams at a time then
//! let two calls of one client stop those of everyone else.
//!
//! A connection is opened by a task of its own, so that the call for which it was begun may leave; calls that come
//! meanwhile wait for the same one, as many as the last one took. Every connection of a set that is there when another is
//! opened carries a call, and every call has a place at its replica: one set never has more of them than there are places.
//! Those that are idle, of all sets together, are bounded by the thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::link::{Link, Slot, To};
use crate::proxy::connection::ConnectError;

/// Streams that a connection is thought to carry before its replica has said so (RFC 9113 section 6.5.2 wants no less).
const LIKELY: usize = 100;
/// Connections that a call waits for before it gives up: others took their streams before it came to it.
const MOST_ROUNDS: usize = 16;

/// By the replica's serial number, and the mark of the transport.
type Key = (u64, u64);
type Table = HashMap<Key, Links>;

/// See the module.
#[derive(Debug, Default)]
pub struct Calls {
    table: Rc<RefCell<Table>>,
    count: Cell<u64>,
}

/// Sets of single clients, known for as long as they last.
#[derive(Debug)]
pub struct Known(Weak<RefCell<Table>>);

/// What there is to one replica.
#[derive(Debug, Default)]
struct Links {
    open: Vec<Rc<Link>>,
    opening: Vec<Rc<Opening>>,
    /// Streams that the last one took.
    takes: Option<usize>,
}

/// A connection that is being opened.
#[derive(Debug, Default)]
struct Opening {
    number: u64,
    waiting: Cell<usize>,
    over: Cell<bool>,
    failed: RefCell<Option<Rc<ConnectError>>>,
    told: Cell<bool>,
    done: Notify,
}

/// A connection could not be had.
#[derive(Debug)]
pub(super) struct Unreached {
    pub(super) error: Rc<ConnectError>,
    /// Of those who waited for it this one is told first: it failed once, and counts once.
    pub(super) first: bool,
}

impl Calls {
    /// To know of it without keeping it.
    pub fn known(&self) -> Known {
        Known(Rc::downgrade(&self.table))
    }

    /// The number of the latest connection.
    pub(super) fn latest(&self) -> u64 {
        self.count.get()
    }

    /// Closes those that carry nothing and were idle for too long or lead nowhere any more; at most `room` idle ones
    /// are kept, and room is what is left of it.
    pub fn prune(&self, now_ms: u64, there: &HashMap<Key, Duration>, room: &mut usize) {
        prune(&self.table, now_ms, there, room);
    }

    /// A place for a call over a connection to the replica with this key: one of those that there are, or of a new one.
    /// Its number is above `after`.
    pub(super) async fn to(
        &self,
        key: Key,
        to: impl Fn() -> To,
        (after, now_ms): (u64, u64),
    ) -> Result<Slot, Unreached> {
        for _ in 0..MOST_ROUNDS {
            let opening = {
                let mut table = self.table.borrow_mut();
                let links = table.entry(key).or_default();
                links.open.retain(|link| !link.has_ended());
                let young = links.open.iter().filter(|link| link.number() > after);
                if let Some(slot) = young.filter_map(Link::enter).next() {
                    return Ok(slot);
                }
                let takes = links.takes.unwrap_or(LIKELY);
                let mut begun = links.opening.iter().filter(|opening| opening.number > after);
                match begun.find(|opening| opening.waiting.get() < takes) {
                    Some(opening) => opening.clone(),
                    None => {
                        let opening = Rc::new(Opening { number: self.next(), ..Opening::default() });
                        links.opening.push(opening.clone());
                        tokio::task::spawn_local(open(self.known(), key, opening.clone(), to(), now_ms));
                        opening
                    }
                }
            };
            opening.wait().await?;
        }
        Err(Unreached { error: Rc::new(ConnectError::Timeout(to().within)), first: false })
    }

    fn next(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }
}

impl Known {
    /// As [`Calls::prune`]; whether the set is still there.
    pub fn prune(&self, now_ms: u64, there: &HashMap<Key, Duration>, room: &mut usize) -> bool {
        let Some(table) = self.0.upgrade() else { return false };
        prune(&table, now_ms, there, room);
        true
    }
}

fn prune(table: &RefCell<Table>, now_ms: u64, there: &HashMap<Key, Duration>, room: &mut usize) {
    table.borrow_mut().retain(|key, links| {
        let Some(patience) = there.get(key) else { return false };
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        links.open.retain(|link| match link.idle_since_ms() {
            _ if link.has_ended() => false,
            None => true,
            Some(since_ms) if now_ms.saturating_sub(since_ms) > patience || *room == 0 => false,
            Some(_) => {
                *room -= 1;
                true
            }
        });
        !links.open.is_empty() || !links.opening.is_empty()
    });
}

/// Opens a connection for whoever will want it.
async fn open(calls: Known, key: Key, opening: Rc<Opening>, to: To, now_ms: u64) {
    let opened = Link::open(to, opening.number, now_ms).await;
    if let Some(table) = calls.0.upgrade()
        && let Some(links) = table.borrow_mut().get_mut(&key)
    {
        links.opening.retain(|other| !Rc::ptr_eq(other, &opening));
        if let Ok(link) = &opened {
            links.takes = Some(link.most());
            links.open.push(link.clone());
        }
    }
    *opening.failed.borrow_mut() = opened.err().map(Rc::new);
    opening.over.set(true);
    opening.done.notify_waiters();
}

struct Waits<'a>(&'a Cell<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Opening {
    async fn wait(&self) -> Result<(), Unreached> {
        self.waiting.set(self.waiting.get() + 1);
        let _waits = Waits(&self.waiting);
        while !self.over.get() {
            self.done.notified().await;
        }
        match &*self.failed.borrow() {
            Some(error) => Err(Unreached { error: error.clone(), first: !self.told.replace(true) }),
            None => Ok(()),
        }
    }
}
