//! The coordinator: plans, adds up, watches.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_store::{Campaign, Change, Expect, Outcome, Running, Store, Timestamp, Why};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::xxh3_64;

use super::checkpoint::{self, Subject};
use super::event::{Event, Tell};
use super::jobs::{Job, Phase, broken, open_key};
use super::patient::Patient;
use super::plan::Plan;
use super::state::{Entry, State, Sum};
use super::task::{decode, encode};
use super::worker::Worker;
use super::{Analysis, Ended, Options, RunError, batch_of, done_queue, life, slow_key};
use crate::output::Run;

/// Results that are taken in at once.
const PAGE: usize = 64;
/// Tasks and bytes that are added at once.
const ADDED: usize = 2000;
const ADDED_BYTES: usize = 8 << 20;
/// How often it is looked for results that nobody told of.
const LOOK: Duration = Duration::from_millis(100);
/// How often leases are looked at.
const WATCH: Duration = Duration::from_millis(200);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(100);
/// A task is slow that takes so many times the median, and longer than this.
const SLOW: f64 = 1.5;
const SLOW_LEAST: u64 = 250_000;

/// Who coordinates, and in which store.
struct Office {
    patient: Patient,
    name: String,
    who: String,
    epoch: u64,
    lease: Duration,
    /// When it was last held for sure.
    held: Instant,
}

impl Office {
    /// Keeps it.
    async fn keep(&mut self) -> Result<(), RunError> {
        if self.held.elapsed() < self.lease / 3 {
            return Ok(());
        }
        let asked = Instant::now();
        let (patient, name, who) = (&self.patient, &self.name, &self.who);
        match patient.call(|| patient.store.campaign(name, who, self.lease)).await? {
            Campaign::Held { epoch, .. } if epoch == self.epoch => {
                self.held = asked;
                Ok(())
            }
            _ => Err(RunError::Deposed),
        }
    }

    /// Writes, if it is still held.
    async fn write(&self, mut changes: Vec<Change>) -> Result<(), RunError> {
        changes.push(Change::Holds { office: self.name.clone(), epoch: self.epoch });
        match self.patient.transact(changes).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Refused(refusals) => {
                debug_assert!(refusals.iter().all(|refusal| refusal.why == Why::Deposed), "{refusals:?}");
                Err(RunError::Deposed)
            }
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RunError> {
        read(&self.patient, key).await
    }
}

async fn read<T: serde::de::DeserializeOwned>(patient: &Patient, key: &str) -> Result<Option<T>, RunError> {
    let record = patient.call(|| patient.store.get(key)).await?;
    let unreadable = |source| RunError::Unreadable { key: key.to_owned(), source };
    record.map(|record| decode(&record.value).map_err(unreadable)).transpose()
}

fn put(key: String, value: Vec<u8>) -> Change {
    Change::Put { key, value, expect: Expect::Any }
}

/// What is told to the store once a result has been shown.
#[derive(Debug)]
pub struct Conclusion {
    patient: Patient,
    changes: Vec<Vec<Change>>,
    office: (String, u64),
}

impl Conclusion {
    /// Ends the analysis for everybody.
    ///
    /// # Errors
    /// When the store fails for good. The result is right all the same; a standby may show it again.
    pub async fn conclude(self) -> Result<(), RunError> {
        for mut changes in self.changes {
            let (office, epoch) = self.office.clone();
            changes.push(Change::Holds { office, epoch });
            // Whoever took over meanwhile concludes it.
            if let Outcome::Refused(_) = self.patient.transact(changes).await? {
                return Ok(());
            }
        }
        let (office, epoch) = &self.office;
        self.patient.call(|| self.patient.store.resign(office, *epoch)).await?;
        Ok(())
    }
}

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
            tells: !options.is_shared,
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
        saver: options.checkpoints.as_ref().map(|checkpoints| {
            let subject = subject(options);
            Saver::new(checkpoints.folder.clone(), subject, checkpoints.every, begin)
        }),
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
        failed_workers: state.sum.failed.len() as u64,
        checkpoints_saved: state.sum.checkpoints,
        took: begin.elapsed(),
    };
    let conclusion = conclusion(office, &job, &job_key, &state, options.is_shared);
    let Plan { query, logs: files, .. } = plan;
    let analysis = Analysis { query, fold: state.sum.fold, run, files, entries: state.entries };
    Ok(Ended::Here(Box::new(analysis), conclusion))
}

