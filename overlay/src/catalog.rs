//! What is known of who holds what.
//!
//! A worker that has died is still known to have held its days: that is what makes them missing by name, and not merely
//! absent.

use std::collections::{BTreeMap, BTreeSet};

use crate::date::Date;
use crate::peer_wire;
use crate::topology::{DataPlacement, ProcessId, Topology};

/// A worker's day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) rows: u64,
    pub(crate) fingerprint: u64,
    /// Why it cannot be answered for; empty: it can.
    pub(crate) unreadable: String,
    /// Lines of its files that are no rows.
    pub(crate) malformed: u64,
}

/// What each worker held when it was last asked. One that never answered is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) workers: BTreeMap<ProcessId, BTreeMap<Date, Day>>,
    /// The dates that each of them sees in its data set.
    seen: BTreeMap<ProcessId, BTreeSet<Date>>,
    /// Dates that somebody sees and nobody holds, with the worker that should: each splits the dates that it sees
    /// itself, and data sets may differ.
    pub(crate) unheld: BTreeMap<Date, ProcessId>,
    /// Dates that somebody sees and no worker is to hold: the file leaves them out.
    pub(crate) unowned: BTreeSet<Date>,
}

impl Catalog {
    /// Takes what a worker says of itself; `scope` are all that are asked.
    pub(crate) fn learn(
        &mut self,
        topology: &Topology,
        scope: &[ProcessId],
        worker: &ProcessId,
        said: peer_wire::CatalogResponse,
    ) {
        let days = said.days.into_iter().filter_map(|day| {
            let count = |number: i64| u64::try_from(number).unwrap_or_default();
            let (rows, malformed) = (count(day.rows), count(day.malformed));
            let (fingerprint, unreadable) = (day.fingerprint, day.unreadable);
            Some((Date::from_number(day.date)?, Day { rows, fingerprint, unreadable, malformed }))
        });
        let days = days.collect();
        let seen = said.seen.into_iter().filter_map(Date::from_number).collect();
        if self.workers.get(worker) == Some(&days) && self.seen.get(worker) == Some(&seen) {
            return;
        }
        self.workers.insert(worker.clone(), days);
        self.seen.insert(worker.clone(), seen);
        let exist: BTreeSet<Date> = self.seen.values().flatten().copied().collect();
        let exist: Vec<_> = exist.into_iter().collect();
        let held: BTreeSet<Date> = self.workers.values().flat_map(BTreeMap::keys).copied().collect();
        let known = scope.iter().filter(|worker| self.workers.contains_key(*worker));
        let due = known.filter_map(|id| topology.processes.get(id)).flat_map(|worker| {
            topology.dates_of(worker, &exist).into_iter().map(|date| (date, worker.id.clone()))
        });
        self.unheld = due.filter(|(date, _)| !held.contains(date)).collect();
        // The ring leaves out no day.
        self.unowned.clear();
        if topology.placement == DataPlacement::Dates {
            let owned: BTreeSet<Date> =
                topology.workers().flat_map(|worker| topology.dates_of(worker, &exist)).collect();
            let is_nobodys = |date: &Date| !owned.contains(date) && !held.contains(date);
            self.unowned = exist.into_iter().filter(is_nobodys).collect();
        }
    }
}

#[cfg(test)]
mod tests;
