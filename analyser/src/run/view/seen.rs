//! What follows from one reading of the store and the next.

use std::collections::{BTreeMap, HashMap};

use slipring_store::{Running, Timestamp};

use super::super::jobs::Job;
use super::super::plan::Plan;
use super::super::state::{Entry, Sum};
use super::{Last, Stage, UNREAD, View, WORKERS, What, WorkerView};
use crate::fold::{Fold, Query};
use crate::output::Unread;
use crate::ranges::Range;

/// One reading.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) at_ms: u64,
    pub(super) sum: Sum,
    /// What a checkpoint had counted, by workers that are no more.
    pub(super) resumed: Vec<Entry>,
    /// Pages of the ledger that were not read before.
    pub(super) entries: Vec<Entry>,
    pub(super) running: Vec<Running>,
    /// The store's clock.
    pub(super) now: Timestamp,
    pub(super) coordinator: String,
    pub(super) others: usize,
}

#[derive(Clone, Debug, Default)]
struct Worker {
    number: Option<u32>,
    failed: bool,
    reading: Option<String>,
    parts: u64,
    bytes: u64,
}

/// An analysis that is looked at again and again.
#[derive(Debug)]
pub(super) struct Seen {
    plan: Plan,
    tasks: Vec<Vec<Range>>,
    /// Bytes of each file that are not read yet.
    left: Vec<u64>,
    workers: BTreeMap<String, Worker>,
    /// Of which task each range is, by its file and beginning.
    task_of: HashMap<(usize, u64), usize>,
    /// Who had each task at the last look, and until when.
    leases: HashMap<String, (String, Timestamp)>,
    /// The same of all tasks that are not counted, also of those that nobody had at the last look.
    held: HashMap<usize, (String, Timestamp)>,
    gone: usize,
    view: View,
}

/// What is asked, in words.
pub(super) fn asked(query: &Query) -> Vec<String> {
    let per = query.per.map(|unit| format!("per {unit}"));
    query.conditions.iter().map(ToString::to_string).chain(per).collect()
}

fn levels(fold: &Fold) -> BTreeMap<String, u64> {
    fold.levels.seen().map(|(level, count)| (level.name().to_owned(), count)).collect()
}

