//! What a transaction is made of.

use std::time::Duration;

use crate::task::{Claim, NewTask};

/// What a record must be for a change of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it is.
    Any,
    /// There is none.
    Absent,
    /// There is one of this version.
    Version(u64),
}

/// One of the changes of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a record. Effect: [`Effect::Version`].
    Put {
        /// An ordered path, such as `board/c1/0042`.
        key: String,
        /// Anything.
        value: Vec<u8>,
        /// Otherwise the transaction is refused.
        expect: Expect,
    },
    /// Removes a record. Effect: [`Effect::Count`], 1 or 0.
    Delete {
        /// Which.
        key: String,
        /// Otherwise the transaction is refused. Not [`Expect::Absent`].
        expect: Expect,
    },
    /// Adds the tasks that are not there yet, and wakes their queue. Effect: [`Effect::Count`] of them.
    Add {
        /// Where.
        queue: String,
        /// What is there stays as it is.
        tasks: Vec<NewTask>,
    },
    /// Ends a task with a result.
    Complete {
        /// Refused if it is lost.
        claim: Claim,
        /// What [`crate::Store::finished`] shows.
        result: Vec<u8>,
    },
    /// Gives a claim up because of a failure. While another worker holds an unexpired lease (a speculation), it goes
    /// on; otherwise the task is claimable again, or it has failed.
    Fail {
        /// Refused if it is lost.
        claim: Claim,
        /// What [`crate::Store::finished`] shows if this ends it.
        reason: String,
        /// When to try again, if attempts are left; `None` tries no more.
        retry_after: Option<Duration>,
    },
    /// Gives a claim back, as if it had not been: the attempt is not counted.
    Release {
        /// Refused if it is lost.
        claim: Claim,
    },
    /// Removes a task, whatever its state; claims of it are lost. Effect: [`Effect::Count`], 1 or 0.
    Forget {
        /// Its queue.
        queue: String,
        /// Which.
        key: String,
    },
    /// Refused unless the office is still held under this epoch (or has run out, and nobody took over).
    Holds {
        /// Which.
        office: String,
        /// From [`crate::Campaign::Held`].
        epoch: u64,
    },
    /// Wakes those who wait for hints on this queue, or on any other word.
    Wake {
        /// Which.
        queue: String,
    },
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The record's new version.
    Version(u64),
    /// How many were added or removed.
    Count(u64),
    /// What it says.
    Done,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it has happened, durably; an effect for each change.
    Committed(Vec<Effect>),
    /// Nothing of it has happened: every change that stood against it, by ascending number.
    Refused(Vec<Refusal>),
}

/// A change that stood against its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number in the transaction, from 0.
    pub change: usize,
    /// Why.
    pub why: Why,
}

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The claim is lost: its lease ran out and another took over, another was first, or the task is gone.
    Fenced,
    /// This very claim ended the task before: the answer to that was lost, or it is sent twice.
    AlreadyDone,
    /// The record is not as expected, but of this version, or `None`: there is none.
    Conflict {
        /// What is there.
        found: Option<u64>,
    },
    /// The office is another's, or nobody's.
    Deposed,
}

impl Change {
    /// The queue that may have something to do after it.
    pub(crate) fn wakes(&self) -> Option<&str> {
        match self {
            Self::Add { queue, .. } | Self::Wake { queue } => Some(queue),
            Self::Fail { claim, .. } | Self::Release { claim } => Some(&claim.queue),
            _ => None,
        }
    }
}

impl Outcome {
    /// The effects, unless it was refused.
    ///
    /// # Errors
    /// The refusals.
    pub fn committed(self) -> Result<Vec<Effect>, Vec<Refusal>> {
        match self {
            Self::Committed(effects) => Ok(effects),
            Self::Refused(refusals) => Err(refusals),
        }
    }
}
