//! What keeps the data plane calm when clients crowd, whatever pool they want, and the log of what they asked.

use std::io;
use std::sync::Arc;

use super::access_log::{AccessLog, Noted};
use super::clients::Clients;
use crate::config::ProxyConfig;
use crate::metrics::Metrics;

/// See the module.
#[derive(Clone, Debug)]
pub struct Calm {
    /// What each client has.
    pub clients: Arc<Clients>,
    /// Where requests are written down.
    pub log: Option<Arc<AccessLog>>,
}

impl Calm {
    /// As configured.
    ///
    /// # Errors
    /// When the access log cannot be begun.
    pub fn new(config: &ProxyConfig, metrics: &Metrics) -> io::Result<Self> {
        let log = AccessLog::begin(&config.calm.log, metrics.log_lost.clone())?;
        Ok(Self { clients: Clients::new(config.calm.clients), log: log.map(Arc::new) })
    }

    /// What it was, as configured now.
    ///
    /// # Errors
    /// When another access log cannot be begun.
    pub fn again(&self, config: &ProxyConfig, metrics: &Metrics) -> io::Result<Self> {
        let log = AccessLog::after(self.log.as_deref(), &config.calm.log, metrics.log_lost.clone())?;
        Ok(Self { clients: self.clients.under(config.calm.clients), log: log.map(Arc::new) })
    }

    /// Room for a request's line in the access log, if it is to have one.
    pub fn note(&self, protocol: &'static str) -> Option<Box<Noted>> {
        self.log.as_ref().filter(|log| log.wants()).map(|_| Box::new(Noted::new(protocol)))
    }
}
