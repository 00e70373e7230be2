//! What has to be asked of whom, so that every partition is counted once.
//!
//! A partition is asked for on one way at a time. The other ways, and the other workers that hold it, are what is left
//! to try when that one fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::catalog::Catalog;
use crate::date::Date;
use crate::query::Query;
use crate::topology::{DataPlacement, Process, ProcessId, Role, Topology};

/// Who is to answer for a day that no worker holds; no process is called so, for that has no spaces.
const NOBODY: &str = "no process";

/// A way to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Who holds it.
    pub(crate) worker: ProcessId,
    /// The processes to pass, the worker last; empty: it is here.
    pub(crate) path: Vec<ProcessId>,
    /// What is expected there.
    pub(crate) fingerprint: u64,
}

/// A partition that a question concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) date: Date,
    /// The ways to it, the first one first.
    pub(crate) routes: VecDeque<Route>,
    /// Lines of its files that are no rows.
    pub(crate) malformed: u64,
}

/// A partition that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// A date, or a worker whose dates nobody knows.
    pub(crate) name: String,
    pub(crate) process: String,
    pub(crate) why: String,
    /// Whether there would have been more with more time.
    pub(crate) was_late: bool,
}

/// All that a question needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of dates.
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) missing: Vec<Missing>,
}

/// The workers that a process answers for: a leader for all that it can reach, whoever else leads; the others for those
/// below them, seen from any leader.
fn scope(topology: &Topology, of: &ProcessId) -> Vec<ProcessId> {
    let is_leader = |process: &&Process| process.role == Role::Leader;
    let leaders = topology.processes.values().filter(is_leader).map(|process| &process.id);
    let own = leaders.clone().filter(|leader| *leader == of);
    let seen_from: Vec<_> = if own.clone().next().is_some() { own.collect() } else { leaders.collect() };
    let mut below: BTreeSet<ProcessId> = BTreeSet::from([of.clone()]);
    for leader in seen_from {
        below.extend(below_seen_from(topology, leader, of));
    }
    below.retain(|id| topology.processes.get(id).is_some_and(|process| process.role == Role::Worker));
    below.into_iter().collect()
}

/// The processes that are reached from `of` by steps away from the leader.
fn below_seen_from(topology: &Topology, leader: &ProcessId, of: &ProcessId) -> Vec<ProcessId> {
    let depths = depths(topology, leader);
    let mut below = vec![of.clone()];
    let mut index = 0;
    while let Some(process) = below.get(index).and_then(|id| topology.processes.get(id)) {
        index += 1;
        for next in &process.neighbors {
            if depths.get(next) > depths.get(&process.id) && !below.contains(next) {
                below.push(next.clone());
            }
        }
    }
    below
}

/// How many steps each process is from a leader. Another leader is a process like others: one that is nearer to a worker
/// takes nothing from those that are farther.
fn depths<'a>(topology: &'a Topology, leader: &'a ProcessId) -> BTreeMap<&'a ProcessId, usize> {
    let mut depths = BTreeMap::from([(leader, 0)]);
    let mut queue = VecDeque::from([leader]);
    while let Some(id) = queue.pop_front() {
        let deeper = depths[id] + 1;
        for next in topology.processes.get(id).into_iter().flat_map(|process| &process.neighbors) {
            if !depths.contains_key(next) {
                depths.insert(next, deeper);
                queue.push_back(next);
            }
        }
    }
    depths
}

/// Whom a process answers for, and the ways to them.
#[derive(Debug)]
pub(crate) struct Reach {
    own: ProcessId,
    pub(crate) scope: Vec<ProcessId>,
    /// Whether there is no worker outside of it.
    is_all: bool,
    ways: BTreeMap<ProcessId, Vec<Vec<ProcessId>>>,
}

impl Reach {
    pub(crate) fn of(topology: &Topology, own: &ProcessId) -> Self {
        let scope = scope(topology, own);
        let ways = scope.iter().map(|worker| (worker.clone(), topology.paths(own, worker, &[]))).collect();
        Self { own: own.clone(), is_all: topology.workers().count() == scope.len(), scope, ways }
    }

    /// The ways to a worker, the shortest first.
    pub(crate) fn ways_to(&self, worker: &ProcessId) -> &[Vec<ProcessId>] {
        self.ways.get(worker).map_or(&[], Vec::as_slice)
    }

    /// Those of them that pass none of `hops`. Only the best are known beforehand: if a hop is on all of these, there may
    /// be others.
    fn ways_beside(
        &self,
        topology: &Topology,
        worker: &ProcessId,
        hops: &[ProcessId],
    ) -> Vec<Vec<ProcessId>> {
        let known = self.ways_to(worker);
        let open = known.iter().filter(|path| path.iter().all(|hop| !hops.contains(hop)));
        let open: Vec<_> = open.cloned().collect();
        if open.is_empty() && !known.is_empty() { topology.paths(&self.own, worker, hops) } else { open }
    }
}

