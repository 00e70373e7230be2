//! What to expect: the exact share of requests that each replica of a placement gets.
//!
//! The balancer draws a request id from 100,000 to 999,999, every one equally likely. All 900,000 are
//! routed here through the balancer's own table, so the expectation is exact: the quadratic hashes of the
//! contract reach few of their 512 slots, and a count of slots would promise an evenness that is not there.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use slipring_hashing::{HashPair, Key, Member, Placement, ReplicaId, Weight};

/// The request ids that the balancer draws from.
const REQUEST_IDS: std::ops::RangeInclusive<u32> = 100_000..=999_999;

/// A placement, by the name that the pictures give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementName {
    /// The contract's first pair of polynomials on 512 slots.
    Given,
    /// The contract's second pair of polynomials on 512 slots.
    Modified,
    /// SHA-256 on 512 slots.
    Sha256,
    /// Weighted highest-random-weight on 65,536 slots: the default.
    Rendezvous,
    /// Maglev on 65,537 slots.
    Maglev,
    /// 160 points a replica, as nginx places them.
    Ketama,
}

impl PlacementName {
    /// All of them, in the order in which the pictures show them.
    pub const ALL: [PlacementName; 6] =
        [Self::Given, Self::Modified, Self::Sha256, Self::Rendezvous, Self::Maglev, Self::Ketama];

    /// As it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Modified => "modified",
            Self::Sha256 => "sha256",
            Self::Rendezvous => "rendezvous",
            Self::Maglev => "maglev",
            Self::Ketama => "ketama",
        }
    }

    /// The key of the balancer's configuration that selects it, with its value.
    #[must_use]
    pub fn setting(self) -> String {
        match self.rule() {
            Placement::Slots { .. } => format!("ring.hash={}", self.as_str()),
            Placement::Rendezvous | Placement::Maglev | Placement::Ketama => {
                format!("ring.placement={}", self.as_str())
            }
        }
    }

    fn rule(self) -> Placement {
        match self {
            Self::Given => Placement::contract(HashPair::Given),
            Self::Modified => Placement::contract(HashPair::Modified),
            Self::Sha256 => Placement::contract(HashPair::Sha256),
            Self::Rendezvous => Placement::Rendezvous,
            Self::Maglev => Placement::Maglev,
            Self::Ketama => Placement::Ketama,
        }
    }

    /// The share of requests that each of these identities gets, in the order given.
    ///
    /// `None` when the placement cannot hold them: two alike, or too many.
    #[must_use]
    pub fn shares(self, ids: &[u16]) -> Option<Vec<f64>> {
        let members: Vec<Member> =
            ids.iter().map(|&id| Member::new(ReplicaId(id), Weight::ONE, label(id))).collect();
        let shares = self.rule().build(&members).ok()?.shares_of(REQUEST_IDS.map(Key::Id));
        let share_of = |id| shares.iter().find(|(owner, _)| *owner == ReplicaId(id)).map(|(_, share)| *share);
        ids.iter().map(|&id| share_of(id)).collect()
    }
}

/// The label that the balancer gives a replica it started itself.
fn label(id: u16) -> String {
    (u32::from(id) + 1).to_string()
}
