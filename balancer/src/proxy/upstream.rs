//! One life of one replica, as the data plane sees it: an address, its connections, its requests in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use http::HeaderValue;
use tokio::sync::{Notify, SemaphorePermit, watch};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::connection::ConnectError;
use super::ejection::{Health, Policy};
use super::pool::Pool;
use crate::fleet::state::Instance;
use crate::metrics::ReplicaMetrics;
use crate::places::Places;
use crate::sampled::Sampled;

static SERIALS: AtomicU64 = AtomicU64::new(0);

/// What holds for every replica of a pool.
#[derive(Clone, Debug)]
pub struct UpstreamLimits {
    /// Requests to one replica at a time; idle connections are kept beside theirs.
    pub connections: usize,
    /// Requests that wait for a place beyond those.
    pub waiting: usize,
    /// Threads of the data plane: each has connections of its own.
    pub workers: usize,
    /// Rung when a replica is given up, for the threads to wake who waits for it.
    pub alarm: Alarm,
    /// When one that fails is left out.
    pub ejection: Policy,
}

/// Something happened to a replica that concerns requests under way.
#[derive(Clone, Debug)]
pub struct Alarm(watch::Sender<u64>);

impl Default for Alarm {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Alarm {
    /// Wakes every listener.
    pub fn ring(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Someone who is woken.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    /// Which life of which replica.
    pub instance: Instance,
    /// Tells it from all others of the process: incarnations count in each fleet from the beginning.
    pub serial: u64,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name, ready to be a header.
    pub header: HeaderValue,
    /// What is counted about it.
    pub metrics: ReplicaMetrics,
    /// What its requests have seen of it.
    pub health: Health,
    /// Kept-alive connections to it, by thread.
    pools: Box<[Pool]>,
    /// Places for requests.
    places: Places,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
    /// Its answers that broke off and its handshakes that failed, told in the log now and then.
    pub complaints: Sampled,
    in_flight: AtomicUsize,
    /// Answers at the last look.
    served: AtomicU64,
    closed: AtomicBool,
    given_up: AtomicBool,
    gone: CancellationToken,
    idle: Notify,
    alarm: Alarm,
    /// It has taken a connection of HTTP/2 before.
    http2: AtomicBool,
}

impl Upstream {
    /// A replica that listens at `address`.
    pub fn new(
        instance: Instance,
        address: SocketAddr,
        limits: &UpstreamLimits,
        metrics: ReplicaMetrics,
    ) -> Self {
        let header = HeaderValue::from_str(&instance.name).expect("a DNS label is a header value");
        let metrics_before = metrics.answers();
        Self {
            instance,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            address,
            header,
            metrics,
            health: Health::new(limits.ejection),
            pools: (0..limits.workers).map(|_| Pool::default()).collect(),
            places: Places::new(limits.connections),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(limits.waiting),
            complaints: Sampled::default(),
            in_flight: AtomicUsize::new(0),
            served: AtomicU64::new(metrics_before),
            closed: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            gone: CancellationToken::new(),
            idle: Notify::new(),
            alarm: limits.alarm.clone(),
            http2: AtomicBool::new(false),
        }
    }

    /// From now on other limits hold.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn obey(&self, limits: &UpstreamLimits) {
        self.places.resize(limits.connections);
        self.most_waiting.store(limits.waiting, Ordering::Relaxed);
        self.health.obey(&limits.ejection);
    }

    /// The idle connections of a thread.
    pub fn pool(&self, worker: usize) -> &Pool {
        &self.pools[worker]
    }

    /// Counts a request in until the result is dropped; `None` if it takes no more.
    pub fn enter(self: &Arc<Self>) -> Option<Flight> {
        // Counted first, then looked: `drained` closes first, then looks at the count. One of the two sees the other.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let flight = Flight { upstream: self.clone(), has_place: false };
        (!self.closed.load(Ordering::SeqCst)).then_some(flight)
    }

    /// Whether it was given up: whoever waits for an answer waits no more.
    pub fn is_gone(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Resolves when it is given up.
    pub fn given_up(&self) -> WaitForCancellationFutureOwned {
        self.gone.clone().cancelled_owned()
    }

    /// Tells, now and then, of a connection that only a user can mend, and how.
    pub fn complain(&self, error: &ConnectError) {
        if matches!(error, ConnectError::Tls { .. })
            && let Some(silent) = self.complaints.pass(Instant::now())
        {
            tracing::warn!(replica = self.instance.name, address = %self.address, silent, "{}", error.words());
        }
    }

    /// It has taken a connection of HTTP/2.
    pub fn speaks_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
    }

    /// Whether it has: not to take one now is a failure then.
    pub fn has_spoken_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Requests that wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether it has answered requests since this was last asked.
    pub fn has_served(&self) -> bool {
        let answers = self.metrics.answers();
        self.served.swap(answers, Ordering::Relaxed) != answers
    }

    /// Takes no more requests, and waits until none is in flight.
    pub async fn drained(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Gives it up: waiting requests go elsewhere, idle connections are closed.
    pub fn abandon(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.given_up.store(true, Ordering::Release);
        self.gone.cancel();
        for pool in &self.pools {
            pool.clear();
        }
        self.alarm.ring();
    }
}

struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in flight, and its place among the replica's connections, if it has one.
#[derive(Debug)]
pub struct Flight {
    /// Where it is.
    pub upstream: Arc<Upstream>,
    has_place: bool,
}

impl Flight {
    /// Takes a place if one is free. Whether it has one.
    pub fn try_place(&mut self) -> bool {
        if !self.has_place {
            self.has_place =
                self.upstream.places.semaphore().try_acquire().map(SemaphorePermit::forget).is_ok();
        }
        self.has_place
    }

    /// Takes a place, waited for in order of coming. It is held until the flight ends, however long a tunnel or a
    /// stream that is.
    ///
    /// # Errors
    /// When the replica is gone, or as many wait for it as may.
    pub async fn place(&mut self) -> Result<(), ConnectError> {
        if self.try_place() {
            return Ok(());
        }
        let upstream = &self.upstream;
        if upstream.waiting.fetch_add(1, Ordering::Relaxed) >= upstream.most_waiting.load(Ordering::Relaxed) {
            upstream.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectError::Full);
        }
        let _queued = Queued(&upstream.waiting);
        tokio::select! {
            place = upstream.places.semaphore().acquire() => place.map_err(|_| ConnectError::Gone)?.forget(),
            () = upstream.gone.cancelled() => return Err(ConnectError::Gone),
        }
        self.has_place = true;
        Ok(())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.has_place {
            self.upstream.places.semaphore().add_permits(1);
        }
        let was = self.upstream.in_flight.fetch_sub(1, Ordering::SeqCst);
        // Somebody waits for that only once it is closed, and closes it before looking at the count.
        if was == 1 && self.upstream.closed.load(Ordering::SeqCst) {
            self.upstream.idle.notify_waiters();
        }
    }
}
