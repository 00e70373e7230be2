//! The leases, looked at again and again: who took what, and who has not been heard of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use slipring_store::Running;

use super::RunError;
use super::event::Event;
use super::patient::Patient;
use super::plan::Plan;
use super::state::State;
use crate::ranges::Range;

/// How often leases are looked at.
const WATCH: Duration = Duration::from_millis(200);

/// The leases that were seen last, to see what becomes of them.
#[derive(Default)]
pub(super) struct Watched {
    leases: HashMap<(String, u64), Running>,
    at: Option<Instant>,
}

/// What leases are of.
pub(super) struct Seen<'a> {
    pub(super) patient: &'a Patient,
    pub(super) queue: &'a str,
    pub(super) tasks: &'a [Vec<Range>],
    pub(super) plan: &'a Plan,
    /// Whether nobody else tells of assignments.
    pub(super) is_shared: bool,
}

impl Watched {
    /// A task has ended: what becomes of its leases is nobody's failure.
    pub(super) fn forget(&mut self, task: &str) {
        self.leases.retain(|(key, _), _| key != task);
    }

    /// Looks, if it is time to, and tells what is new.
    pub(super) async fn look(&mut self, seen: Seen<'_>, state: &mut State) -> Result<(), RunError> {
        if self.at.is_some_and(|at| at.elapsed() < WATCH) {
            return Ok(());
        }
        self.at = Some(Instant::now());
        let Seen { patient, queue, .. } = seen;
        let now = patient.call(|| patient.store.now()).await?;
        let running = patient.call(|| patient.store.running(queue)).await?;
        let before = std::mem::take(&mut self.leases);
        for lease in &running {
            let key = (lease.key.clone(), lease.epoch);
            if lease.until < now {
                failed(patient, state, &lease.worker);
            }
            if before.contains_key(&key) {
                continue;
            }
            let former = before.values().find(|former| {
                former.key == lease.key && former.worker != lease.worker && former.until < now
            });
            let number = state.number(&lease.worker);
            let file = seen.file_of(&lease.key);
            if let Some(former) = former {
                failed(patient, state, &former.worker);
                patient.tell.tell(Event::Reassigned { worker: number, file });
            } else if seen.is_shared {
                patient.tell.tell(Event::Assigned { worker: number, file });
            }
        }
        self.leases = running.into_iter().map(|lease| ((lease.key.clone(), lease.epoch), lease)).collect();
        Ok(())
    }
}

fn failed(patient: &Patient, state: &mut State, worker: &str) {
    let number = state.number(worker);
    if state.sum.failed.insert(number) {
        patient.tell.tell(Event::TimedOut { worker: number });
    }
}

impl Seen<'_> {
    fn file_of(&self, task: &str) -> String {
        let number = task.parse::<usize>().ok();
        let first = number.and_then(|number| self.tasks.get(number)?.first());
        first.map_or_else(|| task.to_owned(), |range| self.plan.name(range.file))
    }
}
