//! A worker: claims tasks, reads what they name, and ends each together with its result.
//!
//! Its heartbeat is the renewal of its leases, and only what it has read keeps it alive: a worker that hangs in a read
//! renews nothing, and another takes over what it held.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slipring_store::{Change, Claim, Claimed, Error, Outcome as Answer, Why};
use tokio::sync::watch;
use tokio::time::timeout;

use super::event::Event;
use super::patient::Patient;
use super::plan::{best_of, in_words, name};
use super::task::{Counted, Item, Outcome, Unreadable, decode, encode};
use super::{done_queue, slow_key};
use crate::fold::Query;
use crate::ranges::Range;
use crate::scan::scan;
use crate::source::SourceError;

/// Bytes of results in one transaction, about.
const BATCH_BYTES: usize = 16 << 20;
/// How often a worker looks for work that nobody told it of.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) store: Patient,
    pub(crate) queue: String,
    /// Of one life, in the store.
    pub(crate) name: String,
    /// What people call it.
    pub(crate) number: u32,
    pub(crate) query: Arc<Query>,
    pub(crate) lease: Duration,
    /// A batch should take about so long: what a store costs is small beside it.
    pub(crate) batch: Duration,
    /// Tasks of a batch at most.
    pub(crate) most: usize,
    /// Whether to tell of assignments: nobody else can, where claims come and go unseen.
    pub(crate) tells: bool,
}

/// How reading ended.
enum Read {
    Whole(Vec<u8>),
    /// Nobody wants it any more.
    Stopped,
    /// This program does not understand the task.
    Unknown(String),
}

/// A task as it was claimed, and when.
struct Held {
    claimed: Claimed,
    since: Instant,
    /// Somebody else has it.
    lost: Arc<AtomicBool>,
}

impl Worker {
    /// Works until `ended` is true, or the store fails for good. What is held then is given back.
    pub(crate) async fn run(&self, mut ended: watch::Receiver<bool>) -> Result<(), Error> {
        let mut most = 1;
        loop {
            let mut hints = self.store.store.hints(&self.queue);
            if *ended.borrow_and_update() {
                return Ok(());
            }
            let mut claimed =
                self.store.call(|| self.store.store.claim(&self.queue, &self.name, self.lease, most)).await?;
            if claimed.is_empty() {
                claimed.extend(self.second().await?);
            }
            if claimed.is_empty() {
                tokio::select! {
                    _ = timeout(LOOK, hints.woken()) => {}
                    _ = ended.changed() => {}
                }
                continue;
            }
            let begin = Instant::now();
            self.work(claimed, &ended).await?;
            let took = begin.elapsed();
            most = if took * 2 < self.batch { most * 2 } else { most };
            most = if took > self.batch * 2 { most / 2 } else { most }.clamp(1, self.most.max(1));
        }
    }

    /// A task that takes much longer than others do, for a second reader.
    async fn second(&self) -> Result<Option<Claimed>, Error> {
        let store = &self.store.store;
        let Some(record) = self.store.call(|| store.get(slow_key(&self.queue))).await? else {
            return Ok(None);
        };
        let Some(slow) = decode::<u64>(&record.value).ok().map(Duration::from_micros) else {
            return Ok(None);
        };
        let now = self.store.call(|| store.now()).await?;
        let mut running = self.store.call(|| store.running(&self.queue)).await?;
        running.retain(|lease| lease.worker != self.name && now.since(lease.since) > slow);
        running.sort_by_key(|lease| lease.since);
        for lease in running {
            let claim =
                self.store.call(|| store.speculate(&self.queue, &lease.key, &self.name, self.lease)).await?;
            if let Some(claimed) = claim {
                if let Ok(items) = decode::<Vec<Item>>(&claimed.payload)
                    && let Some(first) = items.first()
                {
                    self.store.tell.tell(Event::Doubled { worker: self.number, file: name(&first.log.path) });
                }
                return Ok(Some(claimed));
            }
        }
        Ok(None)
    }

