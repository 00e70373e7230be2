//! A unit's tasks: a queue, and as many cores as run at once. Pure but for the journal: times are arguments.
//!
//! A task occupies a core for a time and computes nothing: what is balanced here is the occupation. One that is moved while it
//! runs goes on elsewhere with the time it had left, so no part of it runs twice; one whose unit is killed begins that part again.

mod journal;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) use journal::{Journal, JournalError};
use ledger::Entry;
pub(crate) use ledger::{Ledger, Offer, Reserved, Task, TaskId, Verdict};

/// Tasks of one offer, at most: it is one message.
pub(crate) const LARGEST_OFFER: usize = 5_000;
/// Bytes of a task's name.
const LONGEST_NAME: usize = 64;
/// How long a task may have still to run, in milliseconds: a day, as the configuration allows it.
const LONGEST_MS: u64 = 86_400_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tasks {
    port: u16,
    cores: usize,
    limit: usize,
    journal: Journal,
    queue: VecDeque<TaskId>,
    running: Vec<(Instant, TaskId)>,
}

/// Why a task was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AddError {
    /// There are too many.
    #[error("{0} tasks are here, which is all that fit: try again when some are finished, or raise `queue`")]
    Full(usize),
    /// One of that name is here.
    #[error("a task of this name is here already")]
    Twice,
    /// It could not be written down.
    #[error("the task cannot be written down")]
    Journal(#[from] JournalError),
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// On a core.
    pub running: usize,
    /// Waiting for one.
    pub queued: usize,
    /// Offered, and not answered.
    pub reserved: usize,
    /// Finished, ever.
    pub finished: u64,
}

impl Counts {
    /// All that are not finished.
    pub(crate) const fn load(&self) -> usize {
        self.running + self.queued + self.reserved
    }
}

impl Tasks {
    /// Goes on with what a journal holds.
    pub(crate) fn new(port: u16, cores: u32, limit: usize, journal: Journal) -> Self {
        let queue = journal.ledger().held.keys().cloned().collect();
        Self { port, cores: cores as usize, limit, journal, queue, running: Vec::new() }
    }

    /// A new task, with a name that nobody else gives, or with one that somebody gave it.
    ///
    /// # Errors
    /// When there is no room, one of that name is here, or it cannot be written down.
    pub(crate) fn add(&mut self, name: Option<TaskId>, time: Duration) -> Result<TaskId, AddError> {
        let ledger = self.journal.ledger();
        if self.counts().load() >= self.limit {
            return Err(AddError::Full(self.limit));
        }
        let id = name.unwrap_or_else(|| format!("{}-{:x}-{}", self.port, ledger.journal, ledger.begun + 1));
        if ledger.has(&id) {
            return Err(AddError::Twice);
        }
        let left_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.journal.write(Entry::Added(Task { id: id.clone(), left_ms }))?;
        self.queue.push_back(id.clone());
        Ok(id)
    }

    /// Finishes what is over, begins what can be, and says when to look again.
    ///
    /// # Errors
    /// When an end cannot be written down: the task is looked at again the next time.
    pub(crate) fn turn(&mut self, now: Instant) -> Result<Option<Instant>, JournalError> {
        while let Some(over) = self.running.iter().position(|(end, _)| *end <= now) {
            let id = self.running[over].1.clone();
            if self.journal.ledger().held.contains_key(&id) {
                self.journal.write(Entry::Done(id))?;
            }
            self.running.swap_remove(over);
        }
        while self.running.len() < self.cores
            && let Some(id) = self.queue.pop_front()
        {
            let left = self.journal.ledger().held.get(&id).copied().unwrap_or(0);
            self.running.push((now + Duration::from_millis(left), id));
        }
        Ok(self.running.iter().map(|(end, _)| *end).min())
    }

