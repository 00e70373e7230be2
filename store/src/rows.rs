//! Rows of both databases, as values. Numbers are signed there.

use crate::clock::Timestamp;
use crate::range::Record;
use crate::rules::{self, Lease, State, Task};
use crate::task::{Claim, Claimed, Counts, Finished, Running, Tenure, Verdict};

/// What no writer of ours writes.
pub(crate) fn broken(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

pub(crate) fn unsigned(number: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(number).map_err(|_| broken(format!("{number} as an epoch, a version or a count")))
}

/// The counter stays far below.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn small(number: i64) -> Result<u32, sqlx::Error> {
    u32::try_from(number).map_err(|_| broken(format!("{number} attempts")))
}

pub(crate) fn state(number: i64) -> Result<State, sqlx::Error> {
    State::from_number(number).ok_or_else(|| broken(format!("{number} as a task's state")))
}

/// `id, state, attempt, attempts, ended_by`.
pub(crate) type TaskRow = (i64, i64, i64, i64, Option<i64>);

/// `epoch, worker, since, until`.
pub(crate) type LeaseRow = (i64, String, i64, i64);

/// `key, outcome, state, ended_by, ended_worker, attempt, ended_at`.
pub(crate) type FinishedRow = (String, Vec<u8>, i64, i64, String, i64, i64);

/// `key, epoch, worker, since, until, weight`.
pub(crate) type RunningRow = (String, i64, String, i64, i64, i64);

pub(crate) fn task(row: TaskRow) -> Result<(i64, Task), sqlx::Error> {
    let (id, number, attempt, attempts, ended_by) = row;
    let ended_by = ended_by.map(unsigned).transpose()?;
    let (state, attempt, attempts) = (state(number)?, small(attempt)?, small(attempts)?);
    Ok((id, Task { state, attempt, attempts, ended_by, leases: Vec::new() }))
}

pub(crate) fn lease(row: LeaseRow) -> Result<Lease, sqlx::Error> {
    let (epoch, worker, since, until) = row;
    Ok(Lease { epoch: unsigned(epoch)?, worker, since: Timestamp(since), until: Timestamp(until) })
}

pub(crate) fn finished(row: FinishedRow) -> Result<Finished, sqlx::Error> {
    let (key, outcome, number, epoch, worker, attempt, at) = row;
    let verdict = match state(number)? {
        State::Done => Verdict::Done(outcome),
        State::Failed => Verdict::Failed(String::from_utf8_lossy(&outcome).into_owned()),
        other => return Err(broken(format!("task {key} has ended and is {other:?}"))),
    };
    let (epoch, attempt, at) = (unsigned(epoch)?, small(attempt)?, Timestamp(at));
    Ok(Finished { key, verdict, epoch, worker, attempt, at })
}

pub(crate) fn running(row: RunningRow) -> Result<Running, sqlx::Error> {
    let (key, epoch, worker, since, until, weight) = row;
    let (epoch, since, until) = (unsigned(epoch)?, Timestamp(since), Timestamp(until));
    Ok(Running { key, epoch, worker, since, until, weight })
}

/// A length.
pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `who, epoch, until`.
pub(crate) type TenureRow = (String, i64, i64);

pub(crate) fn tenure((who, epoch, until): TenureRow) -> Result<Tenure, sqlx::Error> {
    Ok(Tenure { who, epoch: unsigned(epoch)?, until: Timestamp(until) })
}

/// `value, version`.
pub(crate) fn record(key: &str, row: Option<(Vec<u8>, i64)>) -> Result<Option<Record>, sqlx::Error> {
    row.map(|(value, version)| Ok(Record { key: key.to_owned(), value, version: unsigned(version)? }))
        .transpose()
}

/// `key, value, version`.
pub(crate) fn records(rows: Vec<(String, Vec<u8>, i64)>) -> Result<Vec<Record>, sqlx::Error> {
    rows.into_iter()
        .map(|(key, value, version)| Ok(Record { key, value, version: unsigned(version)? }))
        .collect()
}

/// `state, how many`.
pub(crate) fn counts(rows: Vec<(i64, i64)>) -> Result<Counts, sqlx::Error> {
    let mut counts = Counts::default();
    for (number, many) in rows {
        *counts.of(state(number)?) = unsigned(many)?;
    }
    Ok(counts)
}

/// See [`crate::queries::AUDIT`].
pub(crate) type AuditRow =
    (String, String, bool, Option<i64>, i64, i64, i64, i64, Option<i64>, Option<i64>, Option<i64>);

/// What a counter is that [`crate::queries::NEWEST`] has passed.
pub(crate) const BEHIND: &str = "the counter is behind a number that it gave";

/// What contradicts itself among the tasks.
pub(crate) fn audit(audit: Vec<AuditRow>) -> Result<Vec<String>, sqlx::Error> {
    let mut found = Vec::new();
    let mut rows = audit.into_iter().peekable();
    while let Some(row) = rows.next() {
        let (queue, key, outcome, ready_at, id, state, attempt, attempts, ended_by, epoch, until) = row;
        let (_, mut task) = task((id, state, attempt, attempts, ended_by))?;
        let mut leases = vec![(epoch, until)];
        while let Some(next) = rows.next_if(|next| next.4 == id) {
            leases.push((next.9, next.10));
        }
        for (epoch, until) in leases {
            if let (Some(epoch), Some(until)) = (epoch, until) {
                task.leases.push(lease((epoch, String::new(), until, until))?);
            }
        }
        let wrong = rules::contradiction(&task, ready_at.map(Timestamp), outcome);
        found.extend(wrong.map(|wrong| format!("task {queue}/{key} {wrong}")));
    }
    Ok(found)
}

/// A task that can be claimed, or has no attempt left.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: i64,
    pub(crate) key: String,
    weight: i64,
    payload: Vec<u8>,
    state: i64,
    attempt: i64,
    attempts: i64,
}

impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for Candidate
where
    &'static str: sqlx::ColumnIndex<R>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Vec<u8>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            key: row.try_get("key")?,
            weight: row.try_get("weight")?,
            payload: row.try_get("payload")?,
            state: row.try_get("state")?,
            attempt: row.try_get("attempt")?,
            attempts: row.try_get("attempts")?,
        })
    }
}

impl Candidate {
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running as i64
    }

    /// No lease and no attempt is left.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_running() && self.attempt >= self.attempts
    }

    /// With a lease under this epoch.
    pub(crate) fn claimed(self, queue: &str, epoch: i64, until: Timestamp) -> Result<Claimed, sqlx::Error> {
        let Self { key, weight, payload, attempt, attempts, .. } = self;
        let claim = Claim { queue: queue.to_owned(), key, epoch: unsigned(epoch)? };
        let (attempt, attempts) = (small(attempt)?.saturating_add(1), small(attempts)?);
        Ok(Claimed { claim, payload, weight, attempt, attempts, until })
    }
}

/// A second lease of a task, under this epoch.
pub(crate) fn second(
    queue: &str,
    key: &str,
    task: &Task,
    (epoch, weight, payload): (i64, i64, Vec<u8>),
    until: Timestamp,
) -> Result<Claimed, sqlx::Error> {
    let claim = Claim { queue: queue.to_owned(), key: key.to_owned(), epoch: unsigned(epoch)? };
    Ok(Claimed { claim, payload, weight, attempt: task.attempt, attempts: task.attempts, until })
}