    async fn work(&self, claimed: Vec<Claimed>, ended: &watch::Receiver<bool>) -> Result<(), Error> {
        let since = Instant::now();
        let held: Vec<Held> = claimed
            .into_iter()
            .map(|claimed| Held { claimed, since, lost: Arc::new(AtomicBool::new(false)) })
            .collect();
        let claims: Vec<Claim> = held.iter().map(|held| held.claimed.claim.clone()).collect();
        let lost: Vec<_> = held.iter().map(|held| held.lost.clone()).collect();
        let read = Arc::new(AtomicU64::new(0));
        let (me, counter, end) = (self.clone(), read.clone(), ended.clone());
        let mut reading = tokio::task::spawn_blocking(move || {
            held.into_iter().map(|held| me.read(held, &counter, &end)).collect::<Vec<_>>()
        });
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + self.lease / 3, self.lease / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = 0;
        let results = loop {
            tokio::select! {
                results = &mut reading => break results,
                _ = beat.tick() => {
                    let now = read.load(Ordering::Relaxed);
                    if now == seen {
                        continue;
                    }
                    seen = now;
                    // While the store is away the work goes on; whether its leases are still there is seen at the end.
                    match self.store.store.renew(&claims, self.lease).await {
                        Ok(gone) => gone.iter().filter_map(|at| lost.get(*at)).for_each(|lost| lost.store(true, Ordering::Relaxed)),
                        Err(error) if error.is_temporary() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        };
        let results = results.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.report(results.into_iter().collect()).await
    }

    /// Reads all that a task names.
    fn read(&self, held: Held, read: &AtomicU64, ended: &watch::Receiver<bool>) -> (Claim, Read) {
        let Held { claimed, since, lost } = held;
        let items: Vec<Item> = match decode(&claimed.payload) {
            Ok(items) => items,
            Err(error) => {
                let why = format!("the task is of another version of this program, or damaged ({error})");
                return (claimed.claim, Read::Unknown(why));
            }
        };
        let mut outcome = Outcome::new(&self.query);
        for item in &items {
            let file = name(&item.log.path);
            if self.tells {
                self.store.tell.tell(Event::Assigned { worker: self.number, file: file.clone() });
            }
            self.store.tell.tell(Event::Processing { worker: self.number, file });
            let mut watch = |bytes: u64| {
                read.fetch_add(bytes + 1, Ordering::Relaxed);
                let stop = lost.load(Ordering::Relaxed) || *ended.borrow();
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            if watch(0).is_break() {
                return (claimed.claim, Read::Stopped);
            }
            let format = item.format.map_or_else(|| best_of(&item.log), Ok);
            let part = format.and_then(|format| {
                Ok((scan(&item.log, item.range, format, &self.query, &mut watch)?, format))
            });
            match part {
                Ok((part, format)) => {
                    outcome.counted.push(Counted::of(&part, format));
                    outcome.fold.merge(part.fold);
                }
                Err(SourceError::Stopped { .. }) => return (claimed.claim, Read::Stopped),
                Err(error) => outcome.unreadable.push(unreadable(item.range, &error)),
            }
        }
        outcome.micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        (claimed.claim, Read::Whole(encode(&outcome)))
    }

    /// Ends tasks with their results, and gives back those that have none; late results are dropped.
    async fn report(&self, mut results: VecDeque<(Claim, Read)>) -> Result<(), Error> {
        let mut late = 0;
        while !results.is_empty() {
            let (mut changes, mut bytes) = (Vec::new(), 0);
            while let Some((claim, result)) = results.pop_front() {
                changes.push(match result {
                    Read::Whole(result) => {
                        bytes += result.len();
                        Change::Complete { claim, result }
                    }
                    Read::Stopped => Change::Release { claim },
                    Read::Unknown(reason) => Change::Fail { claim, reason, retry_after: None },
                });
                if bytes > BATCH_BYTES {
                    break;
                }
            }
            while !changes.is_empty() {
                let mut all = changes.clone();
                all.push(Change::Wake { queue: done_queue(&self.queue) });
                match self.store.transact(all).await? {
                    Answer::Committed(_) => break,
                    Answer::Refused(refusals) => {
                        for refusal in refusals.iter().rev() {
                            let change = changes.remove(refusal.change);
                            let done = matches!(change, Change::Complete { .. });
                            late += usize::from(done && refusal.why != Why::AlreadyDone);
                        }
                    }
                }
            }
        }
        if late > 0 {
            self.store.tell.tell(Event::Late { worker: self.number, parts: late });
        }
        Ok(())
    }
}

fn unreadable(range: Range, error: &SourceError) -> Unreadable {
    Unreadable { range, why: in_words(error) }
}
