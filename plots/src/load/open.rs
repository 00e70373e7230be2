//! Open-loop load: requests are due at fixed times, whether or not the earlier ones were answered.
//!
//! Latency counts from the moment a request was *due*. A generator that waits for answers before it sends
//! asks a stalled server less often and so measures the stall once instead of for everyone who would have
//! come ("coordinated omission", G. Tene); here the requests that pile up behind a stall all show it, even
//! those that wait in the generator itself because too many are in flight. The price is that the
//! generator's own lateness is part of the figures; it is recorded in every [`Sample`], so that a reader
//! can tell the two apart, and kept small by [`super::pace`].

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::pace::Pace;

/// The most requests of one run, so that a slip of the finger cannot ask for a year of load.
pub const MAX_REQUESTS: u64 = 100_000_000;

/// Why a plan makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No rate, a negative one, or not a number.
    #[error("a rate of {0} requests a second cannot be sent: give a number above 0")]
    Rate(f64),
    /// Nothing would be sent, or too much.
    #[error("{0} requests in all: choose a rate and a duration that make 1 to {MAX_REQUESTS}")]
    Requests(f64),
    /// No request could ever be in flight.
    #[error("at least one request must be allowed in flight")]
    InFlight,
}

/// When requests are due and how long they may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    rate: f64,
    requests: u64,
    timeout: Duration,
    in_flight: usize,
}

impl Plan {
    /// `rate` requests a second for `duration`; each fails when it is not answered `timeout` after it was
    /// due; at most `in_flight` at once, the others wait (and their clock runs).
    pub fn new(
        rate: f64,
        duration: Duration,
        timeout: Duration,
        in_flight: usize,
    ) -> Result<Plan, PlanError> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(PlanError::Rate(rate));
        }
        let requests = (rate * duration.as_secs_f64()).round();
        if !(1.0..=MAX_REQUESTS as f64).contains(&requests) {
            return Err(PlanError::Requests(requests));
        }
        if in_flight == 0 {
            return Err(PlanError::InFlight);
        }
        Ok(Plan { rate, requests: requests as u64, timeout, in_flight })
    }

    /// How many requests will be due.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// When the n-th request is due, from the start of the run.
    #[must_use]
    pub fn due(&self, n: u64) -> Duration {
        Duration::from_secs_f64(n as f64 / self.rate)
    }
}

/// What became of one request; times run from the start of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<T> {
    /// Its number.
    pub n: u64,
    /// When it was due.
    pub due: Duration,
    /// When it was sent; never, if its time was up before there was room for it.
    pub sent: Option<Duration>,
    /// When it was answered or given up.
    pub done: Duration,
    /// What came back; `None` when its time was up.
    pub outcome: Option<T>,
}

impl<T> Sample<T> {
    /// How long it took from the moment it was due.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.done.saturating_sub(self.due)
    }

    /// How late the generator itself was.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.sent.unwrap_or(self.done).saturating_sub(self.due)
    }
}

/// Runs the plan from `start` and hands each sample to `seen` as it is complete, in order of completion.
///
/// `send` starts the n-th request; it runs on the runtime's threads. Dropping the returned future ends the
/// run and every request in flight.
pub async fn run<T, S, F>(
    plan: &Plan,
    pace: &mut impl Pace,
    start: Instant,
    send: S,
    mut seen: impl FnMut(Sample<T>),
) where
    T: Send + 'static,
    S: Fn(u64) -> F,
    F: Future<Output = T> + Send + 'static,
{
    let mut flying = JoinSet::new();
    let mut next = 0;
    while next < plan.requests || !flying.is_empty() {
        let room = flying.len() < plan.in_flight;
        let due = start + plan.due(next);
        tokio::select! {
            // Answers first: they make room.
            biased;
            Some(landed) = flying.join_next() => deliver(landed, &mut seen),
            () = pace.until(due), if next < plan.requests && room => {
                let (n, due) = (next, plan.due(next));
                next += 1;
                let now = start.elapsed();
                if now >= due + plan.timeout {
                    seen(Sample { n, due, sent: None, done: now, outcome: None });
                    continue;
                }
                let request = send(n);
                let deadline = start + due + plan.timeout;
                flying.spawn(async move {
                    let sent = Some(start.elapsed());
                    let outcome = timeout_at(deadline, request).await.ok();
                    Sample { n, due, sent, done: start.elapsed(), outcome }
                });
            }
        }
    }
}

/// A request that panicked panics here too: it is a bug in the caller's function, not a measurement.
fn deliver<T>(landed: Result<Sample<T>, tokio::task::JoinError>, seen: &mut impl FnMut(Sample<T>)) {
    match landed {
        Ok(sample) => seen(sample),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only dropping the set cancels its tasks, and then nobody is here to be told.
        Err(_) => {}
    }
}
