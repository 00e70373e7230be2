//! Results that are kept: whole, by the name that the question and the data give them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::peer_wire::ScanPart;
use crate::query::{Query, Uid};
use crate::record::{self, Records};
use crate::topology::Strategies;
use crate::wire::Coverage;

/// How long a result is kept that nobody asks for. Source: the contract.
const KEPT: Duration = Duration::from_secs(300);
/// Bytes of a chunk's text: gRPC's default limit of a message is 4 MiB, and what is around the text is small.
const LARGEST_CHUNK: usize = (4 << 20) - (64 << 10);
/// Names of released results that are remembered, and for how long.
const RELEASED: (u64, Duration) = (100_000, Duration::from_secs(3600));

/// Clients of a result that are remembered by name.
const MOST_HOLDERS: usize = 1000;
/// Bytes of a part beside its records, more or less: what says where in them each column is.
const AROUND: usize = 4 << 10;

/// The records of one partition, as they came and go on: Arrow IPC messages.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) arrow: Bytes,
    pub(crate) rows: usize,
    /// The same, understood; its columns are slices of `arrow`.
    batch: RecordBatch,
    /// Bytes that no record of it is longer than, as JSON.
    longest: usize,
}

/// A result.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) uid: Uid,
    /// In the order of dates.
    pub(crate) parts: Vec<Part>,
    pub(crate) matched: u64,
    pub(crate) returned: u64,
    pub(crate) coverage: Coverage,
    /// Records of a chunk.
    pub(crate) chunk: usize,
}

impl Part {
    /// Of what a worker sent.
    pub(crate) fn of(part: &ScanPart) -> Result<Self, arrow_schema::ArrowError> {
        // A copy: what came is a slice of a connection's buffer, which would live as long, and where columns need not be
        // aligned.
        let arrow = Bytes::copy_from_slice(&part.arrow);
        let batch = record::decode(&arrow)?;
        let longest = Records::of(&batch).longest_json();
        Ok(Self { arrow, rows: batch.num_rows(), batch, longest })
    }
}

/// Records of a chunk: as many as the strategy says, and no more than a message holds.
pub(crate) fn records_per_chunk(strategies: &Strategies, parts: &[Part], query: &Query) -> usize {
    let records = parts.iter().map(|part| part.rows).sum();
    let longest = parts.iter().map(|part| part.longest).max().unwrap_or(1);
    strategies.records_per_chunk(records, query.limit).min(LARGEST_CHUNK / longest).max(1)
}

impl Answer {
    /// How many chunks it has; an empty result has one, which is empty.
    pub(crate) fn chunks(&self) -> u64 {
        self.returned.div_ceil(self.chunk as u64).max(1)
    }

    /// A chunk as the text of a JSON array; always the same. `None`: there is none of this number.
    pub(crate) fn chunk_json(&self, index: u64) -> Option<String> {
        if index >= self.chunks() {
            return None;
        }
        let first = index * self.chunk as u64;
        let mut text = String::with_capacity(self.chunk.min(self.returned as usize) * 320 + 2);
        text.push('[');
        self.each(first, self.chunk, |records, row| {
            if text.len() > 1 {
                text.push(',');
            }
            records.json(row, &mut text);
        });
        text.push(']');
        Some(text)
    }

    /// Calls `take` with each of `count` records from `first` on.
    pub(crate) fn each(&self, first: u64, count: usize, mut take: impl FnMut(&Records<'_>, usize)) {
        let (mut skip, mut left) = (first, count);
        for part in &self.parts {
            if skip >= part.rows as u64 {
                skip -= part.rows as u64;
                continue;
            }
            if left == 0 {
                return;
            }
            let records = Records::of(&part.batch);
            let begin = skip as usize;
            let end = part.rows.min(begin + left);
            (begin..end).for_each(|row| take(&records, row));
            left -= end - begin;
            skip = 0;
        }
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.arrow.len() + size_of::<Part>() + AROUND);
        parts.sum::<usize>() + self.uid.as_str().len() + 1024
    }
}

/// What became of making a result.
#[derive(Clone, Debug)]
pub(crate) struct Made<E> {
    pub(crate) outcome: Result<Arc<Answer>, E>,
    /// Whether more time might have brought more.
    pub(crate) was_late: bool,
}

type Making<E> = BoxFuture<'static, Made<E>>;

/// A result that is being made.
#[derive(Debug)]
struct UnderWay<E> {
    /// It is there by then, or never.
    deadline: Instant,
    making: WeakShared<Making<E>>,
}

/// The results of a process.
#[derive(Debug)]
pub(crate) struct Results<E> {
    kept: Cache<String, Arc<Answer>>,
    /// To whom a name was handed out, by its digest.
    handed_out: Cache<u128, Arc<Mutex<Holders>>>,
    /// Digests of names that are no longer good here.
    released: Cache<u128, ()>,
    /// By their names, and by whatever else they depend upon.
    under_way: DashMap<(String, u64), UnderWay<E>>,
}

