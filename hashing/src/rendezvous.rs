//! Weighted rendezvous hashing, decided once for each slot: the default placement.
//!
//! Each of 65,536 slots belongs to the member with the highest score `-w / ln u`, where `u` is a hash of
//! slot and member (Thaler and Ravishankar 1998; weights: Schindelhauer and Schomaker 2005, Resch 2015).
//! A score depends on nobody else, so a newcomer takes exactly the slots where it scores best, a leaver
//! gives back exactly its own, and shares follow the weights without virtual servers. Scoring every member
//! for every key would be the textbook form; the table makes a lookup one hash and one load instead, at
//! the price that weights are honoured in steps of 1/65,536 and within the spread of as many coin tosses.
//!
//! Part of the format: `u` is made of the top 52 bits of XXH3-64 with [`SEED`] over slot and member number,
//! four little-endian bytes each. Kept and compared is the *cost* `-ln(u) / w`, the score's inverse: least
//! wins, ties go to the lower identity, and [`exact_ln`](crate::exact_ln) makes it alike on every machine.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Member, ReplicaId, exact_ln::neg_ln};

/// The slots of the table.
pub(crate) const SLOTS: u32 = 65_536;
/// The most members: 64 slots for each.
pub(crate) const CAPACITY: usize = 1024;
/// The text `rendezvs` as a big-endian integer.
const SEED: u64 = u64::from_be_bytes(*b"rendezvs");

/// The least cost in each slot, beside the table's owners; empty when nobody is there.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Costs(Vec<f64>);

/// `-ln(u) / w`: exponentially distributed with the weight as its rate, so that the least of several
/// falls to each member in proportion to its weight.
#[inline]
fn cost(slot: u32, member: &Member) -> f64 {
    let mut input = [0; 8];
    input[..4].copy_from_slice(&slot.to_le_bytes());
    input[4..].copy_from_slice(&member.id.number().to_le_bytes());
    neg_ln(xxh3_64_with_seed(&input, SEED)) / member.weight.get()
}

#[inline]
fn beats(challenger: (f64, ReplicaId), holder: (f64, ReplicaId)) -> bool {
    challenger.0 < holder.0 || (challenger.0 == holder.0 && challenger.1 < holder.1)
}

/// The cheapest of `members` in one slot.
fn cheapest(slot: u32, members: &[Member]) -> Option<(f64, ReplicaId)> {
    let bids = members.iter().map(|member| (cost(slot, member), member.id));
    bids.reduce(|best, bid| if beats(bid, best) { bid } else { best })
}

/// All of `members` from the cheapest to the dearest in one slot.
pub(crate) fn ranking(slot: u32, members: &[Member]) -> Vec<ReplicaId> {
    let mut bids: Vec<_> = members.iter().map(|member| (cost(slot, member), member.id)).collect();
    bids.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    bids.into_iter().map(|(_, id)| id).collect()
}

impl Costs {
    /// Scores every member in every slot.
    pub(crate) fn build(members: &[Member]) -> (Vec<ReplicaId>, Self) {
        let winners = (0..SLOTS).filter_map(|slot| cheapest(slot, members));
        let (costs, owners) = winners.unzip();
        (owners, Self(costs))
    }

    /// `newcomer` takes the slots where it beats the kept best; no other score is computed.
    pub(crate) fn join(&mut self, owners: &mut Vec<ReplicaId>, newcomer: &Member) {
        if owners.is_empty() {
            (*owners, *self) = Self::build(std::slice::from_ref(newcomer));
            return;
        }
        for (slot, (owner, best)) in (0..).zip(owners.iter_mut().zip(&mut self.0)) {
            let bid = (cost(slot, newcomer), newcomer.id);
            if beats(bid, (*best, *owner)) {
                (*best, *owner) = bid;
            }
        }
    }

    /// The slots of `leaver` go to the best of `rest`; no other slot is looked at.
    pub(crate) fn leave(&mut self, owners: &mut Vec<ReplicaId>, leaver: ReplicaId, rest: &[Member]) {
        if rest.is_empty() {
            owners.clear();
            self.0.clear();
            return;
        }
        for (slot, (owner, best)) in (0..).zip(owners.iter_mut().zip(&mut self.0)) {
            if *owner == leaver
                && let Some(winner) = cheapest(slot, rest)
            {
                (*best, *owner) = winner;
            }
        }
    }

    /// `member`, whose weight is new, keeps, loses or wins slots; only those it loses are scored afresh.
    pub(crate) fn reweigh(&mut self, owners: &mut [ReplicaId], member: &Member, members: &[Member]) {
        for (slot, (owner, best)) in (0..).zip(owners.iter_mut().zip(&mut self.0)) {
            let bid = (cost(slot, member), member.id);
            if *owner != member.id {
                if beats(bid, (*best, *owner)) {
                    (*best, *owner) = bid;
                }
            } else if bid.0 <= *best {
                *best = bid.0;
            } else if let Some(winner) = cheapest(slot, members) {
                (*best, *owner) = winner;
            }
        }
    }
}