fn subject(options: &Options) -> Subject {
    let format = options.format.map(|format| format.name().to_owned());
    Subject { folder: options.folder.clone(), query: options.query.clone(), format }
}

fn conclusion(office: Office, job: &Job, job_key: &str, state: &State, is_shared: bool) -> Conclusion {
    let mut changes = Vec::new();
    if is_shared {
        let finished = Job { phase: Phase::Finished, by: office.who.clone(), ..job.clone() };
        let delete = |key: String| Change::Delete { key, expect: Expect::Any };
        changes.push(vec![
            put(job_key.to_owned(), encode(&finished)),
            delete(open_key(&office.name)),
            delete(format!("{}/plan", job.queue)),
            delete(format!("{}/state", job.queue)),
            delete(slow_key(&job.queue).to_owned()),
        ]);
        let pages: Vec<usize> = (0..state.sum.pages).collect();
        changes.extend(pages.chunks(1000).map(|pages| {
            pages.iter().map(|page| delete(format!("{}/ledger/{page:08}", job.queue))).collect::<Vec<_>>()
        }));
    }
    Conclusion { patient: office.patient, changes, office: (office.name, office.epoch) }
}

/// Takes the office, or waits for it; `Err`: who brought the analysis to its end meanwhile.
async fn stand(
    patient: &Patient,
    options: &Options,
    name: &str,
    job_key: &str,
    mut waited_for: Option<String>,
) -> Result<Result<Office, String>, RunError> {
    let who = life();
    let lease = options.lease;
    let mut other: Option<(String, Timestamp)> = None;
    loop {
        let asked = Instant::now();
        match patient.call(|| patient.store.campaign(name, &who, lease)).await? {
            Campaign::Held { epoch, .. } => {
                let (patient, name) = (patient.clone(), name.to_owned());
                if let Some(queue) = waited_for
                    && let Some(job) = read::<Job>(&patient, job_key).await?
                    && job.phase == Phase::Finished
                    && job.queue == queue
                {
                    patient.call(|| patient.store.resign(&name, epoch)).await?;
                    return Ok(Err(job.by));
                }
                return Ok(Ok(Office { patient, name, who, epoch, lease, held: asked }));
            }
            Campaign::Taken(tenure) => {
                match &other {
                    None if options.standby => {
                        patient.tell.tell(Event::StandingBy { who: tenure.who.clone() });
                    }
                    // It lives: it renews its lease. One that has died does not, and is waited for.
                    Some((who, until))
                        if !options.standby && (who != &tenure.who || *until != tenure.until) =>
                    {
                        return Err(RunError::Taken { who: tenure.who });
                    }
                    _ => {}
                }
                if other.as_ref().is_none_or(|(who, _)| *who != tenure.who) || waited_for.is_none() {
                    let job = read::<Job>(patient, job_key).await?;
                    waited_for =
                        job.filter(|job| job.phase != Phase::Finished).map(|job| job.queue).or(waited_for);
                }
                other = Some((tenure.who, tenure.until));
            }
        }
        sleep((lease / 10).min(Duration::from_millis(250))).await;
    }
}

