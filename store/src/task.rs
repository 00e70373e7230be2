//! Tasks, claims and offices, as callers see them.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::rules::State;

/// A task to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// Its name in its queue.
    pub key: String,
    /// What its worker needs to know.
    pub payload: Vec<u8>,
    /// The largest goes first, then by key. First in, first out is the negative of a time.
    pub weight: i64,
    /// How many claims it has, at least 1: one that is released is not counted.
    pub attempts: u32,
    /// From when on it can be claimed.
    pub delay: Duration,
}

impl NewTask {
    /// Weight 0, any number of attempts, at once.
    pub fn new(key: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        let (key, payload) = (key.into(), payload.into());
        Self { key, payload, weight: 0, attempts: u32::MAX, delay: Duration::ZERO }
    }
}

/// The right to decide about a task, for as long as its lease exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The task's queue.
    pub queue: String,
    /// The task.
    pub key: String,
    /// Every claim of the store has another, a later one a larger one.
    pub epoch: u64,
}

/// A task that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// What later writes name.
    pub claim: Claim,
    /// As added.
    pub payload: Vec<u8>,
    /// As added.
    pub weight: i64,
    /// Which attempt this is, from 1. A speculation is part of the attempt that it doubles.
    pub attempt: u32,
    /// How many there are.
    pub attempts: u32,
    /// When the lease runs out.
    pub until: Timestamp,
}

/// How many tasks of a queue are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Waiting, or waiting for its time.
    pub pending: u64,
    /// Claimed; its leases may have run out.
    pub running: u64,
    /// Completed.
    pub done: u64,
    /// Given up.
    pub failed: u64,
}

impl Counts {
    pub(crate) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Pending => &mut self.pending,
            State::Running => &mut self.running,
            State::Done => &mut self.done,
            State::Failed => &mut self.failed,
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With a result.
    Done(Vec<u8>),
    /// With a reason.
    Failed(String),
}

/// A task that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub key: String,
    /// How.
    pub verdict: Verdict,
    /// By which claim.
    pub epoch: u64,
    /// Whose.
    pub worker: String,
    /// Attempts that were made.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}

/// A lease. A task with a speculation has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Of which task.
    pub key: String,
    /// Of which claim.
    pub epoch: u64,
    /// Whose.
    pub worker: String,
    /// When it was claimed.
    pub since: Timestamp,
    /// When it runs out; the past, when nobody took over yet.
    pub until: Timestamp,
    /// The task's weight.
    pub weight: i64,
}

/// Who holds an office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Of one life: a process that starts again takes another name, or it would be taken for the former one.
    pub who: String,
    /// Every tenure of the store has another, a later one a larger one.
    pub epoch: u64,
    /// When it runs out; the past, when nobody took over yet.
    pub until: Timestamp,
}

/// What came of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// The office is the caller's: newly, or still.
    Held {
        /// For [`crate::Change::Holds`].
        epoch: u64,
        /// Campaign again before.
        until: Timestamp,
    },
    /// It is another's.
    Taken(Tenure),
}
