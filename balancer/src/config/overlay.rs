//! Keys of a pool whose replicas are the processes of an overlay: their names, identities, places and work are given.
//!
//! Who they are is in a file of the overlay's own, which the balancer cannot read: the program that starts it lends it
//! a [`ReadOverlay`], so that what is wrong with that file is told beside every other mistake.

use std::path::{Path, PathBuf};

use super::fleet::{FleetConfig, RuntimeChoice};
use super::keys::Effect::AtRestart;
use super::parse;
use super::reader::Reader;
use super::runtime::{DockerConfig, ProcessConfig};
use crate::fleet::names;

/// What the given members of a pool are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenKind {
    /// The processes of an overlay.
    Overlay,
    /// Units, and the balancer that begins waves on them.
    Waves,
}

impl GivenKind {
    /// The word for it, for who looks at the pool.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Waves => "waves",
        }
    }

    /// The key that holds the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Overlay => TOPOLOGY,
            Self::Waves => super::waves::TOPOLOGY,
        }
    }
}

/// A pool of fixed members.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayConfig {
    /// What they are together.
    pub kind: GivenKind,
    /// The file.
    pub topology: PathBuf,
    /// Its processes, in the order of their identities.
    pub members: Vec<FixedMember>,
}

/// A replica whose name, place and work are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedMember {
    /// Its name, a DNS label.
    pub name: String,
    /// What it is among the others, for people.
    pub role: String,
    /// Whether clients' requests go to it; the others are started, watched and healed, no more.
    pub is_routed: bool,
    /// Where it listens: a name or an address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Whether that is this machine; if not, somebody there starts it.
    pub is_here: bool,
    /// Arguments of this executable that make it that process.
    pub process: Vec<String>,
    /// The same in a container, which has its own loopback and its own files.
    pub container: Contained,
    /// The path of a stream of server-sent events on it: each `data:` line is a JSON object about all members.
    pub watch: Option<String>,
    /// The members that it is connected with.
    pub links: Vec<String>,
    /// Of all that its work depends on, what other processes do included: another one is another work.
    pub digest: u64,
}

/// What a container runs, and sees of this machine's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contained {
    /// Arguments of the executable that is the image's entry point.
    pub arguments: Vec<String>,
    /// Files and folders, and where they are inside; they cannot be written there.
    pub mounts: Vec<(PathBuf, String)>,
    /// Folders, and where they are inside, that are written there: what is to outlive the container.
    pub state: Vec<(PathBuf, String)>,
}

/// What an overlay is read by.
#[derive(Clone, Copy, Debug)]
pub struct OverlayKeys<'a> {
    /// `overlay.topology`.
    pub topology: &'a Path,
    /// `overlay.dataset_root`.
    pub dataset_root: Option<&'a Path>,
    /// `overlay.arguments`.
    pub arguments: &'a [String],
    /// What names of its containers begin with, before a hyphen and the process's own.
    pub prefix: &'a str,
}

/// Finds an overlay's processes; or every mistake, each with its key and what would be right.
pub type ReadOverlay = fn(OverlayKeys<'_>) -> Result<Vec<FixedMember>, Vec<(&'static str, String)>>;

pub(super) const TOPOLOGY: &str = "overlay.topology";

pub(super) fn read(
    r: &mut Reader<'_>,
    prefix: &str,
    fleet: &mut FleetConfig,
    process: &ProcessConfig,
    docker: &DockerConfig,
    capacity: usize,
) -> Option<OverlayConfig> {
    r.section("overlay", "Replicas that are the processes of an overlay: names, identities and ports are those of its file; clients' requests go to its leaders.");
    let topology = r.own(
        TOPOLOGY, AtRestart,
        "",
        "The overlay's file. Processes of this machine are started here, those of others are only watched; fleet.runtime `auto` is `process`. \"\": the replicas are no overlay.",
        parse::optional_path,
    );
    let dataset_root = r.own(
        "overlay.dataset_root",
        AtRestart,
        "",
        "The folder that holds YYYYMMDD/*.csv, which workers need.",
        parse::optional_path,
    );
    let arguments = r.own(
        "overlay.arguments",
        AtRestart,
        "[]",
        "What else each process is started with, like [\"--profile\", \"parallel\"]: `slipring overlay node --help` lists it.",
        parse::words,
    );
    let Some(topology) = topology else {
        if dataset_root.is_some() || !arguments.is_empty() {
            r.mistake(&["overlay.dataset_root", "overlay.arguments"], "overlay.topology beside it");
        }
        return None;
    };
    alone(r, TOPOLOGY, fleet, process, docker);
    let keys = OverlayKeys {
        topology: &topology,
        dataset_root: dataset_root.as_deref(),
        arguments: &arguments,
        prefix,
    };
    let members = match r.overlay() {
        Some(read) => read(keys).unwrap_or_else(|mistakes| {
            mistakes.iter().for_each(|(key, expected)| r.mistake(&[key, TOPOLOGY], expected));
            Vec::new()
        }),
        None => Vec::new(),
    };
    check(r, TOPOLOGY, &members, fleet, capacity);
    Some(OverlayConfig { kind: GivenKind::Overlay, topology, members })
}

/// What a file gives, no other key gives.
pub(super) fn alone(
    r: &mut Reader<'_>,
    key: &'static str,
    fleet: &mut FleetConfig,
    process: &ProcessConfig,
    docker: &DockerConfig,
) {
    if !fleet.upstreams.is_empty() || fleet.runtime == RuntimeChoice::Static {
        r.mistake(
            &["fleet.upstreams", "fleet.runtime"],
            &format!("no addresses, and no runtime `static`, beside {key}: it says where its processes are"),
        );
    }
    if fleet.runtime == RuntimeChoice::Auto {
        fleet.runtime = RuntimeChoice::Process;
    }
    if r.is_set("process.command") && !process.command.is_empty() {
        r.mistake(
            &["process.command"],
            &format!("no program beside {key}: the processes are Slipring's own"),
        );
    }
    if r.is_set("docker.image") && docker.image.is_some() {
        r.mistake(&["docker.image"], &format!("no image beside {key}: the processes are Slipring's own"));
    }
}

pub(super) fn check(
    r: &mut Reader<'_>,
    key: &'static str,
    members: &[FixedMember],
    fleet: &FleetConfig,
    capacity: usize,
) {
    for FixedMember { name, .. } in members.iter().filter(|member| !names::is_valid(&member.name)) {
        let expected = format!(
            "processes named by letters, digits and hyphens, no hyphen at either end: '{name}' cannot be a replica's name"
        );
        r.mistake(&[key], &expected);
    }
    if members.len() > capacity {
        let keys = [key, "ring.placement", "ring.slots", "ring.virtual_servers", "ring.hash"];
        r.mistake(&keys, &format!("at most {capacity} processes: that is what the ring holds"));
    }
    if let Some(elsewhere) = members.iter().find(|member| !member.is_here)
        && fleet.runtime == RuntimeChoice::Docker
    {
        let expected = format!(
            "fleet.runtime = \"process\" for an overlay of several machines: containers cannot be reached from {}, where {} is",
            elsewhere.host, elsewhere.name
        );
        r.mistake(&["fleet.runtime", key], &expected);
    }
}
