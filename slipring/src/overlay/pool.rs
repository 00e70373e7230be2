//! An overlay as a pool of the balancer: which processes there are, and how each of them is started.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use slipring_balancer::config::{Contained, FixedMember, OverlayKeys};
use slipring_overlay::topology::{Process, Role, Topology, TopologyError};

use super::{Settings, here};

/// Where a container sees the data.
const DATA: &str = "/data";
/// Where a process tells what all of them say of themselves, once a second.
const WATCH: &str = "/overlay/watch";
/// Bytes of a file, without its blanks: it is an argument of every process.
const LONGEST: usize = 100_000;

/// What is wrong, each with its key and what would be right.
type Wrong = Vec<(&'static str, String)>;

/// `overlay.arguments`, as `slipring overlay node` takes them.
#[derive(clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Given {
    #[command(flatten)]
    settings: Settings,
}

/// Reads the overlay's file. The order of the names is that of the identities.
pub(crate) fn members(keys: OverlayKeys<'_>) -> Result<Vec<FixedMember>, Wrong> {
    let (topology, settings) = (topology(keys.topology), settings(keys));
    let (topology, settings) = match (topology, settings) {
        (Ok(topology), Ok(settings)) => (topology, settings),
        (topology, settings) => {
            return Err([topology.err(), settings.err()].into_iter().flatten().flatten().collect());
        }
    };
    let (topology, text) = topology;
    let all = Overlay { text, settings, prefix: keys.prefix, topology: &topology };
    let (mut members, mut wrong) = (Vec::new(), Wrong::new());
    for process in topology.processes.values() {
        match here::is_here(&process.host) {
            Ok(is_here) => members.push(all.member(process, is_here)),
            Err(error) => {
                let host = &process.host;
                let expected = format!("a host for {} that can be found; {host} cannot: {error}", process.id);
                wrong.push(("overlay.topology", expected));
            }
        }
    }
    let workers = || members.iter().filter(|member| member.is_here && member.role == Role::Worker.name());
    match &all.settings.dataset_root {
        None => wrong.extend(workers().next().map(|worker| {
            let expected = format!("the folder that holds YYYYMMDD/*.csv: {} is a worker", worker.name);
            ("overlay.dataset_root", expected)
        })),
        Some(root) if !root.is_dir() && workers().next().is_some() => {
            let expected = format!("a folder that is there; {} is not", root.display());
            wrong.push(("overlay.dataset_root", expected));
        }
        Some(_) => {}
    }
    for process in topology.processes.values().filter(|process| process.port == 0) {
        let expected = format!("a port for {}: its neighbors would not find it at a free one", process.id);
        wrong.push(("overlay.topology", expected));
    }
    if wrong.is_empty() { Ok(members) } else { Err(wrong) }
}

/// What a file says, and the file without its blanks.
fn topology(path: &Path) -> Result<(Topology, String), Wrong> {
    let wrong = |words: String| vec![("overlay.topology", words)];
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("a file that can be read; {} cannot: {error}", path.display())))?;
    let compact = serde_json::from_str::<serde_json::Value>(&text).map(|file| file.to_string());
    let compact = compact.unwrap_or_default(); // what is none is told below
    if compact.len() > LONGEST {
        return Err(wrong(format!("a file of at most {LONGEST} bytes, without its blanks")));
    }
    Topology::parse(&text).map(|topology| (topology, compact)).map_err(|error| match error {
        TopologyError::Mistakes(mistakes) => {
            let told =
                mistakes.0.iter().map(|mistake| format!("no mistake in {}: {mistake}", path.display()));
            told.map(|words| ("overlay.topology", words)).collect()
        }
        other => {
            let cause = std::error::Error::source(&other).map(|source| format!(" ({source})"));
            wrong(format!("an overlay's file; {}: {other}{}", path.display(), cause.unwrap_or_default()))
        }
    })
}

fn settings(keys: OverlayKeys<'_>) -> Result<Settings, Wrong> {
    let given = Given::try_parse_from(keys.arguments).map_err(|error| {
        let words = error.render().to_string();
        let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
        vec![("overlay.arguments", format!("what `slipring overlay node` takes: {first}"))]
    })?;
    let mut settings = given.settings;
    settings.dataset_root = keys.dataset_root.map(Path::to_owned).or(settings.dataset_root);
    settings.dataset_root = settings.dataset_root.as_deref().map(absolute);
    Ok(settings)
}

/// The balancer's children begin in its folder, an engine anywhere.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

struct Overlay<'a> {
    /// The file itself, and not where it is: it may be another one when a process is started again.
    text: String,
    settings: Settings,
    prefix: &'a str,
    topology: &'a Topology,
}

impl Overlay<'_> {
    fn member(&self, process: &Process, is_here: bool) -> FixedMember {
        let node = |settings: &Settings| {
            let words = ["overlay", "node", &self.text, process.id.as_str()].map(str::to_owned);
            words.into_iter().chain(settings.arguments()).collect()
        };
        FixedMember {
            name: process.id.to_string(),
            role: process.role.name().to_owned(),
            is_routed: process.role == Role::Leader,
            host: process.host.clone(),
            port: process.port,
            is_here,
            process: node(&self.settings),
            container: self.contained(process, node),
            watch: Some(WATCH.to_owned()),
            links: process.neighbors.iter().map(ToString::to_string).collect(),
            digest: self.digest(),
        }
    }

    /// Of what the file says, however it is written, of all arguments, and of the program: its versions may speak
    /// otherwise to each other.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let version = env!("CARGO_PKG_VERSION");
        (format!("{:?}", self.topology), self.settings.arguments(), version).hash(&mut hasher);
        hasher.finish()
    }

    /// In a container every host of the file is another: each process is found by its container's name.
    fn contained(&self, process: &Process, node: impl Fn(&Settings) -> Vec<String>) -> Contained {
        // What one kept would be gone with it.
        let cache = Some("none".into());
        let mut settings = Settings { cache, ..self.settings.clone() };
        let mut mounts = Vec::new();
        if let Some(root) =
            settings.dataset_root.replace(DATA.into()).filter(|_| process.role == Role::Worker)
        {
            mounts.push((root, DATA.to_owned()));
        } else {
            settings.dataset_root = None;
        }
        let mut arguments = node(&settings);
        arguments.extend(["--listen".into(), format!("0.0.0.0:{}", process.port)]);
        for other in self.topology.processes.values() {
            arguments.extend(["--at".into(), format!("{0}={1}-{0}:{2}", other.id, self.prefix, other.port)]);
        }
        Contained { arguments, mounts, state: Vec::new() }
    }
}
