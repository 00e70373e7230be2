//! Which worker holds which dates.
//!
//! Every process computes the same from the same file and the same list of dates, so nobody has to be asked. Where lists
//! differ, because hosts hold different data sets, `catalog` finds the dates that nobody took. `date_bounds` of one worker may take dates that its team's split would give to another: a date goes to
//! whoever names it, and only the others are split.

use slipring_hashing::{Key, Member, Placement, PlacementError, ReplicaId, Table, Weight};

use crate::date::Date;
use crate::topology::{DataPlacement, Process, Topology};

/// See [`Topology::dates_of`].
pub(crate) fn dates_of(topology: &Topology, worker: &Process, exist: &[Date]) -> Vec<Date> {
    match topology.placement {
        DataPlacement::Dates => by_team(topology, worker, exist),
        DataPlacement::Ring { replicas } => by_ring(topology, worker, exist, replicas),
    }
}

fn by_team(topology: &Topology, worker: &Process, exist: &[Date]) -> Vec<Date> {
    if let Some(span) = worker.date_bounds {
        return exist.iter().copied().filter(|&date| span.contains(date)).collect();
    }
    let Some(team) = topology.teams.get(&worker.team) else { return Vec::new() };
    let bounded: Vec<_> = topology.workers().filter_map(|worker| worker.date_bounds).collect();
    let is_named = |date| bounded.iter().any(|span| span.contains(date));
    let dates: Vec<_> =
        exist.iter().copied().filter(|&date| team.contains(date) && !is_named(date)).collect();
    let mates: Vec<_> = topology
        .workers()
        .filter(|mate| mate.team == worker.team && mate.date_bounds.is_none())
        .map(|mate| &mate.id)
        .collect();
    let Some(place) = mates.iter().position(|mate| **mate == worker.id) else { return Vec::new() };
    // The first ones have one more, if it does not come out even.
    let (each, more) = (dates.len() / mates.len(), dates.len() % mates.len());
    let begin = place * each + place.min(more);
    dates[begin..begin + each + usize::from(place < more)].to_vec()
}

/// A worker's place on the ring is its name's, so that others may come and go without moving its dates.
pub(crate) fn identity(id: &str) -> ReplicaId {
    ReplicaId((xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % u64::from(u16::MAX)) as u16)
}

/// All workers on the ring.
pub(crate) fn ring(topology: &Topology) -> Result<Table, PlacementError> {
    let members: Vec<_> = topology
        .workers()
        .map(|w| Member::new(identity(w.id.as_str()), Weight::ONE, w.id.as_str()))
        .collect();
    Placement::Rendezvous.build(&members)
}

fn by_ring(topology: &Topology, worker: &Process, exist: &[Date], replicas: usize) -> Vec<Date> {
    let table = ring(topology).expect("the topology was checked for it");
    let mine = identity(worker.id.as_str());
    let holds = |date: &Date| {
        let slot = table.slot_of(Key::Bytes(date.to_string().as_bytes()));
        table.preference(slot).take(replicas).any(|id| id == mine)
    };
    exist.iter().copied().filter(holds).collect()
}
