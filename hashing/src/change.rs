//! Membership and weights change: a new table from an old one, for less than building it.
//!
//! A change returns a new table, so that no reader sees one half done; rejected is a table behind a lock,
//! which every request would have to take. Rendezvous and the slot ring do only the work that the change calls for
//! (and the slot ring must: its claims have a history); maglev and ketama are built again.

use crate::{Member, PlacementError, ReplicaId, Table, Weight, ketama::Points, maglev, table::Layout};

impl Table {
    /// The table with one more member. The slot ring probes for its slots; rendezvous compares each slot's
    /// best score with the newcomer's alone; the others build.
    ///
    /// # Errors
    /// As [`Placement::build`](crate::Placement::build): the identity is taken, or nobody else fits.
    pub fn with(&self, member: Member) -> Result<Self, PlacementError> {
        let id = member.id;
        let position = self.position(id).unwrap_or_else(|gap| gap);
        let mut members = self.members.clone();
        members.insert(position, member);
        let mut table = Self { members: self.placement.checked(members)?, ..self.clone() };
        let Table { members, owners, layout, .. } = &mut table;
        match layout {
            Layout::Slots(ring) => {
                ring.place(id);
                *owners = ring.owners();
            }
            Layout::Rendezvous(costs) => costs.join(owners, &members[position]),
            Layout::Maglev => *owners = maglev::build(members),
            Layout::Ketama(points) => (*owners, *points) = Points::build(members),
        }
        Ok(table)
    }

    /// The table without a member; the same table if it is none. The slot ring frees its slots and moves
    /// nobody else's; rendezvous scores only its slots afresh; the others build.
    #[must_use]
    pub fn without(&self, id: ReplicaId) -> Self {
        let mut table = self.clone();
        let Ok(position) = self.position(id) else { return table };
        let Table { members, owners, layout, .. } = &mut table;
        members.remove(position);
        match layout {
            Layout::Slots(ring) => {
                ring.free(id);
                *owners = ring.owners();
            }
            Layout::Rendezvous(costs) => costs.leave(owners, id, members),
            Layout::Maglev => *owners = maglev::build(members),
            Layout::Ketama(points) => (*owners, *points) = Points::build(members),
        }
        table
    }

    /// The table with another weight for a member (slow start); the same table if it is none. The slot ring
    /// notes the weight and routes as before.
    #[must_use]
    pub fn reweighted(&self, id: ReplicaId, weight: Weight) -> Self {
        let mut table = self.clone();
        let Ok(position) = self.position(id) else { return table };
        let Table { members, owners, layout, .. } = &mut table;
        members[position].weight = weight;
        match layout {
            Layout::Slots(_) => {}
            Layout::Rendezvous(costs) => costs.reweigh(owners, &members[position], members),
            Layout::Maglev => *owners = maglev::build(members),
            Layout::Ketama(points) => (*owners, *points) = Points::build(members),
        }
        table
    }
}
