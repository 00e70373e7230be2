//! Replicas that answer heartbeats and fail requests: they are left out for a while, and a longer while each time.
//!
//! Heartbeats tell whether a replica lives; this tells whether it is any good. It fails when its connection is lost,
//! it stays silent, its answer breaks off or what it says is no HTTP (and, if so configured, when it says 5xx). So many
//! failures in a row, or too small a share of successes over ten seconds, eject it. Never more than a share of the members
//! is out at a time: when most fail, the fault lies with what they share, and leaving them out helps nobody.
//!
//! An answer counts once, when it has ended: its head alone says nothing of a replica that breaks every body. One that
//! streams for hours says nothing until then, and one whose client leaves has been good for as long as it was wanted.
//!
//! A request that succeeds pays a load and an addition for all this; the looking back is done once a second, by one thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::upstream::Upstream;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

/// Seconds over which successes are counted.
const WINDOW: usize = 10;
/// Requests in that time from which on a share means something.
const ENOUGH: u64 = 20;

/// When a replica is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Failures in a row; 0: however many.
    pub failures: u32,
    /// Share of successes below which it is out; 0: none.
    pub success_rate: f64,
    /// Whether a 5xx of the replica's own counts as a failure.
    pub statuses: bool,
    /// The first time out; the second one is twice as long, and so on.
    pub time: Duration,
    /// The longest.
    pub longest: Duration,
    /// The most of the members that may be out at a time, as a share.
    pub most: f64,
}

impl Policy {
    /// How long it is out for the `nth` time in a row, from 1.
    fn sentence(&self, nth: u32) -> Duration {
        self.time.saturating_mul(nth).min(self.longest)
    }

    /// Whether one more of `members` may be left out beside `out`.
    fn has_room(&self, out: usize, members: usize) -> bool {
        // As much above as the rounding of the product may be below.
        (out + 1) as f64 <= self.most * members as f64 + 1e-9
    }

    /// Whether so many failures of so many requests are too many.
    fn is_too_little(&self, failed: u64, requests: u64) -> bool {
        requests >= ENOUGH && ((requests - failed) as f64) < self.success_rate * requests as f64
    }
}

/// What requests have seen of one life of a replica.
#[derive(Debug)]
pub struct Health {
    /// Failures in a row that are too many; 0: none are.
    limit: AtomicU32,
    /// Whether a 5xx is one.
    statuses: AtomicBool,
    in_a_row: AtomicU32,
    successes: AtomicU64,
    failures: AtomicU64,
    ejected: AtomicBool,
    record: Mutex<Record>,
}

/// What is looked at now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    /// How often it was out lately.
    times: u32,
    /// Until when it is out, or, if it is in, until when it has to be good for one of those to be forgotten.
    until: Duration,
    /// Requests and failures at the beginning of each of the last seconds.
    marks: VecDeque<(u64, u64)>,
}

impl Record {
    fn eject(&mut self, policy: &Policy, now: Duration) -> Duration {
        self.times += 1;
        let sentence = policy.sentence(self.times);
        self.until = now + sentence;
        self.marks.clear();
        sentence
    }

    /// A second passed. Whether its successes are too few.
    fn mark(&mut self, requests: u64, failed: u64, policy: &Policy) -> bool {
        let (earlier, failed_earlier) = *self.marks.front().unwrap_or(&(requests, failed));
        if self.marks.len() == WINDOW {
            self.marks.pop_front();
        }
        self.marks.push_back((requests, failed));
        policy.is_too_little(failed.saturating_sub(failed_earlier), requests.saturating_sub(earlier))
    }

    fn forgive(&mut self, policy: &Policy, now: Duration) {
        if self.times > 0 && now >= self.until {
            self.times -= 1;
            self.until = now + policy.time;
        }
    }
}

impl Health {
    /// Of a replica that nothing is known of.
    pub fn new(policy: Policy) -> Self {
        Self {
            limit: AtomicU32::new(policy.failures),
            statuses: AtomicBool::new(policy.statuses),
            in_a_row: AtomicU32::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejected: AtomicBool::new(false),
            record: Mutex::default(),
        }
    }

    /// From now on another policy holds. What was seen of it stays.
    pub fn obey(&self, policy: &Policy) {
        self.limit.store(policy.failures, Ordering::Relaxed);
        self.statuses.store(policy.statuses, Ordering::Relaxed);
    }

