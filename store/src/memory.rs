//! The store of simulations: everything in memory, and the clock is the caller's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bounds;
use crate::change::{Change, Effect, Outcome, Refusal, Why};
use crate::clock::{Clock, Timestamp};
use crate::error::Error;
use crate::hints::{Hints, Wakes};
use crate::range::{Range, Record};
use crate::rules::{self, Elected, Lease, Next, State};
use crate::store::{Answer, Store};
use crate::task::{Campaign, Claim, Claimed, Counts, Finished, NewTask, Running, Tenure, Verdict};

/// See the module. Clones share it: a clone is another process's connection.
#[derive(Clone, Debug)]
pub struct Memory {
    clock: Clock,
    data: Arc<Mutex<Data>>,
    wakes: Arc<Wakes>,
}

#[derive(Debug, Default)]
struct Data {
    /// The number that was drawn last.
    drawn: u64,
    queues: BTreeMap<String, Queue>,
    records: BTreeMap<String, (Vec<u8>, u64)>,
    offices: BTreeMap<String, Tenure>,
}

#[derive(Debug, Default)]
struct Queue {
    tasks: BTreeMap<String, Task>,
    /// Those that have not ended, in the order of claims.
    open: BTreeSet<(Reverse<i64>, String)>,
}

#[derive(Debug)]
struct Task {
    new: NewTask,
    rules: rules::Task,
    ready_at: Option<Timestamp>,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    verdict: Verdict,
    worker: String,
    at: Timestamp,
}

impl Memory {
    /// An empty one.
    pub fn new(clock: Clock) -> Self {
        Self { clock, data: Arc::default(), wakes: Arc::new(Wakes::new()) }
    }

    /// Nothing that holds the lock can leave the data half changed by a panic: the rules have decided before.
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that happens at its first poll.
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut Data, Timestamp) -> Result<T, Error> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move { call(&mut self.data(), self.clock.now()) })
    }
}

impl Task {
    fn new(new: NewTask, now: Timestamp) -> Self {
        let attempts = new.attempts;
        let ready_at = Some(now.plus(new.delay));
        let rules =
            rules::Task { state: State::Pending, attempt: 0, attempts, ended_by: None, leases: Vec::new() };
        Self { new, rules, ready_at, ended: None }
    }

    fn place(&self) -> (Reverse<i64>, String) {
        (Reverse(self.new.weight), self.new.key.clone())
    }

    /// Gives it a lease beside those that it has.
    fn lease(&mut self, queue: &str, lease: Lease) -> Claimed {
        let (epoch, until) = (lease.epoch, lease.until);
        self.rules.state = State::Running;
        self.rules.leases.push(lease);
        self.ready_at = self.rules.leases.iter().map(|lease| lease.until).max();
        Claimed {
            claim: Claim { queue: queue.to_owned(), key: self.new.key.clone(), epoch },
            payload: self.new.payload.clone(),
            weight: self.new.weight,
            attempt: self.rules.attempt,
            attempts: self.rules.attempts,
            until,
        }
    }

    fn end(&mut self, lease: &Lease, verdict: Verdict, at: Timestamp) {
        self.rules.state = match verdict {
            Verdict::Done(_) => State::Done,
            Verdict::Failed(_) => State::Failed,
        };
        self.rules.ended_by = Some(lease.epoch);
        self.rules.leases.clear();
        self.ready_at = None;
        self.ended = Some(Ended { verdict, worker: lease.worker.clone(), at });
    }

    fn leave(&mut self, lease: &Lease, next: Next, reason: &str, now: Timestamp) {
        match next {
            Next::Running(until) => {
                self.rules.leases.retain(|other| other.epoch != lease.epoch);
                self.ready_at = Some(until);
            }
            Next::Pending(at, attempt) => {
                self.rules.leases.clear();
                self.rules.state = State::Pending;
                self.rules.attempt = attempt;
                self.ready_at = Some(at);
            }
            Next::Failed => self.end(lease, Verdict::Failed(bounds::reason(reason)), now),
        }
    }
}

impl Queue {
    fn add(&mut self, tasks: &[NewTask], now: Timestamp) -> u64 {
        let mut new = 0;
        for task in tasks {
            if !self.tasks.contains_key(&task.key) {
                let task = Task::new(task.clone(), now);
                self.open.insert(task.place());
                self.tasks.insert(task.new.key.clone(), task);
                new += 1;
            }
        }
        new
    }