impl<E: Clone + Send + Sync + 'static> Results<E> {
    /// At most so many bytes; least recently used go first.
    pub(crate) fn new(most_bytes: u64) -> Self {
        let weigh = |_: &String, answer: &Arc<Answer>| u32::try_from(answer.size()).unwrap_or(u32::MAX);
        let kept = Cache::builder()
            .max_capacity(most_bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weigh)
            .time_to_idle(KEPT)
            .build();
        let (most, long) = RELEASED;
        let released = Cache::builder()
            .max_capacity(most)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(long)
            .build();
        let handed_out = Cache::builder()
            .max_capacity(most)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(KEPT)
            .build();
        Self { kept, handed_out, released, under_way: DashMap::new() }
    }

    /// The result of this name, if it is kept.
    pub(crate) async fn get(&self, uid: &str) -> Option<Arc<Answer>> {
        self.kept.get(uid).await
    }

    /// The result of this name: the one that is kept, or what `make` makes until `deadline`. Whoever asks for the same in
    /// the same `way` meanwhile waits for the same, unless it has less time; it is given up when nobody waits for it.
    ///
    /// What is made is kept under the name that it has in the end: where something is missing, that is another one.
    pub(crate) async fn get_or_make(
        &self,
        uid: &Uid,
        way: u64,
        deadline: Instant,
        make: impl FnOnce() -> Making<E>,
    ) -> Result<Arc<Answer>, E> {
        let key = (uid.as_str().to_owned(), way);
        loop {
            if let Some(kept) = self.asked_again(uid).await {
                return Ok(kept);
            }
            let theirs = self.under_way.get(&key).filter(|theirs| theirs.deadline <= deadline);
            let theirs = theirs.and_then(|theirs| Some((theirs.deadline, theirs.making.upgrade()?)));
            let Some((their_deadline, making)) = theirs else { break };
            // Whoever began it may have gone by its end.
            let ended = Ended { under_way: &self.under_way, key: &key, deadline: their_deadline };
            let made = making.await;
            drop(ended);
            // It had less time than is left here: that is not to be everybody's loss.
            if !(made.was_late && their_deadline < deadline) {
                return made.outcome;
            }
        }
        let (kept, released, made) = (self.kept.clone(), self.released.clone(), make());
        // Kept by whoever is there at the end, who may be another one than began it.
        let making = async move {
            let made = made.await;
            if let Ok(answer) = &made.outcome {
                released.invalidate(&digest(answer.uid.as_str())).await;
                kept.insert(answer.uid.as_str().to_owned(), answer.clone()).await;
            }
            made
        };
        let making = making.boxed().shared();
        let weak = making.downgrade().expect("it has not begun");
        self.under_way.insert(key.clone(), UnderWay { deadline, making: weak });
        let _ended = Ended { under_way: &self.under_way, key: &key, deadline };
        making.await.outcome
    }

    /// What is kept, which is good again if it was released.
    async fn asked_again(&self, uid: &Uid) -> Option<Arc<Answer>> {
        let kept = self.get(uid.as_str()).await?;
        self.released.invalidate(&digest(uid.as_str())).await;
        Some(kept)
    }

    /// Bytes of what is kept, more or less.
    pub(crate) fn size(&self) -> u64 {
        self.kept.weighted_size()
    }

    /// Whether it was released.
    pub(crate) fn was_released(&self, uid: &Uid) -> bool {
        self.released.contains_key(&digest(uid.as_str()))
    }

    /// The result of this name for one who reads it: whoever was told of it has it for as long as it is read.
    pub(crate) async fn read(&self, uid: &Uid) -> Option<Arc<Answer>> {
        drop(self.handed_out.get(&digest(uid.as_str())).await);
        self.get(uid.as_str()).await
    }

    /// A client was told of it; one with a name that is told again has it no second time.
    pub(crate) async fn hand_out(&self, uid: &Uid, holder: &Holder) {
        let holders = self.handed_out.get_with(digest(uid.as_str()), async { Arc::default() }).await;
        locked(&holders).add(xxh3_64(holder.key.as_bytes()), holder.is_named);
    }

    /// To how many it is handed out.
    pub(crate) async fn handed_out(&self, uid: &Uid) -> u64 {
        let holders = self.handed_out.get(&digest(uid.as_str())).await;
        holders.map_or(0, |holders| locked(&holders).count())
    }

    /// A client gives it back; whether it was handed out here. It is there still: equal questions share a result.
    pub(crate) async fn give_back(&self, uid: &Uid, holder: &str) -> bool {
        let holders = self.handed_out.get(&digest(uid.as_str())).await;
        holders.is_some_and(|holders| locked(&holders).remove(xxh3_64(holder.as_bytes())))
    }

    /// Forgets it, when the last one who was told of it has given it back.
    pub(crate) async fn forget(&self, uid: &Uid) {
        self.kept.invalidate(uid.as_str()).await;
        self.handed_out.invalidate(&digest(uid.as_str())).await;
        self.released.insert(digest(uid.as_str()), ()).await;
    }
}

