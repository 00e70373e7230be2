//! A slot ring has a history; its claims carry it over a restart.

use proptest::prelude::*;
use slipring_hashing::{HashPair, Member, Placement, PlacementError, ReplicaId, Table};

use crate::{config, equals, member, placements, rings, weight};

fn persisted(table: &Table) -> Vec<(Member, Vec<u32>)> {
    table.members().iter().map(|member| (member.clone(), table.claims(member.id))).collect()
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn claims_restore_any_history(
        members in equals(3..=20),
        leavers in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for placement in rings().into_iter().chain([Placement::Ketama]) {
            let mut table = placement.build(&[]).unwrap();
            for member in &members {
                table = table.with(member.clone()).unwrap();
            }
            for leaver in &leavers {
                table = table.without(leaver.get(&members).id);
            }
            let mut claims = persisted(&table);
            claims.reverse();
            prop_assert_eq!(placement.restore(&claims).unwrap(), table);
        }
    }

    #[test]
    fn claims_are_the_occupied_slots(members in equals(1..=20)) {
        for placement in rings() {
            let table = placement.build(&members).unwrap();
            let claims = |id| table.claims(id).into_iter().map(move |slot| (slot, id));
            let mut claimed: Vec<_> = members.iter().flat_map(|member| claims(member.id)).collect();
            claimed.sort_unstable();
            prop_assert_eq!(claimed, table.occupied());
        }
    }
}

/// The reason why claims are persisted at all.
#[test]
fn a_ring_remembers_who_has_left() {
    let list: Vec<Member> = (0..20).map(|id| member(id, weight(1.0))).collect();
    let placement = Placement::contract(HashPair::Sha256);
    let with_history = placement.build(&list).unwrap().without(ReplicaId(1));
    let afresh = placement.build(&[&list[..1], &list[2..]].concat()).unwrap();
    assert_ne!(with_history.occupied(), afresh.occupied());
    assert_eq!(placement.restore(&persisted(&with_history)).unwrap(), with_history);
}

#[test]
fn impossible_claims_are_refused() {
    let placement = Placement::contract(HashPair::Given);
    let table = placement.build(&[member(0, weight(1.0)), member(1, weight(1.0))]).unwrap();
    let refused = |change: fn(&mut Vec<(Member, Vec<u32>)>)| {
        let mut claims = persisted(&table);
        change(&mut claims);
        placement.restore(&claims).unwrap_err()
    };
    let (first, second) = (ReplicaId(0), ReplicaId(1));
    assert_eq!(
        refused(|claims| claims[1].1.truncate(8)),
        PlacementError::ClaimCount { id: second, claims: 8, virtual_servers: 9 }
    );
    assert_eq!(
        refused(|claims| claims[0].1[3] = 512),
        PlacementError::ClaimOutOfRange { id: first, slot: 512, slots: 512 }
    );
    assert_eq!(
        refused(|claims| claims[1].1[0] = 29),
        PlacementError::ClaimTaken { id: second, slot: 29, holder: first }
    );
    assert_eq!(
        refused(|claims| claims[0].1[1] = claims[0].1[0]),
        PlacementError::ClaimTaken { id: first, slot: 29, holder: first }
    );
    assert_eq!(refused(|claims| claims[1].0.id = ReplicaId(0)), PlacementError::DuplicateId(first));
}

#[test]
fn only_slot_rings_have_claims() {
    for placement in placements() {
        let table = placement.build(&[member(0, weight(1.0))]).unwrap();
        let ring = matches!(placement, Placement::Slots { .. });
        assert_eq!(table.claims(ReplicaId(0)).len(), if ring { 9 } else { 0 });
        assert_eq!(table.occupied().len(), if ring { 9 } else { 0 });
        assert!(table.claims(ReplicaId(9)).is_empty());
    }
}
