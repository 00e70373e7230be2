//! A transaction, decided: what was found under locks goes in, and what to write comes out. Both databases do this
//! between their reading and their writing.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bounds;
use crate::change::{Change, Effect, Expect, Refusal, Why};
use crate::clock::Timestamp;
use crate::rules::{self, Lease, Next, State};
use crate::task::{Claim, NewTask};

/// What a transaction is about, as it was found.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    /// By queue and key: the row's number and what the rules need.
    pub(crate) tasks: HashMap<(&'a str, &'a str), (i64, rules::Task)>,
    /// Versions by key.
    pub(crate) records: HashMap<&'a str, u64>,
    /// Epochs by name.
    pub(crate) offices: HashMap<&'a str, u64>,
}

/// What to write.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// One for each change; versions and numbers of new tasks are still to come.
    pub(crate) effects: Vec<Effect>,
    pub(crate) puts: Vec<Put<'a>>,
    pub(crate) deletes: Vec<&'a str>,
    pub(crate) adds: Vec<(usize, &'a str, &'a [NewTask])>,
    pub(crate) ends: Vec<End<'a>>,
    /// Tasks that lose all leases and wait: row, from when on, attempts so far.
    pub(crate) waits: Vec<(i64, Timestamp, u32)>,
    /// Tasks that lose one lease: row, its epoch, when the rest has run out.
    pub(crate) leaves: Vec<(i64, u64, Timestamp)>,
    /// Rows of tasks.
    pub(crate) forgotten: Vec<i64>,
}

#[derive(Debug)]
pub(crate) struct Put<'a> {
    pub(crate) change: usize,
    pub(crate) key: &'a str,
    pub(crate) value: &'a [u8],
    pub(crate) expect: Expect,
}

/// A task that ends, and loses all leases.
#[derive(Debug)]
pub(crate) struct End<'a> {
    pub(crate) task: i64,
    pub(crate) state: State,
    pub(crate) outcome: Cow<'a, [u8]>,
    pub(crate) epoch: u64,
    pub(crate) worker: String,
}

/// The task that a change is about, unless it adds it.
pub(crate) fn task_of(change: &Change) -> Option<(&str, &str)> {
    match change {
        Change::Complete { claim, .. } | Change::Fail { claim, .. } | Change::Release { claim } => {
            Some((&claim.queue, &claim.key))
        }
        Change::Forget { queue, key } => Some((queue, key)),
        _ => None,
    }
}

/// The record.
pub(crate) fn record_of(change: &Change) -> Option<&str> {
    match change {
        Change::Put { key, .. } | Change::Delete { key, .. } => Some(key),
        _ => None,
    }
}

/// The office.
pub(crate) fn office_of(change: &Change) -> Option<&str> {
    match change {
        Change::Holds { office, .. } => Some(office),
        _ => None,
    }
}

impl Facts<'_> {
    fn task<'f>(&'f self, queue: &'f str, key: &'f str) -> Option<&'f (i64, rules::Task)> {
        self.tasks.get(&(queue, key))
    }

    fn holder<'f>(&'f self, claim: &'f Claim) -> Result<(i64, &'f rules::Task, &'f Lease), Why> {
        let (row, task) = self.task(&claim.queue, &claim.key).ok_or(Why::Fenced)?;
        Ok((*row, task, task.holder(claim.epoch)?))
    }
}

impl<'a> Plan<'a> {
    /// The whole, or everything that stands against it.
    pub(crate) fn of(changes: &'a [Change], facts: &Facts<'_>, now: Timestamp) -> Result<Self, Vec<Refusal>> {
        let mut plan = Self::default();
        let mut refusals = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            match plan.change(number, change, facts, now) {
                Ok(effect) => plan.effects.push(effect),
                Err(why) => refusals.push(Refusal { change: number, why }),
            }
        }
        if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
    }

    /// Of a task without a lease or an attempt left: it has failed. `None`: it has one.
    pub(crate) fn exhausted(row: i64, task: &rules::Task) -> Option<Self> {
        let (reason, last) = task.exhausted()?;
        let mut plan = Self::default();
        plan.leave(row, last, Next::Failed, &reason);
        Some(plan)
    }

    fn change(
        &mut self,
        number: usize,
        change: &'a Change,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Result<Effect, Why> {
        match change {
            Change::Put { key, value, expect } => {
                rules::expected(*expect, facts.records.get(key.as_str()).copied())?;
                self.puts.push(Put { change: number, key, value, expect: *expect });
            }
            Change::Delete { key, expect } => {
                let found = facts.records.get(key.as_str()).copied();
                rules::expected(*expect, found)?;
                self.deletes.extend(found.map(|_| key.as_str()));
                return Ok(Effect::Count(u64::from(found.is_some())));
            }
            Change::Add { queue, tasks } => self.adds.push((number, queue, tasks)),
            Change::Complete { claim, result } => {
                let (task, _, lease) = facts.holder(claim)?;
                let (epoch, worker) = (lease.epoch, lease.worker.clone());
                let outcome = Cow::Borrowed(result.as_slice());
                self.ends.push(End { task, state: State::Done, outcome, epoch, worker });
            }
            Change::Fail { claim, reason, retry_after } => {
                let (row, task, lease) = facts.holder(claim)?;
                let next = task.fail(claim.epoch, *retry_after, now)?;
                self.leave(row, lease, next, reason);
            }
            Change::Release { claim } => {
                let (row, task, lease) = facts.holder(claim)?;
                let next = task.release(claim.epoch, now)?;
                self.leave(row, lease, next, "");
            }
            Change::Forget { queue, key } => {
                let found = facts.task(queue, key);
                self.forgotten.extend(found.map(|(row, _)| *row));
                return Ok(Effect::Count(u64::from(found.is_some())));
            }
            Change::Holds { office, epoch } => {
                if facts.offices.get(office.as_str()) != Some(epoch) {
                    return Err(Why::Deposed);
                }
            }
            Change::Wake { .. } => {}
        }
        Ok(Effect::Done)
    }

    fn leave(&mut self, task: i64, lease: &Lease, next: Next, reason: &str) {
        match next {
            Next::Running(until) => self.leaves.push((task, lease.epoch, until)),
            Next::Pending(at, attempt) => self.waits.push((task, at, attempt)),
            Next::Failed => self.ends.push(End {
                task,
                state: State::Failed,
                outcome: Cow::Owned(bounds::reason(reason).into_bytes()),
                epoch: lease.epoch,
                worker: lease.worker.clone(),
            }),
        }
    }

    /// Rows of the tasks that lose all their leases.
    pub(crate) fn without_leases(&self) -> Vec<i64> {
        let ends = self.ends.iter().map(|end| end.task);
        let waits = self.waits.iter().map(|(task, ..)| *task);
        ends.chain(waits).chain(self.forgotten.iter().copied()).collect()
    }
}
