//! Why a set of members cannot be placed.

use std::sync::Arc;

use thiserror::Error;

use crate::ReplicaId;

/// Why a set of members cannot be placed. Nothing was built or changed.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
pub enum PlacementError {
    /// The slot ring's number of slots is outside what a table can hold.
    #[error("a ring of {slots} slots: it takes 1 to {most}")]
    SlotCount {
        /// What was asked for.
        slots: u32,
        /// The largest ring.
        most: u32,
    },
    /// Virtual servers a replica: none, or more than there are slots.
    #[error("{virtual_servers} virtual servers a replica: it takes 1 to {slots}, the number of slots")]
    VirtualServerCount {
        /// What was asked for.
        virtual_servers: u32,
        /// The slots there are.
        slots: u32,
    },
    /// More members than fit.
    #[error("{members} replicas do not fit: {capacity} do")]
    Full {
        /// How many there would be.
        members: usize,
        /// How many fit at the most.
        capacity: usize,
    },
    /// Two members have one identity.
    #[error("two replicas have the identity {0}")]
    DuplicateId(ReplicaId),
    /// Two members have one label, which ketama would place on the same points.
    #[error("two replicas have the label `{0}`, which ketama places on the same points")]
    DuplicateLabel(Arc<str>),
    /// Persisted claims: not one for each virtual server.
    #[error("replica {id} claims {claims} slots, not one for each of its {virtual_servers} virtual servers")]
    ClaimCount {
        /// Whose claims.
        id: ReplicaId,
        /// How many it has.
        claims: usize,
        /// How many it should have.
        virtual_servers: u32,
    },
    /// Persisted claims: a slot that the ring does not have.
    #[error("replica {id} claims slot {slot} of a ring of {slots}")]
    ClaimOutOfRange {
        /// Whose claim.
        id: ReplicaId,
        /// The claimed slot.
        slot: u32,
        /// The slots there are.
        slots: u32,
    },
    /// Persisted claims: a slot claimed twice.
    #[error("replica {id} claims slot {slot}, which replica {holder} holds")]
    ClaimTaken {
        /// Whose claim came second.
        id: ReplicaId,
        /// The claimed slot.
        slot: u32,
        /// Who holds it; possibly the same replica.
        holder: ReplicaId,
    },
}
