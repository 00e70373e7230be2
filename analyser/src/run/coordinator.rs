//! The coordinator: plans, adds up, watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_store::{Change, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

use super::begin::{add, again, anew};
use super::checkpoint::{Content, Subject};
use super::conclusion::conclusion;
use super::event::{Event, Tell};
use super::jobs::{Job, Phase, broken, open_key};
use super::office::{Office, put, stand};
use super::patient::Patient;
use super::plan::Plan;
use super::saver::{Saver, SoFar};
use super::state::State;
use super::task::encode;
use super::watched::{Seen, Watched};
use super::worker::Worker;
use super::{Analysis, Ended, Options, RunError, batch_of, done_queue, slow_key};
use crate::output::Run;
use crate::ranges::Range;

/// Results that are taken in at once.
const PAGE: usize = 64;
/// How often it is looked for results that nobody told of.
const LOOK: Duration = Duration::from_millis(100);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(100);
/// A task is slow that takes so many times the median, and longer than this.
const SLOW: f64 = 1.5;
const SLOW_LEAST: u64 = 250_000;

/// Runs an analysis, or goes on with it where another coordinator of the same one ended.
///
/// # Errors
/// See [`RunError`].
pub async fn analyse(store: Arc<dyn Store>, options: Options, tell: Tell) -> Result<Ended, RunError> {
    let patient = Patient { store, tell, patience: options.patience };
    let mut queue = None;
    loop {
        match coordinate(&patient, &options, &mut queue).await {
            // Whoever was frozen, and finds another in the office, may be needed again.
            Err(RunError::Deposed) if options.standby => {}
            ended => return ended,
        }
    }
}

/// `queue`: of the analysis that this process has had a part in.
async fn coordinate(
    patient: &Patient,
    options: &Options,
    queue: &mut Option<String>,
) -> Result<Ended, RunError> {
    let begin = Instant::now();
    let tell = patient.tell.clone();
    // What it is about is its name: the same question about the same folder is the same analysis.
    let question =
        encode(&(&options.folder, &options.query, options.format.map(crate::format::Format::name)));
    let name = format!("analyse/{:016x}", xxh3_64(&question));
    let job_key = format!("{name}/job");
    let mut office = match stand(patient, options, &name, &job_key, queue.clone()).await? {
        Ok(office) => office,
        Err(who) => return Ok(Ended::Elsewhere { who }),
    };
    let found: Option<Job> = office.read(&job_key).await?.filter(|job: &Job| job.phase != Phase::Finished);
    let is_new = found.is_none();
    let (mut job, plan, mut state) = match found {
        Some(job) => {
            tell.tell(Event::TookOver);
            again(&office, job).await?
        }
        None => anew(&office, options, &job_key).await?,
    };
    *queue = Some(job.queue.clone());
    let done = (!is_new || !state.entries.is_empty()).then(|| state.processed());
    tell.tell(Event::Found { files: plan.logs.len(), done });
    let tasks = plan.tasks();
    if job.phase == Phase::Adding {
        add(&mut office, &job.queue, &plan, &tasks).await?;
        job.phase = Phase::Running;
        office.write(vec![put(job_key.clone(), encode(&job)), put(open_key(&name), encode(&job))]).await?;
    }
    let (end, told) = watch::channel(false);
    let mut workers = JoinSet::new();
    let query = Arc::new(plan.query.clone());
    for number in 1..=options.workers {
        let who = format!("{}/{number}", office.who);
        let number = state.number(&who);
        let worker = Worker {
            store: patient.clone(),
            queue: job.queue.clone(),
            name: who,
            number,
            query: query.clone(),
            lease: options.lease,
            batch: batch_of(options.is_shared),
            most: job.most,
            is_shared: options.is_shared,
        };
        let told = told.clone();
        workers.spawn(async move { (worker.number, worker.run(told).await) });
    }
    let mut work = Work {
        office,
        queue: job.queue.clone(),
        tasks,
        plan,
        state,
        workers,
        watched: Watched::default(),
        is_shared: options.is_shared,
        is_slow_told: false,
        saver: options
            .checkpoints
            .as_ref()
            .map(|checkpoints| Saver::new(checkpoints, Subject::of(options), begin)),
        begin,
    };
    let result = work.run().await;
    if result.is_ok() {
        work.save_last().await;
    }
    end.send_replace(true);
    while let Some(done) = work.workers.join_next().await {
        // What came of the analysis does not depend on them any more.
        if let Err(error) = broken(done) {
            tracing::debug!(%error, "a worker ended late");
        }
    }
    result?;
    let Work { office, plan, mut state, .. } = work;
    state.entries.sort_by_key(|entry| (entry.counted.range.file, entry.counted.range.start));
    let run = Run {
        files_processed: state.processed() as u64,
        unread: state.unread(&plan),
        failed_workers: state.failures() as u64,
        checkpoints_saved: state.sum.checkpoints,
        took: begin.elapsed(),
    };
    let conclusion = conclusion(office, &job, &job_key, &state, options.is_shared);
    let Plan { query, logs: files, .. } = plan;
    let (fold, gone) = (state.sum.fold, BTreeSet::new());
    let analysis = Analysis { query, fold, run, files, gone, entries: state.entries };
    Ok(Ended::Here(Box::new(analysis), conclusion))
}

