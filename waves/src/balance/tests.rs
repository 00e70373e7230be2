use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;

fn stations(most: usize) -> impl Strategy<Value = Vec<Station>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..40_u64, 1..9_u64), 1..=most).prop_map(|units| {
        let station = |(place, (parent, load, cores)): (usize, &(prop::sample::Index, u64, u64))| Station {
            id: 8000 + place as NodeId,
            parent: (place > 0).then(|| parent.index(place)),
            load: *load,
            cores: *cores,
        };
        units.iter().enumerate().map(station).collect()
    })
}

/// After the moves, one by one; none gives what it does not have.
fn carried_out(stations: &[Station], moves: &[Move]) -> Vec<Station> {
    assert!(moves.iter().all(|step| step.count > 0), "{moves:?}");
    super::carried_out(stations, moves).unwrap_or_else(|error| panic!("{error}: {moves:?} of {stations:?}"))
}

/// The fewest moves there are, by trying every move of one task over a link, and every one after it.
fn fewest_of_all(stations: &[Station]) -> u128 {
    let loads = |stations: &[Station]| stations.iter().map(|station| station.load).collect::<Vec<_>>();
    let links =
        || (1..stations.len()).map(|place| (place, stations[place].parent.expect("only the first has none")));
    let mut seen = BTreeSet::from([loads(stations)]);
    let mut waiting = VecDeque::from([(stations.to_vec(), 0)]);
    while let Some((now, moves)) = waiting.pop_front() {
        if is_balanced(&now) {
            return moves;
        }
        for (from, to) in links().chain(links().map(|(child, parent)| (parent, child))) {
            let step = Move { from: now[from].id, to: now[to].id, count: 1 };
            if let Ok(next) = super::carried_out(&now, &[step])
                && seen.insert(loads(&next))
            {
                waiting.push_back((next, moves + 1));
            }
        }
    }
    panic!("{stations:?} cannot be balanced");
}

/// The fewest moves over links, by trying every way of rounding: over each link goes what its lower part has too much.
fn fewest(stations: &[Station]) -> u64 {
    let shares = shares(stations);
    let load: u64 = stations.iter().map(|station| station.load).sum();
    let mut best = u64::MAX;
    for bits in 0_u32..1 << stations.len() {
        let rounded: Vec<u64> =
            (0..stations.len()).map(|place| shares[place].0 + u64::from(bits >> place & 1)).collect();
        let allowed = (0..stations.len()).all(|place| bits >> place & 1 == 0 || shares[place].1);
        if !allowed || rounded.iter().sum::<u64>() != load {
            continue;
        }
        let mut surplus: Vec<i64> =
            (0..stations.len()).map(|place| stations[place].load as i64 - rounded[place] as i64).collect();
        let mut cost = 0;
        for place in (1..stations.len()).rev() {
            cost += surplus[place].unsigned_abs();
            let parent = stations[place].parent.expect("only the first has none");
            surplus[parent] += surplus[place];
        }
        best = best.min(cost);
    }
    best
}

fn count(moves: &[Move]) -> u64 {
    moves.iter().map(|order| order.count).sum()
}

