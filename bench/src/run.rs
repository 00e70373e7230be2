//! The whole run: every case, every round, every peer in turn.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tempfile::TempDir;

use crate::arguments::Setting;
use crate::backend::Backend;
use crate::date::Moment;
use crate::error::Error;
use crate::idle::raise_file_limit;
use crate::machine::{self, Machine};
use crate::measure::{Measured, Stand};
use crate::peer::{Peer, Site};
use crate::plan::{Case, Plan, Workload};
use crate::ports::Ports;
use crate::quiet;
use crate::tools::Tools;

/// A case with all that was measured in it.
#[derive(Debug)]
pub(crate) struct CaseRun {
    pub(crate) case: Case,
    pub(crate) measured: Vec<Measured>,
    /// The configurations of the backends, and of each peer as it was in the last round.
    pub(crate) configurations: BTreeMap<&'static str, String>,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) began: Moment,
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) tools: Tools,
    pub(crate) cases: Vec<CaseRun>,
}

/// Whether the figures are about the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Comparable,
    NotComparable,
}

impl Run {
    pub(crate) fn verdict(&self) -> Verdict {
        let mut measured = self.cases.iter().flat_map(|run| &run.measured);
        if measured.any(|measured| measured.blemish.is_some()) {
            Verdict::NotComparable
        } else {
            Verdict::Comparable
        }
    }
}

pub(crate) async fn run(plan: &Plan, tools: Tools) -> Result<Run, Error> {
    let processors = machine::processors();
    if processors < 2 && plan.cases.iter().any(|case| case.setting == Setting::Pinned) {
        return Err(Error::Processors(processors));
    }
    let idle = plan.cases.iter().filter(|case| case.workload == Workload::Idle);
    raise_file_limit(idle.map(|case| case.connections).max().unwrap_or_default())?;
    let (began, machine, commit) = (Moment::now(), Machine::look(), machine::commit());
    let mut ports = Ports::new();
    let mut cases = Vec::new();
    for (index, case) in plan.cases.iter().enumerate() {
        eprintln!("case {} of {}: {case}", index + 1, plan.cases.len());
        cases.push(run_case(plan, *case, &tools, &mut ports).await?);
    }
    Ok(Run { began, machine, commit, tools, cases })
}

async fn run_case(plan: &Plan, case: Case, tools: &Tools, ports: &mut Ports) -> Result<CaseRun, Error> {
    let folder = folder()?;
    let backend = Backend::start(&case, tools, ports, folder.path()).await?;
    let mut measured = Vec::new();
    let mut configurations = BTreeMap::from([("backend", backend.configuration.clone())]);
    for round in 0..plan.rounds {
        quiet::wait(Duration::from_secs(plan.patience.into())).await;
        for peer in rotated(&plan.peers, round) {
            let site = site(&case, &backend, ports)?;
            if peer != Peer::Direct {
                configurations.insert(peer.name(), peer.configuration(&site));
            }
            let stand = Stand { plan, tools, folder: folder.path(), case, round, peer };
            let one = stand.measure(&site, &backend).await?;
            progress(plan, &one);
            measured.push(one);
        }
    }
    backend.stop().await;
    Ok(CaseRun { case, measured, configurations })
}

/// nginx's workers may run as another user than we.
fn folder() -> Result<TempDir, Error> {
    let folder = TempDir::with_prefix("bench-proxy-").map_err(Error::Folder)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(Error::Folder)?;
    Ok(folder)
}

fn site(case: &Case, backend: &Backend, ports: &mut Ports) -> Result<Site, Error> {
    Ok(Site {
        port: ports.take()?,
        admin_port: ports.take()?,
        replicas: backend.ports.clone(),
        workers: case.setting.workers(),
        concurrency: case.concurrency(),
        http2: matches!(case.workload, Workload::Http2 { .. }),
        grpc: matches!(case.workload, Workload::Grpc { .. }),
        tuned: case.tuned,
        cpu: case.setting.proxy_cpu(),
    })
}

/// Each round begins with another peer, so that none always follows the same.
fn rotated(peers: &[Peer], round: u32) -> Vec<Peer> {
    let mut peers = peers.to_vec();
    let first = round as usize % peers.len().max(1);
    peers.rotate_left(first);
    peers
}

fn progress(plan: &Plan, measured: &Measured) {
    let figures = measured.figures.iter().take(if plan.cases[0].workload == Workload::Idle { 2 } else { 7 });
    let figures: Vec<String> = figures
        .map(|figure| format!("{} {:.*}", figure.name.trim(), figure.decimals, figure.value))
        .collect();
    let round = measured.round + 1;
    eprintln!("  round {round} of {}, {:<8} {}", plan.rounds, measured.peer.name(), figures.join(", "));
    if let Some(blemish) = &measured.blemish {
        eprintln!("  DOES NOT COMPARE: {} {blemish}", measured.peer.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_first_in_turn() {
        let first = |round| rotated(&Peer::ALL, round)[0];
        assert_eq!([0, 1, 2, 3].map(first), [Peer::Nginx, Peer::Haproxy, Peer::Slipring, Peer::Nginx]);
        assert_eq!(rotated(&Peer::ALL, 4).len(), 3);
    }
}
