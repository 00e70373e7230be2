//! One life of one replica, as the data plane sees it: an address, its connections, its requests in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::pool::Pool;
use crate::fleet::state::Instance;
use crate::metrics::ReplicaMetrics;
use crate::sampled::Sampled;

/// What holds for every replica.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// Connections to one replica.
    pub connections: usize,
    /// How long an idle one is kept.
    pub idle_timeout: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    /// Which life of which replica.
    pub instance: Instance,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name, ready to be a header.
    pub header: HeaderValue,
    /// Kept-alive connections to it.
    pub pool: Pool,
    /// Places for requests: as many as it may have connections.
    pub places: Arc<Semaphore>,
    /// What is counted about it.
    pub metrics: ReplicaMetrics,
    /// Cancelled when it is given up: whoever waits for an answer waits no more.
    pub gone: CancellationToken,
    /// Its answers that broke off, told in the log now and then.
    pub complaints: Sampled,
    in_flight: AtomicUsize,
    closed: AtomicBool,
    idle: Notify,
}

impl Upstream {
    /// A replica that listens at `address`.
    pub fn new(
        instance: Instance,
        address: SocketAddr,
        limits: UpstreamLimits,
        metrics: ReplicaMetrics,
    ) -> Self {
        let header = HeaderValue::from_str(&instance.name).expect("a DNS label is a header value");
        Self {
            instance,
            address,
            header,
            pool: Pool::new(limits.idle_timeout),
            places: Arc::new(Semaphore::new(limits.connections)),
            metrics,
            gone: CancellationToken::new(),
            complaints: Sampled::default(),
            in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            idle: Notify::new(),
        }
    }

    /// Counts a request in until the result is dropped; `None` if it takes no more.
    pub fn enter(self: &Arc<Self>) -> Option<Flight> {
        // Counted first, then looked: `drained` closes first, then looks at the count. One of the two sees the other.
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let flight = Flight(self.clone());
        (!self.closed.load(Ordering::SeqCst)).then_some(flight)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
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
        self.gone.cancel();
        self.pool.clear();
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Flight(pub Arc<Upstream>);

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
