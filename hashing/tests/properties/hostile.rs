//! What cannot be placed is refused, and nothing panics.

use slipring_hashing::{HashPair, Key, Member, Placement, PlacementError, Probing, ReplicaId, Weight};

use crate::{member, placements, rings, weight};

fn list(count: u16) -> Vec<Member> {
    (0..count).map(|id| member(id, Weight::ONE)).collect()
}

#[test]
fn an_empty_table_answers_nobody() {
    for placement in placements() {
        let table = placement.build(&[]).unwrap();
        assert!(table.is_empty());
        for key in [Key::Id(0), Key::Id(u32::MAX), Key::Bytes(b""), Key::Bytes(b"key")] {
            assert_eq!(table.route(key), None);
            assert_eq!(table.preference(table.slot_of(key)).next(), None);
        }
        assert!(table.shares().is_empty());
        assert_eq!(table.without(ReplicaId(3)), table);
        assert_eq!(table.reweighted(ReplicaId(3), weight(2.0)), table);
        assert_eq!(table.with(member(3, weight(1.0))).unwrap().without(ReplicaId(3)), table);
    }
}

#[test]
fn the_contracts_ring_holds_fifty_six() {
    for placement in rings() {
        assert_eq!(placement.capacity(), 56);
        let full = placement.build(&list(56)).unwrap();
        assert_eq!(full.occupied().len(), 56 * 9);
        let refused = PlacementError::Full { members: 57, capacity: 56 };
        assert_eq!(full.with(member(56, weight(1.0))), Err(refused.clone()));
        assert_eq!(placement.build(&list(57)), Err(refused));
        let table = full.without(ReplicaId(7)).with(member(99, weight(1.0))).unwrap();
        assert_eq!(table.claims(ReplicaId(99)).len(), 9);
    }
}

#[test]
fn every_placement_holds_its_capacity() {
    for placement in [Placement::Rendezvous, Placement::Maglev, Placement::Ketama] {
        let most = placement.capacity() as u16;
        let full = placement.build(&list(most)).unwrap();
        assert!(full.shares().iter().all(|(_, share)| *share > 0.0), "{placement:?}");
        assert!(matches!(full.with(member(most, weight(1.0))), Err(PlacementError::Full { .. })));
    }
}

#[test]
fn twins_are_refused() {
    for placement in placements() {
        let twins = [member(4, weight(1.0)), member(0, weight(1.0)), member(4, weight(2.0))];
        let refused = Err(PlacementError::DuplicateId(ReplicaId(4)));
        assert_eq!(placement.build(&twins), refused);
        let table = placement.build(&twins[..2]).unwrap();
        assert_eq!(table.with(twins[2].clone()), refused);
    }
    let one_label = [0, 1].map(|id| Member::new(ReplicaId(id), Weight::ONE, "a:1"));
    assert_eq!(Placement::Ketama.build(&one_label), Err(PlacementError::DuplicateLabel("a:1".into())));
    assert!(Placement::Rendezvous.build(&one_label).is_ok(), "nobody else looks at labels");
}

#[test]
fn the_largest_identity_is_as_good_as_any() {
    for placement in placements() {
        let table = placement.build(&[member(u16::MAX, weight(1.0))]).unwrap();
        assert_eq!(table.route(Key::Bytes(b"key")), Some(ReplicaId(u16::MAX)));
    }
}

#[test]
fn rings_that_cannot_be() {
    let ring = |slots, virtual_servers| {
        let (pair, probing) = (HashPair::Given, Probing::Quadratic);
        Placement::Slots { pair, slots, virtual_servers, probing }
    };
    for impossible in
        [ring(0, 9), ring(512, 0), ring(8, 9), ring(65_537, 9), ring(0, 0), ring(u32::MAX, u32::MAX)]
    {
        assert!(impossible.build(&[]).is_err(), "{impossible:?}");
        assert!(impossible.build(&list(1)).is_err(), "{impossible:?}");
        assert!(impossible.restore(&[]).is_err(), "{impossible:?}");
    }
    for smallest in [ring(1, 1), ring(7, 7), ring(9, 4), ring(65_536, 65_536)] {
        let table = smallest.build(&list(smallest.capacity() as u16)).unwrap();
        assert!(table.route(Key::Id(u32::MAX)).is_some());
    }
}