    /// Whether it is left out.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// It answered, and the answer has ended without a fault of its own.
    pub fn answered(&self, status: u16) {
        if status >= 500 && self.statuses.load(Ordering::Relaxed) {
            return self.failed();
        }
        self.successes.fetch_add(1, Ordering::Relaxed);
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// It did not answer, or not to the end, and is to blame.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it failed so often in a row that somebody should look at it.
    pub fn is_suspicious(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.in_a_row.load(Ordering::Relaxed) >= limit && limit > 0 && !self.is_ejected()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who decides that replicas are left out.
#[derive(Debug)]
pub struct Ejector {
    policy: Policy,
    began: Instant,
    /// One decision at a time, or two threads would each find room for one more.
    deciding: Arc<Mutex<()>>,
    panicking: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Ejector {
    /// Nobody is out.
    pub fn new(policy: Policy, metrics: Arc<Metrics>) -> Self {
        let (deciding, panicking) = (Arc::default(), Arc::default());
        Self { policy, began: Instant::now(), deciding, panicking, metrics }
    }

    /// The same with another policy: who is out stays out until the time is over that was said then.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        let (deciding, panicking) = (self.deciding.clone(), self.panicking.clone());
        Self { policy, began: self.began, deciding, panicking, metrics: self.metrics.clone() }
    }

    /// Leaves a replica out that is [suspicious](Health::is_suspicious), if there is room.
    pub fn judge(&self, upstream: &Upstream, snapshot: &Snapshot) {
        let why = format!("{} failures in a row", upstream.health.in_a_row.load(Ordering::Relaxed));
        self.eject(upstream, snapshot, &why, self.began.elapsed());
    }

    fn eject(&self, upstream: &Upstream, snapshot: &Snapshot, why: &str, now: Duration) {
        let _alone = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let out = snapshot.upstreams().filter(|other| other.health.is_ejected()).count();
        if upstream.health.is_ejected() || !self.policy.has_room(out, snapshot.table.len()) {
            return;
        }
        let sentence = upstream.health.record().eject(&self.policy, now);
        upstream.health.ejected.store(true, Ordering::Relaxed);
        upstream.metrics.ejections.inc();
        tracing::warn!(replica = upstream.instance.name, why, ?sentence, "a replica is left out");
    }

    /// A second has passed.
    pub fn tick(&self, snapshot: &Snapshot) {
        let now = self.began.elapsed();
        for upstream in snapshot.upstreams() {
            let health = &upstream.health;
            let mut record = health.record();
            if health.is_ejected() {
                if now >= record.until {
                    record.until = now + self.policy.time;
                    health.in_a_row.store(0, Ordering::Relaxed);
                    health.ejected.store(false, Ordering::Relaxed);
                    tracing::info!(replica = upstream.instance.name, "a replica is no longer left out");
                }
                continue;
            }
            record.forgive(&self.policy, now);
            let failures = health.failures.load(Ordering::Relaxed);
            let requests = health.successes.load(Ordering::Relaxed) + failures;
            let too_little = record.mark(requests, failures, &self.policy);
            drop(record);
            if too_little {
                self.eject(upstream, snapshot, "too few of its requests succeed", now);
            }
        }
        self.see(snapshot.is_in_panic());
    }

    /// Notes whether nobody is well, and tells when that changes.
    pub fn see(&self, panic: bool) {
        if self.panicking.load(Ordering::Relaxed) == panic
            || self.panicking.swap(panic, Ordering::Relaxed) == panic
        {
            return;
        }
        if panic {
            self.metrics.panics.inc();
            tracing::warn!("panic: no replica is well, and requests go to those that are not");
        } else {
            tracing::info!("the panic is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        failures: 5,
        success_rate: 0.5,
        statuses: false,
        time: Duration::from_secs(10),
        longest: Duration::from_secs(35),
        most: 0.34,
    };

    #[test]
    fn each_time_is_longer_up_to_the_longest() {
        let times: Vec<_> = (1..6).map(|nth| POLICY.sentence(nth).as_secs()).collect();
        assert_eq!(times, [10, 20, 30, 35, 35]);
    }

    #[test]
    fn never_more_than_the_share() {
        let room = |members| (0..).take_while(|&out| POLICY.has_room(out, members)).count();
        assert_eq!([1, 2, 3, 5, 6, 30].map(room), [0, 0, 1, 1, 2, 10]);
        let half = Policy { most: 0.5, ..POLICY };
        assert!(half.has_room(0, 2) && !half.has_room(1, 2));
        assert!(!Policy { most: 0.0, ..POLICY }.has_room(0, 100));
    }

    #[test]
    fn a_success_ends_a_row() {
        let health = Health::new(POLICY);
        (0..4).for_each(|_| health.failed());
        assert!(!health.is_suspicious());
        health.answered(503);
        (0..4).for_each(|_| health.failed());
        assert!(!health.is_suspicious(), "a 5xx is an answer");
        health.failed();
        assert!(health.is_suspicious());
        let strict = Health::new(Policy { statuses: true, ..POLICY });
        (0..5).for_each(|_| strict.answered(503));
        assert!(strict.is_suspicious(), "unless it is configured to be none");
        let lenient = Health::new(Policy { failures: 0, ..POLICY });
        (0..500).for_each(|_| lenient.failed());
        assert!(!lenient.is_suspicious());
        lenient.obey(&POLICY);
        assert!(lenient.is_suspicious(), "what was seen stays");
    }

    #[test]
    fn an_answer_counts_once() {
        let health = Health::new(Policy { statuses: true, ..POLICY });
        [200, 404, 500].into_iter().for_each(|status| health.answered(status));
        health.failed();
        let counted = [&health.successes, &health.failures].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counted, [2, 2]);
    }

    #[test]
    fn too_few_successes_of_ten_seconds() {
        let mut record = Record::default();
        assert!(!record.mark(1000, 900, &POLICY), "what was before is not known to be bad");
        assert!(!record.mark(1019, 919, &POLICY), "nineteen requests say nothing");
        assert!(record.mark(1020, 911, &POLICY), "of twenty only nine");
        assert!(!record.mark(1040, 911, &POLICY));
        for _ in 0..WINDOW {
            record.mark(1040, 911, &POLICY);
        }
        assert!(!record.mark(1060, 920, &POLICY), "only the last seconds count");
    }

    #[test]
    fn good_conduct_is_rewarded() {
        let (mut record, at) = (Record::default(), Duration::from_secs);
        assert_eq!(record.eject(&POLICY, at(0)), at(10));
        assert_eq!(record.eject(&POLICY, at(12)), at(20));
        record.forgive(&POLICY, at(31));
        assert_eq!(record.times, 2, "it is still out");
        record.forgive(&POLICY, at(32));
        record.forgive(&POLICY, at(41));
        assert_eq!(record.times, 1);
        record.forgive(&POLICY, at(42));
        assert_eq!(record.times, 0);
    }
}
