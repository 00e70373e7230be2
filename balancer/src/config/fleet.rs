//! Keys of a fleet: how many replicas, how watched, how healed, and what runs them.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use slipring_hashing::{Placement, Weight};

use super::keys::Effect::{AtReload, AtRestart};
use super::overlay::TOPOLOGY;
use super::parse;
use super::reader::Reader;

/// Which runtime runs replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Docker where its socket answers, processes elsewhere.
    Auto,
    /// Child processes of the balancer.
    Process,
    /// Containers.
    Docker,
    /// Nothing: they run elsewhere, at given addresses.
    Static,
}

/// Whether a respawned replica keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespawnName {
    /// The same name.
    Same,
    /// A new random one. Its identity, and with it its share of the keys, stays.
    New,
}

/// A replica that somebody else runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed {
    /// Where it is. As text it is its name, and what ketama hashes, as nginx does with its `server` lines.
    pub address: SocketAddr,
    /// Its share of the keys, relative to the others'.
    pub weight: Weight,
}

/// How replicas are kept alive.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// How many replicas the first start makes.
    pub replicas: usize,
    /// The most there may ever be.
    pub max_replicas: usize,
    /// What runs them.
    pub runtime: RuntimeChoice,
    /// Where they are, if nothing here runs them.
    pub upstreams: Vec<Listed>,
    /// Time from the start of one heartbeat to the start of the next.
    pub heartbeat_interval: Duration,
    /// How long one heartbeat may take; at most the interval.
    pub heartbeat_timeout: Duration,
    /// The path that is asked; `None`: that it accepts a connection is sign enough.
    pub heartbeat_path: Option<PathAndQuery>,
    /// Consecutive failures that flatline a replica.
    pub failures: u32,
    /// From launch to the first good heartbeat.
    pub start_timeout: Duration,
    /// From the polite signal to the kill; also the longest drain of a removed replica.
    pub stop_timeout: Duration,
    /// Runtime calls (spawns, and apart from them stops) in flight.
    pub task_batch: usize,
    /// Heartbeats in flight.
    pub request_batch: usize,
    /// What a respawned replica is called.
    pub respawn_name: RespawnName,
    /// First delay of a replica that dies again.
    pub backoff_min: Duration,
    /// Longest delay.
    pub backoff_max: Duration,
    /// A life this long is forgiven: the next respawn is immediate.
    pub backoff_reset: Duration,
    /// How often the fleet is compared with what really runs.
    pub reconcile_interval: Duration,
    /// How long a replica that is back, or new, takes to its whole share; zero: no time.
    pub slow_start: Duration,
}

