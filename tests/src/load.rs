//! A constant load of GETs: requests are due at fixed times, whether or not the earlier ones were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use slipring_plots::load::client::Client;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::http::Http;

/// An answer that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load under way.
#[derive(Debug)]
pub struct Load {
    stop: oneshot::Sender<()>,
    answered: watch::Receiver<u64>,
    task: JoinHandle<Report>,
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests that were answered 200.
    pub answered: u64,
    /// Other statuses, and kinds of failures.
    pub failures: BTreeMap<String, u64>,
    /// Who answered how often.
    pub replicas: BTreeMap<String, u64>,
    /// The longest that an answer took.
    pub slowest: Duration,
    /// How long each answer took, in the order in which they came.
    pub latencies: Latencies,
}

/// Many times, of which a report shows only their number.
#[derive(Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} latencies", self.0.len())
    }
}

impl Load {
    /// Sends `GET path` so often a second, until it is stopped.
    pub fn start(target: Http, path: &'static str, per_second: u32) -> Self {
        let client = Client::new(&format!("http://{}", target.address), None, PATIENCE);
        let client = Arc::new(client.expect("an address is a target"));
        let (stop, mut stopped) = oneshot::channel();
        let (tell, answered) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut due = interval(Duration::from_secs(1) / per_second); // paced: a constant load
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut flying, mut report) = (JoinSet::new(), Report::default());
            loop {
                tokio::select! {
                    _ = due.tick() => {
                        let client = client.clone();
                        flying.spawn(async move {
                            let sent = Instant::now();
                            (client.get(path).await, sent.elapsed())
                        });
                    }
                    Some(landed) = flying.join_next() => {
                        report.count(landed.expect("a request does not panic"));
                        tell.send_replace(report.answered);
                    }
                    _ = &mut stopped => break,
                }
            }
            while let Some(landed) = flying.join_next().await {
                report.count(landed.expect("a request does not panic"));
            }
            report
        });
        Self { stop, answered, task }
    }

    /// Waits until so many more requests were answered 200.
    ///
    /// # Panics
    /// When they are not within any reasonable time.
    pub async fn more(&self, requests: u64) {
        let mut answered = self.answered.clone();
        let enough = *answered.borrow() + requests;
        let waited = timeout(PATIENCE, answered.wait_for(|now| *now >= enough)).await;
        assert!(matches!(waited, Ok(Ok(_))), "{} answers, not {enough}", *self.answered.borrow());
    }

    /// Sends no more, waits for the answers to what was sent, and says what became of it all.
    pub async fn stop(self) -> Report {
        self.stop.send(()).expect("the load runs until it is stopped");
        self.task.await.expect("the load does not panic")
    }
}

type Landed = (Result<slipring_plots::load::client::Answer, slipring_plots::load::client::Failure>, Duration);

impl Report {
    fn count(&mut self, (outcome, took): Landed) {
        self.slowest = self.slowest.max(took);
        self.latencies.0.push(took);
        match outcome {
            Ok(answer) if answer.status == 200 => {
                self.answered += 1;
                *self.replicas.entry(answer.replica().unwrap_or_default()).or_default() += 1;
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                *self.failures.entry(format!("{} {text}", answer.status)).or_default() += 1;
            }
            Err(failure) => *self.failures.entry(format!("{}: {failure}", failure.kind())).or_default() += 1,
        }
    }

    /// What 99 of 100 answers took at most.
    pub fn p99(&self) -> Duration {
        p99(&self.latencies.0)
    }

    /// The p99 of a usual window of so many answers: the middle one of all of them. A pause of the machine, which may fall
    /// into any one of them, does not move it; what lasts does.
    pub fn usual_p99(&self, window: usize) -> Duration {
        let window = window.min(self.latencies.0.len()).max(1);
        let mut times: Vec<_> = self.latencies.0.chunks_exact(window).map(p99).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// # Panics
    /// When a request failed.
    pub fn assert_no_failure(&self) {
        assert!(self.failures.is_empty() && self.answered > 0, "{self:?}");
    }
}

fn p99(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

/// One client that asks for its keys over and over, each with the header `x-key`.
#[derive(Debug)]
pub struct Keys {
    stop: oneshot::Sender<()>,
    task: JoinHandle<BTreeMap<String, BTreeSet<String>>>,
}

impl Keys {
    /// Asks for these keys in turn, until it is stopped.
    pub fn start(target: Http, keys: impl IntoIterator<Item = String>) -> Self {
        let mut answered: BTreeMap<String, BTreeSet<String>> =
            keys.into_iter().map(|key| (key, BTreeSet::new())).collect();
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                for (key, replicas) in &mut answered {
                    let headers = [("x-key", key.as_str())];
                    let answer = target.with_headers(Method::GET, "/home", &headers, "").await;
                    assert_eq!(answer.status, 200, "{key}: {}", answer.text());
                    replicas.insert(answer.replica().to_owned());
                }
                if !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                    return answered;
                }
            }
        });
        Self { stop, task }
    }

    /// Finishes the round; for each key everybody who answered.
    pub async fn stop(self) -> BTreeMap<String, BTreeSet<String>> {
        drop(self.stop);
        self.task.await.expect("every request was answered 200")
    }
}