    /// Sets tasks aside for another unit: those that wait, the latest first, then those that have most to run. None if there
    /// are none, or if an earlier offer to it is open.
    ///
    /// # Errors
    /// When it cannot be written down: nothing was set aside.
    pub(crate) fn reserve(
        &mut self,
        to: u16,
        count: usize,
        now: Instant,
    ) -> Result<Option<Offer>, JournalError> {
        let ledger = self.journal.ledger();
        let count = count.min(LARGEST_OFFER);
        let waiting = count.min(self.queue.len());
        let running = (count - waiting).min(self.running.len());
        if waiting + running == 0 || ledger.reserved.contains_key(&to) {
            return Ok(None);
        }
        self.running.sort_unstable();
        let task = |id: &TaskId, left_ms| Task { id: id.clone(), left_ms };
        let waits = self.queue.iter().rev().take(waiting);
        let mut tasks: Vec<_> = waits.map(|id| task(id, ledger.held.get(id).copied().unwrap_or(0))).collect();
        tasks.extend(self.running.iter().rev().take(running).map(|(end, id)| {
            let left = end.saturating_duration_since(now).as_millis();
            task(id, u64::try_from(left).unwrap_or(u64::MAX))
        }));
        let batch = ledger.next_batch(to);
        let offer = Offer { journal: ledger.journal, batch, tasks };
        self.journal.write(Entry::Reserved { to, batch, tasks: offer.tasks.clone() })?;
        self.queue.truncate(self.queue.len() - waiting);
        self.running.truncate(self.running.len() - running);
        Ok(Some(offer))
    }

    /// Offers that are open: to whom, and what.
    pub(crate) fn open_offers(&self) -> impl Iterator<Item = (u16, Offer)> {
        let ledger = self.journal.ledger();
        ledger.reserved.iter().map(|(to, reserved)| {
            let tasks = reserved.tasks.clone();
            (*to, Offer { journal: ledger.journal, batch: reserved.batch, tasks })
        })
    }

    /// An offer was answered. An answer to another offer than the open one changes nothing.
    ///
    /// # Errors
    /// When it cannot be written down: the offer stays open.
    pub(crate) fn settle(&mut self, to: u16, batch: u64, verdict: Verdict) -> Result<(), JournalError> {
        let open = self.journal.ledger().reserved.get(&to).filter(|reserved| reserved.batch == batch);
        let Some(reserved) = open else { return Ok(()) };
        match verdict {
            Verdict::Accepted => self.journal.write(Entry::Released { to }),
            Verdict::Refused => {
                let kept: Vec<_> = reserved.tasks.iter().map(|task| task.id.clone()).collect();
                self.journal.write(Entry::Kept { to })?;
                self.queue.extend(kept);
                Ok(())
            }
        }
    }

    /// Whether an offer can be a unit's own: nobody else's would be answered.
    pub(crate) fn is_sane(offer: &Offer) -> bool {
        let mut names: Vec<&str> = offer.tasks.iter().map(|task| &*task.id).collect();
        names.sort_unstable();
        names.dedup();
        let fits = |task: &Task| (1..=LONGEST_NAME).contains(&task.id.len()) && task.left_ms <= LONGEST_MS;
        (1..=LARGEST_OFFER).contains(&offer.tasks.len())
            && names.len() == offer.tasks.len()
            && offer.tasks.iter().all(fits)
    }

    /// Somebody offers tasks. A repetition is answered as the first time.
    ///
    /// # Errors
    /// When the answer cannot be written down, or the offer is older than one that was answered: nothing was taken.
    pub(crate) fn take(&mut self, from: u16, offer: Offer) -> Result<Verdict, JournalError> {
        let ledger = self.journal.ledger();
        if let Some(verdict) = ledger.answer_to(from, &offer)? {
            return Ok(verdict);
        }
        let fits = self.counts().load() + offer.tasks.len() <= self.limit
            && !offer.tasks.iter().any(|task| ledger.has(&task.id));
        let verdict = if fits { Verdict::Accepted } else { Verdict::Refused };
        // What was not taken need not be remembered.
        let offer = if fits { offer } else { Offer { tasks: Vec::new(), ..offer } };
        let ids: Vec<_> = offer.tasks.iter().map(|task| task.id.clone()).collect();
        self.journal.write(Entry::Answered { from, offer, verdict })?;
        self.queue.extend(ids);
        Ok(verdict)
    }

    /// How many there are.
    pub(crate) fn counts(&self) -> Counts {
        let ledger = self.journal.ledger();
        Counts {
            running: self.running.len(),
            queued: self.queue.len(),
            reserved: ledger.reserved_count(),
            finished: ledger.finished,
        }
    }

    /// Everything, for those who look.
    pub(crate) const fn ledger(&self) -> &Ledger {
        self.journal.ledger()
    }

    /// Which of them run.
    pub(crate) fn running(&self) -> impl Iterator<Item = &TaskId> {
        self.running.iter().map(|(_, id)| id)
    }
}
