//! Whether a call moves, in whichever direction, and whether its caller sends what it may, as fast as it must.
//!
//! A deadline of the call's own says how long its caller would wait, and nothing about how long a place may be held for
//! nothing: whatever it is, a call on which nothing moves for as long as nothing may ends. What a caller owes is known
//! from gRPC's framing, which announces each message's length: a stream may be silent between two messages, but one that was
//! begun has to come at the least rate. The bytes of all messages together are the body, as of any request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::exchange::Patience;
use crate::proxy::watch::Ticket;

/// How often the speed of a caller that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A flag and a length come before each message.
const PREFIX: usize = 5;
/// Clocks that tell of the same deadline differ by so much.
const CLOCKS: Duration = Duration::from_millis(5);

/// What a call may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) patience: Patience,
    /// Of all messages together.
    pub(super) most_bytes: u64,
    /// The call's own deadline: the answer need not begin before.
    pub(super) ends: Option<Instant>,
}

/// Why a call is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing has passed for so long.
    Silence(Duration),
    /// The caller has sent too much.
    TooLarge,
    /// It is slower than so many bytes a second.
    SlowBody(u64),
}

/// When a call last moved, how long it may stand still, and what it has sent.
#[derive(Debug)]
pub(super) struct Traffic {
    ticket: Ticket,
    limits: Limits,
    moved_ms: Cell<u64>,
    asked: Cell<bool>,
    sent: Cell<u64>,
    waits_since_ms: Cell<Option<u64>>,
    waited_ms: Cell<u64>,
    message: RefCell<Message>,
}

impl Traffic {
    /// Of a call that begins.
    pub(super) fn new(ticket: Ticket, limits: Limits) -> Rc<Self> {
        let moved_ms = Cell::new(ticket.now_ms());
        Rc::new(Self {
            ticket,
            limits,
            moved_ms,
            asked: Cell::new(false),
            sent: Cell::new(0),
            waits_since_ms: Cell::new(None),
            waited_ms: Cell::new(0),
            message: RefCell::default(),
        })
    }

    /// The thread's clock.
    pub(super) fn now_ms(&self) -> u64 {
        self.ticket.now_ms()
    }

    /// The call's own deadline.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.limits.ends
    }

    /// Whether the call's own deadline has passed, by somebody's clock: both ends of a call may keep it.
    pub(super) fn is_late(&self) -> bool {
        self.limits.ends.is_some_and(|ends| Instant::now() + CLOCKS >= ends)
    }

    /// Something passed.
    pub(super) fn moved(&self) {
        self.moved_ms.set(self.ticket.now_ms());
    }

    /// Whether the request is all there.
    pub(super) fn asked(&self, asked: bool) {
        self.moved();
        self.asked.set(asked);
    }

    /// Whether the next piece of the request was wanted and is not there.
    pub(super) fn waits_for_client(&self, waits: bool) {
        let now = self.ticket.now_ms();
        match self.waits_since_ms.get() {
            None if waits => {
                self.waits_since_ms.set(Some(now));
                if self.limits.patience.min_rate > 0 {
                    self.ticket.wake(); // the look at its speed begins
                }
            }
            Some(since_ms) if !waits => {
                self.waits_since_ms.set(None);
                self.waited_ms.set(self.waited_ms.get() + now.saturating_sub(since_ms));
            }
            _ => {}
        }
    }

    /// A piece of the request came. That it `moves` is another matter, while the replica takes none.
    pub(super) fn took(&self, data: &[u8], moves: bool) {
        if moves {
            self.moved();
        }
        self.sent.set(self.sent.get() + data.len() as u64);
        if self.message.borrow_mut().take(data) {
            self.waited_ms.set(0); // another message, or none
        }
        if self.is_too_large() {
            self.ticket.wake();
        }
    }

    /// Whether the caller has sent more than it may.
    pub(super) fn is_too_large(&self) -> bool {
        self.sent.get() > self.limits.most_bytes
    }

    /// Whether the replica has had the whole request for as long as an answer may take to begin. However little
    /// patience the caller has itself, it says nothing about the replica before.
    pub(super) fn is_overdue(&self) -> bool {
        let passed = Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.get()));
        self.asked.get() && passed >= self.limits.patience.first_byte
    }

    fn patience(&self, first: bool) -> Duration {
        let Patience { first_byte, idle, .. } = self.limits.patience;
        match first && self.asked.get() {
            // As for other requests: the answer is due so long after the end of the request, and until then each piece.
            true if self.limits.ends.is_none() => first_byte,
            true => first_byte.max(idle),
            false => idle,
        }
    }

    /// What the caller owes is the rest of a message, and it takes too long over it.
    fn drags(&self) -> bool {
        let Patience { min_rate, grace, .. } = self.limits.patience;
        let waits = self.waits_since_ms.get().map_or(0, |since| self.now_ms().saturating_sub(since));
        let waited = self.waited_ms.get() + waits;
        u128::from(waited) > grace.as_millis()
            && u128::from(self.message.borrow().came) * 1000 < u128::from(min_rate) * u128::from(waited)
    }

    /// Resolves when the call is to end. `first`: the answer has not begun.
    pub(super) async fn over(&self, first: bool) -> Over {
        std::future::poll_fn(|cx| {
            use std::task::Poll::{Pending, Ready};
            if self.is_too_large() {
                return Ready(Over::TooLarge);
            }
            let patience = self.patience(first);
            let min_rate = self.limits.patience.min_rate;
            let owes =
                min_rate > 0 && self.waits_since_ms.get().is_some() && self.message.borrow().is_begun();
            if owes && self.drags() {
                return Ready(Over::SlowBody(min_rate));
            }
            self.ticket.set_from(self.moved_ms.get(), patience);
            if self.ticket.has_expired(cx) {
                return Ready(Over::Silence(patience));
            }
            let passed = Duration::from_millis(self.now_ms().saturating_sub(self.moved_ms.get()));
            if owes && patience.saturating_sub(passed) > LOOK {
                self.ticket.set(LOOK); // whoever waits by it is known already
            }
            Pending
        })
        .await
    }
}