/// What takes long, and waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// A new analysis.
async fn anew(office: &Office, options: &Options, job_key: &str) -> Result<(Job, Plan, State), RunError> {
    let (asked, tell) = (options.clone(), office.patient.tell.clone());
    let plan = blocking(move || -> Result<(Plan, State), RunError> {
        let subject = subject(&asked);
        let Options { folder, query, format, size, workers, checkpoints, .. } = asked;
        let mut plan = Plan::make(&folder, query, format, size, workers)?;
        if let Some(checkpoints) = checkpoints.filter(|checkpoints| !checkpoints.fresh) {
            let (found, skipped) = checkpoint::newest(&checkpoints.folder, &subject, &plan);
            for (path, why) in skipped {
                tell.tell(Event::Skipped { path, why });
            }
            if let Some(found) = found {
                tell.tell(Event::Resumed { path: found.path.clone() });
                let state = found.into_state(&mut plan);
                return Ok((plan, state));
            }
        }
        let state = State::new(&plan);
        Ok((plan, state))
    });
    let (plan, mut state) = plan.await?;
    let queue = format!("{}/{}", office.name, office.epoch);
    let job = Job {
        phase: Phase::Adding,
        queue: queue.clone(),
        folder: plan.folder.clone(),
        query: plan.query.clone(),
        most: (plan.tasks().len() / 64).clamp(1, 64),
        by: String::new(),
    };
    if options.is_shared {
        let mut changes = Vec::new();
        if !state.entries.is_empty() {
            state.sum.pages = 1;
            changes.push(put(format!("{queue}/ledger/{:08}", 0), encode(&state.entries)));
        }
        changes.extend([
            put(format!("{queue}/plan"), encode(&plan)),
            put(format!("{queue}/state"), encode(&state.sum)),
            put(job_key.to_owned(), encode(&job)),
        ]);
        office.write(changes).await?;
    }
    Ok((job, plan, state))
}

/// One that another coordinator began.
async fn again(office: &Office, job: Job) -> Result<(Job, Plan, State), RunError> {
    let missing = |key: &str| RunError::Unreadable {
        key: key.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "it is missing"),
    };
    let (plan_key, state_key) = (format!("{}/plan", job.queue), format!("{}/state", job.queue));
    let plan: Plan = office.read(&plan_key).await?.ok_or_else(|| missing(&plan_key))?;
    let sum: Sum = office.read(&state_key).await?.ok_or_else(|| missing(&state_key))?;
    let mut entries: Vec<Entry> = Vec::new();
    for page in 0..sum.pages {
        let key = format!("{}/ledger/{page:08}", job.queue);
        entries.extend(office.read::<Vec<Entry>>(&key).await?.ok_or_else(|| missing(&key))?);
    }
    let state = State::again(&plan, sum, entries);
    Ok((job, plan, state))
}

async fn add(
    office: &mut Office,
    queue: &str,
    plan: &Plan,
    tasks: &[Vec<crate::ranges::Range>],
) -> Result<(), RunError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for (number, ranges) in tasks.iter().enumerate() {
        let task = plan.task(number, ranges);
        bytes += task.payload.len();
        batch.push(task);
        if batch.len() == ADDED || bytes > ADDED_BYTES || number + 1 == tasks.len() {
            let tasks = std::mem::take(&mut batch);
            office.write(vec![Change::Add { queue: queue.to_owned(), tasks }]).await?;
            bytes = 0;
            office.keep().await?;
        }
    }
    Ok(())
}

/// The leases that were seen last, to see what becomes of them.
#[derive(Default)]
struct Watched {
    leases: HashMap<(String, u64), Running>,
    at: Option<Instant>,
}

/// Files that a checkpoint is written after.
const FILES: usize = 5;
/// Of the time, checkpoints take one part in so many at most; the first few are not held back.
const SHARE: u32 = 33;
const FIRST: u64 = 3;

/// When and where checkpoints are written.
struct Saver {
    folder: PathBuf,
    subject: Subject,
    every: Duration,
    begin: Instant,
    last: Instant,
    /// Files and entries when the last one was written.
    files: usize,
    entries: usize,
    saved: u64,
    spent: Duration,
    running: Option<tokio::task::JoinHandle<(std::io::Result<PathBuf>, Duration)>>,
    /// The last one could not be written, and why.
    failed: Option<String>,
}

impl Saver {
    fn new(folder: PathBuf, subject: Subject, every: Duration, begin: Instant) -> Self {
        let (last, spent) = (Instant::now(), Duration::ZERO);
        let (files, entries, saved, running, failed) = (0, 0, 0, None, None);
        Self { folder, subject, every, begin, last, files, entries, saved, spent, running, failed }
    }

    fn is_due(&self, state: &State) -> bool {
        let enough = state.files >= self.files + FILES || self.last.elapsed() >= self.every;
        let cheap = self.saved < FIRST || self.spent * SHARE < self.begin.elapsed();
        self.running.is_none() && state.entries.len() > self.entries && enough && cheap
    }

