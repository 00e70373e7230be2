//! What a change of membership moves, and what it must not.

use proptest::prelude::*;
use slipring_hashing::{
    Key, Placement, ReplicaId, Table,
    stats::{Moves, moves},
};

use crate::{config, equals, placements, rings, weight, weighted};

fn settled() -> Vec<Placement> {
    let mut without_maglev = rings();
    without_maglev.extend([Placement::Rendezvous, Placement::Ketama]);
    without_maglev
}

/// Keys of both kinds: a ketama table's slots are renumbered by every change, so that only keys can be compared.
fn sampled_owners(table: &Table) -> Vec<Option<ReplicaId>> {
    let names: Vec<String> = (0..2000).map(|number| format!("user-{number}")).collect();
    let ids = (0..2000).map(|number| Key::Id(100_000 + 449 * number));
    names.iter().map(|name| Key::from(name.as_str())).chain(ids).map(|key| table.route(key)).collect()
}

/// Every sampled key has the owner that it had, unless that was `leaver`, or is now `newcomer`.
fn only_due_keys_move(before: &Table, after: &Table, leaver: Option<ReplicaId>, newcomer: Option<ReplicaId>) {
    for (number, (old, new)) in sampled_owners(before).into_iter().zip(sampled_owners(after)).enumerate() {
        assert!(old == new || old == leaver || new == newcomer, "key {number} went from {old:?} to {new:?}");
        assert!(leaver.is_none() || new != leaver, "key {number} is still the leaver's");
    }
}

