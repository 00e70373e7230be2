//! How the appliance is at a moment, in the words of the stream.
//!
//! What costs something is worked out only when it can have changed: a ring when there is another one, rates once a
//! second. What is told is told when it differs from the last time, so that a calm appliance is a quiet stream.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slipring_hashing::{ReplicaId, Table, stats};
use tokio::time::Instant;

use super::super::inspect::describe;
use crate::config::PoolConfig;
use crate::fleet::events::{Events, FleetEvent};
use crate::fleet::state::{ReplicaView, State};
use crate::proxy::forward::Pool;
use crate::proxy::pools::Pools;
use crate::proxy::upstream::Upstream;
use crate::snapshot::Snapshot;

/// Requests are counted this often.
const COUNTED_EVERY: Duration = Duration::from_secs(1);
/// Pieces that a ring is told in, at the most: more cannot be told apart on any screen.
const MOST_CELLS: u32 = 1024;

/// What differs from the last look.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// All pools there are.
    pub(super) pools: BTreeSet<Arc<str>>,
    /// All pools as they are.
    pub(super) fleet: Option<String>,
    /// Rings that are others than before.
    pub(super) rings: Vec<(Arc<str>, String)>,
}

/// What the last look saw.
#[derive(Debug)]
pub(super) struct Looks {
    rings: HashMap<Arc<str>, Ring>,
    /// Of each life of a replica: answers when they were last counted, and each second since then.
    counts: HashMap<u64, Count>,
    counted: Option<Instant>,
    fleet: String,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    answers: u64,
    per_second: Option<f64>,
    in_flight: usize,
    waiting: usize,
}

#[derive(Debug)]
struct Ring {
    table: Arc<Table>,
    shares: HashMap<ReplicaId, Share>,
    balance: Value,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    share: f64,
    ideal: f64,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { rings: HashMap::new(), counts: HashMap::new(), counted: None, fleet: String::new() }
    }

    /// Looks at all pools.
    pub(super) fn look(&mut self, pools: &Pools, events: &Events, stopping: bool, now: Instant) -> Looked {
        let snapshots: Vec<_> = pools.all().map(|pool| (pool, pool.fleet.snapshot())).collect();
        let names: BTreeSet<_> = snapshots.iter().map(|(pool, _)| pool.config.name.clone()).collect();
        self.rings.retain(|name, _| names.contains(name));
        self.count(snapshots.iter().map(|(_, snapshot)| &**snapshot), now);
        let mut rings = Vec::new();
        for (pool, snapshot) in &snapshots {
            let name = &pool.config.name;
            if self.rings.get(name).is_none_or(|ring| !Arc::ptr_eq(&ring.table, &snapshot.table)) {
                let ring = Ring::new(snapshot.table.clone());
                rings.push((name.clone(), ring.told(name)));
                self.rings.insert(name.clone(), ring);
            }
        }
        let told =
            snapshots.iter().map(|(pool, snapshot)| self.pool(pool, snapshot, &pools.config.paths, events));
        let told: Vec<_> = told.collect();
        let fleet = json!({ "version": env!("CARGO_PKG_VERSION"), "stopping": stopping, "pools": told });
        let fleet = fleet.to_string();
        let fleet = (fleet != self.fleet).then(|| {
            self.fleet = fleet;
            self.fleet.clone()
        });
        Looked { pools: names, fleet, rings }
    }

    fn count<'a>(&mut self, snapshots: impl Iterator<Item = &'a Snapshot>, now: Instant) {
        let since = self.counted.map(|counted| now.saturating_duration_since(counted));
        if since.is_some_and(|since| since < COUNTED_EVERY) {
            return;
        }
        let count = |upstream: &Arc<Upstream>| {
            let answers = upstream.metrics.answers();
            let before = self.counts.get(&upstream.serial).zip(since);
            let per_second = before.map(|(count, since)| {
                let rate = answers.saturating_sub(count.answers) as f64 / since.as_secs_f64();
                (rate * 10.0).round() / 10.0
            });
            let (in_flight, waiting) = (upstream.in_flight(), upstream.waiting());
            (upstream.serial, Count { answers, per_second, in_flight, waiting })
        };
        self.counts = snapshots.flat_map(Snapshot::upstreams).map(count).collect();
        self.counted = Some(now);
    }

    fn pool(&self, pool: &Pool, snapshot: &Snapshot, paths: &[String], events: &Events) -> Value {
        let config = &pool.config;
        let last = events.last_of(&config.name);
        let ring = self.rings.get(&config.name);
        let member = |view: &ReplicaView| {
            let share = ring.and_then(|ring| ring.shares.get(&view.id));
            self.member(config, snapshot, view, share.copied(), last.get(&view.name))
        };
        let routes: Vec<_> = match config.is_default() {
            true => paths.to_vec(),
            false => config.routes.iter().map(ToString::to_string).collect(),
        };
        let is_static = !config.fleet.upstreams.is_empty();
        json!({
            "name": &*config.name,
            "kind": config.told_kind().unwrap_or(if is_static { "static" } else { "replicas" }),
            "can_add": !is_static && config.overlay.is_none(),
            "can_remove": config.overlay.is_none(),
            "room": config.room().saturating_sub(snapshot.len()),
            "routes": routes,
            "key": config.forward.key.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "placement": describe(snapshot.table.placement()),
            "slots": snapshot.table.slots(),
            "balance": ring.map(|ring| &ring.balance),
            "failures": config.fleet.failures,
            "heartbeat_ms": config.fleet.heartbeat_interval.as_millis() as u64,
            "drain_ms": config.fleet.stop_timeout.as_millis() as u64,
            "panic": snapshot.is_in_panic(),
            "members": snapshot.views.iter().map(member).collect::<Vec<_>>(),
        })
    }

    fn member(
        &self,
        config: &PoolConfig,
        snapshot: &Snapshot,
        view: &ReplicaView,
        share: Option<Share>,
        last: Option<&Arc<FleetEvent>>,
    ) -> Value {
        let mut told = json!(view);
        // Of a life that drains the snapshot knows nothing: its identity may be another's by now.
        let upstream = snapshot.entry(view.id).and_then(|entry| entry.upstream.as_ref());
        let upstream = upstream.filter(|upstream| upstream.instance.incarnation == view.incarnation);
        let is_member =
            snapshot.names.contains(&view.name) && !matches!(view.state, State::Draining | State::Stopped);
        let count = upstream.and_then(|upstream| self.counts.get(&upstream.serial));
        told["member"] = is_member.into();
        told["ejected"] = upstream.is_some_and(|upstream| upstream.health.is_ejected()).into();
        told["per_second"] = json!(count.and_then(|count| count.per_second));
        told["in_flight"] = json!(count.map(|count| count.in_flight));
        told["waiting"] = json!(count.map(|count| count.waiting));
        if let Some(share) = share.filter(|_| is_member) {
            told["share"] = rounded(share.share);
            told["ideal"] = rounded(share.ideal);
        }
        if let Some(last) = last {
            told["last"] = json!(**last);
        }
        let given = config.overlay.iter().flat_map(|given| &given.members);
        if let Some(given) = given.into_iter().find(|given| given.name == view.name) {
            told["links"] = json!(given.links);
            told["routed"] = given.is_routed.into();
            told["place"] = json!(format!("{}:{}", given.host, given.port));
        }
        told
    }
}

