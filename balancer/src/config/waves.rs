//! Keys of a pool whose replicas are units of a tree, and the balancer that begins waves on them.
//!
//! As with an overlay, the tree's file is read by a function that the program lends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::fleet::FleetConfig;
use super::keys::Effect::AtRestart;
use super::overlay::{FixedMember, GivenKind, OverlayConfig, alone, check};
use super::parse;
use super::reader::Reader;
use super::runtime::{DockerConfig, ProcessConfig};

/// What units are read by.
#[derive(Clone, Copy, Debug)]
pub struct WavesKeys<'a> {
    /// `waves.topology`.
    pub topology: &'a Path,
    /// `waves.config`.
    pub config: Option<&'a Path>,
    /// `waves.state`.
    pub state: &'a Path,
    /// `waves.host`.
    pub host: IpAddr,
    /// `waves.port`.
    pub port: u16,
    /// What names of its containers begin with, before a hyphen and the process's own.
    pub prefix: &'a str,
}

/// Finds the units and their balancer; or every mistake, each with its key and what would be right.
pub type ReadWaves = fn(WavesKeys<'_>) -> Result<Vec<FixedMember>, Vec<(&'static str, String)>>;

pub(super) const TOPOLOGY: &str = "waves.topology";

pub(super) fn read(
    r: &mut Reader<'_>,
    prefix: &str,
    fleet: &mut FleetConfig,
    process: &ProcessConfig,
    docker: &DockerConfig,
    capacity: usize,
) -> Option<OverlayConfig> {
    r.section("waves", "Replicas that are units of a tree, whose load is balanced by waves, and the balancer that begins those: ports are those of the tree's file; clients' requests go to that balancer.");
    let topology = r.own(
        TOPOLOGY, AtRestart,
        "",
        "The tree's file: {\"name\", \"port\", \"cpu\", \"children\"}, nested; fleet.runtime `auto` is `process`. \"\": the replicas are no units.",
        parse::optional_path,
    );
    let config = r.own(
        "waves.config",
        AtRestart,
        "",
        "What units are told: {\"max_cpu\", \"task_time\", \"rebalance_interval\", \"strategy\"}. \"\": what the original says.",
        parse::optional_path,
    );
    let state = r.own(
        "waves.state",
        AtRestart,
        "slipring-waves",
        "The folder in which units write down their tasks, so that none is lost when one is killed.",
        parse::file_path,
    );
    let host = r.own(
        "waves.host",
        AtRestart,
        "127.0.0.1",
        "The address at which all of them listen, one of this machine. Containers have addresses of their own.",
        parse::ip,
    );
    let port = r.own(
        "waves.port",
        AtRestart,
        "7999",
        "Where the balancer of the waves listens.",
        parse::number(1_u16..=u16::MAX),
    );
    let Some(topology) = topology else {
        if config.is_some() {
            r.mistake(&["waves.config"], "waves.topology beside it");
        }
        return None;
    };
    alone(r, TOPOLOGY, fleet, process, docker);
    let keys =
        WavesKeys { topology: &topology, config: config.as_deref(), state: &state, host, port, prefix };
    let members = match r.waves() {
        Some(read) => read(keys).unwrap_or_else(|mistakes| {
            mistakes.iter().for_each(|(key, expected)| r.mistake(&[key, TOPOLOGY], expected));
            Vec::new()
        }),
        None => Vec::new(),
    };
    check(r, TOPOLOGY, &members, fleet, capacity);
    Some(OverlayConfig { kind: GivenKind::Waves, topology: PathBuf::from(&topology), members })
}
