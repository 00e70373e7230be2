//! What is counted so far: the sum, and the proof of it, range by range.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use slipring_store::{Finished, Verdict};

use super::plan::Plan;
use super::task::{Counted, Outcome, decode};
use crate::fold::Fold;
use crate::output::Unread;
use crate::ranges::Range;

/// A range that is counted, and by whom: one line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub counted: Counted,
    pub worker: String,
    /// Of the claim under which it was counted.
    pub epoch: u64,
    pub attempt: u32,
}

/// All but the entries, which a store keeps page by page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) fold: Fold,
    /// Why a file is not counted, or not wholly.
    pub(crate) unread: BTreeMap<usize, String>,
    /// The ranges that were given up for it.
    pub(crate) gone: Vec<Range>,
    /// Tasks that ended.
    pub(crate) tasks: usize,
    /// What people call workers, by their names.
    pub(crate) workers: BTreeMap<String, u32>,
    pub(crate) failed: BTreeSet<u32>,
    pub(crate) checkpoints: u64,
    /// Files that a checkpoint had counted.
    pub(crate) resumed: usize,
    /// Pages of entries that were written.
    pub(crate) pages: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) sum: Sum,
    pub(crate) entries: Vec<Entry>,
    /// Bytes of each file that are not read yet.
    left: Vec<u64>,
    /// Files of which nothing is left.
    pub(crate) files: usize,
    /// Bytes of files, counted or given up.
    pub(crate) bytes: u64,
    /// How long each task took, in microseconds.
    pub(crate) took: Vec<u64>,
}

impl State {
    pub(crate) fn new(plan: &Plan) -> Self {
        let left: Vec<u64> = plan.logs.iter().map(|log| log.length).collect();
        let sum = Sum {
            fold: Fold::new(&plan.query),
            unread: BTreeMap::new(),
            gone: Vec::new(),
            tasks: 0,
            workers: BTreeMap::new(),
            failed: BTreeSet::new(),
            checkpoints: 0,
            resumed: 0,
            pages: 0,
        };
        let files = left.iter().filter(|left| **left == 0).count();
        Self { sum, entries: Vec::new(), left, files, bytes: 0, took: Vec::new() }
    }

    /// As it was: `entries` are all that belong to the sum.
    pub(crate) fn again(plan: &Plan, sum: Sum, entries: Vec<Entry>) -> Self {
        let mut state = Self::new(plan);
        for range in entries.iter().map(|entry| entry.counted.range).chain(sum.gone.iter().copied()) {
            state.over(range);
        }
        state.sum = sum;
        state.entries = entries;
        state
    }

    /// A range is read, or given up.
    fn over(&mut self, range: Range) {
        self.bytes += range.length();
        if let Some(left) = self.left.get_mut(range.file) {
            let was = *left;
            *left = left.saturating_sub(range.length());
            self.files += usize::from(was > 0 && *left == 0);
        }
    }

    /// Adds what came of a task, and says which entries are new.
    pub(crate) fn take(&mut self, finished: &Finished, ranges: &[Range]) -> Vec<Entry> {
        self.sum.tasks += 1;
        let outcome = match &finished.verdict {
            Verdict::Done(result) => decode::<Outcome>(result).map_err(|error| error.to_string()),
            Verdict::Failed(reason) => Err(reason.clone()),
        };
        match outcome {
            Ok(outcome) => {
                self.took.push(outcome.micros);
                self.sum.fold.merge(outcome.fold);
                for gone in outcome.unreadable {
                    self.over(gone.range);
                    self.sum.gone.push(gone.range);
                    self.sum.unread.entry(gone.range.file).or_insert(gone.why);
                }
                let entry = |counted| Entry {
                    counted,
                    worker: finished.worker.clone(),
                    epoch: finished.epoch,
                    attempt: finished.attempt,
                };
                let new: Vec<Entry> = outcome.counted.into_iter().map(entry).collect();
                for entry in &new {
                    self.over(entry.counted.range);
                }
                self.entries.extend(new.iter().cloned());
                new
            }
            Err(why) => {
                for range in ranges {
                    self.over(*range);
                    self.sum.gone.push(*range);
                    self.sum.unread.entry(range.file).or_insert_with(|| why.clone());
                }
                Vec::new()
            }
        }
    }

    /// Which files are wholly counted.
    pub(crate) fn is_processed(&self, file: usize) -> bool {
        self.left.get(file) == Some(&0) && !self.sum.unread.contains_key(&file)
    }

    pub(crate) fn processed(&self) -> usize {
        self.files - self.sum.unread.keys().filter(|file| self.left.get(**file) == Some(&0)).count()
    }

    /// What people call a worker: the next number, if it is new.
    pub(crate) fn number(&mut self, worker: &str) -> u32 {
        let next = u32::try_from(self.sum.workers.len()).unwrap_or(u32::MAX).saturating_add(1);
        *self.sum.workers.entry(worker.to_owned()).or_insert(next)
    }

    /// Workers that failed, as far as is known: a second attempt says that there was one, also when nobody saw who.
    pub(crate) fn failures(&self) -> usize {
        let recovered = self.entries.iter().any(|entry| entry.attempt > 1);
        self.sum.failed.len().max(usize::from(recovered))
    }

    pub(crate) fn unread(&self, plan: &Plan) -> Vec<Unread> {
        let own =
            self.sum.unread.iter().map(|(file, why)| Unread { path: plan.name(*file), why: why.clone() });
        own.chain(plan.refused.iter().cloned()).collect()
    }
}
