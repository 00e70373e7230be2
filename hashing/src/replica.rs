//! Who stands on the ring: an identity, a weight and a label.
//!
//! A replica's points come from its identity, a small number that a respawn keeps, so that healing moves
//! no key. The alternatives, its address or its place in a list, change when a container is replaced or a
//! neighbour leaves. Ketama alone hashes a text, because nginx does.

use std::{collections::BTreeSet, fmt, sync::Arc};

use crate::Weight;

/// Identity of a replica on the ring: the lowest free 0-based index when it joined, reused after removal.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct ReplicaId(pub u16);

impl ReplicaId {
    /// The 0-based index, to address an array with.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The contract's replica index `i`, which counts from 1.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self.0) + 1
    }

    /// The lowest identity that is not in `taken`; `None` when all 65,536 are.
    #[must_use]
    pub fn lowest_free(taken: impl IntoIterator<Item = ReplicaId>) -> Option<Self> {
        let taken: BTreeSet<Self> = taken.into_iter().collect();
        (0..=u16::MAX).map(Self).find(|id| !taken.contains(id))
    }
}

/// Prints [`ReplicaId::number`].
impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A replica as a placement sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What its slots are computed from.
    pub id: ReplicaId,
    /// Its share relative to the others. The slot ring ignores it.
    pub weight: Weight,
    /// Its address as nginx's configuration would write it (`127.0.0.1:8080`). Only ketama hashes it.
    pub label: Arc<str>,
}

impl Member {
    /// A member from its three parts.
    #[must_use]
    pub fn new(id: ReplicaId, weight: Weight, label: impl Into<Arc<str>>) -> Self {
        Self { id, weight, label: label.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_counts_from_one() {
        assert_eq!(ReplicaId(0).number(), 1);
        assert_eq!(ReplicaId(u16::MAX).number(), 65_536);
        assert_eq!(format!("{:>3}", ReplicaId(6)), "  7");
    }

    #[test]
    fn the_lowest_free_identity_fills_gaps_first() {
        let free = |taken: &[u16]| ReplicaId::lowest_free(taken.iter().copied().map(ReplicaId));
        assert_eq!(free(&[]), Some(ReplicaId(0)));
        assert_eq!(free(&[3, 0, 1]), Some(ReplicaId(2)));
        assert_eq!(free(&[2, 1, 0]), Some(ReplicaId(3)));
        assert_eq!(ReplicaId::lowest_free((0..=u16::MAX).map(ReplicaId)), None);
    }
}
