//! Durable tasks under leases, leader election and records, behind one small trait: [`Store`].
//!
//! Three implementations, chosen by a URL in [`open`]: `memory:` (simulation: its clock is passed in),
//! `sqlite:PATH` (one machine, nothing to install) and `postgres://…` (many machines). They decide by the same rules
//! (`rules.rs`, values in and values out); what differs is how rows are locked, read and written.
//!
//! *A claim is a lease row.* Every claim makes a lease under an epoch of its own, and every later write names that
//! epoch: no such lease, no write. Whoever takes over a task whose leases have run out removes them, so that the late
//! result of the former holder changes nothing; whoever speculates adds a second lease, and the first completion removes
//! both. An expired lease that nobody took over still counts: its work is not lost for a short pause.
//!
//! *One counter.* Epochs and versions are drawn from one counter of the store that never goes back. So a task that was
//! forgotten and added again, or a record that was deleted and made again, cannot meet its former life's numbers.
//!
//! *One transaction.* A batch of [`Change`]s is decided first and written then, whole or not at all. It names each record
//! and each task at most once, so the order of its changes means nothing and the databases may write them set by set.
//!
//! *One clock*, the database's. (SQLite has none of its own; it would ask the same system clock as we do.)
//!
//! A call that is dropped, or whose answer is [`Error::Unavailable`], has happened or has not, never in part. It is safe
//! to repeat: adding is idempotent, a completion that had happened is refused as [`Why::AlreadyDone`] (and with it, as it
//! was one transaction, everything that belonged to it had happened), a put that names the version it replaces is refused
//! with the version that it had made.

mod bounds;
mod change;
mod clock;
mod error;
mod hints;
mod memory;
mod open;
mod patience;
mod plan;
mod postgres;
mod queries;
mod range;
mod rows;
mod rules;
mod sqlite;
mod store;
mod task;
#[cfg(feature = "testing")]
pub mod testing;

pub use bounds::{
    LONGEST_BATCH, LONGEST_KEY, LONGEST_NAME, LONGEST_REASON, LONGEST_VALUE, MOST_CHANGES, MOST_CLAIMS,
    MOST_ROWS,
};
pub use change::{Change, Effect, Expect, Outcome, Refusal, Why};
pub use clock::{Clock, StepClock, Timestamp};
pub use error::{Error, Invalid};
pub use hints::Hints;
pub use memory::Memory;
pub use open::open;
pub use patience::{Waiting, with_patience};
pub use postgres::Postgres;
pub use range::{Range, Record};
pub use sqlite::Sqlite;
pub use store::{Answer, Store};
pub use task::{Campaign, Claim, Claimed, Counts, Finished, NewTask, Running, Tenure, Verdict};
