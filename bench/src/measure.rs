//! One measurement: a fresh proxy, warmed up, loaded, and its accounts before and after.
//!
//! The proxy is started for each measurement: where a process happens to lie in memory is worth a percent or two, and
//! a median over many starts is not about one such accident. It also leaves nothing of the others running.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::account::{self, Memory, Usage};
use crate::backend::{Backend, Counts};
use crate::error::Error;
use crate::idle;
use crate::load::{self, Outcome, Task};
use crate::peer::{Peer, Site};
use crate::plan::{CONNECTIONS, Case, Plan, Workload};
use crate::process::Process;
use crate::tools::Tools;

/// The kernel counts in hundredths of a second (`USER_HZ`, the same on every Linux).
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;
/// Warming up asks for other paths than any round does.
const WARMUP_SEED: u32 = 1_000_000;

/// One figure of a measurement, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) decimals: usize,
    /// Whether its ratio to the other peers' says something.
    pub(crate) compared: bool,
}

impl Figure {
    pub(crate) fn compared(name: &'static str, value: f64, decimals: usize) -> Self {
        Self { name, value, decimals, compared: true }
    }

    pub(crate) fn plain(name: &'static str, value: f64, decimals: usize) -> Self {
        Self { name, value, decimals, compared: false }
    }
}

/// What the last line is made of.
pub(crate) const CPU: &str = "CPU s per 100,000";
/// And this.
pub(crate) const P99: &str = "p99 ms";
/// What was done on the CPUs of the run for nobody in it: by the kernel, or by somebody else's program.
pub(crate) const OTHERS: &str = "CPUs, for others %";

/// One peer in one round.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) peer: Peer,
    pub(crate) round: u32,
    pub(crate) figures: Vec<Figure>,
    /// Why it does not compare, if it does not.
    pub(crate) blemish: Option<String>,
    /// What the figures were computed from.
    pub(crate) raw: Value,
}

/// What every measurement has at hand.
#[derive(Debug)]
pub(crate) struct Stand<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) tools: &'a Tools,
    pub(crate) folder: &'a Path,
    pub(crate) case: Case,
    pub(crate) round: u32,
    pub(crate) peer: Peer,
}

#[derive(Serialize)]
struct Raw {
    outcome: Outcome,
    usage: Usage,
    /// What the replicas and the load generator used, in seconds.
    other_seconds: f64,
    /// Seconds that each CPU was busy with anything.
    busy_seconds: Vec<f64>,
    memory: Memory,
    upstream: Counts,
}

