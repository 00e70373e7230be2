//! Ring mathematics: which replica answers for which key.
//!
//! A [`Placement`] is a rule; built for a set of [`Member`]s it yields a [`Table`], an immutable value
//! that turns a [`Key`] into a slot, a slot into its owner in one load, and a slot into a *preference
//! order* of all replicas for the times when the owner may not be used.
//!
//! Everything here is a pure function: no clock, no socket, no random number. Two processes that know
//! the same members route every key alike, on every platform and for ever: the hashes and seeds are
//! part of the format and are held in place by golden vectors.
//!
//! A table knows nothing of health. A sick replica keeps its slots and is passed over by whoever walks
//! the preference order; were it taken out of the table instead, every stumble would move keys.
//!
//! ```
//! use slipring_hashing::{Key, Member, Placement, ReplicaId, Weight};
//!
//! let members = [0, 1, 2].map(|id| Member::new(ReplicaId(id), Weight::ONE, "10.0.0.1:80"));
//! let table = Placement::Rendezvous.build(&members)?;
//! let slot = table.slot_of(Key::Bytes(b"session-17"));
//! let mut candidates = table.preference(slot);
//! assert_eq!(candidates.next(), table.owner(slot));
//! # Ok::<(), slipring_hashing::PlacementError>(())
//! ```

pub mod bounded;
mod change;
mod error;
mod exact_ln;
mod ketama;
mod key;
mod maglev;
mod pair;
mod placement;
mod preference;
mod rendezvous;
mod replica;
mod shares;
mod slots;
pub mod stats;
mod table;
mod weight;

pub use error::PlacementError;
pub use key::Key;
pub use pair::{HashPair, UnknownPair};
pub use placement::Placement;
pub use preference::Preference;
pub use replica::{Member, ReplicaId};
pub use slots::{Probing, UnknownProbing};
pub use table::Table;
pub use weight::{Weight, WeightError};
