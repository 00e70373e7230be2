//! The order in which to try replicas for a slot.
//!
//! Nearly every request takes the first and stops, so the first is the slot's owner, found with one load and
//! no allocation; the rest is worked out when the second is asked for. The rings and maglev walk onward from
//! the slot and take each replica where they first meet it; rendezvous ranks the scores in the slot, which is
//! the order in which the slot would be inherited were the replicas removed one by one. For the rings that
//! holds as well; for maglev it holds approximately.

use std::{iter::FusedIterator, vec};

use crate::{ReplicaId, Table, rendezvous, table::Layout};

/// All members of a [`Table`], each once, the owner of a slot first. See [`Table::preference`].
#[derive(Clone, Debug)]
pub struct Preference<'a> {
    table: &'a Table,
    slot: u32,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Nothing was asked for yet.
    Owner,
    /// The owner was given.
    Second(ReplicaId),
    /// On the way round the table.
    Walk(Walk),
    /// All that is left, in order.
    Rest(vec::IntoIter<ReplicaId>),
}

#[derive(Clone, Debug)]
struct Walk {
    /// By position in the member list.
    seen: Vec<bool>,
    unseen: usize,
    /// Slots walked so far.
    steps: u32,
}

impl<'a> Preference<'a> {
    #[inline]
    pub(crate) fn new(table: &'a Table, slot: u32) -> Self {
        Self { table, slot, stage: Stage::Owner }
    }

    /// What is left once the owner was given.
    fn after(&self, owner: ReplicaId) -> Stage {
        let table = self.table;
        if let Layout::Rendezvous(_) = table.layout {
            let mut ranking = rendezvous::ranking(self.slot, table.members());
            ranking.remove(0);
            return Stage::Rest(ranking.into_iter());
        }
        let mut walk = Walk { seen: vec![false; table.len()], unseen: table.len(), steps: 1 };
        walk.meet(table, owner);
        Stage::Walk(walk)
    }
}

impl Walk {
    /// Notes a replica; whether it is new.
    fn meet(&mut self, table: &Table, id: ReplicaId) -> bool {
        let new = table.position(id).is_ok_and(|position| !std::mem::replace(&mut self.seen[position], true));
        self.unseen -= usize::from(new);
        new
    }

    /// The next new replica clockwise; `None` when the circle is closed or everybody was met.
    fn next(&mut self, table: &Table, start: u32) -> Option<ReplicaId> {
        let owners = &table.owners;
        while self.unseen > 0 && (self.steps as usize) < owners.len() {
            let id = owners[(start as usize + self.steps as usize) % owners.len()];
            self.steps += 1;
            if self.meet(table, id) {
                return Some(id);
            }
        }
        None
    }

    /// Members that own no slot at all (weights next to nothing), in order of identity.
    fn slotless(&self, table: &Table) -> Vec<ReplicaId> {
        let members = table.members().iter().zip(&self.seen);
        members.filter(|(_, seen)| !**seen).map(|(member, _)| member.id).collect()
    }
}

impl Iterator for Preference<'_> {
    type Item = ReplicaId;

    #[inline]
    fn next(&mut self) -> Option<ReplicaId> {
        if let Stage::Owner = self.stage {
            let owner = self.table.owner(self.slot);
            self.stage = owner.map_or_else(|| Stage::Rest(vec::IntoIter::default()), Stage::Second);
            return owner;
        }
        self.next_after_owner()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.stage {
            Stage::Owner => self.table.owner(self.slot).map_or(0, |_| self.table.len()),
            Stage::Second(_) => self.table.len() - 1,
            Stage::Walk(walk) => walk.unseen,
            Stage::Rest(rest) => rest.len(),
        };
        (left, Some(left))
    }
}

impl Preference<'_> {
    #[cold]
    fn next_after_owner(&mut self) -> Option<ReplicaId> {
        if let Stage::Second(owner) = self.stage {
            self.stage = self.after(owner);
        }
        if let Stage::Walk(walk) = &mut self.stage {
            if let Some(id) = walk.next(self.table, self.slot) {
                return Some(id);
            }
            self.stage = Stage::Rest(walk.slotless(self.table).into_iter());
        }
        match &mut self.stage {
            Stage::Rest(rest) => rest.next(),
            Stage::Owner | Stage::Second(_) | Stage::Walk(_) => None,
        }
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}
