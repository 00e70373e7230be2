//! Analyses that are under way in a store, and workers that serve whichever there is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slipring_store::{Range, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::event::Tell;
use super::patient::Patient;
use super::task::decode;
use super::worker::Worker;
use super::{RunError, batch_of, life};
use crate::fold::Query;

/// How often it is looked for analyses, and whether one still is.
const LOOK: Duration = Duration::from_millis(200);

/// How far an analysis is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Its tasks are being added: all of them are again, if that is interrupted.
    Adding,
    Running,
    /// Its result has been shown.
    Finished,
}

/// An analysis, as its workers need to know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) phase: Phase,
    pub(crate) queue: String,
    pub(crate) folder: PathBuf,
    pub(crate) query: Query,
    /// Tasks of a batch at most.
    pub(crate) most: usize,
    /// Whose result it is, when it is finished.
    pub(crate) by: String,
}

/// Where the jobs are that workers look for.
pub(crate) const OPEN: &str = "analyse-open/";

pub(crate) fn open_key(office: &str) -> String {
    format!("{OPEN}{office}")
}

/// How workers serve.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Threads that read.
    pub workers: usize,
    pub lease: Duration,
    pub patience: Duration,
    /// End when the analyses that there are have ended; otherwise wait for the next ones.
    pub once: bool,
}

/// Serves analyses until `ended` is true. Returns how many it took part in.
///
/// # Errors
/// When the store fails for longer than patience lasts, or a folder is not here.
pub async fn serve(
    store: Arc<dyn Store>,
    serving: Serving,
    tell: Tell,
    mut ended: watch::Receiver<bool>,
) -> Result<usize, RunError> {
    let patient = Patient { store, tell, patience: serving.patience };
    let life = life();
    let mut served = 0;
    loop {
        let open = patient.call(|| patient.store.range(Range::prefix(OPEN).limit(100))).await?;
        let mut job = None;
        for record in open {
            let read = decode::<Job>(&record.value);
            let found = read.map_err(|source| RunError::Unreadable { key: record.key.clone(), source })?;
            // Another one may have something to do while this one waits for its last results.
            let counts = patient.call(|| patient.store.counts(&found.queue)).await?;
            if counts.pending + counts.running > 0 {
                job = Some((record.key, found));
                break;
            }
            job.get_or_insert((record.key, found));
        }
        if *ended.borrow_and_update() {
            return Ok(served);
        }
        let Some((key, job)) = job else {
            if serving.once && served > 0 {
                return Ok(served);
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = ended.changed() => {}
            }
            continue;
        };
        if !job.folder.is_dir() {
            return Err(RunError::NotHere { path: job.folder });
        }
        served += 1;
        part(&patient, &serving, &life, &key, job, &mut ended).await?;
    }
}

/// Works on one until it is over.
async fn part(
    patient: &Patient,
    serving: &Serving,
    life: &str,
    key: &str,
    job: Job,
    ended: &mut watch::Receiver<bool>,
) -> Result<(), RunError> {
    let (end, told) = watch::channel(false);
    let query = Arc::new(job.query);
    let mut workers = JoinSet::new();
    for number in 1..=serving.workers {
        let worker = Worker {
            store: patient.clone(),
            queue: job.queue.clone(),
            name: format!("{life}/{number}"),
            number: u32::try_from(number).unwrap_or(u32::MAX),
            query: query.clone(),
            lease: serving.lease,
            batch: batch_of(true),
            most: job.most,
            is_shared: true,
        };
        let told = told.clone();
        workers.spawn(async move { (worker.number, worker.run(told).await) });
    }
    let mut error = None;
    loop {
        tokio::select! {
            () = sleep(LOOK) => match patient.call(|| patient.store.get(key)).await {
                Ok(record) => {
                    let now = record.and_then(|record| decode::<Job>(&record.value).ok());
                    if now.is_none_or(|now| now.queue != job.queue) {
                        break;
                    }
                }
                Err(gone) => {
                    error = Some(gone.into());
                    break;
                }
            },
            _ = ended.changed() => break,
            Some(done) = workers.join_next() => {
                error = broken(done).err();
                break;
            }
        }
    }
    end.send_replace(true);
    while let Some(done) = workers.join_next().await {
        error = error.or(broken(done).err());
    }
    error.map_or(Ok(()), Err)
}

/// What a worker's end says.
pub(crate) fn broken(
    done: Result<(u32, Result<(), slipring_store::Error>), tokio::task::JoinError>,
) -> Result<(), RunError> {
    match done {
        Ok((_, result)) => Ok(result?),
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => {
            tracing::error!(%error, "a worker panicked");
            Err(RunError::Worker { worker: 0 })
        }
    }
}
