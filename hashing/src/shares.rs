//! Who owns how much of the key space: computed from the table, not sampled.
//!
//! A slot is not always worth as much as its neighbour. The contract's polynomials reach some slots often and
//! most never, so a replica's share of the requests is not its share of the slots; a point of ketama is worth
//! the arc before it.

use crate::{Key, ReplicaId, Table, table::Layout};

impl Table {
    /// The share of the key space that each member owns, in order of identity; they add up to 1.
    ///
    /// Exact for uniform keys, but for the slot ring with SHA-256, where the slots themselves count as
    /// uniform; [`Table::shares_of`] counts given keys.
    #[must_use]
    pub fn shares(&self) -> Vec<(ReplicaId, f64)> {
        let slots = self.owners.iter().copied().zip(self.slot_shares());
        self.sum_by_member(slots)
    }

    /// The share of these keys that each member owns, in order of identity: the exact expectation for
    /// requests drawn from them.
    ///
    /// ```
    /// # use slipring_hashing::{HashPair, Key, Member, Placement, ReplicaId, Weight};
    /// # let members = [0, 1, 2].map(|id| Member::new(ReplicaId(id), Weight::ONE, ""));
    /// let table = Placement::contract(HashPair::Sha256).build(&members)?;
    /// let expected = table.shares_of((100_000..=100_999).map(Key::Id));
    /// # assert_eq!(expected.len(), 3);
    /// # Ok::<(), slipring_hashing::PlacementError>(())
    /// ```
    #[must_use]
    pub fn shares_of<'a>(&self, keys: impl IntoIterator<Item = Key<'a>>) -> Vec<(ReplicaId, f64)> {
        let mut total = 0_u64;
        let hits = keys.into_iter().inspect(|_| total += 1).filter_map(|key| Some((self.route(key)?, 1.0)));
        let mut shares = self.sum_by_member(hits);
        shares.iter_mut().for_each(|(_, share)| *share /= total.max(1) as f64);
        shares
    }

    /// The share of the key space that falls on each slot.
    pub(crate) fn slot_shares(&self) -> Vec<f64> {
        match &self.layout {
            Layout::Slots(ring) => ring.slot_shares(),
            Layout::Ketama(points) => points.slot_shares(),
            Layout::Rendezvous(_) | Layout::Maglev => {
                vec![1.0 / f64::from(self.slots()); self.slots() as usize]
            }
        }
    }

    fn sum_by_member(&self, parts: impl Iterator<Item = (ReplicaId, f64)>) -> Vec<(ReplicaId, f64)> {
        let mut sums: Vec<(ReplicaId, f64)> = self.members.iter().map(|member| (member.id, 0.0)).collect();
        for (id, part) in parts {
            if let Ok(position) = self.position(id) {
                sums[position].1 += part;
            }
        }
        sums
    }
}