fn config() -> Config {
    let seed = std::env::var("SLIPRING_WAVES_SEED").ok().and_then(|seed| seed.parse().ok());
    Config {
        rng_seed: RngSeed::Fixed(seed.unwrap_or(0x736c_6970)),
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_plan_of_a_tree_balances_with_the_fewest_moves_and_along_links(stations in stations(9)) {
        let moves = tree(&stations);
        let after = carried_out(&stations, &moves);
        prop_assert!(is_balanced(&after), "{after:?}");
        prop_assert_eq!(count(&moves), fewest(&stations));
        prop_assert_eq!(u128::from(count(&moves)), lower_bound(&stations));
        for order in &moves {
            let place = |id: NodeId| (id - 8000) as usize;
            let (from, to) = (place(order.from), place(order.to));
            prop_assert!(stations[from].parent == Some(to) || stations[to].parent == Some(from), "{:?}", order);
        }
    }

    #[test]
    fn what_is_balanced_stays_as_it_is(stations in stations(9)) {
        let balanced = carried_out(&stations, &tree(&stations));
        prop_assert_eq!(tree(&balanced), []);
        prop_assert_eq!(stealing(&balanced).len(), 0);
    }

    #[test]
    fn other_plans_lose_and_make_nothing_and_come_to_an_end(start in stations(9), percent in 1..200_u32) {
        for plan in [&(|s: &[Station]| heap(s, percent)) as &dyn Fn(&[Station]) -> Vec<Move>, &|s: &[Station]| stealing(s)] {
            let (mut now, total) = (start.clone(), start.iter().map(|station| station.load).sum::<u64>());
            let mut rounds = 0;
            loop {
                let moves = plan(&now);
                if moves.is_empty() {
                    break;
                }
                now = carried_out(&now, &moves);
                prop_assert_eq!(now.iter().map(|station| station.load).sum::<u64>(), total);
                rounds += 1;
                prop_assert!(rounds < 2_000, "to and fro: {:?}", now);
            }
        }
    }
}

#[test]
fn a_thousand_units_are_planned_in_no_time() {
    let station = |place: usize| Station {
        id: place as NodeId,
        parent: place.checked_sub(1).map(|before| before / 2),
        load: (place as u64 * 7_919) % 50,
        cores: 1 + place as u64 % 8,
    };
    let stations: Vec<_> = (0..1_000).map(station).collect();
    assert!(is_balanced(&carried_out(&stations, &tree(&stations))));
}

#[test]
fn nobody_and_one_alone_have_nothing_to_move() {
    assert_eq!(tree(&[]), []);
    assert_eq!(tree(&[Station { id: 1, parent: None, load: 9, cores: 2 }]), []);
    assert!(is_balanced(&[]));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_plan_of_many_is_as_short_as_can_be(stations in stations(120)) {
        let moves = tree(&stations);
        prop_assert_eq!(u128::from(count(&moves)), lower_bound(&stations));
        let after = carried_out(&stations, &moves);
        prop_assert!(is_balanced(&after));
        prop_assert!(disbalance(&after).farthest < 1.0, "within one task");
    }

    /// Over each link goes what the subtree below it has too much or too little, and nothing else.
    #[test]
    fn each_link_is_used_once_and_one_way(stations in stations(60)) {
        let moves = tree(&stations);
        let after = carried_out(&stations, &moves);
        let mut below: Vec<i128> =
            stations.iter().zip(&after).map(|(before, after)| i128::from(before.load) - i128::from(after.load)).collect();
        for place in (1..stations.len()).rev() {
            let parent = stations[place].parent.expect("only the first has none");
            let (id, above) = (stations[place].id, stations[parent].id);
            let over = moves.iter().filter(|step| [(id, above), (above, id)].contains(&(step.from, step.to)));
            let over: Vec<_> = over.map(|step| if step.from == id { i128::from(step.count) } else { -i128::from(step.count) }).collect();
            let expected: Vec<_> = Some(below[place]).into_iter().filter(|count| *count != 0).collect();
            prop_assert_eq!(over, expected);
            below[parent] += below[place];
        }
    }

    /// Whatever loads and cores somebody makes up, nothing panics.
    #[test]
    fn absurd_loads_are_planned_as_well(drawn in prop::collection::vec((any::<u64>(), 0..=u64::from(u32::MAX)), 1..6), percent: u32) {
        let station = |(place, (load, cores)): (usize, &(u64, u64))| Station {
            id: place as NodeId, parent: place.checked_sub(1), load: *load, cores: *cores,
        };
        let stations: Vec<_> = drawn.iter().enumerate().map(station).collect();
        heap(&stations, percent);
        stealing(&stations);
        tree(&stations);
        lower_bound(&stations);
        disbalance(&stations);
    }
}

proptest! {
    #![proptest_config(Config { cases: 120, ..config() })]

    /// The bound itself, against all there is on small trees.
    #[test]
    fn no_other_moves_are_fewer(drawn in prop::collection::vec((any::<prop::sample::Index>(), 0..5_u64, 1..4_u64), 1..6)) {
        let station = |(place, (parent, load, cores)): (usize, &(prop::sample::Index, u64, u64))| Station {
            id: place as NodeId,
            parent: (place > 0).then(|| parent.index(place)),
            load: *load,
            cores: *cores,
        };
        let stations: Vec<_> = drawn.iter().enumerate().map(station).collect();
        prop_assert_eq!(lower_bound(&stations), fewest_of_all(&stations));
    }
}

#[test]
fn what_cannot_be_given_is_told() {
    let stations = [
        Station { id: 1, parent: None, load: 2, cores: 1 },
        Station { id: 2, parent: Some(0), load: 0, cores: 1 },
    ];
    for (from, to, count) in [(1, 2, 3), (2, 1, 1), (1, 1, 1), (1, 3, 1), (3, 1, 1)] {
        let step = Move { from, to, count };
        assert_eq!(super::carried_out(&stations, &[step]), Err(Impossible(step)));
    }
    let trial = rounds_to_balance(&stations, 9, tree).expect("its plans can be carried out");
    assert_eq!((trial.rounds, trial.is_balanced, trial.moves, trial.hops), (1, true, 1, 1));
}
