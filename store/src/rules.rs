//! What may happen to a task: values in, values out. All stores decide by it, under a lock of the task.

use std::time::Duration;

use crate::change::{Expect, Why};
use crate::clock::Timestamp;
use crate::task::Tenure;

/// A task's state, and how the databases write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending = 0,
    Running = 1,
    Done = 2,
    Failed = 3,
}

impl State {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Done, Self::Failed]
            .into_iter()
            .find(|state| *state as i64 == number)
    }
}

/// What the rules need to know of a task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) state: State,
    /// Claims so far.
    pub(crate) attempt: u32,
    /// And at most.
    pub(crate) attempts: u32,
    /// Which claim ended it.
    pub(crate) ended_by: Option<u64>,
    /// There is at least one while it runs, and none otherwise.
    pub(crate) leases: Vec<Lease>,
}

/// A lease of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) epoch: u64,
    pub(crate) worker: String,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// What a claim that is given up leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another works on: only this lease is removed. From when on the task could be taken over.
    Running(Timestamp),
    /// Without leases, from this time on, after so many attempts.
    Pending(Timestamp, u32),
    /// Without leases, for good.
    Failed,
}

impl Task {
    /// Whether this claim may decide; its lease.
    pub(crate) fn holder(&self, epoch: u64) -> Result<&Lease, Why> {
        match self.leases.iter().find(|lease| lease.epoch == epoch) {
            Some(lease) if self.state == State::Running => Ok(lease),
            _ if self.ended_by == Some(epoch) => Err(Why::AlreadyDone),
            _ => Err(Why::Fenced),
        }
    }

    /// When the last of the unexpired leases beside this one runs out.
    fn others(&self, epoch: u64, now: Timestamp) -> Option<Timestamp> {
        let others = self.leases.iter().filter(|lease| lease.epoch != epoch && lease.until > now);
        others.map(|lease| lease.until).max()
    }

    /// A claim fails.
    pub(crate) fn fail(
        &self,
        epoch: u64,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<Next, Why> {
        self.holder(epoch)?;
        Ok(match (self.others(epoch, now), retry_after) {
            (Some(until), _) => Next::Running(until),
            (None, Some(after)) if self.attempt < self.attempts => {
                Next::Pending(now.plus(after), self.attempt)
            }
            (None, _) => Next::Failed,
        })
    }

    /// A claim is given back.
    pub(crate) fn release(&self, epoch: u64, now: Timestamp) -> Result<Next, Why> {
        self.holder(epoch)?;
        Ok(match self.others(epoch, now) {
            Some(until) => Next::Running(until),
            None => Next::Pending(now, self.attempt.saturating_sub(1)),
        })
    }

    /// Whether a claimable task has no attempt left; why it has failed then.
    pub(crate) fn exhausted(&self) -> Option<(String, &Lease)> {
        let last = self.leases.iter().max_by_key(|lease| lease.epoch)?;
        (self.attempt >= self.attempts).then(|| {
            let Lease { worker, .. } = last;
            let attempt = self.attempt;
            (format!("the lease of attempt {attempt} of {attempt} ran out, held by {worker}"), last)
        })
    }

    /// Whether a worker may have a second lease.
    pub(crate) fn may_speculate(&self, worker: &str) -> bool {
        self.state == State::Running && self.leases.len() == 1 && self.leases[0].worker != worker
    }
}

/// Who has an office after a campaign: another, still, or newly the one who campaigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elected<'a> {
    Other(&'a Tenure),
    Same(u64),
    New,
}

/// A lease of an office keeps others out until it is over.
pub(crate) fn elected<'a>(found: Option<&'a Tenure>, who: &str, now: Timestamp) -> Elected<'a> {
    match found {
        Some(tenure) if tenure.until > now && tenure.who != who => Elected::Other(tenure),
        Some(tenure) if tenure.until > now => Elected::Same(tenure.epoch),
        _ => Elected::New,
    }
}

/// Whether a record is as expected.
pub(crate) fn expected(expect: Expect, found: Option<u64>) -> Result<(), Why> {
    let met = match expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Version(version) => found == Some(version),
    };
    if met { Ok(()) } else { Err(Why::Conflict { found }) }
}

/// What must hold of a task between calls. `ready_at`: from when on it can be claimed.
pub(crate) fn contradiction(task: &Task, ready_at: Option<Timestamp>, outcome: bool) -> Option<&'static str> {
    let runs = task.state == State::Running;
    let ended = matches!(task.state, State::Done | State::Failed);
    let until = task.leases.iter().map(|lease| lease.until).max();
    if runs && task.leases.is_empty() {
        Some("runs without a lease")
    } else if !runs && !task.leases.is_empty() {
        Some("does not run and has a lease")
    } else if task.leases.len() > 2 {
        Some("has more than two leases")
    } else if runs && ready_at != until {
        Some("can be taken over at another time than its last lease runs out")
    } else if !ended && ready_at.is_none() {
        Some("has not ended and can never be claimed")
    } else if ended && ready_at.is_some() {
        Some("has ended and can be claimed")
    } else if ended != outcome || ended != task.ended_by.is_some() {
        Some("has ended without outcome or claim, or has one before its end")
    } else if task.attempt > task.attempts {
        Some("has had more attempts than it has")
    } else {
        None
    }
}
