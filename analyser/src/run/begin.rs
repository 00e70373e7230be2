//! How an analysis begins: anew, from a checkpoint, or where another coordinator ended.

use slipring_store::Change;

use super::checkpoint::{self, Subject};
use super::event::Event;
use super::jobs::{Job, Phase};
use super::office::{Office, put};
use super::plan::Plan;
use super::state::{Entry, State, Sum};
use super::task::encode;
use super::{Options, RunError};
use crate::ranges::Range;

/// Tasks and bytes that are added at once.
const ADDED: usize = 2000;
const ADDED_BYTES: usize = 8 << 20;
/// Entries of a page, of those that a checkpoint had.
const ENTRIES: usize = 10_000;

/// What takes long, and waits for a disk.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// A new analysis.
pub(super) async fn anew(
    office: &Office,
    options: &Options,
    job_key: &str,
) -> Result<(Job, Plan, State), RunError> {
    let (asked, tell) = (options.clone(), office.patient.tell.clone());
    let plan = blocking(move || -> Result<(Plan, State), RunError> {
        let subject = Subject::of(&asked);
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
        // Beside what it reads a worker holds as many ahead; they are few where one takes long.
        most: (plan.tasks().len() / 32).clamp(1, 64),
        by: String::new(),
    };
    if options.is_shared {
        for (page, entries) in state.entries.chunks(ENTRIES).enumerate() {
            office.write(vec![put(format!("{queue}/ledger/{page:08}"), encode(&entries))]).await?;
        }
        state.sum.pages = state.entries.len().div_ceil(ENTRIES);
        office
            .write(vec![
                put(format!("{queue}/plan"), encode(&plan)),
                put(format!("{queue}/state"), encode(&state.sum)),
                put(job_key.to_owned(), encode(&job)),
            ])
            .await?;
    }
    Ok((job, plan, state))
}

/// One that another coordinator began.
pub(super) async fn again(office: &Office, job: Job) -> Result<(Job, Plan, State), RunError> {
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

pub(super) async fn add(
    office: &mut Office,
    queue: &str,
    plan: &Plan,
    tasks: &[Vec<Range>],
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
