//! What keeps the data plane calm when replicas die or clients crowd: put together once, looked at by each request.

use std::io;
use std::sync::Arc;

use slipring_hashing::bounded::BoundedLoads;

use super::access_log::{AccessLog, Noted};
use super::budget::Budget;
use super::clients::Clients;
use super::ejection::Ejector;
use crate::config::ProxyConfig;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

/// See the module.
#[derive(Debug)]
pub struct Calm {
    /// Retries that are left.
    pub budget: Budget,
    /// Who leaves replicas out.
    pub ejector: Ejector,
    /// How much more than its share a replica may hold.
    pub bounded: Option<BoundedLoads>,
    /// What each client has.
    pub clients: Arc<Clients>,
    /// Where requests are written down.
    pub log: Option<AccessLog>,
}

impl Calm {
    /// As configured.
    ///
    /// # Errors
    /// When the access log cannot be begun.
    pub fn new(config: &ProxyConfig, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let calm = &config.calm;
        Ok(Self {
            budget: Budget::new(calm.retry_budget, config.workers),
            ejector: Ejector::new(calm.ejection, metrics.clone()),
            bounded: calm.bounded_load,
            clients: Clients::new(calm.clients),
            log: AccessLog::begin(&calm.log, metrics.log_lost.clone())?,
        })
    }

    /// A second has passed; one thread says so.
    pub fn tick(&self, snapshot: &Snapshot) {
        self.budget.tick();
        self.ejector.tick(snapshot);
        self.clients.tick();
    }

    /// Room for a request's line in the access log, if it is to have one.
    pub fn note(&self, protocol: &'static str) -> Option<Box<Noted>> {
        self.log.as_ref().filter(|log| log.wants()).map(|_| Box::new(Noted::new(protocol)))
    }
}
