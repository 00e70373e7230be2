//! The contract's ring: a few hundred slots, some claimed by virtual servers, walked clockwise.
//!
//! Each virtual server claims the slot that `Φ(i, j)` names, or the next free one of its probe sequence.
//! A claim depends on who came before, so the ring is *stateful*: it keeps every claim, and removing a
//! replica frees its own slots and touches no other. Replicas 1, 2, 3, 4 without 2 are therefore not always
//! placed as 1, 3, 4 placed afresh; a ring that must survive a restart persists its claims (see
//! [`Placement::restore`](crate::Placement::restore)). Rejected: placing everybody again at every change,
//! which would move keys between replicas that have nothing to do with it.
//!
//! Weights are ignored: the contract gives every replica the same number of virtual servers.

use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;

use crate::{HashPair, PlacementError, ReplicaId};

/// The largest ring. At the contract's 9 virtual servers it holds 7,281 replicas.
pub(crate) const MOST_SLOTS: u32 = 65_536;

/// Where a virtual server looks next when its slot is taken.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub enum Probing {
    /// The `k`-th try is `h + k`: the contract's default.
    #[default]
    Linear,
    /// The `k`-th try is `h + k²`. Squares do not reach every slot of a power-of-two ring: after as many
    /// tries as there are slots, it goes on linearly from `h`.
    Quadratic,
}

/// A text that names no probing.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("unknown probing `{0}`: one of `linear`, `quadratic`")]
pub struct UnknownProbing(String);

impl Probing {
    /// The name that configuration and `Display` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Quadratic => "quadratic",
        }
    }

    /// The slots to try, in order; every slot of the ring is among them.
    fn tries(self, home: u32, slots: u32) -> impl Iterator<Item = u32> {
        let (home, m) = (u64::from(home), u64::from(slots));
        let squares = if self == Self::Quadratic { m } else { 0 };
        let steps = (0..squares).map(|k| k * k).chain(0..m);
        steps.map(move |step| ((home + step) % m) as u32)
    }
}

impl fmt::Display for Probing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Probing {
    type Err = UnknownProbing;

    fn from_str(name: &str) -> Result<Self, UnknownProbing> {
        let known = [Self::Linear, Self::Quadratic].into_iter();
        known
            .into_iter()
            .find(|probing| probing.name() == name)
            .ok_or_else(|| UnknownProbing(name.to_owned()))
    }
}

/// What a ring is made of; checked where it is born.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) struct Rules {
    pair: HashPair,
    slots: u32,
    virtual_servers: u32,
    probing: Probing,
}

impl Rules {
    pub(crate) fn new(
        pair: HashPair,
        slots: u32,
        virtual_servers: u32,
        probing: Probing,
    ) -> Result<Self, PlacementError> {
        if slots == 0 || slots > MOST_SLOTS {
            return Err(PlacementError::SlotCount { slots, most: MOST_SLOTS });
        }
        if virtual_servers == 0 || virtual_servers > slots {
            return Err(PlacementError::VirtualServerCount { virtual_servers, slots });
        }
        Ok(Self { pair, slots, virtual_servers, probing })
    }
}

/// Who claims which slot. Every replica on it holds exactly one slot for each virtual server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ring {
    rules: Rules,
    holders: Vec<Option<ReplicaId>>,
    claims: BTreeMap<ReplicaId, Vec<u32>>,
}

impl Ring {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, holders: vec![None; rules.slots as usize], claims: BTreeMap::new() }
    }

    pub(crate) fn slots(&self) -> u32 {
        self.rules.slots
    }

    #[inline]
    pub(crate) fn slot_of(&self, request_id: u32) -> u32 {
        self.rules.pair.request(request_id, self.rules.slots)
    }

    /// Probes for every virtual server of `id`, which is not on the ring yet and fits.
    pub(crate) fn place(&mut self, id: ReplicaId) {
        let Rules { pair, slots, virtual_servers, probing } = self.rules;
        let mut claims = Vec::with_capacity(virtual_servers as usize);
        for j in 1..=virtual_servers {
            let home = pair.server(id.number(), j, slots);
            let free = probing.tries(home, slots).find(|&slot| self.holders[slot as usize].is_none());
            if let Some(slot) = free {
                self.holders[slot as usize] = Some(id);
                claims.push(slot);
            }
        }
        debug_assert_eq!(claims.len(), virtual_servers as usize, "the capacity was checked");
        self.claims.insert(id, claims);
    }

    /// Frees the slots of `id`; nobody else's move.
    pub(crate) fn free(&mut self, id: ReplicaId) {
        for slot in self.claims.remove(&id).unwrap_or_default() {
            self.holders[slot as usize] = None;
        }
    }

    /// Takes persisted claims as they are, once they are shown to be possible.
    pub(crate) fn restore(&mut self, id: ReplicaId, claims: &[u32]) -> Result<(), PlacementError> {
        let Rules { slots, virtual_servers, .. } = self.rules;
        if claims.len() != virtual_servers as usize {
            return Err(PlacementError::ClaimCount { id, claims: claims.len(), virtual_servers });
        }
        for &slot in claims {
            match self.holders.get_mut(slot as usize) {
                None => return Err(PlacementError::ClaimOutOfRange { id, slot, slots }),
                Some(Some(holder)) => return Err(PlacementError::ClaimTaken { id, slot, holder: *holder }),
                Some(free) => *free = Some(id),
            }
        }
        self.claims.insert(id, claims.to_vec());
        Ok(())
    }

    /// For each slot the holder of the next claimed slot clockwise, itself included; empty on an empty ring.
    pub(crate) fn owners(&self) -> Vec<ReplicaId> {
        let Some(first) = self.holders.iter().flatten().next() else { return Vec::new() };
        let mut next = *first;
        let mut owners: Vec<ReplicaId> = self
            .holders
            .iter()
            .rev()
            .map(|holder| {
                next = holder.unwrap_or(next);
                next
            })
            .collect();
        owners.reverse();
        owners
    }

    pub(crate) fn occupied(&self) -> Vec<(u32, ReplicaId)> {
        (0..).zip(&self.holders).filter_map(|(slot, holder)| holder.map(|id| (slot, id))).collect()
    }

    pub(crate) fn claims(&self, id: ReplicaId) -> &[u32] {
        self.claims.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The share of the request ids that each slot receives.
    pub(crate) fn slot_shares(&self) -> Vec<f64> {
        let slots = f64::from(self.rules.slots);
        self.rules.pair.mass(self.rules.slots).into_iter().map(|mass| f64::from(mass) / slots).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_probings_try_every_slot() {
        for probing in [Probing::Linear, Probing::Quadratic] {
            for slots in [1, 7, 8, 512] {
                let mut tried = vec![false; slots as usize];
                probing.tries(slots - 1, slots).for_each(|slot| tried[slot as usize] = true);
                assert!(tried.into_iter().all(|slot| slot), "{probing} over {slots}");
            }
        }
    }

    #[test]
    fn squares_come_first() {
        let tries: Vec<u32> = Probing::Quadratic.tries(500, 512).take(5).collect();
        assert_eq!(tries, [500, 501, 504, 509, 4]);
    }

    #[test]
    fn names_round_trip() {
        for probing in [Probing::Linear, Probing::Quadratic] {
            assert_eq!(probing.to_string().parse(), Ok(probing));
        }
        assert!("cubic".parse::<Probing>().is_err());
    }
}