/// An analysis under way.
struct Work {
    office: Office,
    queue: String,
    tasks: Vec<Vec<Range>>,
    plan: Plan,
    state: State,
    workers: JoinSet<(u32, Result<(), slipring_store::Error>)>,
    watched: Watched,
    is_shared: bool,
    is_slow_told: bool,
    saver: Option<Saver>,
    begin: Instant,
}

impl Work {
    async fn run(&mut self) -> Result<(), RunError> {
        let store = self.office.patient.store.clone();
        let done = done_queue(&self.queue);
        let mut told = Instant::now();
        while self.state.sum.tasks < self.tasks.len() {
            let mut hints = store.hints(&done);
            self.office.keep().await?;
            let taken = self.take().await?;
            let seen = Seen {
                patient: &self.office.patient,
                queue: &self.queue,
                tasks: &self.tasks,
                plan: &self.plan,
                is_shared: self.is_shared,
            };
            self.watched.look(seen, &mut self.state).await?;
            self.save().await;
            if told.elapsed() >= PROGRESS || self.state.sum.tasks == self.tasks.len() {
                told = Instant::now();
                self.progress();
            }
            if taken > 0 {
                continue;
            }
            tokio::select! {
                _ = timeout(LOOK, hints.woken()) => {}
                Some(ended) = self.workers.join_next() => broken(ended)?,
            }
        }
        Ok(())
    }

    /// Begins a checkpoint if one is due, and hears of the one that was begun.
    async fn save(&mut self) {
        let left = self.left();
        let Some(saver) = &mut self.saver else { return };
        let so_far = SoFar { files: self.state.files, bytes: self.state.bytes };
        let content = || Content::of(&self.plan, &self.state);
        let saved = saver.save(so_far, left, content, &self.office.patient.tell).await;
        self.state.sum.checkpoints += saved;
    }

    /// How long it goes on, if it goes on as it has.
    fn left(&self) -> Duration {
        let left = self.plan.bytes().saturating_sub(self.state.bytes);
        self.begin.elapsed().mul_f64(left as f64 / self.state.bytes.max(1) as f64)
    }

    /// The checkpoint before the end.
    async fn save_last(&mut self) {
        let Some(saver) = &mut self.saver else { return };
        let so_far = SoFar { files: self.state.files, bytes: self.state.bytes };
        let content = || Content::of(&self.plan, &self.state);
        let saved = saver.save_last(so_far, content, &self.office.patient.tell).await;
        self.state.sum.checkpoints += saved;
    }

    fn progress(&self) {
        let (bytes, of, files) = (self.state.bytes, self.plan.bytes(), self.state.processed());
        let levels = self.state.sum.fold.levels.seen().map(|(level, count)| (level.name(), count)).collect();
        self.office.patient.tell.tell(Event::Progress { bytes, of, files, levels });
    }

    /// Adds up what is there; how many tasks that were.
    async fn take(&mut self) -> Result<usize, RunError> {
        let patient = self.office.patient.clone();
        let finished = patient.call(|| patient.store.finished(&self.queue, None, PAGE)).await?;
        if finished.is_empty() {
            return Ok(0);
        }
        let mut new = Vec::new();
        let mut changes = Vec::new();
        for task in &finished {
            let number: usize = task.key.parse().unwrap_or(usize::MAX);
            let ranges = self.tasks.get(number).map_or(&[][..], Vec::as_slice);
            new.extend(self.state.take(task, ranges));
            self.watched.ended(task, &patient, &mut self.state);
            changes.push(Change::Forget { queue: self.queue.clone(), key: task.key.clone() });
        }
        if self.is_shared {
            let page = self.state.sum.pages;
            self.state.sum.pages += 1;
            changes.push(put(format!("{}/ledger/{page:08}", self.queue), encode(&new)));
            changes.push(put(format!("{}/state", self.queue), encode(&self.state.sum)));
        }
        self.office.write(changes).await?;
        if !self.is_slow_told
            && self.state.sum.tasks * 4 >= self.tasks.len() * 3
            && self.state.took.len() >= 4
        {
            self.is_slow_told = true;
            let mut took = self.state.took.clone();
            let median = *took.select_nth_unstable(self.state.took.len() / 2).1;
            let slow = ((median as f64 * SLOW) as u64).max(SLOW_LEAST);
            self.office.write(vec![put(slow_key(&self.queue).to_owned(), encode(&slow))]).await?;
        }
        Ok(finished.len())
    }
}
