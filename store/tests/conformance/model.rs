//! The same random calls on several stores: the same answers, but for the numbers that are drawn.
//!
//! Memory and SQLite follow one clock that is stepped, so that leases run out at random, too. PostgreSQL has its own; there
//! leases are over at once, or outlive the test. `SLIPRING_STORE_SEED` replays one seed.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use slipring_store::{
    Campaign, Change, Claim, Claimed, Effect, Expect, Memory, NewTask, Outcome, Range, Sqlite, StepClock,
    Store, Why,
};

use super::site::{GONE, Kind, LONG, Site};

const STEPS: usize = 120;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const WORKERS: [&str; 3] = ["v", "w", "x"];

/// A store, and what it drew where others drew other numbers.
struct Player {
    store: Arc<dyn Store>,
    /// Of every claim there was, in the order of claims.
    claims: Vec<Claim>,
    tenures: Vec<u64>,
}

/// A change, with places in lists for numbers.
#[derive(Clone, Debug)]
enum Move {
    Put(&'static str, u8, Known),
    Delete(&'static str, Known),
    Add(Vec<NewTask>),
    Complete(usize),
    Fail(usize, Option<Duration>),
    Release(usize),
    Forget(&'static str),
    Holds(usize),
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Any,
    Absent,
    Current,
    Never,
}

#[derive(Clone, Debug)]
enum Call {
    Transact(Vec<Move>),
    Claim(&'static str, Duration, usize),
    Speculate(&'static str, &'static str, Duration),
    Renew(Vec<usize>, Duration),
    Campaign(&'static str, Duration),
    Resign(usize),
    Pass(Duration),
}

struct Chance {
    random: StdRng,
    stepped: bool,
    claims: usize,
    tenures: usize,
}

impl Chance {
    fn time(&mut self) -> Duration {
        let times = if self.stepped {
            &[GONE, Duration::from_secs(1), Duration::from_secs(3), LONG][..]
        } else {
            &[GONE, LONG][..]
        };
        *times.choose(&mut self.random).unwrap()
    }

    fn key(&mut self) -> &'static str {
        KEYS.choose(&mut self.random).unwrap()
    }

    fn worker(&mut self) -> &'static str {
        WORKERS.choose(&mut self.random).unwrap()
    }

    /// A late one, mostly.
    fn claim(&mut self) -> usize {
        let back = self.random.random_range(1..=6);
        self.claims.saturating_sub(back)
    }

    fn known(&mut self) -> Known {
        *[Known::Any, Known::Absent, Known::Current, Known::Never].choose(&mut self.random).unwrap()
    }

    fn change(&mut self) -> Move {
        match self.random.random_range(0..13) {
            0 | 1 => Move::Put(self.key(), self.random.random(), self.known()),
            2 => Move::Delete(self.key(), self.known()),
            3 | 4 => {
                let delay = if self.random.random_ratio(1, 4) { self.time() } else { GONE };
                let task = NewTask {
                    weight: self.random.random_range(-1..=1),
                    attempts: self.random.random_range(1..=3),
                    delay,
                    ..NewTask::new(self.key(), [self.random.random()])
                };
                Move::Add(vec![task])
            }
            5..=7 if self.claims > 0 => Move::Complete(self.claim()),
            8 if self.claims > 0 => {
                let again = self.random.random_bool(0.7).then(|| self.time());
                Move::Fail(self.claim(), again)
            }
            9 if self.claims > 0 => Move::Release(self.claim()),
            10 if self.tenures > 0 => Move::Holds(self.random.random_range(0..self.tenures)),
            11 => Move::Forget(self.key()),
            _ => Move::Put(self.key(), 0, Known::Any),
        }
    }

    fn call(&mut self) -> Call {
        match self.random.random_range(0..12) {
            0..=3 => {
                let many = self.random.random_range(1..=3);
                Call::Transact((0..many).map(|_| self.change()).collect())
            }
            4..=6 => Call::Claim(self.worker(), self.time(), self.random.random_range(1..=3)),
            7 => Call::Speculate(self.key(), self.worker(), self.time()),
            8 if self.claims > 0 => {
                let many = self.random.random_range(1..=3);
                Call::Renew((0..many).map(|_| self.claim()).collect(), self.time())
            }
            9 => Call::Campaign(self.worker(), self.time()),
            10 if self.tenures > 0 => Call::Resign(self.random.random_range(0..self.tenures)),
            _ => Call::Pass(Duration::from_millis(self.random.random_range(0..1500))),
        }
    }
}

impl Player {
    fn new(store: Arc<dyn Store>) -> Self {
        Self { store, claims: Vec::new(), tenures: Vec::new() }
    }

    async fn expect(&self, key: &str, known: Known) -> Expect {
        match known {
            Known::Any => Expect::Any,
            Known::Absent => Expect::Absent,
            Known::Never => Expect::Version(1 << 40),
            Known::Current => match self.store.get(key).await.unwrap() {
                None => Expect::Version(1 << 40),
                Some(record) => Expect::Version(record.version),
            },
        }
    }

    async fn change(&self, change: &Move) -> Change {
        let claim = |place: usize| self.claims[place].clone();
        match change.clone() {
            Move::Put(key, value, known) => {
                let expect = self.expect(key, known).await;
                Change::Put { key: key.into(), value: vec![value], expect }
            }
            Move::Delete(key, known) => {
                Change::Delete { key: key.into(), expect: self.expect(key, known).await }
            }
            Move::Add(tasks) => Change::Add { queue: "q".into(), tasks },
            Move::Complete(place) => Change::Complete { claim: claim(place), result: vec![1] },
            Move::Fail(place, retry_after) => {
                Change::Fail { claim: claim(place), reason: format!("claim {place}"), retry_after }
            }
            Move::Release(place) => Change::Release { claim: claim(place) },
            Move::Forget(key) => Change::Forget { queue: "q".into(), key: key.into() },
            Move::Holds(place) => Change::Holds { office: "o".into(), epoch: self.tenures[place] },
        }
    }

    fn number(&mut self, claimed: Vec<Claimed>) -> String {
        let shown = claimed.iter().map(|task| {
            let Claimed { claim, payload, weight, attempt, attempts, .. } = task;
            format!("{} {payload:?} {weight} {attempt}/{attempts}", claim.key)
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        self.claims.extend(claimed.into_iter().map(|task| task.claim));
        shown
    }

    /// What came of a call, in words without numbers that are drawn.
    async fn play(&mut self, call: &Call) -> String {
        let store = self.store.clone();
        match call {
            Call::Transact(moves) => {
                let mut changes = Vec::new();
                for change in moves {
                    changes.push(self.change(change).await);
                }
                match store.transact(changes).await {
                    Err(error) => error.to_string(),
                    Ok(Outcome::Committed(effects)) => {
                        let effects = effects.into_iter().map(|effect| match effect {
                            Effect::Version(_) => Effect::Version(0),
                            other => other,
                        });
                        format!("{:?}", effects.collect::<Vec<_>>())
                    }
                    Ok(Outcome::Refused(refusals)) => {
                        let refusals = refusals.into_iter().map(|refusal| match refusal.why {
                            Why::Conflict { found } => {
                                format!("{} conflict {}", refusal.change, found.is_some())
                            }
                            why => format!("{} {why:?}", refusal.change),
                        });
                        refusals.collect::<Vec<_>>().join(", ")
                    }
                }
            }
            Call::Claim(worker, lease, most) => {
                let claimed = store.claim("q", worker, *lease, *most).await.unwrap();
                self.number(claimed)
            }
            Call::Speculate(key, worker, lease) => {
                let claimed = store.speculate("q", key, worker, *lease).await.unwrap();
                self.number(Vec::from_iter(claimed))
            }
            Call::Renew(places, lease) => {
                let claims: Vec<_> = places.iter().map(|place| self.claims[*place].clone()).collect();
                format!("{:?}", store.renew(&claims, *lease).await.unwrap())
            }
            Call::Campaign(who, lease) => match store.campaign("o", who, *lease).await.unwrap() {
                Campaign::Taken(tenure) => format!("taken by {}", tenure.who),
                Campaign::Held { epoch, .. } => {
                    let place = self.tenures.iter().position(|known| *known == epoch);
                    let place = place.unwrap_or_else(|| {
                        assert!(self.tenures.iter().all(|known| *known < epoch));
                        self.tenures.push(epoch);
                        self.tenures.len() - 1
                    });
                    format!("held as {place}")
                }
            },
            Call::Resign(place) => format!("{}", store.resign("o", self.tenures[*place]).await.unwrap()),
            Call::Pass(_) => String::new(),
        }
    }

    /// All that can be read, in the same words. The times only if they are of one clock.
    async fn state(&self, times: bool) -> String {
        let place = |epoch| self.claims.iter().position(|claim| claim.epoch == epoch);
        let store = &self.store;
        let mut state = format!("{:?}\n", store.counts("q").await.unwrap());
        for lease in store.running("q").await.unwrap() {
            let until = if times { lease.until.since(lease.since) } else { GONE };
            state += &format!("{} {} {:?} {until:?}\n", lease.key, lease.worker, place(lease.epoch));
        }
        for task in store.finished("q", None, 10).await.unwrap() {
            let at = if times { task.at.0 } else { 0 };
            let (by, attempt) = (place(task.epoch), task.attempt);
            state += &format!("{} {:?} {by:?} {} {attempt} {at}\n", task.key, task.verdict, task.worker);
        }
        for record in store.range(Range::prefix("")).await.unwrap() {
            state += &format!("{} {:?}\n", record.key, record.value);
        }
        let tenure = store.tenure("o").await.unwrap();
        state += &format!("{:?}\n", tenure.map(|tenure| tenure.who));
        state + &format!("{:?}", store.contradictions().await.unwrap())
    }
}

async fn play(seed: u64, clock: Option<&StepClock>, stores: Vec<Arc<dyn Store>>) {
    let mut players: Vec<_> = stores.into_iter().map(Player::new).collect();
    let random = StdRng::seed_from_u64(seed);
    let mut chance = Chance { random, stepped: clock.is_some(), claims: 0, tenures: 0 };
    let mut history = Vec::new();
    for _ in 0..STEPS {
        let call = chance.call();
        if let (Call::Pass(time), Some(clock)) = (&call, clock) {
            clock.advance(*time);
        }
        history.push(format!("{call:?}"));
        let mut told = Vec::new();
        for player in &mut players {
            let answer = player.play(&call).await;
            let state = player.state(clock.is_some()).await;
            assert!(state.ends_with("\n[]"), "seed {seed}: {state}\nafter\n{}", history.join("\n"));
            told.push((answer, state));
        }
        for other in &told[1..] {
            assert_eq!(&told[0], other, "seed {seed}, after\n{}", history.join("\n"));
        }
        (chance.claims, chance.tenures) = (players[0].claims.len(), players[0].tenures.len());
    }
}

fn seeds(many: u64) -> Vec<u64> {
    match std::env::var("SLIPRING_STORE_SEED") {
        Ok(seed) => vec![seed.parse().expect("SLIPRING_STORE_SEED is a number")],
        Err(_) => (0..many).collect(),
    }
}

#[tokio::test]
async fn memory_and_sqlite_answer_alike() {
    for seed in seeds(30) {
        let folder = tempfile::tempdir().unwrap();
        let clock = StepClock::default();
        clock.advance(LONG);
        let memory = Memory::new(clock.clock());
        let sqlite = Sqlite::open(folder.path().join("store.db"), clock.clock()).await.unwrap();
        play(seed, Some(&clock), vec![Arc::new(memory), Arc::new(sqlite)]).await;
    }
}

#[tokio::test]
async fn memory_and_postgresql_answer_alike() {
    for seed in seeds(10) {
        let Some(site) = Site::of(Kind::Postgres).await else { return };
        let memory = Site::of(Kind::Memory).await.expect("it is always there");
        play(1000 + seed, None, vec![memory.open().await, site.open().await]).await;
    }
}
