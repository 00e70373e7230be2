//! Who is let in, who waits a little, and who is sent away.
//!
//! The decision is a function of how many are in (`admits`); around it stands a short queue, because a crowd is often
//! over in milliseconds, and a client that is sent away comes back with its whole question. Who would wait in vain is
//! sent away at once: how long the wait will be is known from how fast the team's requests end.

mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::topology::Fairness;
use queue::Queue;

/// Requests at a time. Source: the contract.
pub(crate) const MOST: usize = 100;
/// Of one team. Source: the contract.
const MOST_OF_TEAM: usize = 60;
/// While the others use so many or fewer, `weighted` lets a team pass its limit. Source: the contract.
const FEW_OTHERS: usize = 48;
/// Above this share of all, `hybrid` is strict. Source: the contract.
const CROWDED: usize = MOST * 80 / 100;
/// Requests of a team that wait.
const MOST_WAITING: usize = 100;
/// How long they may have to wait, as far as that is known when they come.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long they wait when it turns out to be longer.
const LONGEST: Duration = Duration::from_secs(1);

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
    teams: BTreeMap<String, Team>,
}

/// What a team does here.
#[derive(Debug, Default)]
struct Team {
    active: usize,
    waiting: Queue,
    /// When a request of it ended last while others waited, and how long it is from one to the next on the average.
    ended: Option<Instant>,
    pace: Duration,
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

impl Team {
    /// How long whoever comes now would wait.
    fn wait(&self) -> Duration {
        self.pace * u32::try_from(self.waiting.len() + 1).unwrap_or(u32::MAX)
    }

    /// How long one more request of this client would.
    fn wait_of(&self, client: u64) -> Duration {
        self.pace * u32::try_from(self.waiting.place_of(client)).unwrap_or(u32::MAX)
    }

    fn leave(&mut self, now: Instant) {
        self.active -= 1;
        // Only while somebody waits does it say how fast places come free. What was slow once is forgotten otherwise, or
        // nobody would ever be let wait again.
        if self.waiting.len() == 0 {
            self.ended = None;
            self.pace = self.pace * 7 / 8;
            return;
        }
        if let Some(ended) = self.ended {
            self.pace = (self.pace * 7 + (now - ended)) / 8;
        }
        self.ended = Some(now);
    }
}

impl State {
    fn occupancy(&self, team: &str) -> Occupancy {
        let own = self.teams.get(team).map_or(0, |team| team.active);
        Occupancy { own, others: self.active() - own }
    }

    fn active(&self) -> usize {
        self.teams.values().map(|team| team.active).sum()
    }

    fn team(&mut self, team: &str) -> &mut Team {
        self.teams.entry(team.to_owned()).or_default()
    }

    /// Lets in who waits and may come: the team that has least goes first, and of a team its clients take turns.
    fn next(&mut self, fairness: Fairness) {
        loop {
            let may = |name: &String| admits(fairness, self.occupancy(name));
            let waiting = self.teams.iter().filter(|(name, team)| team.waiting.len() > 0 && may(name));
            let least = waiting.min_by_key(|(_, team)| team.active).map(|(name, _)| name.clone());
            let Some(team) = least.and_then(|name| self.teams.get_mut(&name)) else { return };
            let Some(turn) = team.waiting.pop() else { return };
            // One who gave up in the meantime takes no place.
            team.active += usize::from(turn.send(()).is_ok());
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

    /// Lets a request in, perhaps after a short wait. Whoever is sent away is sent away at once; only one that waits longer
    /// than was to be expected hears so late. Teams are remembered: there may not be
    /// as many as clients like.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        team: &str,
        client: &str,
        deadline: Instant,
    ) -> Result<Admitted, Rejected> {
        let longest = Instant::now() + LONGEST;
        let end = deadline.min(longest);
        let mut turn = {
            let mut state = self.state();
            let may = admits(self.fairness, state.occupancy(team));
            let own = state.team(team);
            if own.waiting.len() == 0 && may {
                own.active += 1;
                return Ok(self.admitted(team));
            }
            let (client, wait) = (xxh3_64(client.as_bytes()), own.wait());
            let left = end.saturating_duration_since(Instant::now());
            // A client that has filled the queue keeps nobody out who waits for less: its newest one makes room.
            let is_full = own.waiting.len() >= MOST_WAITING || wait > PATIENCE;
            if own.wait_of(client) > PATIENCE.min(left) || is_full && !own.waiting.make_room(client) {
                return Err(Rejected { retry_after: wait.max(PATIENCE) });
            }
            let (sender, turn) = oneshot::channel();
            own.waiting.push(client, sender);
            Turn { admission: self.clone(), team: team.to_owned(), turn: Some(turn) }
        };
        let waiting = turn.turn.as_mut().expect("it is taken below");
        match tokio::time::timeout_at(end, waiting).await {
            Ok(Ok(())) => {
                turn.turn = None;
                Ok(self.admitted(team))
            }
            // Another client's request was to wait instead.
            Ok(Err(_)) => Err(Rejected { retry_after: PATIENCE * 2 }),
            Err(_) => {
                if end == longest {
                    // Places come free so slowly that nobody needs to wait, until one does.
                    let mut state = self.state();
                    let own = state.team(team);
                    own.pace = own.pace.max(PATIENCE + Duration::from_millis(1));
                }
                Err(Rejected { retry_after: PATIENCE * 2 }) // and gives back what came at the last moment
            }
        }
    }

    fn admitted(self: &Arc<Self>, team: &str) -> Admitted {
        Admitted { admission: self.clone(), team: team.to_owned() }
    }

    fn leave(&self, team: &str) {
        let mut state = self.state();
        state.team(team).leave(Instant::now());
        state.next(self.fairness);
    }

    /// In, and waiting.
    pub(crate) fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.active(), state.teams.values().map(|team| team.waiting.len()).sum())
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
        self.admission.state().team(&self.team).waiting.forget_closed();
    }
}

#[cfg(test)]
mod tests;
