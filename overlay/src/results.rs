//! Results that are kept: whole, by the name that the question and the data give them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use dashmap::DashMap;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

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

/// The records of one partition, as they came and go on: Arrow IPC messages.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) arrow: Bytes,
    pub(crate) rows: usize,
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
        let batch = record::decode(&part.arrow)?;
        let longest = Records::of(&batch).longest_json();
        Ok(Self { arrow: part.arrow.clone(), rows: batch.num_rows(), longest })
    }

    fn batch(&self) -> RecordBatch {
        record::decode(&self.arrow).expect("it was understood when it came")
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
            let batch = part.batch();
            let records = Records::of(&batch);
            let begin = skip as usize;
            let end = part.rows.min(begin + left);
            (begin..end).for_each(|row| take(&records, row));
            left -= end - begin;
            skip = 0;
        }
    }

    /// Bytes in memory.
    fn size(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.arrow.len() + size_of::<Part>());
        parts.sum::<usize>() + self.uid.as_str().len() + 1024
    }
}

type Made<E> = Result<Arc<Answer>, E>;
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
    /// Digests of names that are no longer good here.
    released: Cache<u128, ()>,
    under_way: DashMap<String, UnderWay<E>>,
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
        let released = Cache::builder().max_capacity(most).time_to_live(long).build();
        Self { kept, released, under_way: DashMap::new() }
    }

    pub(crate) async fn get(&self, uid: &str) -> Option<Arc<Answer>> {
        self.kept.get(uid).await
    }

    /// The result of this name: the one that is kept, or what `make` makes until `deadline`. Whoever asks for the same
    /// meanwhile waits for the same, if that ends before his own deadline; it is given up when nobody waits for it.
    pub(crate) async fn get_or_make(
        &self,
        uid: &Uid,
        deadline: Instant,
        make: impl FnOnce() -> Making<E>,
    ) -> Made<E> {
        if let Some(kept) = self.get(uid.as_str()).await {
            return Ok(kept);
        }
        let theirs = self.under_way.get(uid.as_str()).filter(|theirs| theirs.deadline <= deadline);
        let theirs = theirs.and_then(|theirs| Some((theirs.deadline, theirs.making.upgrade()?)));
        if let Some((their_deadline, making)) = theirs {
            match making.await {
                // It had less time than there is left.
                Err(_) if Instant::now() >= their_deadline && their_deadline < deadline => {}
                made => return made,
            }
        }
        let making = make().shared();
        let weak = making.downgrade().expect("it has not begun");
        self.under_way.insert(uid.as_str().to_owned(), UnderWay { deadline, making: weak });
        let ended = Ended { under_way: &self.under_way, uid: uid.as_str(), deadline };
        let made = making.await;
        if let Ok(answer) = &made {
            self.released.invalidate(&digest(answer.uid.as_str())).await;
            self.kept.insert(answer.uid.as_str().to_owned(), answer.clone()).await;
        }
        drop(ended);
        made
    }

    /// Bytes of what is kept, more or less.
    pub(crate) fn size(&self) -> u64 {
        self.kept.weighted_size()
    }

    /// Whether it was released.
    pub(crate) fn was_released(&self, uid: &Uid) -> bool {
        self.released.contains_key(&digest(uid.as_str()))
    }

    /// Forgets it; whether it was there.
    pub(crate) async fn release(&self, uid: &Uid) -> bool {
        let was = self.kept.remove(uid.as_str()).await.is_some();
        self.released.insert(digest(uid.as_str()), ()).await;
        was
    }
}

fn digest(uid: &str) -> u128 {
    xxh3_128(uid.as_bytes())
}

/// Takes what has ended, or was given up, from the list of what is under way.
struct Ended<'a, E> {
    under_way: &'a DashMap<String, UnderWay<E>>,
    uid: &'a str,
    deadline: Instant,
}

impl<E> Drop for Ended<'_, E> {
    fn drop(&mut self) {
        // Another one of the same name may have begun since; others may still wait for this one.
        self.under_way.remove_if(self.uid, |_, theirs| theirs.deadline == self.deadline);
    }
}