/// Every slot that is not the leaver's keeps its owner.
fn only_the_leavers_slots_change(before: &Table, after: &Table, leaver: ReplicaId) {
    for slot in 0..before.slots() {
        let owner = before.owner(slot);
        if owner == Some(leaver) {
            assert_ne!(after.owner(slot), owner, "slot {slot}");
        } else {
            assert_eq!(after.owner(slot), owner, "slot {slot}");
        }
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_leavers_keys_move_and_no_others(members in equals(2..=12), at in any::<prop::sample::Index>()) {
        let leaver = at.get(&members).id;
        for placement in settled() {
            let before = placement.build(&members).unwrap();
            let after = before.without(leaver);
            let owned = before.shares().iter().find(|(id, _)| *id == leaver).unwrap().1;
            let Moves { moved, needless, ideal } = moves(&before, &after);
            prop_assert_eq!(needless, 0.0, "{:?}", placement);
            prop_assert!((moved - owned).abs() < 1e-9, "{:?}: moved {}, owned {}", placement, moved, owned);
            prop_assert!((ideal - 1.0 / members.len() as f64).abs() < 1e-9);
            only_due_keys_move(&before, &after, Some(leaver), None);
            if placement != Placement::Ketama {
                only_the_leavers_slots_change(&before, &after, leaver);
            }
        }
    }

    #[test]
    fn unequal_weights_move_nobody_elses_keys(
        members in weighted(2..=12),
        at in any::<prop::sample::Index>(),
    ) {
        let changing = at.get(&members);
        for placement in settled() {
            let with = placement.build(&members).unwrap();
            let without = with.without(changing.id);
            let back = without.with(changing.clone()).unwrap();
            only_due_keys_move(&with, &without, Some(changing.id), None);
            only_due_keys_move(&without, &back, None, Some(changing.id));
            prop_assert_eq!(moves(&with, &without).needless, 0.0, "{:?}", placement);
            prop_assert_eq!(moves(&without, &back).needless, 0.0, "{:?}", placement);
        }
    }

    #[test]
    fn coming_back_restores_everything(members in weighted(1..=12), at in any::<prop::sample::Index>()) {
        let leaver = at.get(&members);
        for placement in placements() {
            let before = placement.build(&members).unwrap();
            let again = before.without(leaver.id).with(leaver.clone()).unwrap();
            prop_assert_eq!(&again, &before, "{:?}", placement);
        }
    }

    #[test]
    fn a_newcomer_takes_keys_and_moves_no_others(members in equals(2..=12)) {
        let (newcomer, rest) = members.split_last().unwrap();
        for placement in settled() {
            let before = placement.build(rest).unwrap();
            let after = before.with(newcomer.clone()).unwrap();
            let gained = after.shares().iter().find(|(id, _)| *id == newcomer.id).unwrap().1;
            let Moves { moved, needless, .. } = moves(&before, &after);
            prop_assert_eq!(needless, 0.0, "{:?}", placement);
            prop_assert!((moved - gained).abs() < 1e-9, "{:?}: moved {}, gained {}", placement, moved, gained);
            only_due_keys_move(&before, &after, None, Some(newcomer.id));
        }
    }

    #[test]
    fn the_order_of_the_list_never_matters(members in weighted(0..=12)) {
        let mut sorted = members.clone();
        sorted.sort_by_key(|member| member.id);
        for placement in placements() {
            prop_assert_eq!(placement.build(&members).unwrap(), placement.build(&sorted).unwrap());
        }
    }

    #[test]
    fn rendezvous_changes_as_if_built(
        members in weighted(1..=10),
        at in any::<prop::sample::Index>(),
        new in 1_u32..=16,
    ) {
        let (changed, new) = (at.get(&members).id, weight(f64::from(new) / 4.0));
        let mut rest = members.clone();
        rest.retain(|member| member.id != changed);
        let mut reweighted = members.clone();
        reweighted.iter_mut().filter(|member| member.id == changed).for_each(|member| member.weight = new);
        let build = |members: &[_]| Placement::Rendezvous.build(members).unwrap();

        prop_assert_eq!(build(&members).without(changed), build(&rest));
        prop_assert_eq!(build(&members).reweighted(changed, new), build(&reweighted));
        let one_by_one = members.iter().try_fold(build(&[]), |table, member| table.with(member.clone()));
        prop_assert_eq!(one_by_one.unwrap(), build(&members));
    }

    #[test]
    fn a_new_weight_moves_keys_only_to_or_from_its_member(
        members in equals(2..=8),
        at in any::<prop::sample::Index>(),
    ) {
        let (id, heavier) = (at.get(&members).id, weight(2.5));
        for placement in [Placement::Rendezvous, Placement::Ketama] {
            let before = placement.build(&members).unwrap();
            let after = before.reweighted(id, heavier);
            let Moves { moved, needless, .. } = moves(&before, &after);
            prop_assert!(moved > 0.0 && needless == 0.0, "{:?}: {} {}", placement, moved, needless);
            prop_assert_eq!(after.reweighted(id, weight(1.0)), before);
        }
    }
}

/// Maglev trades movement for evenness; this is how much, and the bound that it must keep.
#[test]
fn maglev_moves_a_few_keys_needlessly() {
    for count in [2, 3, 5, 10, 20, 50] {
        let members: Vec<_> = (0..count).map(|id| crate::member(id, weight(1.0))).collect();
        let before = Placement::Maglev.build(&members).unwrap();
        let removals = members.iter().map(|member| moves(&before, &before.without(member.id)));
        let worst = removals.map(|moves| moves.needless).fold(0.0, f64::max);
        println!("maglev, one of {count} removed: at worst {:.2} % moved needlessly", worst * 100.0);
        assert!(worst < 0.03, "{count}: {worst}");
    }
}

#[test]
fn moves_between_placements_are_counted_on_keys() {
    let members = [crate::member(0, weight(1.0)), crate::member(1, weight(1.0))];
    let rendezvous = Placement::Rendezvous.build(&members).unwrap();
    let maglev = Placement::Maglev.build(&members).unwrap();
    let Moves { moved, needless, ideal } = moves(&rendezvous, &maglev);
    assert!((moved - 0.5).abs() < 0.02, "{moved}");
    assert_eq!((needless, ideal), (moved, 0.0));
}

#[test]
fn from_nobody_and_to_nobody_everything_moves() {
    for placement in placements() {
        let none = placement.build(&[]).unwrap();
        let some = none.with(crate::member(3, weight(1.0))).unwrap();
        for moves in [moves(&none, &some), moves(&some, &none)] {
            assert!((moves.moved - 1.0).abs() < 1e-9, "{placement:?}");
            assert_eq!((moves.ideal, moves.needless), (1.0, 0.0), "{placement:?}");
        }
        assert_eq!(moves(&none, &none).ideal, 0.0);
    }
}
