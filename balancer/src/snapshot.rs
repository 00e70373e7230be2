//! What the data plane and the administration see of the fleet: ring and health together, immutable.
//!
//! One `ArcSwap` holds the present one. Two cells, one for backends and one for their health, would let a reader
//! see a pair that never was. A sick replica changes its entry here; it never rebuilds the ring.

use std::sync::Arc;

use arc_swap::ArcSwap;
use slipring_hashing::{Placement, PlacementError, ReplicaId, Table};

use crate::fleet::state::{ReplicaView, State};
use crate::proxy::upstream::Upstream;

/// The present snapshot, for any number of readers.
pub type Shared = Arc<ArcSwap<Snapshot>>;

/// A member as the data plane needs it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its state.
    pub state: State,
    /// Where requests go; `None` while it does not run.
    pub upstream: Option<Arc<Upstream>>,
}

impl Entry {
    fn sick(&self) -> Option<&Arc<Upstream>> {
        let upstream = self.upstream.as_ref()?;
        let sick = match self.state {
            State::Live => upstream.health.is_ejected(),
            state => state == State::Suspect,
        };
        sick.then_some(upstream)
    }
}

/// Ring, health and views at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Key to slot to identity.
    pub table: Arc<Table>,
    /// Names of the members in the order in which they joined.
    pub names: Vec<String>,
    /// Everything there is to see.
    pub views: Vec<ReplicaView>,
    entries: Vec<Option<Entry>>,
}

impl Snapshot {
    /// A snapshot of these members.
    pub fn new(
        table: Arc<Table>,
        names: Vec<String>,
        views: Vec<ReplicaView>,
        members: impl IntoIterator<Item = (ReplicaId, Entry)>,
    ) -> Self {
        let mut entries = Vec::new();
        for (id, entry) in members {
            if entries.len() <= id.index() {
                entries.resize(id.index() + 1, None);
            }
            entries[id.index()] = Some(entry);
        }
        Self { table, names, views, entries }
    }

    /// Nobody is there yet.
    ///
    /// # Errors
    /// When the placement is impossible even for nobody.
    pub fn empty(placement: &Placement) -> Result<Self, PlacementError> {
        Ok(Self::new(Arc::new(placement.build(&[])?), Vec::new(), Vec::new(), []))
    }

    /// The member with this identity.
    pub fn entry(&self, id: ReplicaId) -> Option<&Entry> {
        self.entries.get(id.index())?.as_ref()
    }

    /// Who may answer for `slot`, best first: the healthy ones in the ring's order of preference, then the sick
    /// ones, which may only be slow.
    pub fn candidates(&self, slot: u32) -> impl Iterator<Item = &Arc<Upstream>> {
        self.healthy(slot).chain(self.sick(slot))
    }

    /// Those of them that are well: live, and not left out because requests failed.
    pub fn healthy(&self, slot: u32) -> impl Iterator<Item = &Arc<Upstream>> {
        self.in_state(slot, State::Live).filter(|upstream| !upstream.health.is_ejected())
    }

    /// Those that are not, in the ring's order of preference: suspect, or left out.
    pub fn sick(&self, slot: u32) -> impl Iterator<Item = &Arc<Upstream>> {
        self.table.preference(slot).filter_map(|id| self.entry(id)).filter_map(Entry::sick)
    }

    /// Whether nobody is well, and somebody is there that may answer all the same.
    pub fn is_in_panic(&self) -> bool {
        let well = |entry: &&Entry| entry.state == State::Live && entry.sick().is_none();
        self.routed().find(well).is_none() && self.routed().any(|entry| entry.sick().is_some())
    }

    /// Those whom requests may go to: not every member of every pool.
    fn routed(&self) -> impl Iterator<Item = &Entry> {
        self.table.members().iter().filter_map(|member| self.entry(member.id))
    }

    /// Whether somebody is live whom requests may go to.
    pub fn can_answer(&self) -> bool {
        self.routed().any(|entry| entry.state == State::Live)
    }

    /// Everyone who can be connected to.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.entries.iter().flatten().filter_map(|entry| entry.upstream.as_ref())
    }

    fn in_state(&self, slot: u32, state: State) -> impl Iterator<Item = &Arc<Upstream>> {
        let entries = self.table.preference(slot).filter_map(|id| self.entry(id));
        entries.filter(move |entry| entry.state == state).filter_map(|entry| entry.upstream.as_ref())
    }

    /// How many members are in `state`.
    pub fn count(&self, state: State) -> usize {
        self.entries.iter().flatten().filter(|entry| entry.state == state).count()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
