//! One life of one replica, as the data plane sees it: an address, its connections, its requests in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::pool::Pool;
use crate::fleet::state::Instance;
use crate::metrics::ReplicaMetrics;

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
    in_flight: AtomicUsize,
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
            in_flight: AtomicUsize::new(0),
            idle: Notify::new(),
        }
    }

    /// Counts a request in until the result is dropped.
    pub fn enter(self: &Arc<Self>) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight(self.clone())
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until no request is in flight.
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Gives it up: waiting requests go elsewhere, idle connections are closed.
    pub fn abandon(&self) {
        self.gone.cancel();
        self.pool.clear();
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Flight(pub Arc<Upstream>);

impl Drop for Flight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