    fn start(&mut self, plan: &Plan, state: &State) {
        (self.last, self.files, self.entries) = (Instant::now(), state.files, state.entries.len());
        let (folder, subject, plan, state) =
            (self.folder.clone(), self.subject.clone(), plan.clone(), state.clone());
        self.running = Some(tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let written = checkpoint::write(&folder, &subject, &plan, &state);
            (written, begin.elapsed())
        }));
    }

    /// Waits for the one that is being written; whether one was.
    async fn done(&mut self, tell: &Tell) -> bool {
        let Some(running) = self.running.take() else { return false };
        let (written, took) =
            running.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.spent += took;
        match written {
            Ok(path) => {
                self.saved += 1;
                self.failed = None;
                tell.tell(Event::Saved { path });
                true
            }
            Err(error) => {
                let why = format!(
                    "{} ({error}): make room there, or name another folder with --checkpoints",
                    self.folder.display()
                );
                // Once for each reason.
                if self.failed.as_ref() != Some(&why) {
                    tell.tell(Event::Unsaved { why: why.clone() });
                }
                self.failed = Some(why);
                false
            }
        }
    }
}

/// An analysis under way.
struct Work {
    office: Office,
    queue: String,
    tasks: Vec<Vec<crate::ranges::Range>>,
    plan: Plan,
    state: State,
    workers: JoinSet<(u32, Result<(), slipring_store::Error>)>,
    watched: Watched,
    is_shared: bool,
    is_slow_told: bool,
    saver: Option<Saver>,
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
            self.watch().await?;
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
        let Some(saver) = &mut self.saver else { return };
        if saver.running.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            let saved = saver.done(&self.office.patient.tell).await;
            self.state.sum.checkpoints += u64::from(saved);
        }
        if saver.is_due(&self.state) {
            saver.start(&self.plan, &self.state);
        }
    }

    /// The checkpoint before the end.
    async fn save_last(&mut self) {
        let Some(saver) = &mut self.saver else { return };
        let tell = self.office.patient.tell.clone();
        let mut saved = u64::from(saver.done(&tell).await);
        if self.state.entries.len() > saver.entries || saver.failed.is_some() {
            saver.start(&self.plan, &self.state);
            saved += u64::from(saver.done(&tell).await);
        }
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
            self.watched.leases.retain(|(key, _), _| *key != task.key);
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

    /// Looks at the leases: who took what, and who has not been heard of.
    async fn watch(&mut self) -> Result<(), RunError> {
        if self.watched.at.is_some_and(|at| at.elapsed() < WATCH) {
            return Ok(());
        }
        self.watched.at = Some(Instant::now());
        let patient = self.office.patient.clone();
        let now = patient.call(|| patient.store.now()).await?;
        let running = patient.call(|| patient.store.running(&self.queue)).await?;
        let before = std::mem::take(&mut self.watched.leases);
        for lease in &running {
            let key = (lease.key.clone(), lease.epoch);
            if lease.until < now {
                self.failed(&lease.worker);
            }
            if before.contains_key(&key) {
                continue;
            }
            let former = before.values().find(|former| {
                former.key == lease.key && former.worker != lease.worker && former.until < now
            });
            let number = self.state.number(&lease.worker);
            let file = self.file_of(&lease.key);
            if let Some(former) = former {
                self.failed(&former.worker.clone());
                patient.tell.tell(Event::Reassigned { worker: number, file });
            } else if self.is_shared {
                patient.tell.tell(Event::Assigned { worker: number, file });
            }
        }
        self.watched.leases =
            running.into_iter().map(|lease| ((lease.key.clone(), lease.epoch), lease)).collect();
        Ok(())
    }

    fn failed(&mut self, worker: &str) {
        let number = self.state.number(worker);
        if self.state.sum.failed.insert(number) {
            self.office.patient.tell.tell(Event::TimedOut { worker: number });
        }
    }

    fn file_of(&self, task: &str) -> String {
        let number = task.parse::<usize>().ok();
        let first = number.and_then(|number| self.tasks.get(number)?.first());
        first.map_or_else(|| task.to_owned(), |range| self.plan.name(range.file))
    }
}