impl Plan {
    /// What has to be asked for `query`, which came over `hops`.
    pub(crate) fn new(
        topology: &Topology,
        reach: &Reach,
        hops: &[ProcessId],
        catalog: &Catalog,
        query: &Query,
    ) -> Self {
        let mut plan = Self::default();
        let mut holders: BTreeMap<Date, Vec<ProcessId>> = BTreeMap::new();
        // With copies elsewhere, an unknown worker's dates are known from those.
        let unknown = reach.scope.iter().filter(|worker| !catalog.workers.contains_key(*worker)).count();
        let copied = matches!(topology.placement, DataPlacement::Ring { replicas } if unknown < replicas);
        for worker in &reach.scope {
            if !concerns_worker(topology, worker, query) {
                continue;
            }
            let Some(days) = catalog.workers.get(worker) else {
                if (copied && reach.is_all) || !may_hold(topology, worker, query) {
                    continue;
                }
                plan.missing.push(Missing {
                    name: worker.to_string(),
                    process: worker.to_string(),
                    why: "it has not answered yet, so its dates are not known".into(),
                    was_late: false,
                });
                continue;
            };
            for date in
                days.keys().filter(|&&date| query.concerns(date) && concerns_date(topology, date, query))
            {
                holders.entry(*date).or_default().push(worker.clone());
            }
        }
        for (date, worker) in &catalog.unheld {
            if query.concerns(*date)
                && concerns_date(topology, *date, query)
                && concerns_worker(topology, worker, query)
            {
                let why = "its data set does not have this date, another process's does".to_owned();
                plan.missing.push(Missing {
                    name: date.to_string(),
                    process: worker.to_string(),
                    why,
                    was_late: false,
                });
            }
        }
        // Only who answers for all answers for what is nobody's.
        for &date in catalog.unowned.iter().filter(|_| reach.is_all) {
            let of_team = |team: &String| topology.teams.get(team).is_some_and(|span| span.contains(date));
            if query.concerns(date) && query.team.as_ref().is_none_or(of_team) {
                let why = "it is in the data set, and no worker is to hold it: see teams and date_bounds";
                plan.missing.push(Missing {
                    name: date.to_string(),
                    process: NOBODY.to_owned(),
                    why: why.to_owned(),
                    was_late: false,
                });
            }
        }
        let mut ways = BTreeMap::new();
        for (date, workers) in holders {
            let mut routes = Vec::new();
            let mut whys = Vec::new();
            for worker in &workers {
                let day = &catalog.workers[worker][&date];
                if !day.unreadable.is_empty() {
                    whys.push((worker, day.unreadable.clone()));
                    continue;
                }
                let open =
                    ways.entry(worker.clone()).or_insert_with(|| reach.ways_beside(topology, worker, hops));
                routes.extend(open.iter().enumerate().map(|(rank, path)| {
                    (rank, Route { worker: worker.clone(), path: path.clone(), fingerprint: day.fingerprint })
                }));
            }
            if let Some(other) = routes.iter().find(|(_, route)| route.fingerprint != routes[0].1.fingerprint)
            {
                // Nobody knows which of them is right.
                let why = format!("{} holds other data of this date", other.1.worker);
                let process = routes[0].1.worker.to_string();
                plan.missing.push(Missing { name: date.to_string(), process, why, was_late: false });
                continue;
            }
            // The best way to each holder, then the second best ones. Which holder is first depends on the day, so that
            // they share the work.
            let turn = |worker: &ProcessId| {
                let place = workers.iter().position(|holder| holder == worker).unwrap_or_default();
                (place + workers.len() - date.number() as usize % workers.len()) % workers.len()
            };
            routes.sort_by_key(|(rank, route)| (*rank, turn(&route.worker)));
            if routes.is_empty() {
                let (process, why) = whys.into_iter().next().map_or_else(
                    || {
                        (
                            workers[0].to_string(),
                            "no way leads to it but over processes that have asked".to_owned(),
                        )
                    },
                    |(worker, why)| (worker.to_string(), why),
                );
                plan.missing.push(Missing { name: date.to_string(), process, why, was_late: false });
            } else {
                // Copies that are alike were read from the same bytes.
                let malformed = catalog.workers[&routes[0].1.worker][&date].malformed;
                let routes = routes.into_iter().map(|(_, route)| route).collect();
                plan.wanted.push(Wanted { date, routes, malformed });
            }
        }
        plan.missing.sort_by(|a, b| a.name.cmp(&b.name));
        plan
    }

    /// A digest of the data that a complete answer is made of.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut digest = xxhash_rust::xxh3::Xxh3::new();
        for wanted in &self.wanted {
            digest.update(&wanted.date.number().to_be_bytes());
            digest.update(&wanted.routes[0].fingerprint.to_be_bytes());
        }
        digest.digest()
    }
}

/// Whether a worker of which nothing is known can hold a day that a question concerns.
fn may_hold(topology: &Topology, worker: &ProcessId, query: &Query) -> bool {
    let team = |team: &String| topology.teams.get(team);
    let span = match topology.placement {
        DataPlacement::Ring { .. } => query.team.as_ref().and_then(team).copied(),
        DataPlacement::Dates => topology
            .processes
            .get(worker)
            .and_then(|worker| worker.date_bounds.or_else(|| team(&worker.team).copied())),
    };
    span.is_none_or(|span| span.reaches(query.date_start, query.date_end))
}

fn concerns_worker(topology: &Topology, worker: &ProcessId, query: &Query) -> bool {
    match (&query.team, topology.placement, topology.processes.get(worker)) {
        (Some(team), DataPlacement::Dates, Some(process)) => process.team == *team,
        _ => true,
    }
}

fn concerns_date(topology: &Topology, date: Date, query: &Query) -> bool {
    match (&query.team, topology.placement) {
        (Some(team), DataPlacement::Ring { .. }) => {
            topology.teams.get(team).is_some_and(|span| span.contains(date))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
