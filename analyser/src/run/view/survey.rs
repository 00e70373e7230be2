//! Reads what a store holds about the analysis that is under way.

use std::sync::Arc;

use slipring_store::{Change, Expect, Range, Store};

use super::super::jobs::{Job, OPEN};
use super::super::plan::Plan;
use super::super::state::{Entry, Sum};
use super::super::task::{decode, encode};
use super::super::{Analysis, RunError};
use super::seen::{Reading, Seen, asked, finished};
use super::{Last, UNREAD, View};

/// Where the last result is.
const LAST: &str = "analyse-last";
/// Analyses that are looked for.
const MOST: usize = 100;
/// Pages of a ledger in one reading: the rest has time.
const PAGES: usize = 64;

/// Somebody who looks on: it writes nothing.
#[derive(Debug)]
pub struct Survey {
    store: Arc<dyn Store>,
    /// What it looks at, and how many pages of its ledger were read.
    pub(super) now: Option<(Job, Seen, usize)>,
    view: View,
}

impl Survey {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, now: None, view: View::default() }
    }

    /// Looks again: the analysis that it saw last while that is under way, else the first that is.
    ///
    /// # Errors
    /// When the store does not answer, or holds what this program does not understand. What was seen before is seen by
    /// the next look that succeeds.
    pub async fn look(&mut self, at_ms: u64) -> Result<&View, RunError> {
        let open = self.store.range(Range::prefix(OPEN).limit(MOST)).await?;
        let mut jobs = Vec::with_capacity(open.len());
        for record in open {
            let job: Job = read(&record.key, &record.value)?;
            let office = record.key.strip_prefix(OPEN).unwrap_or(&record.key).to_owned();
            jobs.push((office, job));
        }
        let same = |known: &Job| jobs.iter().position(|(_, job)| job.queue == known.queue);
        let at = self.now.as_ref().and_then(|(known, ..)| same(known)).unwrap_or(0);
        let others = jobs.len().saturating_sub(1);
        let Some((office, job)) = jobs.into_iter().nth(at) else {
            let last = self.store.get(LAST).await?;
            let last: Option<Last> = last.map(|record| read(LAST, &record.value)).transpose()?;
            self.now = None;
            self.view = finished(&self.view, last.as_ref(), at_ms);
            return Ok(&self.view);
        };
        let pages =
            self.now.as_ref().filter(|(known, ..)| known.queue == job.queue).map(|(.., pages)| *pages);
        let plan: Option<Plan> = match pages {
            Some(_) => None,
            None => self.get(&format!("{}/plan", job.queue)).await?,
        };
        let sum: Option<Sum> = self.get(&format!("{}/state", job.queue)).await?;
        // Without them it ends just now.
        let (Some(sum), true) = (sum, pages.is_some() || plan.is_some()) else { return Ok(&self.view) };
        let from = pages.unwrap_or(0);
        let until = sum.pages.min(from + PAGES);
        // What a checkpoint had counted is the first page.
        let is_resumed = plan.as_ref().is_some_and(|plan| !plan.counted.is_empty());
        let (mut resumed, mut entries): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
        for page in from..until {
            let page = self.get::<Vec<Entry>>(&format!("{}/ledger/{page:08}", job.queue)).await?;
            let Some(page) = page else { return Ok(&self.view) };
            if is_resumed && resumed.is_empty() { resumed = page } else { entries.extend(page) }
        }
        let running = self.store.running(&job.queue).await?;
        let now = self.store.now().await?;
        let tenure = self.store.tenure(&office).await?;
        let coordinator = tenure.map(|tenure| tenure.who).unwrap_or_default();
        let reading = Reading { at_ms, sum, resumed, entries, running, now, coordinator, others };
        if let Some(plan) = plan {
            let seen = Seen::new(&job, plan, self.view.clone(), at_ms);
            self.now = Some((job, seen, 0));
        }
        if let Some((_, seen, pages)) = &mut self.now {
            seen.take(reading);
            *pages = until;
            self.view.clone_from(seen.view());
        }
        Ok(&self.view)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RunError> {
        let record = self.store.get(key).await?;
        record.map(|record| read(key, &record.value)).transpose()
    }
}

fn read<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RunError> {
    decode(value).map_err(|source| RunError::Unreadable { key: key.to_owned(), source })
}

/// Leaves a result in the store, for those who look on: before it is concluded, so that nobody sees an end without it.
///
/// # Errors
/// When the store does not answer.
pub async fn leave(
    store: &dyn Store,
    folder: &std::path::Path,
    analysis: &Analysis,
    at_ms: u64,
) -> Result<(), RunError> {
    let Analysis { query, fold, run, files, entries, .. } = analysis;
    let last = Last {
        at_ms,
        folder: folder.display().to_string(),
        asked: asked(query),
        files: files.len(),
        bytes: files.iter().map(|log| log.length).sum(),
        lines: fold.lines,
        records: fold.records,
        levels: fold.levels.seen().map(|(level, count)| (level.name().to_owned(), count)).collect(),
        without_level: fold.levels[None],
        checkpoints: run.checkpoints_saved,
        unread: run.unread.iter().take(UNREAD).cloned().collect(),
        failures: usize::try_from(run.failed_workers).unwrap_or(usize::MAX),
        recoveries: entries.iter().filter(|entry| entry.attempt > 1).count() as u64,
        seconds: run.took.as_secs_f64(),
    };
    let put = Change::Put { key: LAST.to_owned(), value: encode(&last), expect: Expect::Any };
    store.transact(vec![put]).await?;
    Ok(())
}
