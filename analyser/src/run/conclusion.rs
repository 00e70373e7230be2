//! The end of an analysis: when its result has been shown, what the store keeps of it goes.

use slipring_store::{Change, Expect, Outcome};

use super::jobs::{Job, Phase, open_key};
use super::office::{Office, put};
use super::patient::Patient;
use super::state::State;
use super::task::encode;
use super::{RunError, slow_key};

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

pub(super) fn conclusion(
    office: Office,
    job: &Job,
    job_key: &str,
    state: &State,
    is_shared: bool,
) -> Conclusion {
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
