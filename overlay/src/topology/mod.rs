//! Who is in the overlay, who may talk to whom, and how each of them is to behave.
//!
//! The form is the original's: one JSON file that every process reads. It is turned into a [`Topology`] once, whole and
//! right, or refused with every mistake at once; nothing behind this module meets a neighbor that is not there.

mod check;
mod file;
mod paths;
mod strategies;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use check::{LARGEST_CHUNK, Mistakes, TopologyError};
pub use strategies::{Chunking, Fairness, Forwarding, Overrides, Profile, Strategies};

use crate::date::{Date, Span};

/// A process's name, as the file writes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(Arc<str>);

impl ProcessId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProcessId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl std::borrow::Borrow<str> for ProcessId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks team leaders; holds no data.
    Leader,
    /// Asks workers; holds no data.
    TeamLeader,
    /// Holds partitions.
    Worker,
}

impl Role {
    /// As the file and the metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::TeamLeader => "team_leader",
            Self::Worker => "worker",
        }
    }
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name.
    pub id: ProcessId,
    /// What it does.
    pub role: Role,
    /// Whose dates it answers for.
    pub team: String,
    /// Where it listens: a name or an address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Whom it may ask.
    pub neighbors: Vec<ProcessId>,
    /// The dates that a worker holds, whatever its team's are.
    pub date_bounds: Option<Span>,
}

impl Process {
    /// Where it is asked.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Which worker holds which dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlacement {
    /// The contract's split: each team's dates in order over its workers.
    Dates,
    /// Each date on so many workers, by consistent hashing.
    Ring {
        /// How many workers hold each date.
        replicas: usize,
    },
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// How processes behave that are not told otherwise.
    pub strategies: Strategies,
    /// Which worker holds which dates.
    pub placement: DataPlacement,
    /// All of them, by name.
    pub processes: BTreeMap<ProcessId, Process>,
    /// The dates of each team.
    pub teams: BTreeMap<String, Span>,
}

impl Topology {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// With every mistake in it.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        check::check(file::File::parse(text)?)
    }

    /// One of its processes.
    ///
    /// # Errors
    /// When there is none of this name; the message lists those that are there.
    pub fn process(&self, id: &str) -> Result<&Process, TopologyError> {
        self.processes.get(id).ok_or_else(|| TopologyError::NoProcess {
            id: id.to_owned(),
            there: self.processes.keys().map(ProcessId::to_string).collect::<Vec<_>>().join(", "),
        })
    }

    /// All workers, by name.
    pub fn workers(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(|process| process.role == Role::Worker)
    }

    /// All teams: those of a process or a span of dates, each once.
    pub fn teams(&self) -> BTreeSet<&str> {
        let of_processes = self.processes.values().map(|process| process.team.as_str());
        self.teams.keys().map(String::as_str).chain(of_processes).collect()
    }

    /// Whether a process or a span of dates is this team's.
    pub fn has_team(&self, team: &str) -> bool {
        self.teams.contains_key(team) || self.processes.values().any(|process| process.team == team)
    }

    /// Which of the dates `exist`ing a worker is to hold.
    pub fn dates_of(&self, worker: &Process, exist: &[Date]) -> Vec<Date> {
        crate::assignment::dates_of(self, worker, exist)
    }

    /// The ways from one process to a worker, the shortest first, that pass none of `hops`. Each is the list of the
    /// processes still to pass, the worker last; to itself it is empty.
    pub fn paths(&self, from: &ProcessId, to: &ProcessId, hops: &[ProcessId]) -> Vec<Vec<ProcessId>> {
        paths::paths(self, from, to, hops)
    }
}

#[cfg(test)]
mod tests;
