//! Who is let in, who waits a little, and who is sent away.
//!
//! The decision is a function of how many are in (`admits`); around it stands a short queue, because a crowd is often
//! over in milliseconds, and a client that is sent away comes back with its whole question. Who would wait in vain is
//! sent away at once: how long the wait will be is known from how fast the team's requests end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::topology::Fairness;

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
    waiting: VecDeque<Waiter>,
    /// The client that was let in last from the queue.
    last: Option<u64>,
    /// When a request of it ended last while others waited, and how long it is from one to the next on the average.
    ended: Option<Instant>,
    pace: Duration,
}

#[derive(Debug)]
struct Waiter {
    /// A digest of its name: names are as long as clients like.
    client: u64,
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

impl Team {
    /// How long whoever comes now would wait.
    fn wait(&self) -> Duration {
        self.pace * u32::try_from(self.waiting.len() + 1).unwrap_or(u32::MAX)
    }

    fn leave(&mut self, now: Instant) {
        self.active -= 1;
        // Only while somebody waits does it say how fast places come free. What was slow once is forgotten otherwise, or
        // nobody would ever be let wait again.
        if self.waiting.is_empty() {
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

    /// Lets in who waits and may come: the team that has least goes first, and of a team another client than last time.
    fn next(&mut self, fairness: Fairness) {
        loop {
            let may = |name: &String| admits(fairness, self.occupancy(name));
            let waiting = self.teams.iter().filter(|(name, team)| !team.waiting.is_empty() && may(name));
            let least = waiting.min_by_key(|(_, team)| team.active).map(|(name, _)| name.clone());
            let Some(team) = least.and_then(|name| self.teams.get_mut(&name)) else { return };
            let place = team.waiting.iter().position(|waiter| Some(waiter.client) != team.last).unwrap_or(0);
            let Some(waiter) = team.waiting.remove(place) else { return };
            // One who gave up in the meantime takes no place.
            if waiter.turn.send(()).is_ok() {
                team.last = Some(waiter.client);
                team.active += 1;
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
            if own.waiting.is_empty() && may {
                own.active += 1;
                return Ok(self.admitted(team));
            }
            let wait = own.wait();
            let left = end.saturating_duration_since(Instant::now());
            if own.waiting.len() >= MOST_WAITING || wait > PATIENCE.min(left) {
                return Err(Rejected { retry_after: wait.max(PATIENCE) });
            }
            let (sender, turn) = oneshot::channel();
            own.waiting.push_back(Waiter { client: xxh3_64(client.as_bytes()), turn: sender });
            Turn { admission: self.clone(), team: team.to_owned(), turn: Some(turn) }
        };
        let waiting = turn.turn.as_mut().expect("it is taken below");
        match tokio::time::timeout_at(end, waiting).await {
            Ok(Ok(())) => {
                turn.turn = None;
                Ok(self.admitted(team))
            }
            _ => {
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
        self.admission.state().team(&self.team).waiting.retain(|waiter| !waiter.turn.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

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
            pink.push(admission.enter("pink", "a", later()).await.unwrap());
        }
        assert_eq!(
            admission.enter("pink", "a", later()).await.unwrap_err().retry_after,
            PATIENCE * 2,
            "the clock is paused"
        );
        // One has waited in vain: the others need not, until a place comes free.
        let mut next = std::pin::pin!(admission.enter("pink", "b", later()));
        let told = futures_util::poll!(&mut next);
        assert!(matches!(told, std::task::Poll::Ready(Err(_))), "{told:?}");
        drop(pink.pop());
        pink.push(admission.enter("pink", "a", later()).await.unwrap());
        let waiting = admission.enter("pink", "b", later());
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(admission.load(), (60, 1));
        let green = admission.enter("green", "c", later()).await.unwrap();
        drop(pink.pop());
        let late = waiting.await.unwrap();
        assert_eq!(admission.load(), (61, 0));
        drop((green, late, pink));
        assert_eq!(admission.load(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_place_comes_free_one_waits_in_vain_and_the_others_hear_at_once() {
        let admission = Admission::new(Fairness::Strict);
        let long = Instant::now() + Duration::from_secs(60);
        let mut stuck = Vec::new();
        for _ in 0..60 {
            stuck.push(admission.enter("pink", "a", long).await.unwrap());
        }
        // One who has less time himself teaches nothing.
        admission.enter("pink", "a", Instant::now() + PATIENCE).await.unwrap_err();
        let began = Instant::now();
        admission.enter("pink", "a", long).await.unwrap_err();
        assert_eq!(began.elapsed(), LONGEST);
        for _ in 0..3 {
            let began = Instant::now();
            let rejected = admission.enter("pink", "a", long).await.unwrap_err();
            assert_eq!(began.elapsed(), Duration::ZERO);
            assert!(rejected.retry_after > PATIENCE);
        }
        drop(stuck.pop());
        stuck.push(admission.enter("pink", "a", long).await.unwrap());
        let mut next = std::pin::pin!(admission.enter("pink", "a", long));
        assert!(futures_util::poll!(&mut next).is_pending(), "places come free again");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_a_team_take_turns() {
        let admission = Admission::new(Fairness::Strict);
        let mut inside = Vec::new();
        for _ in 0..60 {
            inside.push(admission.enter("pink", "greedy", later()).await.unwrap());
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for client in ["greedy", "greedy", "greedy", "modest"] {
            let (admission, order) = (admission.clone(), order.clone());
            tasks.spawn(async move {
                let admitted = admission.enter("pink", client, later()).await.unwrap();
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
            inside.push(admission.enter("pink", "a", later()).await.unwrap());
        }
        {
            let waiting = admission.enter("pink", "b", later());
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            inside.pop(); // it is let in, and never looks
        }
        assert_eq!(admission.load(), (59, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_teams_queue_keeps_no_other_team_out() {
        let admission = Admission::new(Fairness::Strict);
        let mut inside = Vec::new();
        for _ in 0..60 {
            inside.push(admission.enter("pink", "a", later()).await.unwrap());
        }
        let mut crowd: Vec<_> =
            (0..MOST_WAITING + 50).map(|_| Box::pin(admission.enter("pink", "a", later()))).collect();
        let mut turned_away = 0;
        for one in &mut crowd {
            turned_away += usize::from(futures_util::poll!(one).is_ready());
        }
        assert_eq!((turned_away, admission.load()), (50, (60, MOST_WAITING)));
        let mut green = std::pin::pin!(admission.enter("green", "b", later()));
        assert!(futures_util::poll!(&mut green).is_ready(), "at once");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_in_vain_is_sent_away_at_once() {
        let admission = Admission::new(Fairness::Strict);
        let mut inside = VecDeque::new();
        // A team that asks now and then is not slow.
        for _ in 0..20 {
            drop(admission.enter("pink", "a", later()).await.unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        for _ in 0..60 {
            inside.push_back(admission.enter("pink", "a", later()).await.unwrap());
        }
        let mut waiting = VecDeque::new();
        let ask = async |waiting: &mut VecDeque<_>| {
            let mut one = Box::pin(admission.enter("pink", "a", later()));
            match futures_util::poll!(&mut one) {
                std::task::Poll::Pending => {
                    waiting.push_back(one);
                    None
                }
                std::task::Poll::Ready(told) => told.err(),
            }
        };
        for _ in 0..3 {
            assert_eq!(ask(&mut waiting).await, None);
        }
        // One ends each 60 ms: a fifth one would wait for 250 and more.
        for _ in 0..40 {
            tokio::time::advance(Duration::from_millis(60)).await;
            inside.pop_front();
            inside.push_back(waiting.pop_front().unwrap().await.unwrap());
            assert_eq!(ask(&mut waiting).await, None);
        }
        assert_eq!(ask(&mut waiting).await, None);
        let rejected = ask(&mut waiting).await.expect("it does not wait");
        assert!(rejected.retry_after >= PATIENCE, "{rejected:?}");
        // Something stalls for long, and is well again after that: who comes then may wait once more.
        for _ in 0..4 {
            tokio::time::advance(Duration::from_millis(900)).await;
            inside.pop_front();
            inside.push_back(waiting.pop_front().unwrap().await.unwrap());
        }
        assert!(ask(&mut waiting).await.is_some(), "it is slow");
        for _ in 0..20 {
            inside.pop_front();
            inside.push_back(admission.enter("pink", "a", later()).await.unwrap());
        }
        assert_eq!(ask(&mut waiting).await, None);
    }
}
