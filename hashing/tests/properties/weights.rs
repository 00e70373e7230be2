//! Shares follow weights, and are what counting keys says.

use proptest::prelude::*;
use slipring_hashing::{HashPair, Key, Member, Placement, stats};

use crate::{config, equals, member, placements, rings, weight, weighted};

/// The largest distance of a share from what its weight is due, over what it is due.
fn worst(placement: &Placement, members: &[Member]) -> f64 {
    let table = placement.build(members).unwrap();
    let total: f64 = members.iter().map(|member| member.weight.get()).sum();
    let off = table.shares().into_iter().map(|(id, share)| {
        let due = table.member(id).unwrap().weight.get() / total;
        (share - due).abs() / due
    });
    off.fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn shares_follow_weights(members in weighted(2..=10)) {
        // Slots that fall like coin tosses: five standard deviations of the smallest share, 1/145.
        prop_assert!(worst(&Placement::Rendezvous, &members) < 0.24);
        // A turn more or less.
        prop_assert!(worst(&Placement::Maglev, &members) < 0.01);
        // At least 40 points each, with exponentially distributed arcs.
        prop_assert!(worst(&Placement::Ketama, &members) < 0.8);
    }

    #[test]
    fn shares_add_up_to_one(members in weighted(1..=12)) {
        for placement in placements() {
            let table = placement.build(&members).unwrap();
            let sum: f64 = table.shares().iter().map(|(_, share)| share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{:?}: {}", placement, sum);
        }
    }

    #[test]
    fn shares_are_what_counting_finds(members in equals(2..=6)) {
        for placement in placements() {
            let table = placement.build(&members).unwrap();
            let counted = table.shares_of((100_000..120_480).map(Key::Id));
            for ((id, exact), (_, counted)) in table.shares().into_iter().zip(counted) {
                prop_assert!((exact - counted).abs() < 0.05, "{:?} {}: {} {}", placement, id, exact, counted);
            }
        }
    }

    #[test]
    fn a_ring_ignores_weights(members in equals(2..=6)) {
        for placement in rings() {
            let table = placement.build(&members).unwrap();
            let heavier = table.reweighted(members[0].id, weight(7.0));
            prop_assert_eq!(heavier.shares(), table.shares());
            prop_assert_eq!(heavier.member(members[0].id).unwrap().weight, weight(7.0));
        }
    }
}

/// The polynomials reach each slot once a period: over whole periods, the shares are exact.
#[test]
fn a_polynomials_shares_are_exact_over_whole_periods() {
    for pair in [HashPair::Given, HashPair::Modified] {
        let members: Vec<Member> = (0..5).map(|id| member(id, weight(1.0))).collect();
        let table = Placement::contract(pair).build(&members).unwrap();
        assert_eq!(table.shares(), table.shares_of((100_000..100_000 + 512 * 20).map(Key::Id)), "{pair}");
    }
}

/// Ten replicas, 10,000 keys: the default is as even as chance allows, and χ² against its shares agrees.
#[test]
fn counts_agree_with_shares() {
    let members: Vec<Member> = (0..10).map(|id| member(id, weight(1.0))).collect();
    for placement in placements() {
        let table = placement.build(&members).unwrap();
        let shares: Vec<f64> = table
            .shares_of((100_000..=999_999).step_by(7).map(Key::Id))
            .into_iter()
            .map(|(_, share)| share)
            .collect();
        let mut observed = vec![0; 10];
        // A multiplicative walk through the ids, in place of random ones.
        for step in 0..10_000_u64 {
            let id = 100_000 + (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % 900_000;
            observed[table.route(Key::Id(id as u32)).unwrap().index()] += 1;
        }
        let chi = stats::chi_squared_expected(&observed, &shares);
        assert!(chi.agrees(1e-4), "{placement:?}: {chi:?}, {observed:?} for {shares:?}");
        if matches!(placement, Placement::Rendezvous | Placement::Maglev) {
            assert!(stats::chi_squared(&observed).agrees(1e-4), "{placement:?}: {observed:?}");
        }
    }
}

#[test]
fn the_default_is_balanced() {
    let members: Vec<Member> = (0..10).map(|id| member(id, weight(1.0))).collect();
    let figures = |placement: &Placement| {
        let table = placement.build(&members).unwrap();
        let shares: Vec<f64> = table.shares().into_iter().map(|(_, share)| share).collect();
        stats::max_over_mean(&shares)
    };
    for placement in placements() {
        println!("{placement:?}: max/mean {:.4}", figures(&placement));
    }
    assert!(figures(&Placement::default()) < 1.03);
    assert!(figures(&Placement::Maglev) < 1.001);
}
