//! Counts over time, by level.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Levels;
use crate::level::Level;
use crate::time::{Time, Unit};

/// Buckets at most; all days that can be fit.
const MOST: usize = 90_000;

/// Counts in buckets of equal length.
///
/// There are at most 90,000 buckets: would there be more, all become longer, seconds minutes and so on. How long they
/// are in the end depends only on which buckets have anything in them, not on the order in which it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverTime {
    /// How long a bucket is now: what was asked for, or longer.
    unit: Unit,
    /// By number of the bucket, from 1970.
    buckets: BTreeMap<u64, Levels>,
    /// Records without a time.
    pub untimed: u64,
}

impl OverTime {
    pub(super) fn new(unit: Unit) -> Self {
        Self { unit, buckets: BTreeMap::new(), untimed: 0 }
    }

    pub(super) fn add(&mut self, time: Option<Time>, level: Option<Level>) {
        match time {
            Some(time) => {
                self.buckets.entry(self.unit.bucket(time)).or_default()[level] += 1;
                self.keep_within(MOST);
            }
            None => self.untimed += 1,
        }
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        while self.unit < other.unit {
            self.lengthen();
        }
        while other.unit < self.unit {
            other.lengthen();
        }
        for (bucket, levels) in other.buckets {
            self.buckets.entry(bucket).or_default().merge(&levels);
        }
        self.untimed += other.untimed;
        self.keep_within(MOST);
    }

    pub(super) fn keep_within(&mut self, most: usize) {
        while self.buckets.len() > most && self.unit.longer().is_some() {
            self.lengthen();
        }
    }

    fn lengthen(&mut self) {
        let Some(longer) = self.unit.longer() else { return };
        let ratio = u64::from(longer.seconds() / self.unit.seconds());
        self.unit = longer;
        for (bucket, levels) in std::mem::take(&mut self.buckets) {
            self.buckets.entry(bucket / ratio).or_default().merge(&levels);
        }
    }

    /// How long a bucket is: what was asked for, or longer if there would have been too many.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// When each bucket begins, and what is in it; those without anything are left out.
    pub fn buckets(&self) -> impl Iterator<Item = (Time, &Levels)> {
        self.buckets.iter().map(|(bucket, levels)| (self.unit.begin(*bucket), levels))
    }
}