fn rounded(share: f64) -> Value {
    json!((share * 1e6).round() / 1e6)
}

impl Ring {
    fn new(table: Arc<Table>) -> Self {
        let shares = table.shares();
        let loads: Vec<_> = shares.iter().map(|(_, share)| *share).collect();
        let weights: f64 = table.members().iter().map(|member| member.weight.get()).sum();
        let ideal = |id| table.member(id).map_or(0.0, |member| member.weight.get() / weights);
        let balance = json!({
            "max_over_mean": stats::max_over_mean(&loads),
            "coefficient_of_variation": stats::coefficient_of_variation(&loads),
        });
        let shares = shares.into_iter().map(|(id, share)| (id, Share { share, ideal: ideal(id) })).collect();
        Self { table, shares, balance }
    }

    /// The owner of each slot, or of as many slots as can be told apart, equally far from each other.
    fn told(&self, pool: &str) -> String {
        let slots = self.table.slots();
        let cells = slots.min(MOST_CELLS);
        let owner = |cell: u32| {
            let slot = u64::from(cell) * u64::from(slots) / u64::from(cells);
            self.table.owner(u32::try_from(slot).unwrap_or(u32::MAX)).map(ReplicaId::number)
        };
        let cells: Vec<_> = (0..cells).map(owner).collect();
        let occupied = self.table.occupied().len();
        json!({ "pool": pool, "slots": slots, "cells": cells, "occupied": occupied }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use slipring_hashing::{Member, Placement, Weight};

    use super::*;

    fn table(placement: &Placement, weights: &[f64]) -> Arc<Table> {
        let member = |(n, weight): (usize, &f64)| {
            Member::new(ReplicaId(n as u16), Weight::new(*weight).unwrap(), format!("{n}"))
        };
        let members: Vec<_> = weights.iter().enumerate().map(member).collect();
        Arc::new(placement.build(&members).unwrap())
    }

    #[test]
    fn a_ring_is_told_in_pieces_that_each_have_their_owner() {
        let table = table(&Placement::Rendezvous, &[1.0, 1.0, 2.0]);
        let ring = Ring::new(table.clone());
        let told: Value = serde_json::from_str(&ring.told("api")).unwrap();
        assert_eq!((told["pool"].as_str(), told["slots"].as_u64()), (Some("api"), Some(65_536)));
        let cells = told["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 1024);
        for (n, cell) in cells.iter().enumerate() {
            let owner = table.owner(n as u32 * 64).map(ReplicaId::number);
            assert_eq!(cell.as_u64().map(|id| id as u32), owner, "{n}");
        }
        let third = ring.shares[&ReplicaId(2)];
        assert!((third.ideal - 0.5).abs() < 1e-9 && (third.share - 0.5).abs() < 0.02, "{third:?}");
    }

    #[test]
    fn a_ring_without_members_is_told_as_one() {
        let ring = Ring::new(table(&Placement::Rendezvous, &[]));
        let told: Value = serde_json::from_str(&ring.told("x")).unwrap();
        assert!(told["cells"].as_array().unwrap().iter().all(Value::is_null), "{told}");
    }
}
