//! An analysis that runs: a coordinator cuts the folder into tasks and adds up their results, workers claim and read them.
//!
//! Both know only a [`Store`](slipring_store::Store): threads of one process share one in memory, processes of many hosts a database. The
//! coordinator is whoever holds the *office* of this analysis; every write of its names the office's epoch, so that one
//! that was frozen and comes back changes nothing. What it has counted and the removal of the tasks it came from are one
//! transaction: whoever takes over goes on exactly there.

mod begin;
mod checkpoint;
mod conclusion;
mod coordinator;
mod event;
mod follow;
mod jobs;
pub mod ledger;
mod office;
mod patient;
mod plan;
mod proof;
mod saver;
mod state;
mod task;
pub mod view;
mod watched;
mod worker;

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use crate::fold::{Fold, Query};
use crate::folder::FolderError;
use crate::format::Format;
use crate::output::Run;

pub use self::conclusion::Conclusion;
pub use self::coordinator::analyse;
pub use self::event::{Event, Tell, Turn};
pub use self::follow::follow;
pub use self::jobs::{Serving, serve};
pub use self::state::Entry;
pub use self::task::Counted;

/// How an analysis is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its logs; where other processes work on it, under a path that they know too.
    pub folder: PathBuf,
    pub query: Query,
    /// Of all logs; `None`: what fits each best.
    pub format: Option<Format>,
    /// Threads of this process that read; 0 if others do all of it.
    pub workers: usize,
    /// Bytes of a range at most; `None`: what suits the folder.
    pub size: Option<NonZeroU64>,
    /// How long a worker, or a coordinator, may not be heard of.
    pub lease: Duration,
    /// How long the store may be away.
    pub patience: Duration,
    /// If somebody else coordinates this analysis: wait, and take over.
    pub standby: bool,
    /// Whether others may take part, and what is counted must outlive this process.
    pub is_shared: bool,
    /// Where checkpoints are written and looked for; `None`: nowhere.
    pub checkpoints: Option<Checkpoints>,
}

/// How checkpoints are written: after every five files, at the end, and from time to time.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    pub folder: PathBuf,
    /// After so long at the latest, if there is anything new.
    pub every: Duration,
    /// Begin anew, whatever there is.
    pub fresh: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Analysis {
    pub query: Query,
    pub fold: Fold,
    pub run: Run,
    /// The files, by name; the entries' ranges are of them.
    pub files: Vec<crate::source::LogFile>,
    /// Those of them whose bytes are not to be found under their paths any more; only of a folder that was followed.
    pub gone: BTreeSet<usize>,
    /// What was counted, in the order of the files: the ledger's lines.
    pub entries: Vec<Entry>,
}

/// How a call of [`analyse`] ended.
#[derive(Debug)]
pub enum Ended {
    /// With a result. It is told to [`Conclusion`] when it has been shown: until then another may still show it too.
    Here(Box<Analysis>, Conclusion),
    /// Another coordinator brought it to its end, while this one stood by.
    Elsewhere { who: String },
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Store(#[from] slipring_store::Error),
    /// Somebody else coordinates this analysis.
    #[error(
        "{who} coordinates this analysis already: wait for it, or start with --standby to take over when it dies"
    )]
    Taken { who: String },
    /// Somebody else took over, while this process was not heard of.
    #[error(
        "another coordinator has taken over, because this one was not heard of: its result is the one that counts"
    )]
    Deposed,
    /// The store holds something that is not understood.
    #[error(
        "the store's {key} is of another version of this program, or damaged: begin anew with another store"
    )]
    Unreadable { key: String, source: std::io::Error },
    /// What a store would have to keep for whoever takes over is more than it takes.
    #[error(
        "{key} would take {mebibytes} MiB, and a shared store keeps {} of a value: ask for less (no templates), analyse parts of the folder, \
         or leave the --store away: one process needs none",
        slipring_store::LONGEST_VALUE >> 20
    )]
    TooMuch { key: String, mebibytes: usize },
    /// A worker ended in a way that it should not.
    #[error(
        "worker {worker} broke down; this is a bug of this program: please report it with the lines above"
    )]
    Worker { worker: u32 },
    /// The folder is not here.
    #[error("the folder {} is not here: a worker must see it under the same path as the coordinator", path.display())]
    NotHere { path: PathBuf },
}

/// Where completions are announced.
fn done_queue(queue: &str) -> String {
    format!("{queue}/done")
}

/// Where a queue's slow tasks are told apart: above so many microseconds.
fn slow_key(queue: &str) -> &str {
    // The queue's name is a record's too.
    queue
}

/// A name of one life of this process.
fn life() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').take(40).collect();
    format!("{host}:{}:{:08x}", std::process::id(), rand::random::<u32>())
}

/// A worker's share of waiting.
const fn batch_of(store_is_shared: bool) -> Duration {
    Duration::from_millis(if store_is_shared { 250 } else { 20 })
}
