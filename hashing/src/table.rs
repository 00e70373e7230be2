//! A placement of given members: an immutable value, to be shared in an `Arc`.
//!
//! Every placement ends in one array, the owner of each slot, with the clockwise walk and the competition
//! already decided; a lookup is a hash and a load whatever the placement. What a placement needs besides,
//! to change its membership cheaply, is its [`Layout`].

use crate::{Key, Member, Placement, Preference, ReplicaId, ketama, key, maglev, rendezvous, slots::Ring};

/// Immutable placement of members. Equal tables route every key alike.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    pub(crate) placement: Placement,
    /// In order of identity.
    pub(crate) members: Vec<Member>,
    /// The owner of each slot; without members there is none, and the array is empty.
    pub(crate) owners: Vec<ReplicaId>,
    pub(crate) layout: Layout,
}

/// What a placement keeps beside the owners.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Layout {
    Slots(Ring),
    Rendezvous(rendezvous::Costs),
    Maglev,
    Ketama(ketama::Points),
}

impl Table {
    /// The slot of a key, always below [`Table::slots`] (0 if there are none). O(1).
    #[must_use]
    #[inline]
    pub fn slot_of(&self, key: Key<'_>) -> u32 {
        match &self.layout {
            Layout::Slots(ring) => ring.slot_of(key.request_id()),
            Layout::Rendezvous(_) => key::scale(key.hash64(), rendezvous::SLOTS),
            Layout::Maglev => key::scale(key.hash64(), maglev::SLOTS),
            Layout::Ketama(points) => points.slot_of(key.crc32()),
        }
    }

    /// Who owns a slot: one load. `None` only when there are no members, or no such slot.
    #[must_use]
    #[inline]
    pub fn owner(&self, slot: u32) -> Option<ReplicaId> {
        self.owners.get(slot as usize).copied()
    }

    /// Who answers for a key: the owner of its slot.
    #[must_use]
    #[inline]
    pub fn route(&self, key: Key<'_>) -> Option<ReplicaId> {
        self.owner(self.slot_of(key))
    }

    /// All members, each exactly once, the owner of the slot first, in the order in which to try them.
    ///
    /// Lazy: the first costs what [`Table::owner`] does; the rest is worked out when the second is asked for.
    #[must_use]
    #[inline]
    pub fn preference(&self, slot: u32) -> Preference<'_> {
        Preference::new(self, slot)
    }

    /// How many slots there are: a constant of the placement, or ketama's number of points.
    #[must_use]
    pub fn slots(&self) -> u32 {
        match &self.layout {
            Layout::Slots(ring) => ring.slots(),
            Layout::Rendezvous(_) => rendezvous::SLOTS,
            Layout::Maglev => maglev::SLOTS,
            Layout::Ketama(points) => points.hashes().len() as u32,
        }
    }

    /// The members in order of identity.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this identity.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.position(id).ok().map(|position| &self.members[position])
    }

    /// The rule that the table follows.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The occupied slots of the slot ring in ascending order; empty for the other placements, where every
    /// slot has an owner and none an occupant.
    #[must_use]
    pub fn occupied(&self) -> Vec<(u32, ReplicaId)> {
        match &self.layout {
            Layout::Slots(ring) => ring.occupied(),
            _ => Vec::new(),
        }
    }

    /// The slots that the virtual servers j = 1, 2, … of a replica took on the slot ring: what to persist for
    /// [`Placement::restore`]. Empty for a stranger and for the other placements.
    #[must_use]
    pub fn claims(&self, id: ReplicaId) -> Vec<u32> {
        match &self.layout {
            Layout::Slots(ring) => ring.claims(id).to_vec(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn position(&self, id: ReplicaId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&id, |member| member.id)
    }
}