pub(super) fn read(r: &mut Reader<'_>, placement: &Placement) -> FleetConfig {
    r.section("fleet", "Replicas: how many, how watched, how healed.");
    let mut fleet = FleetConfig {
        replicas: r.own(
            "fleet.replicas", AtRestart,
            "3",
            "How many the first start makes; later the remembered membership counts.",
            parse::number(0_usize..=4096),
        ),
        max_replicas: r.key(
            "fleet.max_replicas", AtReload,
            "256",
            "The most there may ever be (the `slots` placement may hold fewer).",
            parse::number(1_usize..=4096),
        ),
        runtime: r.key(
            "fleet.runtime", AtRestart,
            "auto",
            "auto (docker where its socket answers) | process | docker | static (upstreams, which run elsewhere).",
            parse::runtime,
        ),
        upstreams: r.own(
            "fleet.upstreams", AtReload,
            "[]",
            "Addresses that the runtime `static` balances over, like [\"10.0.0.1:8080 weight=2\", \"10.0.0.2:8080\"]; nothing is started there.",
            parse::upstreams,
        ),
        heartbeat_interval: r.key(
            "fleet.heartbeat_interval", AtReload,
            "1s",
            "From the start of one heartbeat to the next.",
            parse::duration,
        ),
        heartbeat_timeout: r.key(
            "fleet.heartbeat_timeout", AtReload,
            "900ms",
            "How long one heartbeat may take, at most the interval; and, unless it is set, at most nine tenths of it.",
            parse::duration,
        ),
        heartbeat_path: r.key(
            "fleet.heartbeat_path", AtReload,
            "/heartbeat",
            "What is asked of a replica; any 2xx is a sign of life. \"\": that it accepts a connection is.",
            parse::optional_url_path,
        ),
        failures: r.key(
            "fleet.failures", AtReload,
            "3",
            "Consecutive missed heartbeats that flatline a replica.",
            parse::number(1_u32..=1000),
        ),
        start_timeout: r.key(
            "fleet.start_timeout", AtRestart,
            "10s",
            "From launch to the first good heartbeat.",
            parse::duration,
        ),
        stop_timeout: r.key(
            "fleet.stop_timeout", AtReload,
            "5s",
            "From the polite signal to the kill; also the longest drain of a removed replica.",
            parse::duration,
        ),
        task_batch: r.key(
            "fleet.task_batch", AtReload,
            "10",
            "Spawns, polite stops and removals of the dead: each so many at a time.",
            parse::number(1_usize..=1000),
        ),
        request_batch: r.key(
            "fleet.request_batch", AtReload,
            "10",
            "Heartbeats under way at a time.",
            parse::number(1_usize..=1000),
        ),
        respawn_name: r.key(
            "fleet.respawn_name", AtReload,
            "same",
            "same | new: what a respawned replica is called. Its keys stay either way.",
            parse::respawn_name,
        ),
        backoff_min: r.key(
            "fleet.backoff_min", AtReload,
            "100ms",
            "The first death is respawned at once, the second in a row after this; then it doubles.",
            parse::duration,
        ),
        backoff_max: r.key("fleet.backoff_max", AtReload, "30s", "The longest such delay.", parse::duration),
        backoff_reset: r.key(
            "fleet.backoff_reset", AtReload,
            "10s",
            "A replica that lived this long starts afresh.",
            parse::duration,
        ),
        reconcile_interval: r.key(
            "fleet.reconcile_interval", AtReload,
            "5s",
            "How often the fleet is compared with what really runs.",
            parse::duration,
        ),
        slow_start: r.key(
            "fleet.slow_start",
            AtReload,
            "0s",
            "How long a replica that was added or respawned takes, in ten steps, from a tenth of its share of the keys to all of it; 0s: it has it at once.",
            parse::duration_or_none,
        ),
    };
    if placement_has_no_weights(placement) && !fleet.slow_start.is_zero() {
        r.mistake(
            &["fleet.slow_start", "ring.placement", "ring.hash"],
            "no slow start, or another ring.placement: the `slots` ring knows no weights",
        );
    }
    if !r.is_set("fleet.heartbeat_timeout") {
        fleet.heartbeat_timeout = fleet.heartbeat_timeout.min(fleet.heartbeat_interval * 9 / 10);
    }
    if fleet.heartbeat_timeout > fleet.heartbeat_interval {
        r.mistake(
            &["fleet.heartbeat_timeout"],
            "at most fleet.heartbeat_interval, or heartbeats would overtake each other",
        );
    }
    // A pool that lists addresses means them, whatever the balancer's own replicas are.
    if !fleet.upstreams.is_empty() && !r.is_set("fleet.runtime") && r.is_pool() {
        fleet.runtime = RuntimeChoice::Static;
    }
    // So does one that is an overlay, which starts its processes.
    let is_overlay = r.is_set(TOPOLOGY) && !r.is_empty(TOPOLOGY);
    let inherited = fleet.upstreams.is_empty() && !r.is_set("fleet.runtime");
    if is_overlay && inherited && fleet.runtime == RuntimeChoice::Static {
        fleet.runtime = RuntimeChoice::Process;
    }
    if !is_overlay && (fleet.runtime == RuntimeChoice::Static) == fleet.upstreams.is_empty() {
        r.mistake(
            &["fleet.upstreams", "fleet.runtime"],
            "addresses, with fleet.runtime = \"static\" and only with it",
        );
    }
    if placement_has_no_weights(placement)
        && fleet.upstreams.iter().any(|listed| listed.weight != Weight::ONE)
    {
        r.mistake(
            &["fleet.upstreams", "ring.placement", "ring.hash"],
            "no weights, or another ring.placement: the `slots` ring knows none",
        );
    }
    if fleet.backoff_min > fleet.backoff_max {
        r.mistake(
            &["fleet.backoff_min", "fleet.backoff_max"],
            "fleet.backoff_min of at most fleet.backoff_max",
        );
    }
    let room = placement.capacity().min(fleet.max_replicas);
    if fleet.replicas > room {
        let keys =
            ["fleet.replicas", "fleet.max_replicas", "ring.slots", "ring.virtual_servers", "ring.hash"];
        r.mistake(
            &keys,
            &format!("fleet.replicas of at most {room}: that is what the ring and fleet.max_replicas hold"),
        );
    }
    if fleet.upstreams.len() > placement.capacity() {
        let keys = ["fleet.upstreams", "ring.placement", "ring.slots", "ring.virtual_servers", "ring.hash"];
        r.mistake(&keys, &format!("at most {} addresses: that is what the ring holds", placement.capacity()));
    }
    fleet
}

fn placement_has_no_weights(placement: &Placement) -> bool {
    matches!(placement, Placement::Slots { .. })
}
