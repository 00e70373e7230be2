//! The seam.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::change::{Change, Effect, Outcome};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::hints::Hints;
use crate::range::{Range, Record};
use crate::task::{Campaign, Claim, Claimed, Counts, Finished, NewTask, Running, Tenure};

/// What a call gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Durable tasks, offices and records; see the crate's documentation.
///
/// An implementor guarantees: a call happens whole or not at all, also when its future is dropped; when it returns `Ok`
/// it is durable (memory: visible); calls at the same time are as if one after the other; all times are one clock's.
/// Wrong: to look whether a lease exists, and to write in another transaction. Right: to look and to write under a
/// lock of the task's row.
///
/// Every call can fail with [`Error`]; names, keys and sizes outside the bounds are [`Error::Invalid`].
pub trait Store: Debug + Send + Sync {
    /// The clock.
    fn now(&self) -> Answer<'_, Timestamp>;

    /// All of the changes, or none.
    fn transact(&self, changes: Vec<Change>) -> Answer<'_, Outcome>;

    /// Up to `most` tasks, the largest weight first, then by key: pending ones whose time has come, and running ones
    /// whose leases have all run out. Each is the caller's under an epoch of its own until `lease` is over. A task that
    /// ran out of attempts and of its last lease has failed when this is called.
    fn claim<'a>(
        &'a self,
        queue: &'a str,
        worker: &'a str,
        lease: Duration,
        most: usize,
    ) -> Answer<'a, Vec<Claimed>>;

    /// A second lease of a running task, beside the one that exists: whoever completes first wins. `None`: it does not
    /// run, this worker holds it, or there is a second lease already.
    fn speculate<'a>(
        &'a self,
        queue: &'a str,
        key: &'a str,
        worker: &'a str,
        lease: Duration,
    ) -> Answer<'a, Option<Claimed>>;

    /// Lets leases last `lease` from now on; the numbers of the claims that are lost, ascending.
    fn renew<'a>(&'a self, claims: &'a [Claim], lease: Duration) -> Answer<'a, Vec<usize>>;

    /// Takes an office that is free or whose lease has run out, under a new epoch, or keeps it under the same one.
    fn campaign<'a>(&'a self, office: &'a str, who: &'a str, lease: Duration) -> Answer<'a, Campaign>;

    /// Gives an office up; whether it was held under this epoch.
    fn resign<'a>(&'a self, office: &'a str, epoch: u64) -> Answer<'a, bool>;

    /// Who holds an office, or held it last.
    fn tenure<'a>(&'a self, office: &'a str) -> Answer<'a, Option<Tenure>>;

    /// A record.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Record>>;

    /// Records, in order.
    fn range(&self, range: Range) -> Answer<'_, Vec<Record>>;

    /// How far a queue is.
    fn counts<'a>(&'a self, queue: &'a str) -> Answer<'a, Counts>;

    /// Tasks that ended, by key, behind `after`, at most `limit`.
    fn finished<'a>(
        &'a self,
        queue: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<Finished>>;

    /// The leases of a queue, by key and epoch, at most [`crate::MOST_ROWS`].
    fn running<'a>(&'a self, queue: &'a str) -> Answer<'a, Vec<Running>>;

    /// Hints about a queue from now on: see [`Hints`].
    fn hints(&self, queue: &str) -> Hints;

    /// What in the store contradicts itself, in words; nothing, as long as this crate is right and the disk is. At most
    /// [`crate::MOST_ROWS`].
    fn contradictions(&self) -> Answer<'_, Vec<String>>;

    /// Adds tasks; how many were not there yet. The same as a transaction of one [`Change::Add`].
    fn add<'a>(&'a self, queue: &'a str, tasks: Vec<NewTask>) -> Answer<'a, u64> {
        Box::pin(async move {
            let change = Change::Add { queue: queue.to_owned(), tasks };
            match self.transact(vec![change]).await? {
                Outcome::Committed(effects) => match effects.as_slice() {
                    [Effect::Count(new)] => Ok(*new),
                    other => unreachable!("adding has one effect, a count, and not {other:?}"),
                },
                Outcome::Refused(refusals) => unreachable!("adding is never refused, but {refusals:?}"),
            }
        })
    }
}
