//! Who is let in, who waits a little, and who is sent away.
//!
//! The decision is a function of how many are in (`Rule::admits`); around it stands a short queue, because a crowd is
//! often over in milliseconds, and a client that is sent away comes back with its whole question.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::topology::Fairness;

/// Requests at a time. Source: the contract.
pub(crate) const MOST: usize = 100;
/// Of one team. Source: the contract.
const MOST_OF_TEAM: usize = 60;
/// While the others use so many or fewer, `weighted` lets a team pass its limit. Source: the contract.
const FEW_OTHERS: usize = 48;
/// Above this share of all, `hybrid` is strict. Source: the contract.
const CROWDED: usize = MOST * 80 / 100;
/// Requests that wait, of all teams.
const MOST_WAITING: usize = 200;
/// How long they wait.
const PATIENCE: Duration = Duration::from_millis(250);

/// How many are in, as a team sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Occupancy {
    own: usize,
    others: usize,
}

fn admits(fairness: Fairness, Occupancy { own, others }: Occupancy) -> bool {
    let total = own + others;
    let strict = own < MOST_OF_TEAM;
    let weighted = strict || others <= FEW_OTHERS;
    total < MOST
        && match fairness {
            Fairness::Strict => strict,
            Fairness::Weighted => weighted,
            Fairness::Hybrid => {
                if total > CROWDED {
                    strict
                } else {
                    weighted
                }
            }
        }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Admission {
    fairness: Fairness,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    active: BTreeMap<String, usize>,
    waiting: BTreeMap<String, VecDeque<Waiter>>,
    waiters: usize,
    /// The client of each team that was let in last from the queue.
    last: BTreeMap<String, String>,
    admitted: u64,
    rejected: u64,
}

#[derive(Debug)]
struct Waiter {
    client: String,
    turn: oneshot::Sender<()>,
}

/// A request that is in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    team: String,
}

/// Sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// When to come back.
    pub(crate) retry_after: Duration,
}

impl State {
    fn occupancy(&self, team: &str) -> Occupancy {
        let own = self.active.get(team).copied().unwrap_or(0);
        Occupancy { own, others: self.active.values().sum::<usize>() - own }
    }

    fn enter(&mut self, team: &str) {
        *self.active.entry(team.to_owned()).or_insert(0) += 1;
        self.admitted += 1;
    }

    /// Lets in who waits and may come: the team that has least goes first, and of a team another client than last time.
    fn next(&mut self, fairness: Fairness) {
        loop {
            let may = |team: &&String| admits(fairness, self.occupancy(team));
            let least = self.waiting.keys().filter(may).min_by_key(|team| self.occupancy(team).own);
            let Some(team) = least.cloned() else { return };
            let Some(queue) = self.waiting.get_mut(&team) else { return };
            let last = self.last.get(&team);
            let place = queue.iter().position(|waiter| Some(&waiter.client) != last).unwrap_or(0);
            let waiter = queue.remove(place);
            if queue.is_empty() {
                self.waiting.remove(&team);
            }
            let Some(waiter) = waiter else { continue };
            self.waiters -= 1;
            // One who gave up in the meantime takes no place.
            if waiter.turn.send(()).is_ok() {
                self.last.insert(team.clone(), waiter.client);
                self.enter(&team);
            }
        }
    }
}

