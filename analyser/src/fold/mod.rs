//! What an analysis computes, in parts that can be merged.
//!
//! Merging is commutative and associative, and an empty fold changes nothing: so neither the number of workers nor the
//! order in which they finish can be seen in a result. What grows with the input is bounded by rules that keep this
//! true: see [`OverTime`] and [`Templates`]. A fold is written into checkpoints and results as it is.

mod condition;
mod over_time;
#[cfg(test)]
mod tests;

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

use crate::format::Record;
use crate::level::Level;
use crate::templates::Templates;
use crate::time::Unit;

pub use self::condition::{Condition, ConditionError};
pub use self::over_time::OverTime;

/// What is asked beside the levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Counts over time, in buckets of this length.
    pub per: Option<Unit>,
    /// Only records that fulfil all of these are counted.
    pub conditions: Vec<Condition>,
    /// Message templates, so many different ones at most (see [`Templates`]).
    pub templates: Option<u32>,
}

impl Query {
    /// Whether nothing is asked but levels.
    pub(crate) fn is_plain(&self) -> bool {
        self.per.is_none() && self.conditions.is_empty() && self.templates.is_none()
    }
}

/// Counts by level, and of records that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Levels([u64; 8]);

impl Levels {
    /// The levels that were seen, by name, with their counts.
    pub fn seen(&self) -> impl Iterator<Item = (Level, u64)> {
        Level::BY_NAME.into_iter().map(|level| (level, self[Some(level)])).filter(|(_, count)| *count > 0)
    }

    /// All of them, those without a level too.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }
}

impl Index<Option<Level>> for Levels {
    type Output = u64;

    fn index(&self, level: Option<Level>) -> &u64 {
        &self.0[level.map_or(7, Level::index)]
    }
}

impl IndexMut<Option<Level>> for Levels {
    fn index_mut(&mut self, level: Option<Level>) -> &mut u64 {
        &mut self.0[level.map_or(7, Level::index)]
    }
}

/// What was found in some part of the logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// Bytes, unpacked.
    pub bytes: u64,
    /// Lines: `records + continued + unrecognised`.
    pub lines: u64,
    /// Records, whether or not they fulfil the conditions.
    pub records: u64,
    /// Lines that belong to the record before them.
    pub continued: u64,
    /// Lines that are no record of the format and belong to none.
    pub unrecognised: u64,
    /// Of the records that fulfil the conditions.
    pub levels: Levels,
    /// Of the records that fulfil the conditions.
    pub over_time: Option<OverTime>,
    /// Of the records that fulfil the conditions.
    pub templates: Option<Templates>,
}

impl Fold {
    /// Nothing yet, of what is asked.
    #[must_use]
    pub fn new(query: &Query) -> Self {
        Self {
            bytes: 0,
            lines: 0,
            records: 0,
            continued: 0,
            unrecognised: 0,
            levels: Levels::default(),
            over_time: query.per.map(OverTime::new),
            templates: query.templates.map(Templates::new),
        }
    }

    /// Adds a record that `line` begins with.
    pub fn record(&mut self, query: &Query, line: &[u8], record: &Record) {
        self.lines += 1;
        self.records += 1;
        if !query.conditions.iter().all(|condition| condition.holds(line, record)) {
            return;
        }
        self.levels[record.level] += 1;
        if let Some(over_time) = &mut self.over_time {
            over_time.add(record.time, record.level);
        }
        if let Some(templates) = &mut self.templates {
            templates.add(line.get(record.message.clone()).unwrap_or_default());
        }
    }

    /// Adds what was found elsewhere, for the same query.
    pub fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.records += other.records;
        self.continued += other.continued;
        self.unrecognised += other.unrecognised;
        self.levels.merge(&other.levels);
        self.over_time = both(self.over_time.take(), other.over_time, OverTime::merge);
        self.templates = both(self.templates.take(), other.templates, Templates::merge);
    }

    /// How many records fulfil the conditions.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.levels.sum()
    }
}

fn both<T>(one: Option<T>, other: Option<T>, merge: impl FnOnce(&mut T, T)) -> Option<T> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            merge(&mut one, other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}
