//! Units and their balancer as a pool of the appliance: which processes there are, and how each of them is started.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use slipring_balancer::config::{Contained, FixedMember, WavesKeys};
use slipring_waves::topology::Tree;

/// Where a container writes down its tasks.
const STATE: &str = "/state";
/// Where the balancer of the waves tells what happens.
const WATCH: &str = "/watch";
/// Bytes of a file, without its blanks: it is an argument of every process.
const LONGEST: usize = 100_000;

/// What is wrong, each with its key and what would be right.
type Wrong = Vec<(&'static str, String)>;

/// Reads the tree and the configuration. The balancer is the first, then units in depth-first order.
pub(crate) fn members(keys: WavesKeys<'_>) -> Result<Vec<FixedMember>, Wrong> {
    let wrong =
        |key: &'static str| move |lines: Vec<String>| lines.into_iter().map(|line| (key, line)).collect();
    let tree: Result<_, Wrong> = super::tree(keys.topology).map_err(wrong("waves.topology"));
    let config: Result<_, Wrong> = super::config(keys.config).map_err(wrong("waves.config"));
    let tree = match (tree, config) {
        (Ok(tree), Ok(_)) => tree,
        (tree, config) => return Err([tree.err(), config.err()].into_iter().flatten().flatten().collect()),
    };
    if tree.unit(keys.port).is_some() {
        return Err(vec![("waves.port", format!("a port that is no unit's: {} is", keys.port))]);
    }
    let text = tree.to_json();
    let text = serde_json::from_str::<serde_json::Value>(&text).map(|json| json.to_string()).unwrap_or(text);
    if text.len() > LONGEST {
        return Err(vec![(
            "waves.topology",
            format!("a tree of at most {LONGEST} bytes, without its blanks"),
        )]);
    }
    let config = match keys.config {
        Some(path) => super::text(path).map_err(|error| vec![("waves.config", error.to_string())])?,
        None => "{}".to_owned(),
    };
    let all = Units { keys, tree: &tree, text, config };
    let units = tree.units().iter().map(|unit| all.member(Some(unit.port)));
    Ok(std::iter::once(all.member(None)).chain(units).collect())
}

struct Units<'a> {
    keys: WavesKeys<'a>,
    tree: &'a Tree,
    /// The files themselves, and not where they are: they may be others when a process is started again.
    text: String,
    config: String,
}

/// What a unit is called among replicas: its own name may be anything.
fn name(port: Option<u16>) -> String {
    port.map_or_else(|| "balancer".to_owned(), |port| format!("unit-{port}"))
}

impl Units<'_> {
    fn member(&self, unit: Option<u16>) -> FixedMember {
        let port = unit.unwrap_or(self.keys.port);
        let links = match unit {
            Some(unit) => self.tree.neighbors(unit).map(|other| name(Some(other))).collect(),
            None => self.tree.units().iter().map(|unit| name(Some(unit.port))).collect(),
        };
        FixedMember {
            name: name(unit),
            role: unit
                .and_then(|port| self.tree.unit(port))
                .map_or_else(|| "balancer".to_owned(), |unit| format!("unit {}", unit.name)),
            is_routed: unit.is_none(),
            host: self.keys.host.to_string(),
            port,
            is_here: true,
            process: self.here(unit),
            container: self.contained(unit, port),
            watch: unit.is_none().then(|| WATCH.to_owned()),
            links,
            digest: self.digest(),
        }
    }

    fn here(&self, unit: Option<u16>) -> Vec<String> {
        let mut arguments = self.arguments(unit, Some(absolute(self.keys.state)));
        arguments.extend(["--host".to_owned(), self.keys.host.to_string()]);
        arguments
    }

    fn arguments(&self, unit: Option<u16>, state: Option<PathBuf>) -> Vec<String> {
        let role = if unit.is_some() { "unit" } else { "balancer" };
        let port = unit.unwrap_or(self.keys.port).to_string();
        let words = ["waves", role, &self.text, &self.config, "--port", &port];
        let mut arguments: Vec<_> = words.map(str::to_owned).into();
        if let (Some(_), Some(state)) = (unit, state) {
            arguments.extend(["--state".to_owned(), state.display().to_string()]);
        }
        arguments
    }

    /// In a container every address is another: each unit is found by its container's name.
    fn contained(&self, unit: Option<u16>, port: u16) -> Contained {
        let mut arguments = self.arguments(unit, Some(STATE.into()));
        arguments.extend(["--listen".into(), format!("0.0.0.0:{port}")]);
        for other in self.tree.units() {
            let place = format!("{0}={1}-{2}:{0}", other.port, self.keys.prefix, name(Some(other.port)));
            arguments.extend(["--at".into(), place]);
        }
        let state = unit.map(|_| (absolute(self.keys.state), STATE.to_owned()));
        Contained { arguments, mounts: Vec::new(), state: state.into_iter().collect() }
    }

    /// Of all that the files say, and of the program: its versions may speak otherwise to each other.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            &self.text,
            &self.config,
            self.keys.host,
            self.keys.port,
            absolute(self.keys.state),
            env!("CARGO_PKG_VERSION"),
        )
            .hash(&mut hasher);
        hasher.finish()
    }
}

/// Processes may begin in another folder, an engine does.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
