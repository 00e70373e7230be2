//! Bounded loads under a Zipf load: a few hot keys, requests that come and go.

use std::collections::VecDeque;

use proptest::prelude::*;
use slipring_hashing::{Key, Placement, ReplicaId, bounded::BoundedLoads};

use crate::{config, equals};

/// A rank of 1.. with probability in proportion to 1/rank, from a number in [0, 1): the inverse of the
/// harmonic sum, approximated by the logarithm.
fn zipf(uniform: f64, ranks: u32) -> u32 {
    f64::from(ranks).powf(uniform) as u32
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn the_bound_holds_at_every_instant(
        members in equals(1..=12),
        c in 1.01_f64..3.0,
        // A key, or the end of the request that is so many places from the oldest.
        events in prop::collection::vec(prop_oneof![
            3 => (0.0_f64..1.0).prop_map(Ok),
            2 => any::<prop::sample::Index>().prop_map(Err),
        ], 1..2000),
    ) {
        let bounded = BoundedLoads::new(c).unwrap();
        for placement in [Placement::Rendezvous, Placement::Ketama] {
            let table = placement.build(&members).unwrap();
            let (mut loads, mut in_flight) = ([0_u64; 64], VecDeque::new());
            let mut most_allowed = 0;
            for event in &events {
                match event {
                    Ok(uniform) => {
                        let slot = table.slot_of(Key::Id(zipf(*uniform, 1000)));
                        let (total, n) = (in_flight.len() as u64, table.len());
                        let load = |id: ReplicaId| loads[id.index()];
                        let id = bounded.pick(table.preference(slot), load, total, n).unwrap();
                        loads[id.index()] += 1;
                        in_flight.push_back(id);
                        let bound = bounded.bound(total, n);
                        prop_assert!(loads[id.index()] <= bound, "given beyond the bound");
                        let mut skipped = table.preference(slot).take_while(|&other| other != id);
                        prop_assert!(skipped.all(|other| loads[other.index()] >= bound), "skipped below it");
                        most_allowed = most_allowed.max(bound);
                    }
                    Err(_) if in_flight.is_empty() => {}
                    Err(place) => {
                        let ended = in_flight.remove(place.index(in_flight.len())).unwrap();
                        loads[ended.index()] -= 1;
                    }
                }
                prop_assert!(loads.iter().all(|&load| load <= most_allowed), "beyond the busiest moment's bound");
            }
        }
    }

    #[test]
    fn without_ends_nobody_is_ever_above_the_present_bound(
        members in equals(1..=12),
        keys in prop::collection::vec(0.0_f64..1.0, 1..2000),
    ) {
        let bounded = BoundedLoads::new(1.25).unwrap();
        let table = Placement::Rendezvous.build(&members).unwrap();
        let mut loads = [0_u64; 64];
        for (total, uniform) in (0..).zip(keys) {
            let slot = table.slot_of(Key::Id(zipf(uniform, 100)));
            let id = bounded.pick(table.preference(slot), |id| loads[id.index()], total, table.len()).unwrap();
            loads[id.index()] += 1;
            let mean = (total + 1) as f64 / table.len() as f64;
            prop_assert!(loads.iter().all(|&load| load as f64 <= (1.25 * mean).ceil()));
        }
    }
}

#[test]
fn nobody_is_picked_from_nobody() {
    let bounded = BoundedLoads::new(2.0).unwrap();
    assert_eq!(bounded.pick([], |_| 0, 0, 0), None);
    assert_eq!(bounded.pick([ReplicaId(0)], |_| 5, 5, 2), Some(ReplicaId(0)), "⌈2 · 6 / 2⌉ = 6");
    assert_eq!(bounded.pick([ReplicaId(0)], |_| 6, 5, 2), None, "the other replica was not in the list");
}