    fn forget(&mut self, key: &str) -> u64 {
        match self.tasks.remove(key) {
            None => 0,
            Some(task) => {
                self.open.remove(&task.place());
                1
            }
        }
    }
}

impl Data {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn task(&self, queue: &str, key: &str) -> Option<&Task> {
        self.queues.get(queue)?.tasks.get(key)
    }

    fn holder<'a>(&'a self, claim: &Claim) -> Result<(&'a rules::Task, &'a Lease), Why> {
        let task = &self.task(&claim.queue, &claim.key).ok_or(Why::Fenced)?.rules;
        Ok((task, task.holder(claim.epoch)?))
    }

    fn check(&self, change: &Change, now: Timestamp) -> Result<(), Why> {
        match change {
            Change::Put { key, expect, .. } | Change::Delete { key, expect } => {
                rules::expected(*expect, self.records.get(key).map(|(_, version)| *version))
            }
            Change::Complete { claim, .. } => self.holder(claim).map(drop),
            Change::Fail { claim, retry_after, .. } => {
                self.holder(claim)?.0.fail(claim.epoch, *retry_after, now).map(drop)
            }
            Change::Release { claim } => self.holder(claim)?.0.release(claim.epoch, now).map(drop),
            Change::Holds { office, epoch } => match self.offices.get(office) {
                Some(tenure) if tenure.epoch == *epoch => Ok(()),
                _ => Err(Why::Deposed),
            },
            Change::Add { .. } | Change::Forget { .. } | Change::Wake { .. } => Ok(()),
        }
    }

    /// After [`Self::check`], of the same change.
    fn apply(&mut self, change: &Change, now: Timestamp) -> Effect {
        match change {
            Change::Put { key, value, .. } => {
                let version = self.draw();
                self.records.insert(key.clone(), (value.clone(), version));
                Effect::Version(version)
            }
            Change::Delete { key, .. } => Effect::Count(self.records.remove(key).map_or(0, |_| 1)),
            Change::Add { queue, tasks } => {
                Effect::Count(self.queues.entry(queue.clone()).or_default().add(tasks, now))
            }
            Change::Forget { queue, key } => {
                Effect::Count(self.queues.get_mut(queue).map_or(0, |queue| queue.forget(key)))
            }
            Change::Complete { claim, result } => self.settle(claim, |task, lease| {
                task.end(lease, Verdict::Done(result.clone()), now);
            }),
            Change::Fail { claim, reason, retry_after } => self.settle(claim, |task, lease| {
                if let Ok(next) = task.rules.fail(claim.epoch, *retry_after, now) {
                    task.leave(lease, next, reason, now);
                }
            }),
            Change::Release { claim } => self.settle(claim, |task, lease| {
                if let Ok(next) = task.rules.release(claim.epoch, now) {
                    task.leave(lease, next, "", now);
                }
            }),
            Change::Holds { .. } | Change::Wake { .. } => Effect::Done,
        }
    }

    fn settle(&mut self, claim: &Claim, settle: impl FnOnce(&mut Task, &Lease)) -> Effect {
        let Some(queue) = self.queues.get_mut(&claim.queue) else { return Effect::Done };
        let Some(task) = queue.tasks.get_mut(&claim.key) else { return Effect::Done };
        let Ok(lease) = task.rules.holder(claim.epoch).cloned() else { return Effect::Done };
        settle(task, &lease);
        if task.ended.is_some() {
            queue.open.remove(&task.place());
        }
        Effect::Done
    }

    fn claim(
        &mut self,
        queue_name: &str,
        worker: &str,
        lease: Duration,
        most: usize,
        now: Timestamp,
    ) -> Vec<Claimed> {
        let Self { drawn, queues, .. } = self;
        let Some(queue) = queues.get_mut(queue_name) else { return Vec::new() };
        let (mut claimed, mut ended) = (Vec::new(), Vec::new());
        for place in &queue.open {
            if claimed.len() == most {
                break;
            }
            let task = queue.tasks.get_mut(&place.1).expect("what is open is there");
            if task.ready_at.is_none_or(|at| at > now) {
                continue;
            }
            if let Some((reason, last)) = task.rules.exhausted().map(|(why, last)| (why, last.clone())) {
                task.end(&last, Verdict::Failed(reason), now);
                ended.push(place.clone());
                continue;
            }
            task.rules.leases.clear();
            task.rules.attempt += 1;
            *drawn += 1;
            let lease =
                Lease { epoch: *drawn, worker: worker.to_owned(), since: now, until: now.plus(lease) };
            claimed.push(task.lease(queue_name, lease));
        }
        for place in ended {
            queue.open.remove(&place);
        }
        claimed
    }

    fn renew(&mut self, claim: &Claim, until: Timestamp) -> bool {
        let queue = self.queues.get_mut(&claim.queue);
        let Some(task) = queue.and_then(|queue| queue.tasks.get_mut(&claim.key)) else { return false };
        let lease = task.rules.leases.iter_mut().find(|lease| lease.epoch == claim.epoch);
        let Some(lease) = lease else { return false };
        lease.until = until;
        task.ready_at = task.rules.leases.iter().map(|lease| lease.until).max();
        true
    }

    fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, queue) in &self.queues {
            for (key, task) in &queue.tasks {
                let wrong = rules::contradiction(&task.rules, task.ready_at, task.ended.is_some());
                found.extend(wrong.map(|wrong| format!("task {name}/{key} {wrong}")));
                if queue.open.contains(&task.place()) != task.ended.is_none() {
                    found.push(format!("task {name}/{key} is open and has ended, or neither"));
                }
            }
            if queue.open.len() > queue.tasks.len() {
                found.push(format!("queue {name} has open tasks that are not there"));
            }
        }
        let epochs = self.queues.values().flat_map(|queue| queue.tasks.values());
        let epochs = epochs.flat_map(|task| task.rules.leases.iter().map(|lease| lease.epoch));
        let versions = self.records.values().map(|(_, version)| *version);
        let tenures = self.offices.values().map(|tenure| tenure.epoch);
        let newest = epochs.chain(versions).chain(tenures).max();
        if newest.is_some_and(|newest| newest > self.drawn) {
            found.push("the counter is behind a number that it gave".to_owned());
        }
        found.truncate(bounds::MOST_ROWS);
        found
    }
}

