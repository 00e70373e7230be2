//! Keys of a pool whose replicas read parts of whatever is analysed in a store.
//!
//! They are replicas like any other (as many as somebody adds, each with a heartbeat, started again when it dies); the
//! balancer hands them the store's URL and does not know what it is about.

use std::time::Duration;

use super::fleet::{FleetConfig, RuntimeChoice};
use super::keys::Effect::AtRestart;
use super::overlay::alone;
use super::reader::Reader;
use super::runtime::{DockerConfig, ProcessConfig};
use super::{Secret, parse};

/// Where a replica of such a pool tells how the analysis goes, as server-sent events.
pub const WATCH: &str = "/watch";
/// What a replica finds the store in: an argument could be read by everybody on the machine.
pub const STORE_VARIABLE: &str = "SLIPRING_ANALYSE_STORE";
/// Processes read on threads of their own.
const MOST_WORKERS: u16 = 1024;

/// A pool of workers.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalyseConfig {
    store: Secret,
    /// Threads of a replica that read.
    pub workers: u16,
    /// How long a replica may not be heard of before another one takes over what it reads.
    pub lease: Duration,
}

impl AnalyseConfig {
    /// Arguments of this executable that make it such a replica.
    pub fn arguments(&self) -> Vec<String> {
        let (workers, lease) = (self.workers.to_string(), format!("{}ms", self.lease.as_millis()));
        let words =
            ["analyse", "worker", "--listen", "127.0.0.1:0", "--workers", &workers, "--lease", &lease];
        words.map(str::to_owned).into()
    }

    /// The variable that names the store, and what it holds.
    pub fn environment(&self) -> (&'static str, &str) {
        (STORE_VARIABLE, self.store.reveal())
    }
}

pub(super) const STORE: &str = "analyse.store";

pub(super) fn read(
    r: &mut Reader<'_>,
    fleet: &mut FleetConfig,
    process: &ProcessConfig,
    docker: &DockerConfig,
) -> Option<AnalyseConfig> {
    r.section("analyse", "Replicas that read parts of whatever `slipring analyse --store` counts in the same store. They are processes, which see this machine's logs.");
    let store = r.own_secret(
        STORE, AtRestart,
        "",
        "Where the tasks are: sqlite:PATH or postgres://…, as the coordinator was told; such a pool needs no routes. \"\": the replicas are no workers.",
        parse::optional_store,
    );
    let workers = r.own(
        "analyse.workers",
        AtRestart,
        "1",
        "Threads of each replica that read.",
        parse::number(1..=MOST_WORKERS),
    );
    let lease = r.own(
        "analyse.lease",
        AtRestart,
        "5s",
        "How long a replica may not be heard of before another one takes over what it reads: 200ms to 1h.",
        parse::duration,
    );
    let Some(store) = store else {
        if workers != 1 || lease != Duration::from_secs(5) {
            r.mistake(&["analyse.workers", "analyse.lease"], "analyse.store beside it");
        }
        return None;
    };
    if !r.is_pool() && r.is_of_environment(STORE) {
        // `slipring analyse` reads that variable: nobody who set it for that wants other replicas.
        r.mistake(
            &[STORE],
            "nothing in this variable, but analyse.store in a pool of its own, like [pool.analyse]",
        );
    }
    if !(Duration::from_millis(200)..=Duration::from_secs(3600)).contains(&lease) {
        r.mistake(&["analyse.lease"], "200ms to 1h: shorter leases run out while their holders live");
    }
    alone(r, STORE, fleet, process, docker);
    if fleet.runtime == RuntimeChoice::Docker {
        r.mistake(&["fleet.runtime", STORE], "process: a container sees no logs of this machine");
    }
    Some(AnalyseConfig { store, workers, lease })
}
