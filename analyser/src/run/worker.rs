//! A worker: claims tasks, reads what they name, and ends each together with its result.
//!
//! Its heartbeat is the renewal of its leases, and only what it has read keeps it alive: a worker that hangs in a read
//! renews nothing, and another takes over what it held.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slipring_store::{Change, Claim, Claimed, Error, LONGEST_VALUE, Outcome as Answer, Why};
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
    /// Whether others work in the same store. If nobody does, claims come and go unseen and cost nothing: assignments are
    /// told of here, and nothing is claimed ahead.
    pub(crate) is_shared: bool,
}

/// How reading ended.
enum Read {
    Whole(Vec<u8>),
    /// Nobody wants it any more.
    Stopped,
    /// It has no result, and would have none for anybody else.
    Failed(String),
}

/// What came of a claim.
type Done = (Claim, Read);

/// A task as it was claimed, and when.
struct Held {
    claimed: Claimed,
    since: Instant,
    /// Somebody else has it.
    lost: Arc<AtomicBool>,
}

impl Held {
    fn new(claimed: Claimed) -> Self {
        Self { claimed, since: Instant::now(), lost: Arc::new(AtomicBool::new(false)) }
    }
}

/// What is renewed with every beat: of what is read, and of what was claimed ahead.
#[derive(Default)]
struct Leases {
    claims: Vec<Claim>,
    lost: Vec<Arc<AtomicBool>>,
}

impl Leases {
    fn add(&mut self, held: &[Held]) {
        self.claims.extend(held.iter().map(|held| held.claimed.claim.clone()));
        self.lost.extend(held.iter().map(|held| held.lost.clone()));
    }

    fn lose(&self, gone: &[usize]) {
        gone.iter().filter_map(|at| self.lost.get(*at)).for_each(|lost| lost.store(true, Ordering::Relaxed));
    }
}

impl Worker {
    /// Works until `ended` is true, or the store fails for good. What is held then is given back.
    pub(crate) async fn run(&self, mut ended: watch::Receiver<bool>) -> Result<(), Error> {
        let mut most = 1;
        let (mut ahead, mut results) = (Vec::new(), VecDeque::new());
        loop {
            let mut hints = self.store.store.hints(&self.queue);
            if *ended.borrow_and_update() {
                results.extend(ahead.into_iter().map(|held: Held| (held.claimed.claim, Read::Stopped)));
                return self.report(results).await;
            }
            let mut held = std::mem::take(&mut ahead);
            if held.is_empty() {
                // Nothing is read meanwhile: what is done is told first.
                self.report(std::mem::take(&mut results)).await?;
                held = self.claim(most).await?;
            }
            if held.is_empty() {
                held.extend(self.second().await?.map(Held::new));
            }
            if held.is_empty() {
                tokio::select! {
                    _ = timeout(LOOK, hints.woken()) => {}
                    _ = ended.changed() => {}
                }
                continue;
            }
            let begin = Instant::now();
            (results, ahead) = self.work(held, results, most, &ended).await?;
            let took = begin.elapsed();
            most = if took * 2 < self.batch { most * 2 } else { most };
            most = if took > self.batch * 2 { most / 2 } else { most }.clamp(1, self.most.max(1));
        }
    }

    async fn claim(&self, most: usize) -> Result<Vec<Held>, Error> {
        let store = &self.store.store;
        let claimed = self.store.call(|| store.claim(&self.queue, &self.name, self.lease, most)).await?;
        Ok(claimed.into_iter().map(Held::new).collect())
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

    /// Reads what is held. Beside it the results of what was read before are told, and what is read next is claimed: a
    /// store takes its time while the reader takes its own. Gives the results and what is claimed.
    async fn work(
        &self,
        held: Vec<Held>,
        former: VecDeque<Done>,
        most: usize,
        ended: &watch::Receiver<bool>,
    ) -> Result<(VecDeque<Done>, Vec<Held>), Error> {
        let mut leases = Leases::default();
        leases.add(&held);
        let read = Arc::new(AtomicU64::new(0));
        let (me, counter, end) = (self.clone(), read.clone(), ended.clone());
        let mut reading = tokio::task::spawn_blocking(move || {
            held.into_iter().map(|held| me.read(held, &counter, &end)).collect::<VecDeque<_>>()
        });
        let beside = async {
            let ahead = async { if self.is_shared { self.claim(most).await } else { Ok(Vec::new()) } };
            // At once, so that a store that can brings both to the disk at once.
            let (told, ahead) = tokio::join!(self.report(former), ahead);
            told.and(ahead)
        };
        tokio::pin!(beside);
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + self.lease / 3, self.lease / 3);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut seen, mut results, mut ahead) = (0, None, None);
        loop {
            if let (Some(_), Some(_)) = (&results, &ahead) {
                return Ok((results.unwrap_or_default(), ahead.unwrap_or_default()));
            }
            tokio::select! {
                done = &mut reading, if results.is_none() => {
                    results = Some(done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())));
                }
                claimed = &mut beside, if ahead.is_none() => {
                    let claimed = claimed?;
                    leases.add(&claimed);
                    ahead = Some(claimed);
                }
                _ = beat.tick() => {
                    // Who waits for the store, and has read all, has not come to a stop.
                    let now = read.load(Ordering::Relaxed);
                    if now == seen && results.is_none() {
                        continue;
                    }
                    seen = now;
                    // While the store is away the work goes on; whether its leases are still there is seen at the end.
                    match self.store.store.renew(&leases.claims, self.lease).await {
                        Ok(gone) => leases.lose(&gone),
                        Err(error) if error.is_temporary() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Reads all that a task names.
    fn read(&self, held: Held, read: &AtomicU64, ended: &watch::Receiver<bool>) -> Done {
        let Held { claimed, since, lost } = held;
        let items: Vec<Item> = match decode(&claimed.payload) {
            Ok(items) => items,
            Err(error) => {
                let why = format!("the task is of another version of this program, or damaged ({error})");
                return (claimed.claim, Read::Failed(why));
            }
        };
        let mut outcome = Outcome::new(&self.query);
        for item in &items {
            let file = name(&item.log.path);
            if !self.is_shared {
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
        let result = encode(&outcome);
        if result.len() > LONGEST_VALUE {
            return (claimed.claim, Read::Failed(too_long(result.len())));
        }
        (claimed.claim, Read::Whole(result))
    }

    /// Ends tasks with their results, and gives back those that have none; late results are dropped.
    async fn report(&self, mut results: VecDeque<Done>) -> Result<(), Error> {
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
                    Read::Failed(reason) => Change::Fail { claim, reason, retry_after: None },
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

fn too_long(bytes: usize) -> String {
    format!(
        "what was found in it takes {} MiB, and a store takes {} at most: cut it smaller with --split (a packed file: unpack it first), \
         or ask for less",
        bytes.div_ceil(1 << 20),
        LONGEST_VALUE >> 20
    )
}
