//! What a unit must not forget: which tasks it holds, which of them it has offered to whom, and what it has answered to
//! the offers of others. Changed by [`Entry`] alone, live and when a journal is read again.
//!
//! A task is at one place: the source sets it aside (`Reserved`), the target takes it (`Answered`), the source forgets it
//! (`Released`). An offer has a number, and a source has at most one open for each target: so a target needs to remember the
//! last one of each source, and answers a repetition as it did the first time. A source takes tasks back (`Kept`) only when the
//! target has said no; it repeats the offer for as long as it has heard nothing.
//!
//! Numbers are counted within a journal of the source's, and compared only there: what somebody else offers in its name, from a
//! journal that he made up, is neither before nor after what it offers itself.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Finished tasks whose names are kept, the latest.
pub(super) const RECENT: usize = 10_000;
/// Journals of one source whose last answer is remembered. A source has one; it has another when its file was moved away.
pub(super) const JOURNALS: usize = 8;

/// A task's name: no other ever has it.
pub(crate) type TaskId = String;

/// A task that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Its name.
    pub id: TaskId,
    /// How long it has still to run, in milliseconds.
    pub left_ms: u64,
}

/// What a source offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Which journal of the source's: numbers begin anew with each.
    pub journal: u64,
    /// The offer's number among those of this source to this target.
    pub batch: u64,
    /// What is offered.
    pub tasks: Vec<Task>,
}

/// What a target says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It has them now.
    Accepted,
    /// It has not, and will not take them from this offer.
    Refused,
}

/// What was answered to the last offer from one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered {
    journal: u64,
    batch: u64,
    verdict: Verdict,
}

/// A change, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// All there is; the first of a journal.
    Ledger(Box<Ledger>),
    /// A task is new.
    Added(Task),
    /// A task is finished.
    Done(TaskId),
    /// Tasks are offered.
    Reserved {
        /// To whom.
        to: u16,
        /// In which offer.
        batch: u64,
        /// What.
        tasks: Vec<Task>,
    },
    /// The target has them.
    Released {
        /// Which.
        to: u16,
    },
    /// The target does not want them.
    Kept {
        /// Which.
        to: u16,
    },
    /// An offer was answered.
    Answered {
        /// Whose.
        from: u16,
        /// It; without its tasks if they were not taken.
        offer: Offer,
        /// How.
        verdict: Verdict,
    },
}

/// An open offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reserved {
    /// Its number.
    pub batch: u64,
    /// What it holds.
    pub tasks: Vec<Task>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Its name, unlike that of any journal that this unit had before.
    pub journal: u64,
    /// How many tasks were begun here: part of the next one's name.
    pub begun: u64,
    /// What is here and not offered: milliseconds left.
    pub held: BTreeMap<TaskId, u64>,
    /// What is offered, by target.
    pub reserved: BTreeMap<u16, Reserved>,
    /// The last offer's number, by target.
    batches: BTreeMap<u16, u64>,
    /// The last answers to each source, one for each of its journals, the latest behind.
    answered: BTreeMap<u16, VecDeque<Answered>>,
    /// How many were finished here.
    pub finished: u64,
    /// The latest of them.
    pub recent: VecDeque<TaskId>,
}

/// An entry that cannot follow those before it: the journal is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry does not follow from those before it: {0}")]
pub struct Inconsistent(pub &'static str);

impl Ledger {
    /// An empty one.
    pub(crate) fn new(journal: u64) -> Self {
        Self { journal, ..Self::default() }
    }

    /// The number of the next offer to a target.
    pub(crate) fn next_batch(&self, to: u16) -> u64 {
        self.batches.get(&to).copied().unwrap_or(0) + 1
    }

    /// What was answered to this offer; what must not be answered any more, because a later one was, is an error.
    pub(crate) fn answer_to(&self, from: u16, offer: &Offer) -> Result<Option<Verdict>, Inconsistent> {
        let mut answered = self.answered.get(&from).into_iter().flatten();
        match answered.find(|last| last.journal == offer.journal) {
            Some(last) if last.batch == offer.batch => Ok(Some(last.verdict)),
            Some(last) if last.batch > offer.batch => Err(Inconsistent("a later offer was answered already")),
            _ => Ok(None),
        }
    }

    /// Whether a task is here, offered or not.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.held.contains_key(id) || self.reserved.values().any(|r| r.tasks.iter().any(|task| task.id == id))
    }

    /// How many tasks are offered.
    pub(crate) fn reserved_count(&self) -> usize {
        self.reserved.values().map(|reserved| reserved.tasks.len()).sum()
    }

    /// Changes it.
    ///
    /// # Errors
    /// When the entry cannot follow; nothing is changed then.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<(), Inconsistent> {
        match entry {
            Entry::Ledger(ledger) => *self = *ledger,
            Entry::Added(task) => {
                if self.has(&task.id) {
                    return Err(Inconsistent("a task was added twice"));
                }
                self.begun += 1;
                self.held.insert(task.id, task.left_ms);
            }
            Entry::Done(id) => {
                if self.held.remove(&id).is_none() {
                    return Err(Inconsistent("a task was finished that is not here"));
                }
                self.finished += 1;
                if self.recent.len() == RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back(id);
            }
            Entry::Reserved { to, batch, tasks } => {
                if self.reserved.contains_key(&to) || batch != self.next_batch(to) {
                    return Err(Inconsistent("an offer was made while another one was open"));
                }
                if !tasks.iter().all(|task| self.held.contains_key(&task.id)) {
                    return Err(Inconsistent("a task was offered that is not here"));
                }
                for task in &tasks {
                    self.held.remove(&task.id);
                }
                self.batches.insert(to, batch);
                self.reserved.insert(to, Reserved { batch, tasks });
            }
            Entry::Released { to } => {
                self.reserved.remove(&to).ok_or(Inconsistent("an offer was released that is not open"))?;
            }
            Entry::Kept { to } => {
                let kept =
                    self.reserved.remove(&to).ok_or(Inconsistent("an offer was kept that is not open"))?;
                self.held.extend(kept.tasks.into_iter().map(|task| (task.id, task.left_ms)));
            }
            Entry::Answered { from, offer, verdict } => {
                if self.answer_to(from, &offer)?.is_some() {
                    return Err(Inconsistent("an offer was answered twice"));
                }
                let answered = self.answered.entry(from).or_default();
                answered.retain(|last| last.journal != offer.journal);
                if answered.len() == JOURNALS {
                    answered.pop_front();
                }
                answered.push_back(Answered { journal: offer.journal, batch: offer.batch, verdict });
                if verdict == Verdict::Accepted {
                    self.held.extend(offer.tasks.into_iter().map(|task| (task.id, task.left_ms)));
                }
            }
        }
        Ok(())
    }
}
