//! Results that are kept: whole, by the name that the question and the data give them.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use moka::future::Cache;

use crate::peer_wire::ScanPart;
use crate::query::{Query, Uid};
use crate::record::{self, Records};
use crate::topology::Strategies;
use crate::wire::Coverage;

/// How long a result is kept that nobody asks for. Source: the contract.
const KEPT: Duration = Duration::from_secs(300);
/// Bytes of a chunk's text: gRPC's default limit of a message is 4 MiB.
const LARGEST_CHUNK: usize = 3 << 20;
/// Bytes of a record's text that are reckoned with; a chunk with longer ones is still whole, because no text of the
/// data is a hundred times as long as usual.
const RECORD: usize = 1 << 10;

/// The records of one partition.
#[derive(Debug)]
pub(crate) struct Part {
    /// As it came and goes on.
    pub(crate) arrow: Bytes,
    /// The same memory, understood.
    pub(crate) batch: RecordBatch,
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
        Ok(Self { arrow: part.arrow.clone(), batch })
    }
}

/// Records of a chunk, no larger than a message may be.
pub(crate) fn records_per_chunk(strategies: &Strategies, records: u64, query: &Query) -> usize {
    let wanted = strategies.records_per_chunk(usize::try_from(records).unwrap_or(usize::MAX), query.limit);
    wanted.clamp(1, LARGEST_CHUNK / RECORD)
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
            let rows = part.batch.num_rows();
            if skip >= rows as u64 {
                skip -= rows as u64;
                continue;
            }
            if left == 0 {
                return;
            }
            let records = Records::of(&part.batch);
            let begin = skip as usize;
            let end = rows.min(begin + left);
            (begin..end).for_each(|row| take(&records, row));
            left -= end - begin;
            skip = 0;
        }
    }

    fn size(&self) -> usize {
        self.parts.iter().map(|part| part.arrow.len() + 512).sum::<usize>() + 1024
    }
}

/// The results of a process.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    kept: Cache<String, Arc<Answer>>,
    /// Names that are no longer good here.
    ended: Cache<String, ()>,
}

impl Results {
    /// At most so many bytes; least recently used go first.
    pub(crate) fn new(most_bytes: u64) -> Self {
        let weigh = |_: &String, answer: &Arc<Answer>| u32::try_from(answer.size()).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(most_bytes).weigher(weigh).time_to_idle(KEPT).build();
        let ended = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(3600)).build();
        Self { kept, ended }
    }

    pub(crate) async fn get(&self, uid: &str) -> Option<Arc<Answer>> {
        self.kept.get(uid).await
    }

    /// The result of this name: the one that is kept, or what `make` makes; whoever asks for the same meanwhile gets
    /// the same.
    pub(crate) async fn get_or_make<E: Clone + Send + Sync + 'static>(
        &self,
        uid: &Uid,
        make: impl Future<Output = Result<Arc<Answer>, E>>,
    ) -> Result<Arc<Answer>, E> {
        self.ended.invalidate(uid.as_str()).await;
        self.kept.try_get_with(uid.as_str().to_owned(), make).await.map_err(|error| (*error).clone())
    }

    /// Whether it was released.
    pub(crate) fn has_ended(&self, uid: &str) -> bool {
        self.ended.contains_key(uid)
    }

    /// Forgets it; whether it was there.
    pub(crate) async fn release(&self, uid: &str) -> bool {
        let was = self.kept.remove(uid).await.is_some();
        self.ended.insert(uid.to_owned(), ()).await;
        was
    }
}
