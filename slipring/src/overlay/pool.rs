//! An overlay as a pool of the balancer: which processes there are, and how each of them is started.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use slipring_balancer::config::{Contained, FixedMember, OverlayKeys};
use slipring_overlay::topology::{Process, Role, Topology, TopologyError};

use super::{Settings, here};

/// Where a container sees the overlay's file and its data.
const TOPOLOGY: &str = "/overlay.json";
const DATA: &str = "/data";

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
    let all = Overlay { file: absolute(keys.topology), settings, prefix: keys.prefix, topology: &topology };
    let members: Vec<_> = topology.processes.values().map(|process| all.member(process)).collect();
    let mut wrong = Wrong::new();
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

fn topology(path: &Path) -> Result<Topology, Wrong> {
    let wrong = |words: String| vec![("overlay.topology", words)];
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("a file that can be read; {} cannot: {error}", path.display())))?;
    Topology::parse(&text).map_err(|error| match error {
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
    file: PathBuf,
    settings: Settings,
    prefix: &'a str,
    topology: &'a Topology,
}

impl Overlay<'_> {
    fn member(&self, process: &Process) -> FixedMember {
        let node = |file: String, settings: &Settings| {
            let words = ["overlay", "node", &file, process.id.as_str()].map(str::to_owned);
            words.into_iter().chain(settings.arguments()).collect()
        };
        FixedMember {
            name: process.id.to_string(),
            role: process.role.name().to_owned(),
            is_routed: process.role == Role::Leader,
            host: process.host.clone(),
            port: process.port,
            is_here: here::is_here(&process.host),
            process: node(self.file.display().to_string(), &self.settings),
            container: self.contained(process, node),
            digest: self.digest(),
        }
    }

    /// Of what the file says, however it is written, and of all arguments.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (format!("{:?}", self.topology), self.settings.arguments()).hash(&mut hasher);
        hasher.finish()
    }

    /// In a container every host of the file is another: each process is found by its container's name.
    fn contained(&self, process: &Process, node: impl Fn(String, &Settings) -> Vec<String>) -> Contained {
        // What one kept would be gone with it.
        let cache = Some("none".into());
        let mut settings = Settings { cache, ..self.settings.clone() };
        let mut mounts = vec![(self.file.clone(), TOPOLOGY.to_owned())];
        if let Some(root) =
            settings.dataset_root.replace(DATA.into()).filter(|_| process.role == Role::Worker)
        {
            mounts.push((root, DATA.to_owned()));
        } else {
            settings.dataset_root = None;
        }
        let mut arguments = node(TOPOLOGY.to_owned(), &settings);
        arguments.extend(["--listen".into(), format!("0.0.0.0:{}", process.port)]);
        for other in self.topology.processes.values() {
            arguments.extend(["--at".into(), format!("{0}={1}-{0}:{2}", other.id, self.prefix, other.port)]);
        }
        Contained { arguments, mounts }
    }
}