impl Seen {
    /// One that nobody has looked at yet; what happened before, in another, is still to be seen.
    pub(super) fn new(job: &Job, plan: Plan, before: View, at_ms: u64) -> Self {
        let left: Vec<u64> = plan.logs.iter().map(|log| log.length).collect();
        let folder = job.folder.display().to_string();
        let mut view = View {
            stage: Stage::Running,
            asked: asked(&job.query),
            files: plan.logs.len(),
            files_done: left.iter().filter(|left| **left == 0).count(),
            bytes: plan.bytes(),
            events: before.events,
            ..View::default()
        };
        view.happened(at_ms, What::Began, format!("{} logs of {folder} are being counted", plan.logs.len()));
        view.folder = folder;
        let tasks = plan.tasks();
        let named = tasks
            .iter()
            .enumerate()
            .flat_map(|(number, ranges)| ranges.iter().map(move |range| ((range.file, range.start), number)));
        let (task_of, workers) = (named.collect(), BTreeMap::new());
        let (leases, held) = (HashMap::new(), HashMap::new());
        Self { plan, tasks, left, workers, task_of, leases, held, gone: 0, view }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn take(&mut self, reading: Reading) {
        let Reading { at_ms, sum, resumed, entries, running, now, coordinator, others } = reading;
        if !self.view.coordinator.is_empty() && self.view.coordinator != coordinator {
            self.view.happened(at_ms, What::TookOver, format!("{coordinator} took over as coordinator"));
        }
        if sum.checkpoints > self.view.checkpoints {
            self.view.happened(at_ms, What::Saved, format!("checkpoint {} was saved", sum.checkpoints));
        }
        for entry in resumed {
            self.over(entry.counted.range);
        }
        self.count(at_ms, &sum, &entries, now);
        for (name, number) in &sum.workers {
            let worker = self.workers.entry(name.clone()).or_default();
            worker.number = Some(*number);
            if sum.failed.contains(number) && !worker.failed {
                self.fail(at_ms, &name.clone());
            }
        }
        self.leases(at_ms, &running, now);
        (self.view.coordinator, self.view.others) = (coordinator, others);
        self.view.checkpoints = sum.checkpoints;
        let fold = &sum.fold;
        (self.view.lines, self.view.records, self.view.levels) = (fold.lines, fold.records, levels(fold));
        self.view.without_level = fold.levels[None];
        let own =
            sum.unread.iter().map(|(file, why)| Unread { path: self.plan.name(*file), why: why.clone() });
        self.view.unread = own.chain(self.plan.refused.iter().cloned()).take(UNREAD).collect();
        let failed = self.workers.values().filter(|worker| worker.failed).count();
        if failed == 0 && self.view.failures == 0 && self.view.recoveries > 0 {
            let words = "a worker was not heard of in time, and nobody saw which".to_owned();
            self.view.happened(at_ms, What::Failed, words);
        }
        self.view.failures = failed.max(usize::from(self.view.recoveries > 0));
        let mut workers: Vec<_> = self.workers.iter().map(|(name, worker)| worker.shown(name)).collect();
        workers.sort_by_key(|worker| (worker.number.is_none(), worker.number));
        workers.truncate(WORKERS);
        self.view.workers = workers;
    }

    fn count(&mut self, at_ms: u64, sum: &Sum, entries: &[Entry], now: Timestamp) {
        let before = self.view.recoveries;
        for entry in entries {
            self.over(entry.counted.range);
            self.view.recoveries += u64::from(entry.attempt > 1);
            let worker = self.workers.entry(entry.worker.clone()).or_default();
            worker.parts += 1;
            worker.bytes += entry.counted.range.length();
        }
        // Whoever had it lost it, also when nobody saw the lease run out.
        for entry in entries {
            let range = entry.counted.range;
            let held = self.task_of.get(&(range.file, range.start)).and_then(|task| self.held.remove(task));
            if let Some((who, until)) = held
                && entry.attempt > 1
                && who != entry.worker
                && until < now
            {
                self.fail(at_ms, &who);
            }
        }
        let recovered = self.view.recoveries - before;
        if let Some(last) = entries.iter().rfind(|entry| entry.attempt > 1) {
            let (file, who) = (self.plan.name(last.counted.range.file), self.called(&last.worker));
            let words = format!("{recovered} parts whose reader failed were counted, {file} by {who}");
            self.view.happened(at_ms, What::Recovered, words);
        }
        for range in sum.gone.get(self.gone..).unwrap_or_default() {
            self.over(*range);
        }
        self.gone = self.gone.max(sum.gone.len());
    }

    fn over(&mut self, range: Range) {
        self.view.bytes_done += range.length();
        if let Some(left) = self.left.get_mut(range.file) {
            let was = *left;
            *left = left.saturating_sub(range.length());
            self.view.files_done += usize::from(was > 0 && *left == 0);
        }
    }

    fn leases(&mut self, at_ms: u64, running: &[Running], now: Timestamp) {
        for worker in self.workers.values_mut() {
            worker.reading = None;
        }
        for lease in running {
            if !self.workers.contains_key(&lease.worker) {
                self.view.happened(at_ms, What::Joined, format!("{} reads, too", lease.worker));
            }
            let file = self.file_of(&lease.key);
            self.workers.entry(lease.worker.clone()).or_default();
            if lease.until < now {
                self.fail(at_ms, &lease.worker);
                continue;
            }
            // Whoever had it before, and was not seen to fail between two looks.
            if let Some((former, until)) = self.leases.get(&lease.key).cloned()
                && former != lease.worker
                && until < now
            {
                self.fail(at_ms, &former);
            }
            if let Some(worker) = self.workers.get_mut(&lease.worker) {
                worker.reading = Some(file);
            }
        }
        // Of two of a task, the one that was there first.
        let seen = running.iter().rev();
        self.leases = seen.map(|lease| (lease.key.clone(), (lease.worker.clone(), lease.until))).collect();
        let of_number =
            |(key, lease): (&String, &(String, Timestamp))| Some((key.parse().ok()?, lease.clone()));
        self.held.extend(self.leases.iter().filter_map(of_number));
    }

    fn fail(&mut self, at_ms: u64, name: &str) {
        let worker = self.workers.entry(name.to_owned()).or_default();
        if !std::mem::replace(&mut worker.failed, true) {
            let words = format!("{} was not heard of in time", self.called(name));
            self.view.happened(at_ms, What::Failed, words);
        }
    }

    fn called(&self, name: &str) -> String {
        let number = self.workers.get(name).and_then(|worker| worker.number);
        number.map_or_else(|| name.to_owned(), |number| format!("worker {number} ({name})"))
    }

    fn file_of(&self, task: &str) -> String {
        let number = task.parse::<usize>().ok();
        let first = number.and_then(|number| self.tasks.get(number)?.first());
        first.map_or_else(|| task.to_owned(), |range| self.plan.name(range.file))
    }
}

impl Worker {
    fn shown(&self, name: &str) -> WorkerView {
        let Self { number, failed, reading, parts, bytes } = self.clone();
        WorkerView { name: name.to_owned(), number, failed, reading, parts, bytes }
    }
}

/// The view of an analysis that ended, after the last one of it or of another.
pub(super) fn finished(before: &View, last: Option<&Last>, at_ms: u64) -> View {
    let mut view = before.clone();
    for worker in &mut view.workers {
        worker.reading = None;
    }
    if let Some(last) = last {
        if last.folder != view.folder {
            view = View { events: view.events, ..View::default() };
        }
        view.folder.clone_from(&last.folder);
        view.asked.clone_from(&last.asked);
        (view.files, view.files_done) = (last.files, last.files);
        (view.bytes, view.bytes_done) = (last.bytes, last.bytes);
        (view.lines, view.records, view.without_level) = (last.lines, last.records, last.without_level);
        view.levels.clone_from(&last.levels);
        view.unread.clone_from(&last.unread);
        view.checkpoints = last.checkpoints;
        // What happened between the last look and the end nobody has seen happen.
        if last.failures > view.failures {
            let failed = last.failures - view.failures;
            view.happened(last.at_ms, What::Failed, format!("{failed} more not heard of in time"));
            view.failures = last.failures;
        }
        if last.recoveries > view.recoveries {
            let recovered = last.recoveries - view.recoveries;
            let words = format!("{recovered} parts whose reader failed were counted");
            view.happened(last.at_ms, What::Recovered, words);
            view.recoveries = last.recoveries;
        }
        if before.stage != Stage::Finished {
            let (records, seconds) = (last.records, last.seconds);
            view.happened(last.at_ms, What::Finished, format!("{records} records in {seconds:.2} s"));
        }
    } else if before.stage == Stage::Running {
        view.happened(at_ms, What::Finished, "it is over; nobody left its result here".to_owned());
    }
    let ended = last.is_some() || before.stage != Stage::Waiting;
    view.stage = if ended { Stage::Finished } else { Stage::Waiting };
    (view.others, view.files_done) = (0, view.files_done.min(view.files));
    view
}
