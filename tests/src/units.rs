//! A tree of units of a test's own, on a loopback address that no other test has.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::overlay_pool::own_loopback;
use crate::{Balancer, Http, Setup};

/// The contract's tree, whose ports are 8000 and those after it.
const SEED: &str = include_str!("../../units/topologies/seed.json");
const UNITS: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Units {
    folder: TempDir,
    host: Ipv4Addr,
    /// Ports of the units, in depth-first order.
    pub ports: Vec<u16>,
    /// That of their balancer.
    pub balancer: u16,
}

impl Units {
    /// The eight of the contract, with a configuration.
    ///
    /// # Panics
    /// When a file cannot be written or no port is free.
    pub fn new(config: &Value) -> Self {
        let host = own_loopback();
        // All are bound before one is let go: no two are alike.
        let bound: Vec<_> =
            (0..=UNITS).map(|_| TcpListener::bind((host, 0)).expect("a port is free")).collect();
        let mut ports: Vec<_> =
            bound.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        let balancer = ports.pop().expect("one more than units");
        let folder = TempDir::new().expect("a temporary folder can be made");
        let units = Self { folder, host, ports, balancer };
        let tree = units.ports.iter().zip(8000..).fold(SEED.to_owned(), |tree, (port, usual)| {
            tree.replace(&format!("\"port\": {usual},"), &format!("\"port\": {port},"))
        });
        std::fs::write(units.topology(), tree).expect("the folder is ours");
        std::fs::write(units.config(), config.to_string()).expect("the folder is ours");
        units
    }

    /// The tree's file.
    pub fn topology(&self) -> PathBuf {
        self.folder.path().join("topology.json")
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    /// The folder in which they write down their tasks.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// To whom a unit has offered tasks without an answer that it knows of, as it has written it down: also of one that
    /// stands still, or is dead.
    ///
    /// # Panics
    /// When its journal is no journal.
    pub fn open_offers(&self, port: u16) -> BTreeSet<u16> {
        let text = std::fs::read_to_string(self.state().join(format!("{port}.journal"))).unwrap_or_default();
        let mut open = BTreeSet::new();
        let to = |entry: &Value| u16::try_from(entry["to"].as_u64().expect("a port")).expect("a port");
        // The last line may be half a one.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let entry: Value = serde_json::from_str(line).expect("a line is an entry");
            if let Some(ledger) = entry.get("ledger") {
                let targets = ledger["reserved"].as_object().expect("by target").keys();
                open = targets.map(|target| target.parse().expect("a port")).collect();
            } else if let Some(reserved) = entry.get("reserved") {
                open.insert(to(reserved));
            } else if let Some(over) = entry.get("released").or_else(|| entry.get("kept")) {
                open.remove(&to(over));
            }
        }
        open
    }

    /// The configuration of a pool of this name that they are.
    pub fn pool(&self, name: &str) -> String {
        let shown = |path: PathBuf| format!("{:?}", path.display().to_string());
        format!(
            "[pool.{name}]\nroutes = \"/waves/*\"\nwaves.topology = {}\nwaves.config = {}\nwaves.state = {}\n\
             waves.host = \"{}\"\nwaves.port = {}\n",
            shown(self.topology()),
            shown(self.config()),
            shown(self.state()),
            self.host,
            self.balancer
        )
    }

    /// An appliance that runs them as the pool `waves`.
    pub fn setup(&self, executable: &str) -> Setup {
        let setup = Setup::new(executable).set("fleet.replicas", 0).set("fleet.heartbeat_interval", "200ms");
        setup.file(&self.pool("waves"))
    }

    /// What starts such an appliance in one command.
    pub fn up(&self, executable: &str) -> Setup {
        let shown = |path: PathBuf| path.display().to_string();
        let (topology, config, state) = (shown(self.topology()), shown(self.config()), shown(self.state()));
        let port = self.balancer.to_string();
        let setup = Setup::new(executable)
            .by(&["waves", "up", &topology, &config, "--port", &port, "--state", &state]);
        setup.set("pool.waves.waves.host", self.host)
    }

    /// Calls of a unit, or of their balancer.
    pub fn at(&self, port: u16) -> Http {
        Http { address: (self.host, port).into() }
    }

    /// The replica that is a unit, or their balancer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn replica(&self, appliance: &Balancer, port: u16) -> crate::Replica {
        let name = if port == self.balancer { "balancer".to_owned() } else { format!("unit-{port}") };
        let all = appliance.replicas_of("waves").await;
        all.iter()
            .find(|replica| replica.name == name)
            .cloned()
            .unwrap_or_else(|| panic!("no {name} in {all:?}"))
    }
}