/// The message that a caller is sending.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX],
    /// Bytes of it that came, its prefix with them.
    came: u64,
}

impl Message {
    fn length(&self) -> Option<u64> {
        let [_, length @ ..] = self.prefix;
        (self.came >= PREFIX as u64).then(|| u64::from(u32::from_be_bytes(length)) + PREFIX as u64)
    }

    /// Whether some of it came, and not all.
    fn is_begun(&self) -> bool {
        self.came > 0
    }

    /// Takes bytes; whether a message ended within them.
    fn take(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while !data.is_empty() {
            let wanted = self.length().unwrap_or(PREFIX as u64) - self.came;
            let (now, rest) = data.split_at(usize::try_from(wanted).unwrap_or(usize::MAX).min(data.len()));
            if let Some(room) = usize::try_from(self.came).ok().and_then(|came| self.prefix.get_mut(came..)) {
                let count = now.len().min(room.len());
                room[..count].copy_from_slice(&now[..count]);
            }
            self.came += now.len() as u64;
            data = rest;
            if self.length() == Some(self.came) {
                *self = Self::default();
                ended = true;
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_owed_from_its_first_byte_to_its_last() {
        let mut message = Message::default();
        assert!(!message.is_begun());
        assert!(!message.take(&[0, 0, 0]));
        assert!(message.is_begun(), "within its prefix");
        assert!(!message.take(&[0, 2, b'h']));
        assert!(message.is_begun());
        assert!(message.take(b"i"));
        assert!(!message.is_begun(), "between two");
        assert!(message.take(&[0, 0, 0, 0, 0, 1]), "an empty one, and the beginning of the next");
        assert_eq!(message.came, 1);
    }

    proptest::proptest! {
        #[test]
        fn how_it_is_cut_does_not_matter(bytes in proptest::collection::vec(0_u8..4, 0..200), cuts in proptest::collection::vec(1_usize..20, 1..40)) {
            let (mut whole, mut pieces) = (Message::default(), Message::default());
            whole.take(&bytes);
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle().take(bytes.len()) {
                let (piece, left) = rest.split_at((*cut).min(rest.len()));
                pieces.take(piece);
                rest = left;
            }
            proptest::prop_assert_eq!((whole.came, whole.prefix), (pieces.came, pieces.prefix));
        }
    }
}
