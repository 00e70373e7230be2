//! The leases, looked at again and again: who took what, and who has not been heard of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use slipring_store::{Finished, Running};

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
    /// Who had each task that has not ended when it was last seen with somebody.
    held: HashMap<String, Running>,
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
    /// A task has ended: what becomes of its leases is nobody's failure any more.
    pub(super) fn ended(&mut self, task: &Finished, patient: &Patient, state: &mut State) {
        self.leases.retain(|(key, _), _| *key != task.key);
        let Some(former) = self.held.remove(&task.key) else { return };
        // A part may be taken over and ended between two looks: nobody has seen that a lease ran out, but that one did is
        // what a second attempt says. A second reader of the same attempt says only that the first was slow.
        if task.attempt > 1 && former.worker != task.worker && former.until < task.at {
            failed(patient, state, &former.worker);
        }
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
        for lease in running.iter().rev() {
            // Of two, the one that was there first.
            self.held.insert(lease.key.clone(), lease.clone());
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use slipring_store::{Change, Clock, Memory, NewTask, Store, Timestamp};

    use super::*;
    use crate::fold::Query;
    use crate::run::Tell;

    const QUEUE: &str = "q";
    const LEASE: Duration = Duration::from_secs(5);

    /// How the first reader of a part loses it to a second, who ends it before anybody looks again.
    enum How {
        LeaseRanOut,
        GaveItBack,
        WasSlow,
    }

    async fn failures(how: How) -> usize {
        let now = Arc::new(AtomicI64::new(1_000_000_000));
        let clock = now.clone();
        let store = Arc::new(Memory::new(Clock::new(move || Timestamp(clock.load(Ordering::Relaxed)))));
        let tasks = vec![NewTask::new("0", "")];
        store.transact(vec![Change::Add { queue: QUEUE.to_owned(), tasks }]).await.unwrap();
        let patient = Patient { store: store.clone(), tell: Tell::nobody(), patience: LEASE };
        let one = NonZeroU64::MIN;
        let plan = Plan {
            folder: PathBuf::new(),
            query: Query::default(),
            logs: Vec::new(),
            formats: Vec::new(),
            refused: Vec::new(),
            size: one,
            bundle: one,
            counted: Vec::new(),
        };
        let (mut state, mut watched) = (State::new(&plan), Watched::default());
        let first = store.claim(QUEUE, "first", LEASE, 1).await.unwrap().remove(0);
        let seen = Seen { patient: &patient, queue: QUEUE, tasks: &[], plan: &plan, is_shared: true };
        watched.look(seen, &mut state).await.unwrap();
        let second = match how {
            How::LeaseRanOut => {
                now.fetch_add(6_000_000, Ordering::Relaxed);
                store.claim(QUEUE, "second", LEASE, 1).await.unwrap().remove(0)
            }
            How::GaveItBack => {
                store.transact(vec![Change::Release { claim: first.claim }]).await.unwrap();
                now.fetch_add(6_000_000, Ordering::Relaxed);
                store.claim(QUEUE, "second", LEASE, 1).await.unwrap().remove(0)
            }
            How::WasSlow => store.speculate(QUEUE, "0", "second", LEASE).await.unwrap().unwrap(),
        };
        let done = Change::Complete { claim: second.claim, result: Vec::new() };
        store.transact(vec![done]).await.unwrap().committed().unwrap();
        for task in store.finished(QUEUE, None, 9).await.unwrap() {
            watched.ended(&task, &patient, &mut state);
        }
        state.sum.failed.len()
    }

    #[tokio::test]
    async fn whose_part_another_one_ended_has_failed_only_if_its_lease_ran_out() {
        assert_eq!(failures(How::LeaseRanOut).await, 1);
        assert_eq!(failures(How::GaveItBack).await, 0);
        assert_eq!(failures(How::WasSlow).await, 0);
    }
}
