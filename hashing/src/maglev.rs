//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): the most even table.
//!
//! Each member has a permutation of the 65,537 slots, `offset + k·skip`, and members take turns to fill
//! the next slot they prefer. Shares differ by a slot or so, far less than with any other placement here;
//! the price is that a change of membership moves a few keys between members that have nothing to do with
//! it. Where affinity matters more than evenness, `rendezvous` is the better choice, hence the default.
//!
//! Weights are honoured as Envoy does: a member takes a turn when the rounds so far, times its weight, have
//! caught up with the turns that it took.
//!
//! Part of the format: offset and skip come from XXH3-64 over the member's number as four little-endian
//! bytes, with [`OFFSET_SEED`] and [`SKIP_SEED`]. The paper hashes a name; ours would change with an address.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Member, ReplicaId};

/// The slots of the table: a prime, so that every skip visits every slot.
pub(crate) const SLOTS: u32 = 65_537;
/// The most members: 64 slots for each.
pub(crate) const CAPACITY: usize = 1024;
/// The text `mlv-offs` as a big-endian integer.
const OFFSET_SEED: u64 = u64::from_be_bytes(*b"mlv-offs");
/// The text `mlv-skip` as a big-endian integer.
const SKIP_SEED: u64 = u64::from_be_bytes(*b"mlv-skip");

/// A member's walk through its permutation.
struct Walk {
    id: ReplicaId,
    weight: f64,
    /// Turns taken, in units of the largest weight.
    taken: f64,
    slot: u32,
    skip: u32,
}

impl Walk {
    fn new(member: &Member) -> Self {
        let number = member.id.number().to_le_bytes();
        let m = u64::from(SLOTS);
        Self {
            id: member.id,
            weight: member.weight.get(),
            taken: 0.0,
            slot: (xxh3_64_with_seed(&number, OFFSET_SEED) % m) as u32,
            skip: (xxh3_64_with_seed(&number, SKIP_SEED) % (m - 1) + 1) as u32,
        }
    }

    fn step(&mut self) {
        self.slot = (self.slot + self.skip) % SLOTS;
    }
}

/// Fills the table; `members` are in order of identity. Empty when they are.
pub(crate) fn build(members: &[Member]) -> Vec<ReplicaId> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut walks: Vec<Walk> = members.iter().map(Walk::new).collect();
    let largest = walks.iter().map(|walk| walk.weight).fold(0.0, f64::max);
    let mut owners: Vec<Option<ReplicaId>> = vec![None; SLOTS as usize];
    let mut free = SLOTS;
    // The heaviest member takes a turn in every round, so there are at most as many rounds as slots.
    for round in 1..=SLOTS {
        for walk in &mut walks {
            if free == 0 {
                break;
            }
            if f64::from(round) * walk.weight < walk.taken {
                continue;
            }
            walk.taken += largest;
            while owners[walk.slot as usize].is_some() {
                walk.step();
            }
            owners[walk.slot as usize] = Some(walk.id);
            free -= 1;
        }
    }
    owners.into_iter().flatten().collect()
}
