//! An analysis as somebody sees it who looks on: how far it is, who reads what, who failed, and who took over.
//!
//! All of it is read from the store, so that it can be seen from any process that knows the store, whoever coordinates,
//! and costs those who work nothing. [`Survey`] reads; what follows from one reading and the next is `seen`, which is pure.
//! Rejected: to follow the coordinator's [`Event`](super::Event)s. Whoever looks on would be blind while a standby takes
//! over, which is when there is most to see.

mod seen;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::output::Unread;

pub use self::survey::{Survey, leave};

/// Workers that are listed.
const WORKERS: usize = 256;
/// Things that happened, the last of them.
const EVENTS: usize = 80;
/// Files that are not counted, by name.
const UNREAD: usize = 50;

/// How far an analysis is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There is none, and was none.
    #[default]
    Waiting,
    Running,
    /// Its result has been shown.
    Finished,
}

/// See the module. As JSON it is what the page draws.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    pub stage: Stage,
    pub folder: String,
    /// Conditions, and how counts over time are cut.
    pub asked: Vec<String>,
    /// Who coordinates it, or did last.
    pub coordinator: String,
    pub files: usize,
    /// Those of which nothing is left to read.
    pub files_done: usize,
    pub bytes: u64,
    /// Those that are counted, or given up.
    pub bytes_done: u64,
    pub lines: u64,
    pub records: u64,
    pub levels: BTreeMap<String, u64>,
    pub without_level: u64,
    pub checkpoints: u64,
    /// Files that are not counted, or not wholly.
    pub unread: Vec<Unread>,
    /// By the number that people call them by; those that none was given yet come last.
    pub workers: Vec<WorkerView>,
    /// Workers that were not heard of in time.
    pub failures: usize,
    /// Parts that were counted after whoever had them first failed.
    pub recoveries: u64,
    /// What happened, the oldest first.
    pub events: VecDeque<Happened>,
    /// Other analyses that are under way in the same store.
    pub others: usize,
}

/// One who reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    pub name: String,
    /// What people call it.
    pub number: Option<u32>,
    /// It was not heard of in time.
    pub failed: bool,
    /// What it reads now.
    pub reading: Option<String>,
    /// What it has counted.
    pub parts: u64,
    pub bytes: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// Milliseconds since 1970, by the clock of whoever looked.
    pub at_ms: u64,
    pub what: What,
    pub words: String,
}

/// Of which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Began,
    Joined,
    Failed,
    /// What a failed worker had is another's now.
    Recovered,
    /// Another coordinator.
    TookOver,
    Saved,
    Finished,
}

/// What is left in a store of the analysis that ended last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    at_ms: u64,
    folder: String,
    asked: Vec<String>,
    files: usize,
    bytes: u64,
    lines: u64,
    records: u64,
    levels: BTreeMap<String, u64>,
    without_level: u64,
    checkpoints: u64,
    unread: Vec<Unread>,
    failures: usize,
    recoveries: u64,
    seconds: f64,
}

impl View {
    fn happened(&mut self, at_ms: u64, what: What, words: String) {
        self.events.push_back(Happened { at_ms, what, words });
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}
