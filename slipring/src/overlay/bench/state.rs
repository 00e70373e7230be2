//! What a benchmark knows at a time: pure, told of every end of a request and every look at the processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use slipring_overlay::wire::MetricsResponse;

/// What is done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// `host:port` of the process that is asked.
    pub(super) target: String,
    /// The question, as it is told.
    pub(super) question: String,
    pub(super) requests: u64,
    pub(super) concurrency: usize,
    pub(super) strategies: Strategies,
}

/// As the process that is asked says them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Strategies {
    pub(super) forwarding: String,
    pub(super) async_forwarding: bool,
    pub(super) chunking: String,
    pub(super) fairness: String,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything was read.
    Answered { records: u64, chunks: u64 },
    /// In a word.
    Failed(String),
}

/// A process as it was seen last.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) role: String,
    pub(super) team: String,
    /// The last it said, also when it is down now.
    pub(super) metrics: Option<MetricsResponse>,
    /// Why it is down.
    pub(super) why: Option<String>,
}

#[derive(Debug)]
pub(super) struct Bench {
    pub(super) plan: Plan,
    pub(super) processes: Vec<Seen>,
    /// Of the answered requests, in microseconds.
    took: Vec<u64>,
    failed: BTreeMap<String, u64>,
    records: u64,
    chunks: u64,
}

/// Milliseconds from the question to the last chunk, of the requests that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) average: f64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// All numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// That were to be made.
    pub(super) requests: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// How often each of them.
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) records: u64,
    pub(super) chunks: u64,
    pub(super) seconds: f64,
    /// Answered ones.
    pub(super) requests_per_second: f64,
    pub(super) records_per_second: f64,
    /// None if nothing was answered.
    pub(super) latency_ms: Option<Latency>,
}

impl Figures {
    /// How many requests are over.
    pub(super) fn done(&self) -> u64 {
        self.answered + self.failed
    }
}

impl Bench {
    pub(super) fn new(plan: Plan, processes: Vec<Seen>) -> Self {
        let (took, failed) = (Vec::new(), BTreeMap::new());
        Self { plan, processes, took, failed, records: 0, chunks: 0 }
    }

    /// A request is over.
    pub(super) fn finished(&mut self, took: Duration, outcome: Outcome) {
        match outcome {
            Outcome::Answered { records, chunks } => {
                self.took.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                self.records += records;
                self.chunks += chunks;
            }
            Outcome::Failed(status) => *self.failed.entry(status).or_default() += 1,
        }
    }

    /// What the processes said when they were looked at, in their order.
    pub(super) fn looked(&mut self, said: Vec<Result<MetricsResponse, String>>) {
        for (seen, said) in self.processes.iter_mut().zip(said) {
            match said {
                Ok(metrics) => (seen.metrics, seen.why) = (Some(metrics), None),
                Err(why) => seen.why = Some(why),
            }
        }
    }

    pub(super) fn figures(&self, elapsed: Duration) -> Figures {
        let seconds = elapsed.as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let answered = self.took.len() as u64;
        Figures {
            requests: self.plan.requests,
            answered,
            failed: self.failed.values().sum(),
            failures: self.failed.clone(),
            records: self.records,
            chunks: self.chunks,
            seconds,
            requests_per_second: rate(answered),
            records_per_second: rate(self.records),
            latency_ms: latency(&self.took),
        }
    }
}

fn latency(took: &[u64]) -> Option<Latency> {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let ms = |micros: u64| micros as f64 / 1000.0;
    // The nearest rank.
    let quantile =
        |q: f64| ms(sorted[((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len()) - 1]);
    let average = sorted.iter().map(|&micros| micros as f64).sum::<f64>() / sorted.len() as f64 / 1000.0;
    Some(Latency {
        average,
        min: ms(min),
        p50: quantile(0.5),
        p95: quantile(0.95),
        p99: quantile(0.99),
        max: ms(max),
    })
}

impl Seen {
    /// `up`, `loading`, `partly` (some of its partitions cannot be read), `down`.
    pub(super) fn state(&self) -> &'static str {
        match (&self.why, &self.metrics) {
            (Some(_), _) | (None, None) => "down",
            (None, Some(metrics)) if metrics.is_healthy => "up",
            (None, Some(metrics)) if metrics.data_files_loaded > 0 => "partly",
            (None, Some(_)) => "loading",
        }
    }
}

impl Strategies {
    pub(super) fn of(metrics: &MetricsResponse) -> Self {
        Self {
            forwarding: metrics.forwarding_strategy.clone(),
            async_forwarding: metrics.async_forwarding,
            chunking: metrics.chunking_strategy.clone(),
            fairness: metrics.fairness_strategy.clone(),
        }
    }

    /// `parallel`, `async`, `adaptive`, `strict`.
    pub(super) fn words(&self) -> [&str; 4] {
        let asynchronous = if self.async_forwarding { "async" } else { "blocking" };
        [&self.forwarding, asynchronous, &self.chunking, &self.fairness]
    }
}
