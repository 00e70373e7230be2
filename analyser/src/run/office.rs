//! The office of a coordinator: whoever holds it writes, and nobody else.

use std::time::{Duration, Instant};

use slipring_store::{Campaign, Change, Expect, LONGEST_VALUE, Outcome, Timestamp, Why};
use tokio::time::sleep;

use super::event::Event;
use super::jobs::{Job, Phase};
use super::patient::Patient;
use super::task::decode;
use super::{Options, RunError, life};

/// Who coordinates, and in which store.
pub(super) struct Office {
    pub(super) patient: Patient,
    pub(super) name: String,
    pub(super) who: String,
    pub(super) epoch: u64,
    lease: Duration,
    /// When it was last held for sure.
    held: Instant,
}

impl Office {
    /// Keeps it.
    pub(super) async fn keep(&mut self) -> Result<(), RunError> {
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
    pub(super) async fn write(&self, mut changes: Vec<Change>) -> Result<(), RunError> {
        for change in &changes {
            if let Change::Put { key, value, .. } = change
                && value.len() > LONGEST_VALUE
            {
                return Err(RunError::TooMuch { key: key.clone(), mebibytes: value.len().div_ceil(1 << 20) });
            }
        }
        changes.push(Change::Holds { office: self.name.clone(), epoch: self.epoch });
        match self.patient.transact(changes).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Refused(refusals) => {
                debug_assert!(refusals.iter().all(|refusal| refusal.why == Why::Deposed), "{refusals:?}");
                Err(RunError::Deposed)
            }
        }
    }

    pub(super) async fn read<T: serde::de::DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, RunError> {
        read(&self.patient, key).await
    }
}

async fn read<T: serde::de::DeserializeOwned>(patient: &Patient, key: &str) -> Result<Option<T>, RunError> {
    let record = patient.call(|| patient.store.get(key)).await?;
    let unreadable = |source| RunError::Unreadable { key: key.to_owned(), source };
    record.map(|record| decode(&record.value).map_err(unreadable)).transpose()
}

pub(super) fn put(key: String, value: Vec<u8>) -> Change {
    Change::Put { key, value, expect: Expect::Any }
}

/// Takes the office, or waits for it; `Err`: who brought the analysis to its end meanwhile.
pub(super) async fn stand(
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