/// Who is told of a result, and gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its name or its address; no name is the same as an address.
    pub(crate) key: String,
    /// Whether it is one client. Behind one address there may be many: there, each time counts.
    pub(crate) is_named: bool,
}

impl Holder {
    /// One that says who it is.
    pub(crate) fn named(client: &str) -> Self {
        Self { key: format!("client {client}"), is_named: true }
    }

    /// Somebody there.
    pub(crate) fn at(address: &str) -> Self {
        Self { key: format!("at {address}"), is_named: false }
    }
}

/// Those who were told of a result: digests of their keys, and how often each was.
#[derive(Debug, Default)]
struct Holders {
    known: HashMap<u64, u64>,
    /// Beyond those that are remembered.
    others: u64,
}

impl Holders {
    fn add(&mut self, holder: u64, is_named: bool) {
        if let Some(times) = self.known.get_mut(&holder) {
            *times += u64::from(!is_named);
        } else if self.known.len() < MOST_HOLDERS {
            self.known.insert(holder, 1);
        } else {
            self.others += 1;
        }
    }

    /// One who is not known may be one of those who are not remembered, but never another one who is.
    fn remove(&mut self, holder: u64) -> bool {
        if let Some(times) = self.known.get_mut(&holder) {
            *times -= 1;
            if *times == 0 {
                self.known.remove(&holder);
            }
            return true;
        }
        let is_left = self.others > 0;
        self.others -= u64::from(is_left);
        is_left
    }

    fn count(&self) -> u64 {
        self.known.values().sum::<u64>() + self.others
    }
}

fn locked(holders: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    holders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(uid: &str) -> u128 {
    xxh3_128(uid.as_bytes())
}

/// Takes what has ended, or was given up, from the list of what is under way.
struct Ended<'a, E> {
    under_way: &'a DashMap<(String, u64), UnderWay<E>>,
    key: &'a (String, u64),
    deadline: Instant,
}