impl Stand<'_> {
    pub(crate) async fn measure(&self, site: &Site, backend: &Backend) -> Result<Measured, Error> {
        if self.peer == Peer::Direct {
            return self.directly(site, backend).await;
        }
        let proxy = self.peer.start(site, self.tools, self.folder).await?;
        self.warm_up(site).await?;
        let measured = match self.case.workload {
            Workload::Idle => idle::measure(self, site, &proxy).await,
            _ => self.under_load(site, backend, &proxy).await,
        };
        proxy.stop().await;
        measured
    }

    /// What the load and a replica take by themselves.
    async fn directly(&self, site: &Site, backend: &Backend) -> Result<Measured, Error> {
        let port = *backend.ports.first().ok_or(Error::Arguments("direct needs a replica"))?;
        let site = Site { port, ..site.clone() };
        self.warm_up(&site).await?;
        let outcome = self.load(&site, self.plan.seconds, self.round).await?;
        let mut figures =
            vec![Figure::compared("requests/s", outcome.requests as f64 * 1e6 / outcome.duration_us, 0)];
        figures.extend(latencies(&outcome));
        figures.push(Figure::plain("errors", outcome.errors.total() as f64, 0));
        let failed = outcome.errors.total();
        let blemish = (failed > 0).then(|| format!("{failed} requests failed ({})", outcome.errors));
        let raw = serde_json::to_value(&outcome).map_err(Error::Json)?;
        Ok(Measured { peer: self.peer, round: self.round, figures, blemish, raw })
    }

    async fn warm_up(&self, site: &Site) -> Result<(), Error> {
        let outcome = self.load(site, self.plan.warmup, WARMUP_SEED + self.round).await?;
        if outcome.errors.total() > 0 || outcome.requests == 0 {
            let errors = format!("{} requests; {}", outcome.requests, outcome.errors);
            return Err(Error::WarmUp { peer: self.peer.name(), errors });
        }
        Ok(())
    }

    async fn load(&self, site: &Site, seconds: u32, seed: u32) -> Result<Outcome, Error> {
        // Who is to sit idle is warmed up by the usual number.
        let idle = self.case.workload == Workload::Idle;
        let connections = if idle { CONNECTIONS } else { self.case.connections };
        let (port, workload, cpu) = (site.port, self.case.workload, self.case.setting.load_cpu());
        load::run(&Task { port, workload, connections, seconds, seed, cpu }, self.tools, self.folder).await
    }

    async fn under_load(&self, site: &Site, backend: &Backend, proxy: &Process) -> Result<Measured, Error> {
        let counts = backend.counts().await?;
        let busy = self.busy()?;
        let others = self.others(backend)?;
        let usage = self.usage(proxy)?;
        let outcome = self.load(site, self.plan.seconds, self.round).await?;
        let usage = self.usage(proxy)?.since(usage);
        let busy =
            self.busy()?.iter().zip(&busy).map(|(now, then)| ticks(now.saturating_sub(*then))).collect();
        let other_seconds = self.others(backend)? - others;
        let upstream = backend.counts().await?.since(counts);
        let memory = self.memory(proxy)?;
        let raw = Raw { outcome, usage, other_seconds, busy_seconds: busy, memory, upstream };
        let (figures, blemish) = (self.figures(&raw), blemish(&raw, self.natural_connects()));
        let raw = serde_json::to_value(&raw).map_err(Error::Json)?;
        Ok(Measured { peer: self.peer, round: self.round, figures, blemish, raw })
    }

    pub(crate) fn usage(&self, proxy: &Process) -> Result<Usage, Error> {
        account::usage(proxy.group()).map_err(|source| self.accounts(source))
    }

    pub(crate) fn memory(&self, proxy: &Process) -> Result<Memory, Error> {
        account::memory(proxy.group()).map_err(|source| self.accounts(source))
    }

    fn busy(&self) -> Result<Vec<u64>, Error> {
        account::busy_ticks().map_err(|source| self.accounts(source))
    }

    /// What the replicas and all load generators have used so far, in seconds.
    fn others(&self, backend: &Backend) -> Result<f64, Error> {
        let ended = account::ended_children_ticks().map_err(|source| self.accounts(source))?;
        Ok(backend.usage()?.cpu_seconds() + ticks(ended))
    }

    fn accounts(&self, source: std::io::Error) -> Error {
        Error::Accounts { name: self.peer.name().to_owned(), source }
    }

    /// Connections to replicas that are no fault. Two for each request that is under way at a time: those that the
    /// warming up left in the middle of an answer could not be kept, and a hash sends now more to one replica, now to
    /// another. And one a second for each replica, to ask whether it lives.
    fn natural_connects(&self) -> u64 {
        2 * u64::from(self.case.concurrency())
            + u64::from(self.case.replicas) * u64::from(self.plan.seconds + 1)
    }

    fn figures(&self, raw: &Raw) -> Vec<Figure> {
        let Raw { outcome, usage, other_seconds, busy_seconds, memory, upstream } = raw;
        let seconds = outcome.duration_us / 1e6;
        let cpu = usage.cpu_seconds() * 1e5 / outcome.requests as f64;
        let user = cpu * usage.user_share();
        let mut figures = vec![
            Figure::compared(CPU, cpu, 3),
            Figure::compared("  user", user, 3),
            Figure::compared("  system", cpu - user, 3),
            Figure::compared("requests/s", outcome.requests as f64 / seconds, 0),
        ];
        if matches!(self.case.workload, Workload::Download { .. }) {
            figures.push(Figure::compared("MB/s", outcome.bytes as f64 / 1e6 / seconds, 0));
        }
        figures.extend(latencies(outcome));
        figures.extend([
            Figure::compared("memory MiB (RSS)", memory.rss_kib as f64 / 1024.0, 1),
            Figure::compared("memory MiB (PSS)", memory.pss_kib as f64 / 1024.0, 1),
            Figure::plain("connects to replicas", upstream.connections as f64, 0),
            Figure::plain("errors", outcome.errors.total() as f64, 0),
        ]);
        let percent = |busy: f64| 100.0 * busy / seconds;
        let busy = |cpu: usize| busy_seconds.get(cpu).copied().unwrap_or_default();
        let (all, cpus) = match (self.case.setting.proxy_cpu(), self.case.setting.load_cpu()) {
            (Some(cpu), Some(load)) => {
                figures.push(Figure::plain("CPU 0 busy %", percent(busy(cpu)), 0));
                figures.push(Figure::plain("CPU 1 busy %", percent(busy(load)), 0));
                (busy(cpu) + busy(load), 2.0)
            }
            _ => (busy_seconds.iter().sum(), busy_seconds.len().max(1) as f64),
        };
        let strangers = all - usage.cpu_seconds() - other_seconds;
        figures.push(Figure::plain(OTHERS, percent(strangers / cpus), 0));
        figures
    }
}

fn latencies(outcome: &Outcome) -> [Figure; 3] {
    [
        Figure::compared("p50 ms", outcome.p50_us / 1e3, 3),
        Figure::compared(P99, outcome.p99_us / 1e3, 3),
        Figure::compared("p99.9 ms", outcome.p999_us / 1e3, 3),
    ]
}

fn ticks(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Failed requests are cheap and connecting is dear: figures with more than a few of either are about them.
fn blemish(raw: &Raw, natural_connects: u64) -> Option<String> {
    let Outcome { requests, errors, .. } = &raw.outcome;
    if *requests == 0 {
        return Some("no request was answered".to_owned());
    }
    if errors.total() > 0 {
        return Some(format!("{} requests failed ({errors})", errors.total()));
    }
    let connects = raw.upstream.connections;
    (connects > requests / 100 + natural_connects)
        .then(|| format!("connected {connects} times for {requests} requests"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(requests: u64, failed: u64, connections: u64) -> Raw {
        let mut outcome = Outcome { requests, ..Outcome::default() };
        outcome.errors.status = failed;
        let upstream = Counts { connections, requests };
        let (usage, memory) = (Usage::default(), Memory::default());
        Raw { outcome, usage, other_seconds: 0.0, busy_seconds: Vec::new(), memory, upstream }
    }

    #[test]
    fn failures_and_reconnects_are_blemishes() {
        assert_eq!(blemish(&raw(10_000, 0, 228), 128), None);
        assert!(blemish(&raw(10_000, 0, 229), 128).is_some());
        assert!(blemish(&raw(10_000, 1, 0), 64).is_some());
        assert!(blemish(&raw(0, 0, 0), 64).is_some());
    }
}
