//! Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018; arXiv 1608.01350).
//!
//! With `m` requests in flight on `n` replicas, none is given one more if it holds `⌈c·(m + 1) / n⌉`: a hot
//! key overflows to the next replicas of its preference order and leaves everyone else's keys alone. `c`
//! close to 1 balances tightly and spreads keys widely; 1.25 is a common choice.
//!
//! The paper moves balls when others are deleted; requests in flight cannot be moved. So what holds at every
//! instant is: whoever is *given* a request is within the bound of that moment, and therefore nobody ever
//! exceeds the bound of the busiest moment so far. When load falls quickly, a replica may hold more than the
//! bound of the present for as long as its old requests last.
//!
//! `c` is kept in whole millionths and the bound is computed in integers: ten requests of a factor 1.1 are
//! 11, and not, as in floating point, 12.

use thiserror::Error;

use crate::ReplicaId;

const MILLION: u128 = 1_000_000;

/// The bound: a factor above 1.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct BoundedLoads {
    millionths: u64,
}

/// A number that is no factor for bounded loads.
#[derive(Copy, Clone, PartialEq, Debug, Error)]
#[error("bounded-load factor {0} is not a finite number above 1 (by a millionth at the least)")]
pub struct FactorError(f64);

impl BoundedLoads {
    /// A bound of `c` times the mean; `c` is rounded to millionths.
    pub fn new(c: f64) -> Result<Self, FactorError> {
        let millionths = (c * 1e6).round();
        if c.is_finite() && millionths > 1e6 {
            // Saturates, where it is as good as no bound at all.
            Ok(Self { millionths: millionths as u64 })
        } else {
            Err(FactorError(c))
        }
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.millionths as f64 / 1e6
    }

    /// What one of `replicas` may hold when one more request comes to `total` in flight:
    /// `⌈c·(total + 1) / n⌉`. 0 without replicas.
    #[must_use]
    pub fn bound(self, total: u64, replicas: usize) -> u64 {
        if replicas == 0 {
            return 0;
        }
        let requests = u128::from(self.millionths) * (u128::from(total) + 1);
        let bound = requests.div_ceil(MILLION * replicas as u128);
        u64::try_from(bound).unwrap_or(u64::MAX)
    }

    /// The first of `preference` that may be given one more request, with `total` in flight on `replicas`.
    ///
    /// If `preference` yields all replicas and their loads add up to no more than `total`, there always is
    /// one: were all at the bound, more than `total` would be in flight.
    pub fn pick(
        self,
        preference: impl IntoIterator<Item = ReplicaId>,
        load: impl Fn(ReplicaId) -> u64,
        total: u64,
        replicas: usize,
    ) -> Option<ReplicaId> {
        let bound = self.bound(total, replicas);
        preference.into_iter().find(|&id| load(id) < bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_factors_above_one() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.0, 0.0, 1.0, 1.000_000_1] {
            assert!(BoundedLoads::new(bad).is_err(), "{bad}");
        }
        assert_eq!(BoundedLoads::new(1.25).unwrap().factor(), 1.25);
        assert_eq!(BoundedLoads::new(1e300).unwrap().bound(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn the_bound_is_exact() {
        let bound = |c: f64, total, replicas| BoundedLoads::new(c).unwrap().bound(total, replicas);
        assert_eq!(bound(1.1, 9, 1), 11, "1.1 · 10 in floating point is a little more");
        assert_eq!(bound(1.25, 0, 3), 1);
        assert_eq!(bound(1.25, 7, 4), 3);
        assert_eq!(bound(2.0, 5, 3), 4);
        assert_eq!(bound(2.0, 5, 0), 0);
    }

    #[test]
    fn the_first_below_the_bound_is_picked() {
        let loads = [2, 2, 0];
        let pick = |c: f64| {
            let order = (0..3).map(ReplicaId);
            BoundedLoads::new(c).unwrap().pick(order, |id| loads[id.index()], 4, 3)
        };
        assert_eq!(pick(1.1), Some(ReplicaId(2)));
        assert_eq!(pick(1.25), Some(ReplicaId(0)), "⌈1.25 · 5 / 3⌉ = 3");
    }
}
