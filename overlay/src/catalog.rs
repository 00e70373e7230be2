//! What is known of who holds what.
//!
//! A worker that has died is still known to have held its days: that is what makes them missing by name, and not merely
//! absent.

use std::collections::BTreeMap;

use crate::date::Date;
use crate::peer_wire;
use crate::topology::ProcessId;

/// A worker's day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) rows: u64,
    pub(crate) fingerprint: u64,
    /// Why it cannot be answered for; empty: it can.
    pub(crate) unreadable: String,
}

/// What each worker held when it was last asked. One that never answered is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) workers: BTreeMap<ProcessId, BTreeMap<Date, Day>>,
}

impl Catalog {
    /// Takes what a worker says of itself.
    pub(crate) fn learn(&mut self, worker: &ProcessId, said: peer_wire::CatalogResponse) {
        let days = said.days.into_iter().filter_map(|day| {
            let rows = u64::try_from(day.rows).unwrap_or_default();
            let (fingerprint, unreadable) = (day.fingerprint, day.unreadable);
            Some((Date::from_number(day.date)?, Day { rows, fingerprint, unreadable }))
        });
        self.workers.insert(worker.clone(), days.collect());
    }
}
