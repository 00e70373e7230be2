//! Answers on their way out. Whoever reads slowly keeps the whole answer in memory: so all of them together have so many
//! bytes, and one that takes nothing for long is given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::{Node, Refusal};
use crate::admission::Rejected;
use crate::results::Answer;

/// Bytes that one permit stands for.
const UNIT: usize = 1 << 10;
/// When to come again if there is no room.
const AGAIN: Duration = Duration::from_secs(1);

/// Room for answers on their way out.
#[derive(Debug)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    all: u32,
    stalled: Duration,
    /// The answers that are on their way, by where they are.
    leaving: Mutex<HashMap<usize, Weak<Charge>>>,
}

/// What an answer takes of the room, however many read it: it is there once.
#[derive(Debug)]
struct Charge {
    _room: OwnedSemaphorePermit,
    /// While it lives, nothing else is where it is.
    _answer: Arc<Answer>,
}

/// Its reader took nothing for long: what it has is not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing was read for long: the answer ends here, incomplete")]
pub(super) struct Stalled;

impl Room {
    pub(super) fn new(bytes: u64, stalled: Duration) -> Self {
        let all = u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let leaving = Mutex::default();
        Self { units: Arc::new(Semaphore::new(all as usize)), all, stalled, leaving }
    }

    /// Bytes of the answers on their way.
    pub(super) fn used(&self) -> u64 {
        (self.all as usize).saturating_sub(self.units.available_permits()) as u64 * UNIT as u64
    }

    /// For an answer that somebody begins to read.
    fn charge(&self, answer: &Arc<Answer>) -> Option<Arc<Charge>> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|_, charge| charge.strong_count() > 0);
        let place = Arc::as_ptr(answer).addr();
        if let Some(charged) = leaving.get(&place).and_then(Weak::upgrade) {
            return Some(charged);
        }
        let charge = Arc::new(Charge { _room: self.take(answer.size())?, _answer: answer.clone() });
        leaving.insert(place, Arc::downgrade(&charge));
        Some(charge)
    }

    /// For so many bytes; one that is larger than all of the room goes alone.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.all);
        self.units.clone().try_acquire_many_owned(units).ok()
    }
}

/// An answer that there is room for.
#[derive(Debug)]
pub(crate) struct Leaving {
    answer: Arc<Answer>,
    stalled: Duration,
    room: Arc<Charge>,
}

impl Leaving {
    /// The pieces that `cut` makes of it, each when the one before it was taken.
    pub(super) fn pieces<T: Send + 'static, P: Iterator<Item = T> + Send + 'static>(
        self,
        cut: impl FnOnce(Arc<Answer>) -> P,
    ) -> BoxStream<'static, Result<T, Stalled>> {
        pieces(cut(self.answer), self.stalled, self.room).boxed()
    }
}

impl Node {
    /// Room for an answer.
    pub(super) fn leaving(&self, answer: &Arc<Answer>) -> Result<Leaving, Refusal> {
        let room = self.room.charge(answer);
        let room = room.ok_or(Refusal::Rejected(Rejected { retry_after: AGAIN }))?;
        Ok(Leaving { answer: answer.clone(), stalled: self.room.stalled, room })
    }
}

/// Whoever gives the answer up forgets it, even while the reader's connection stays.
fn pieces<T: Send + 'static>(
    cut: impl Iterator<Item = T> + Send + 'static,
    stalled: Duration,
    room: impl Send + 'static,
) -> impl Stream<Item = Result<T, Stalled>> + Send {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _room = room;
        for piece in cut {
            match timeout(stalled, sender.send(Some(piece))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return, // nobody reads any more
                Err(_) => {
                    tracing::debug!("a reader takes nothing: it is given up");
                    return;
                }
            }
        }
        // The end, without which it would look like one that was given up.
        drop(timeout(stalled, sender.send(None)).await);
    });
    stream::unfold(Some(receiver), async |receiver| {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(receiver))),
            Some(None) => None,
            None => Some((Err(Stalled), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Basis, Layout, Query, Uid};
    use crate::topology::Chunking;
    use crate::wire::Coverage;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_its_room_is_free_again() {
        let room = Room::new(10 * UNIT as u64, Duration::from_secs(30));
        let answer = Arc::new(());
        let begin = || {
            let answer = answer.clone();
            let cut = (0..5).map(move |number| (number, Arc::strong_count(&answer)).0);
            pieces(cut, room.stalled, room.take(6 * UNIT).expect("there is room"))
        };
        let mut reader = Box::pin(begin());
        assert_eq!(reader.next().await, Some(Ok(0)));
        assert!(room.take(6 * UNIT).is_none() && room.take(4 * UNIT).is_some());
        assert_eq!(room.used(), 6 * UNIT as u64);
        tokio::time::sleep(Duration::from_secs(31)).await; // paused clock
        assert_eq!(
            (Arc::strong_count(&answer), room.used()),
            (1, 0),
            "it is forgotten while its reader is still there"
        );
        let rest: Vec<_> = reader.collect().await;
        assert_eq!(rest.last(), Some(&Err(Stalled)), "and hears that this is not all: {rest:?}");
        // One that reads slowly, but reads, has all of it.
        let mut slow = Box::pin(begin());
        let mut came = Vec::new();
        while let Some(piece) = slow.next().await {
            came.push(piece);
            tokio::time::sleep(Duration::from_secs(29)).await; // paused clock
        }
        assert_eq!(came, [0, 1, 2, 3, 4].map(Ok));
        tokio::task::yield_now().await;
        assert_eq!(room.used(), 0);
        let whole = room.take(1000 * UNIT);
        assert!(whole.is_some() && room.take(1).is_none(), "one that is larger than the room goes alone");
    }

    #[test]
    fn an_answer_that_many_read_takes_its_room_once() {
        let answer = || {
            let layout = Layout { chunking: Chunking::Fixed, chunk_size: 1 };
            let uid = Uid::new(&Query::default(), Basis { data: 1, missing: "", layout });
            let (parts, coverage) = (Vec::new(), Coverage::default());
            Arc::new(Answer { uid, parts, matched: 0, returned: 0, coverage, chunk: 1 })
        };
        let room = Room::new(3 * UNIT as u64, Duration::from_secs(30));
        let (one, other) = (answer(), answer());
        let first = room.charge(&one).expect("there is room");
        let (used, again) = (room.used(), room.charge(&one));
        assert!(again.is_some() && used == 2 * UNIT as u64 && room.used() == used);
        assert!(room.charge(&other).is_none(), "another one, of the same name");
        drop(first);
        assert_eq!(room.used(), used, "it is still read");
        drop(again);
        assert!(room.used() == 0 && room.charge(&other).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_its_room() {
        let room = Room::new(10 * UNIT as u64, Duration::from_secs(30));
        let reader = pieces(0..5, room.stalled, room.take(10 * UNIT).expect("there is room"));
        drop(reader);
        tokio::time::sleep(Duration::from_millis(1)).await; // paused clock
        assert_eq!(room.used(), 0);
    }
}