impl Admission {
    pub(crate) fn new(fairness: Fairness) -> Arc<Self> {
        Arc::new(Self { fairness, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, perhaps after a short wait.
    pub(crate) async fn enter(self: &Arc<Self>, team: &str, client: &str) -> Result<Admitted, Rejected> {
        let mut turn = {
            let mut state = self.state();
            if state.waiters == 0 && admits(self.fairness, state.occupancy(team)) {
                state.enter(team);
                return Ok(self.admitted(team));
            }
            if state.waiters >= MOST_WAITING {
                state.rejected += 1;
                return Err(Rejected { retry_after: PATIENCE });
            }
            let (sender, turn) = oneshot::channel();
            state
                .waiting
                .entry(team.to_owned())
                .or_default()
                .push_back(Waiter { client: client.to_owned(), turn: sender });
            state.waiters += 1;
            // Others may wait for what this team does not need.
            state.next(self.fairness);
            Turn { admission: self.clone(), team: team.to_owned(), turn: Some(turn) }
        };
        let waiting = turn.turn.as_mut().expect("it is taken below");
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(())) => {
                turn.turn = None;
                Ok(self.admitted(team))
            }
            _ => {
                drop(turn); // gives back what came at the last moment
                self.state().rejected += 1;
                Err(Rejected { retry_after: PATIENCE * 2 })
            }
        }
    }

    fn admitted(self: &Arc<Self>, team: &str) -> Admitted {
        Admitted { admission: self.clone(), team: team.to_owned() }
    }

    fn leave(&self, team: &str) {
        let mut state = self.state();
        if let Some(count) = state.active.get_mut(team) {
            *count -= 1;
            if *count == 0 {
                state.active.remove(team);
            }
        }
        state.next(self.fairness);
    }

    /// In, and waiting.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.active.values().sum(), state.waiters)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.leave(&self.team);
    }
}

/// A place in the queue, until it is dropped.
struct Turn {
    admission: Arc<Admission>,
    team: String,
    turn: Option<oneshot::Receiver<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else { return };
        turn.close();
        if turn.try_recv().is_ok() {
            // It was let in, and is not there any more.
            self.admission.leave(&self.team);
            return;
        }
        let mut state = self.admission.state();
        let state = &mut *state;
        if let Some(queue) = state.waiting.get_mut(&self.team) {
            let before = queue.len();
            queue.retain(|waiter| !waiter.turn.is_closed());
            state.waiters -= before - queue.len();
            if queue.is_empty() {
                state.waiting.remove(&self.team);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_the_contracts() {
        let may = |fairness, own, others| admits(fairness, Occupancy { own, others });
        for (own, others, strict, weighted, hybrid) in [
            (59, 0, true, true, true),
            (60, 0, false, true, true),
            (60, 39, false, true, false),
            (99, 0, false, true, false),
            (100, 0, false, false, false),
            (51, 49, false, false, false),
            (50, 49, true, true, true),
            (80, 0, false, true, true),
            (81, 0, false, true, false),
            (60, 20, false, true, true),
        ] {
            let all = [Fairness::Strict, Fairness::Weighted, Fairness::Hybrid]
                .map(|fairness| may(fairness, own, others));
            assert_eq!(all, [strict, weighted, hybrid], "{own} {others}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_when_there_is_room_and_sent_away_when_there_is_none() {
        let admission = Admission::new(Fairness::Strict);
        let mut pink = Vec::new();
        for _ in 0..60 {
            pink.push(admission.enter("pink", "a").await.unwrap());
        }
        assert_eq!(
            admission.enter("pink", "a").await.unwrap_err().retry_after,
            PATIENCE * 2,
            "the clock is paused"
        );
        let waiting = admission.enter("pink", "b");
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(admission.load(), (60, 1));
        let green = admission.enter("green", "c").await.unwrap();
        drop(pink.pop());
        let late = waiting.await.unwrap();
        assert_eq!(admission.load(), (61, 0));
        drop((green, late, pink));
        assert_eq!(admission.load(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_a_team_take_turns() {
        let admission = Admission::new(Fairness::Strict);
        let mut inside = Vec::new();
        for _ in 0..60 {
            inside.push(admission.enter("pink", "greedy").await.unwrap());
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for client in ["greedy", "greedy", "greedy", "modest"] {
            let (admission, order) = (admission.clone(), order.clone());
            tasks.spawn(async move {
                let admitted = admission.enter("pink", client).await.unwrap();
                order.lock().unwrap().push(client);
                drop(admitted);
            });
            tokio::task::yield_now().await;
        }
        drop(inside.pop());
        while tasks.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), ["greedy", "modest", "greedy", "greedy"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_leaves_the_queue_takes_no_place() {
        let admission = Admission::new(Fairness::Strict);
        let mut inside = Vec::new();
        for _ in 0..60 {
            inside.push(admission.enter("pink", "a").await.unwrap());
        }
        {
            let waiting = admission.enter("pink", "b");
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            inside.pop(); // it is let in, and never looks
        }
        assert_eq!(admission.load(), (59, 0));
    }
}