impl<E> Drop for Ended<'_, E> {
    fn drop(&mut self) {
        // Another one of the same name may have begun since, and others may still wait for this one.
        self.under_way.remove_if(self.key, |_, theirs| {
            theirs.deadline == self.deadline
                && theirs.making.upgrade().is_none_or(|making| making.peek().is_some())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;
    use crate::query::{Basis, Layout};
    use crate::topology::Chunking;

    fn uid(data: u64) -> Uid {
        let layout = Layout { chunking: Chunking::Fixed, chunk_size: 1 };
        Uid::new(&Query::default(), Basis { data, missing: "", layout })
    }

    fn answer(data: u64) -> Arc<Answer> {
        let (parts, coverage) = (Vec::new(), Coverage::default());
        Arc::new(Answer { uid: uid(data), parts, matched: data, returned: 0, coverage, chunk: 1 })
    }

    type Told = oneshot::Sender<Made<&'static str>>;

    /// Something that is made when it is told what.
    fn making() -> (Told, impl FnOnce() -> Making<&'static str>) {
        let (told, made) = oneshot::channel();
        (told, move || async { made.await.expect("it is told") }.boxed())
    }

    fn never() -> Making<&'static str> {
        panic!("it was to be shared")
    }

    fn good(data: u64) -> Made<&'static str> {
        Made { outcome: Ok(answer(data)), was_late: false }
    }

    fn late() -> Made<&'static str> {
        Made { outcome: Err("late"), was_late: true }
    }

    #[tokio::test(start_paused = true)]
    async fn equal_questions_are_made_once_also_if_the_first_one_goes_away() {
        let results = Results::<&str>::new(1 << 20);
        let now = Instant::now();
        let (told, make) = making();
        let (name, soon, later) = (uid(1), now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut first = Box::pin(results.get_or_make(&name, 0, soon, make));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(results.get_or_make(&name, 0, later, never));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        let mut third = Box::pin(results.get_or_make(&name, 0, later, never));
        assert!(poll!(&mut third).is_pending(), "it goes on for the second");
        told.send(good(1)).unwrap();
        assert_eq!((second.await.unwrap().matched, third.await.unwrap().matched), (1, 1));
        assert!(results.get(name.as_str()).await.is_some(), "it is kept");
        assert!(results.under_way.is_empty(), "nothing is left of it");
    }

    #[tokio::test(start_paused = true)]
    async fn impatience_is_not_inherited() {
        let results = Results::<&str>::new(1 << 20);
        let now = Instant::now();
        let (name, soon, later) = (uid(1), now + Duration::from_secs(1), now + Duration::from_secs(2));
        let (told, make) = making();
        let (told_again, make_again) = making();
        let mut impatient = Box::pin(results.get_or_make(&name, 0, soon, make));
        assert!(poll!(&mut impatient).is_pending());
        let mut patient = Box::pin(results.get_or_make(&name, 0, later, make_again));
        assert!(poll!(&mut patient).is_pending());
        told.send(late()).unwrap();
        assert_eq!(impatient.await.unwrap_err(), "late");
        assert!(poll!(&mut patient).is_pending(), "it asks once more, itself");
        told_again.send(good(1)).unwrap();
        assert_eq!(patient.await.unwrap().matched, 1);
        // Whoever has less time than what is under way makes its own; so does who asks in another way.
        let other = uid(2);
        let (_told, slow) = making();
        let mut slow = Box::pin(results.get_or_make(&other, 0, later, slow));
        assert!(poll!(&mut slow).is_pending());
        for (way, deadline) in [(0, soon), (1, later)] {
            let (told, make) = making();
            told.send(good(2)).unwrap();
            let one = Results::<&str>::get_or_make(&results, &other, way, deadline, make);
            let made = one.await;
            assert_eq!(made.unwrap().matched, 2);
            results.kept.invalidate_all();
        }
    }

    #[tokio::test]
    async fn nobody_gives_back_what_another_one_has() {
        let results = Results::<&str>::new(1 << 20);
        let (ann, here) = (Holder::named("10.0.0.1"), Holder::at("10.0.0.1"));
        for holder in [&ann, &ann, &here, &here] {
            results.hand_out(&uid(1), holder).await;
        }
        assert_eq!(results.handed_out(&uid(1)).await, 3, "behind an address there may be two");
        let back = async |holder: &Holder| results.give_back(&uid(1), &holder.key).await;
        assert!(!back(&Holder::named("bob")).await && !back(&Holder::at("10.0.0.2")).await);
        assert!(back(&ann).await && !back(&ann).await);
        assert!(back(&here).await && back(&here).await && !back(&here).await);
        assert_eq!(results.handed_out(&uid(1)).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_made_is_kept_under_its_own_name_and_a_release_holds_until_it_is_asked_for_again() {
        let results = Results::<&str>::new(1 << 20);
        let deadline = Instant::now() + Duration::from_secs(1);
        let make = async |data: u64| {
            let (told, make) = making();
            told.send(good(data)).unwrap();
            results.get_or_make(&uid(1), 0, deadline, make).await.unwrap()
        };
        make(7).await;
        assert!(results.get(uid(1).as_str()).await.is_none(), "that is the whole one's name");
        assert!(results.get(uid(7).as_str()).await.is_some());
        make(1).await;
        for client in ["a", "b", "b"] {
            results.hand_out(&uid(1), &Holder::named(client)).await;
        }
        // What the process does with it, if it is the only leader.
        let release = async |data: u64, client: &str| {
            let taken = results.give_back(&uid(data), &Holder::named(client).key).await;
            if taken && results.handed_out(&uid(data)).await == 0 {
                results.forget(&uid(data)).await;
            }
            taken
        };
        assert!(release(1, "b").await);
        assert!(results.get(uid(1).as_str()).await.is_some(), "another one has it still");
        assert!(release(1, "a").await && !release(1, "a").await);
        assert!(results.get(uid(1).as_str()).await.is_none(), "b was told twice, and has it once");
        assert!(results.was_released(&uid(1)));
        make(1).await;
        assert!(!results.was_released(&uid(1)));
        assert!(!release(9, "a").await && !results.was_released(&uid(9)), "it was never here");
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_in_bytes_holds_and_what_had_to_go_is_made_again() {
        let size = answer(0).size() as u64;
        let results = Results::<&str>::new(size * 4);
        let deadline = Instant::now() + Duration::from_secs(1);
        let get = async |data: u64| {
            let (told, make) = making();
            let given = told.send(good(data));
            let got = results.get_or_make(&uid(data), 0, deadline, make).await.unwrap();
            results.kept.run_pending_tasks().await;
            given.unwrap();
            got.matched
        };
        for data in 0..100 {
            assert_eq!(get(data).await, data);
            assert!(results.size() <= size * 4, "{} bytes", results.size());
            // The first one is used again and again: others go.
            assert!(results.get(uid(0).as_str()).await.is_some(), "after {data}");
        }
        assert!(results.get(uid(50).as_str()).await.is_none());
        assert_eq!(get(50).await, 50, "made again");
    }
}
