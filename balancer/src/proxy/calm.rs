//! What keeps the data plane calm when clients crowd, whatever pool they want, and the log of what they asked.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::access_log::{AccessLog, Noted, Tally};
use super::clients::Clients;
use super::trace::Traces;
use crate::config::ProxyConfig;
use crate::metrics::Metrics;

/// See the module.
#[derive(Clone, Debug)]
pub struct Calm {
    /// What each client has.
    pub clients: Arc<Clients>,
    /// Where requests are written down.
    pub log: Option<Arc<AccessLog>>,
    /// Where their spans go.
    pub traces: Traces,
}

impl Calm {
    /// As configured.
    ///
    /// # Errors
    /// When the access log cannot be begun.
    pub fn new(config: &ProxyConfig, metrics: &Metrics) -> io::Result<Self> {
        let log = AccessLog::begin(&config.calm.log, metrics.log_lost.clone())?;
        let traces = Traces::begin(&config.calm.traces, metrics);
        Ok(Self { clients: Clients::new(config.calm.clients), log: log.map(Arc::new), traces })
    }

    /// What it was, as configured now.
    ///
    /// # Errors
    /// When another access log cannot be begun.
    pub fn again(&self, config: &ProxyConfig, metrics: &Metrics) -> io::Result<Self> {
        let log = AccessLog::after(self.log.as_deref(), &config.calm.log, metrics.log_lost.clone())?;
        let traces = self.traces.again(&config.calm.traces);
        Ok(Self { clients: self.clients.under(config.calm.clients), log: log.map(Arc::new), traces })
    }

    /// Room for what a line of the access log or a span tells of a request, if it is to have one. What it says about the
    /// trace that it belongs to is asked only where there are spans.
    pub fn note<'a>(
        &self,
        protocol: &'static str,
        traceparent: impl FnOnce() -> Option<&'a [u8]>,
    ) -> Option<Box<Noted>> {
        let logged = self.log.as_ref().is_some_and(|log| log.wants());
        let span = self.traces.span(traceparent);
        (logged || span.is_recorded()).then(|| Box::new(Noted::new(protocol, logged, span)))
    }

    /// Leaves the line of a request that is over, and ends its span.
    pub fn tell(&self, noted: &Noted, client: IpAddr, tally: &Tally) {
        if let Some(log) = self.log.as_ref().filter(|_| noted.logged) {
            log.write(noted, client, tally);
        }
        noted.span.end(noted, client, tally);
    }
}
