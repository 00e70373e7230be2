//! A replica struck down in mid-load: every request of the run, and the moments that matter.
//!
//! How long the gap was is read off the requests themselves, from the stroke to the first answer of the
//! replica that was struck, because that is what a client sees; the balancer's own opinion (when its fleet
//! was complete again) stands beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a replica is struck down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manner {
    /// SIGKILL: its connections break, and the balancer is told at once.
    Kill,
    /// SIGSTOP: its connections stay open and nothing comes; only heartbeats tell.
    Freeze,
}

impl Manner {
    /// Both.
    pub const ALL: [Manner; 2] = [Manner::Kill, Manner::Freeze];

    /// The name of its files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Manner::Kill => "failure",
            Manner::Freeze => "freeze",
        }
    }

    /// What has been done to the replica.
    #[must_use]
    pub fn participle(self) -> &'static str {
        match self {
            Manner::Kill => "killed",
            Manner::Freeze => "frozen",
        }
    }

    /// How it was done, as one would type it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Manner::Kill => "kill -9",
            Manner::Freeze => "kill -STOP",
        }
    }
}

/// Everything that `tester failure` measured. Times are milliseconds from the start of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureRun {
    /// How the replica was struck down.
    pub manner: Manner,
    /// The placement's name.
    pub placement: String,
    /// Requests a second.
    pub rate: f64,
    /// The replicas, in the balancer's order.
    pub replicas: Vec<String>,
    /// The one that was struck.
    pub victim: String,
    /// When it was struck.
    pub struck_at: f64,
    /// When the balancer said again that all replicas are live; `None` if it did not before the end.
    pub fleet_complete_at: Option<f64>,
    /// The figures drawn from the requests.
    pub figures: Figures,
    /// Every request, in the order in which they were due.
    pub requests: Vec<Request>,
}

/// One request; a failed one has no replica but a reason. A row of five in the JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Request {
    /// When it was due.
    pub due: f64,
    /// How late it was sent.
    pub lateness: f64,
    /// How long it took from when it was due.
    pub latency: f64,
    /// Who answered, or why nobody did.
    pub outcome: Result<String, String>,
}

type Row = (f64, f64, f64, Option<String>, Option<String>);

impl From<Row> for Request {
    fn from((due, lateness, latency, replica, failure): Row) -> Request {
        let outcome = match (replica, failure) {
            (Some(replica), None) => Ok(replica),
            (_, failure) => Err(failure.unwrap_or_default()),
        };
        Request { due, lateness, latency, outcome }
    }
}

impl From<Request> for Row {
    fn from(request: Request) -> Row {
        let (replica, failure) = match request.outcome {
            Ok(replica) => (Some(replica), None),
            Err(failure) => (None, Some(failure)),
        };
        (request.due, request.lateness, request.latency, replica, failure)
    }
}

impl Request {
    /// When it was sent, or given up if it never was.
    #[must_use]
    pub fn sent(&self) -> f64 {
        self.due + self.lateness
    }

    /// When it was answered or given up.
    #[must_use]
    pub fn done(&self) -> f64 {
        self.due + self.latency
    }
}

/// What the requests say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests with a good answer.
    pub answered: u64,
    /// Requests without, by reason.
    pub failures: BTreeMap<String, u64>,
    /// The victim's last answer to a request from before the stroke.
    pub last_answer_at: Option<f64>,
    /// The victim's first answer to a later one; `None` if it never came back.
    pub recovered_at: Option<f64>,
    /// From the stroke to that answer.
    pub gap: Option<f64>,
    /// Latency of the answers outside the gap.
    pub calm: Option<Latency>,
    /// Latency of the answers due between the stroke and the recovery.
    pub during: Option<Latency>,
    /// The generator's own lateness, its 99th percentile: part of every latency.
    pub lateness_p99: f64,
}

/// Latency, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of these values, in any order; `None` of none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Latency> {
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        Some(Latency { p50: quantile(&values, 0.5), p99: quantile(&values, 0.99), max })
    }
}

/// The smallest value that at least a part `q` of the sorted values does not exceed; 0 of none.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

impl Figures {
    /// Reads the figures off the requests.
    #[must_use]
    pub fn of(requests: &[Request], victim: &str, struck_at: f64) -> Figures {
        let mut failures = BTreeMap::new();
        for reason in requests.iter().filter_map(|request| request.outcome.as_ref().err()) {
            *failures.entry(reason.clone()).or_insert(0) += 1;
        }
        let by_victim = |request: &&Request| request.outcome.as_ref().is_ok_and(|name| name == victim);
        // By when they were sent: an answer to an earlier request may still arrive after the stroke.
        let (before, after): (Vec<&Request>, Vec<&Request>) =
            requests.iter().filter(by_victim).partition(|request| request.sent() <= struck_at);
        let last_answer_at = before.iter().map(|request| request.done()).max_by(f64::total_cmp);
        let recovered_at = after.iter().map(|request| request.done()).min_by(f64::total_cmp);
        let until = recovered_at.unwrap_or(f64::INFINITY);
        let (during, calm): (Vec<&Request>, Vec<&Request>) = requests
            .iter()
            .filter(|request| request.outcome.is_ok())
            .partition(|request| request.done() >= struck_at && request.due < until);
        let latency = |requests: &[&Request]| Latency::of(requests.iter().map(|r| r.latency).collect());
        let mut lateness: Vec<f64> = requests.iter().map(|request| request.lateness).collect();
        lateness.sort_by(f64::total_cmp);
        Figures {
            answered: (calm.len() + during.len()) as u64,
            failures,
            last_answer_at,
            recovered_at,
            gap: recovered_at.map(|at| at - struck_at),
            calm: latency(&calm),
            during: latency(&during),
            lateness_p99: quantile(&lateness, 0.99),
        }
    }
}

/// How many of `moments` fall into each of `count` buckets `width` long; those outside are left out.
#[must_use]
pub fn bucketed(moments: impl IntoIterator<Item = f64>, width: f64, count: usize) -> Vec<u64> {
    let mut buckets = vec![0; count];
    for moment in moments {
        let index = (moment / width).floor();
        if index >= 0.0
            && let Some(bucket) = buckets.get_mut(index as usize)
        {
            *bucket += 1;
        }
    }
    buckets
}