impl Store for Memory {
    fn now(&self) -> Answer<'_, Timestamp> {
        self.call(|_, now| Ok(now))
    }

    fn transact(&self, changes: Vec<Change>) -> Answer<'_, Outcome> {
        self.call(move |data, now| {
            bounds::changes(&changes)?;
            let refusals: Vec<_> = (0..)
                .zip(&changes)
                .filter_map(|(number, change)| {
                    let why = data.check(change, now).err()?;
                    Some(Refusal { change: number, why })
                })
                .collect();
            if !refusals.is_empty() {
                return Ok(Outcome::Refused(refusals));
            }
            let effects = changes.iter().map(|change| data.apply(change, now)).collect();
            changes.iter().filter_map(Change::wakes).for_each(|queue| self.wakes.wake(queue));
            Ok(Outcome::Committed(effects))
        })
    }

    fn claim<'a>(
        &'a self,
        queue: &'a str,
        worker: &'a str,
        lease: Duration,
        most: usize,
    ) -> Answer<'a, Vec<Claimed>> {
        self.call(move |data, now| {
            bounds::queue(queue)?;
            bounds::worker(worker)?;
            bounds::claims(most)?;
            Ok(data.claim(queue, worker, lease, most, now))
        })
    }

    fn speculate<'a>(
        &'a self,
        queue: &'a str,
        key: &'a str,
        worker: &'a str,
        lease: Duration,
    ) -> Answer<'a, Option<Claimed>> {
        self.call(move |data, now| {
            bounds::queue(queue)?;
            bounds::task(key)?;
            bounds::worker(worker)?;
            if !data.task(queue, key).is_some_and(|task| task.rules.may_speculate(worker)) {
                return Ok(None);
            }
            let epoch = data.draw();
            let task = data.queues.get_mut(queue).and_then(|queue| queue.tasks.get_mut(key));
            let lease = Lease { epoch, worker: worker.to_owned(), since: now, until: now.plus(lease) };
            Ok(task.map(|task| task.lease(queue, lease)))
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], lease: Duration) -> Answer<'a, Vec<usize>> {
        self.call(move |data, now| {
            bounds::renewals(claims)?;
            let until = now.plus(lease);
            let lost = (0..).zip(claims).filter(|(_, claim)| !data.renew(claim, until));
            Ok(lost.map(|(number, _)| number).collect())
        })
    }

    fn campaign<'a>(&'a self, office: &'a str, who: &'a str, lease: Duration) -> Answer<'a, Campaign> {
        self.call(move |data, now| {
            bounds::office(office)?;
            bounds::worker(who)?;
            let until = now.plus(lease);
            let epoch = match rules::elected(data.offices.get(office), who, now) {
                Elected::Other(tenure) => return Ok(Campaign::Taken(tenure.clone())),
                Elected::Same(epoch) => epoch,
                Elected::New => data.draw(),
            };
            data.offices.insert(office.to_owned(), Tenure { who: who.to_owned(), epoch, until });
            Ok(Campaign::Held { epoch, until })
        })
    }

    fn resign<'a>(&'a self, office: &'a str, epoch: u64) -> Answer<'a, bool> {
        self.call(move |data, _| {
            bounds::office(office)?;
            let held = data.offices.get(office).is_some_and(|tenure| tenure.epoch == epoch);
            if held {
                data.offices.remove(office);
            }
            Ok(held)
        })
    }

    fn tenure<'a>(&'a self, office: &'a str) -> Answer<'a, Option<Tenure>> {
        self.call(move |data, _| {
            bounds::office(office)?;
            Ok(data.offices.get(office).cloned())
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Record>> {
        self.call(move |data, _| {
            bounds::record(key)?;
            let found = data.records.get(key);
            Ok(found.map(|(value, version)| Record {
                key: key.to_owned(),
                value: value.clone(),
                version: *version,
            }))
        })
    }

    fn range(&self, range: Range) -> Answer<'_, Vec<Record>> {
        self.call(move |data, _| {
            bounds::range(&range)?;
            let Range { from, to, limit, reverse } = range;
            if from >= to {
                return Ok(Vec::new());
            }
            let record = |(key, (value, version)): (&String, &(Vec<u8>, u64))| Record {
                key: key.clone(),
                value: value.clone(),
                version: *version,
            };
            let rows = data.records.range(from..to);
            Ok(match reverse {
                false => rows.take(limit).map(record).collect(),
                true => rows.rev().take(limit).map(record).collect(),
            })
        })
    }

    fn counts<'a>(&'a self, queue: &'a str) -> Answer<'a, Counts> {
        self.call(move |data, _| {
            bounds::queue(queue)?;
            let mut counts = Counts::default();
            for task in data.queues.get(queue).into_iter().flat_map(|queue| queue.tasks.values()) {
                *counts.of(task.rules.state) += 1;
            }
            Ok(counts)
        })
    }

    fn finished<'a>(
        &'a self,
        queue: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<Finished>> {
        self.call(move |data, _| {
            bounds::queue(queue)?;
            bounds::rows(limit)?;
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let queue = data.queues.get(queue).into_iter();
            let behind = queue.flat_map(|queue| queue.tasks.range::<str, _>((from, Bound::Unbounded)));
            let finished = behind.filter_map(|(key, task)| {
                let ended = task.ended.as_ref()?;
                Some(Finished {
                    key: key.clone(),
                    verdict: ended.verdict.clone(),
                    epoch: task.rules.ended_by?,
                    worker: ended.worker.clone(),
                    attempt: task.rules.attempt,
                    at: ended.at,
                })
            });
            Ok(finished.take(limit).collect())
        })
    }

    fn running<'a>(&'a self, queue: &'a str) -> Answer<'a, Vec<Running>> {
        self.call(move |data, _| {
            bounds::queue(queue)?;
            let tasks = data.queues.get(queue).into_iter().flat_map(|queue| queue.tasks.iter());
            let leases = tasks.flat_map(|(key, task)| {
                task.rules.leases.iter().map(|lease| Running {
                    key: key.clone(),
                    epoch: lease.epoch,
                    worker: lease.worker.clone(),
                    since: lease.since,
                    until: lease.until,
                    weight: task.new.weight,
                })
            });
            Ok(leases.take(bounds::MOST_ROWS).collect())
        })
    }

    fn hints(&self, queue: &str) -> Hints {
        self.wakes.hints(queue)
    }

    fn contradictions(&self) -> Answer<'_, Vec<String>> {
        self.call(|data, _| Ok(data.contradictions()))
    }
}
