//! The preference order: everybody, once, the owner first.

use std::collections::BTreeSet;

use proptest::prelude::*;
use slipring_hashing::{Key, Placement, ReplicaId, Table};

use crate::{config, equals, member, placements, rings, weight, weighted};

fn check_order(table: &Table, slot: u32) {
    let order: Vec<ReplicaId> = table.preference(slot).collect();
    let distinct: BTreeSet<ReplicaId> = order.iter().copied().collect();
    let everybody: BTreeSet<ReplicaId> = table.members().iter().map(|member| member.id).collect();
    assert_eq!(order.first().copied(), table.owner(slot));
    assert_eq!(order.len(), distinct.len(), "{order:?}");
    assert_eq!(distinct, everybody);
    let mut lengths = table.preference(slot);
    for left in (0..=order.len()).rev() {
        assert_eq!(lengths.len(), left);
        lengths.next();
    }
    assert_eq!(lengths.next(), None);
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_permutation_that_starts_with_the_owner(
        members in weighted(0..=12),
        keys in prop::collection::vec(any::<u32>(), 20),
    ) {
        for placement in placements() {
            let table = placement.build(&members).unwrap();
            for &key in &keys {
                check_order(&table, table.slot_of(Key::Id(key)));
            }
            check_order(&table, table.slots().saturating_sub(1));
        }
    }

    /// Whoever is next inherits the slot: a retry warms the very replica that takes over for good.
    #[test]
    fn the_next_one_inherits(members in equals(2..=8), slots in prop::collection::vec(0_u32..512, 3)) {
        for placement in rings().into_iter().chain([Placement::Rendezvous]) {
            let table = placement.build(&members).unwrap();
            for &slot in &slots {
                let mut rest = table.clone();
                for id in table.preference(slot) {
                    prop_assert_eq!(rest.owner(slot), Some(id));
                    rest = rest.without(id);
                }
            }
        }
    }

    #[test]
    fn slots_are_in_range(bytes in prop::collection::vec(any::<u8>(), 0..300), id in any::<u32>()) {
        for placement in rings().into_iter().chain([Placement::Ketama]) {
            let table = placement.build(&[member(0, weight(1.0)), member(1, weight(3.0))]).unwrap();
            for key in [Key::Bytes(&bytes), Key::Id(id)] {
                prop_assert!(table.slot_of(key) < table.slots());
                prop_assert!(table.route(key).is_some());
            }
        }
    }
}

#[test]
fn members_without_a_slot_come_last() {
    let members = [member(0, weight(1e-6)), member(1, weight(256.0)), member(2, weight(1e-6))];
    for placement in [Placement::Maglev, Placement::Rendezvous, Placement::Ketama] {
        let table = placement.build(&members).unwrap();
        (0..table.slots()).step_by(97).for_each(|slot| check_order(&table, slot));
    }
}

#[test]
fn a_slot_that_is_not_there_has_nobody() {
    for placement in placements() {
        let table = placement.build(&[member(0, weight(1.0))]).unwrap();
        assert_eq!(table.owner(table.slots()), None);
        assert_eq!(table.preference(u32::MAX).count(), 0);
    }
}
