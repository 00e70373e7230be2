//! What plans are measured by: the fewest moves there can be, how far loads are from balance, and how many intervals a plan
//! takes to get there.

use std::collections::BTreeMap;

use super::{Move, Station, is_balanced, shares};
use crate::NodeId;

/// The fewest moves over links that lead to balance. It is counted otherwise than [`super::tree`] counts, so that each can be
/// held against the other.
///
/// Everybody gets its share rounded down, and K tasks are left for K of those whose share is no whole number. With k of
/// the K below it, |a − k| tasks pass the link above a subtree, where a is what it has beyond the rounded-down shares. The
/// least of all links below, as a function of k, is convex: |a − k| is, and so is the sum over children when each next
/// task goes where it costs least. A convex function is what each next k costs, in ascending order: children are put
/// together by merging their lists, and the link above makes the first a of them one cheaper and all others one dearer,
/// after which they still ascend. At the root the first K are the cheapest.
///
/// # Panics
/// When a parent does not come before its children.
pub fn lower_bound(stations: &[Station]) -> u128 {
    let shares = shares(stations);
    let sum =
        |part: &dyn Fn(usize) -> u64| (0..stations.len()).map(|place| u128::from(part(place))).sum::<u128>();
    let left = sum(&|place| stations[place].load) - sum(&|place| shares[place].0);
    let mut costs: Vec<Vec<i64>> =
        shares.iter().map(|(_, has_part)| vec![0; usize::from(*has_part)]).collect();
    let mut surplus: Vec<i128> = stations
        .iter()
        .zip(&shares)
        .map(|(station, (low, _))| i128::from(station.load) - i128::from(*low))
        .collect();
    let mut moves = 0_i128;
    for place in (0..stations.len()).rev() {
        let mut here = std::mem::take(&mut costs[place]);
        here.sort_unstable();
        let Some(parent) = stations[place].parent else {
            moves += here.into_iter().zip(0..left).map(|(cost, _)| i128::from(cost)).sum::<i128>();
            continue;
        };
        assert!(parent < place, "a parent comes before its children");
        moves += surplus[place].abs();
        for (k, cost) in (0_i128..).zip(&mut here) {
            *cost += if k < surplus[place] { -1 } else { 1 };
        }
        surplus[parent] += surplus[place];
        costs[parent].append(&mut here);
    }
    moves.unsigned_abs()
}

/// How far loads are from their exact shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disbalance {
    /// By how many tasks the one is off that is farthest from its share; below 1, everybody has it, rounded.
    pub farthest: f64,
    /// Which part of all tasks would have to be elsewhere, from 0 to 1.
    pub misplaced: f64,
}

/// How far they are from balance.
pub fn disbalance(stations: &[Station]) -> Disbalance {
    let sum = |part: fn(&Station) -> u64| stations.iter().map(|station| part(station) as f64).sum::<f64>();
    let (load, cores) = (sum(|station| station.load), sum(|station| station.cores).max(1.0));
    let off =
        stations.iter().map(|station| (station.load as f64 - load * station.cores as f64 / cores).abs());
    let (farthest, all) = off.fold((0.0_f64, 0.0), |(farthest, all), off| (farthest.max(off), all + off));
    Disbalance { farthest, misplaced: if load > 0.0 { all / 2.0 / load } else { 0.0 } }
}

/// A move that cannot be carried out: somebody is not there, or gives more than it has, or to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot give {} tasks to {}", .0.from, .0.count, .0.to)]
pub struct Impossible(pub Move);

/// The loads after moves, one by one.
///
/// # Errors
/// With the first that cannot be carried out when it is its turn.
pub fn carried_out(stations: &[Station], moves: &[Move]) -> Result<Vec<Station>, Impossible> {
    let mut after = stations.to_vec();
    let places: BTreeMap<NodeId, usize> =
        stations.iter().enumerate().map(|(place, station)| (station.id, place)).collect();
    for step in moves {
        let (Some(from), Some(to)) = (places.get(&step.from), places.get(&step.to)) else {
            return Err(Impossible(*step));
        };
        let left = after[*from].load.checked_sub(step.count).filter(|_| from != to);
        after[*from].load = left.ok_or(Impossible(*step))?;
        after[*to].load = after[*to].load.checked_add(step.count).ok_or(Impossible(*step))?;
    }
    Ok(after)
}

/// What became of loads under a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// In how many intervals something was moved.
    pub rounds: u32,
    /// Whether everybody has its share, rounded, after them.
    pub is_balanced: bool,
    /// How many tasks were moved.
    pub moves: u128,
    /// How many links they passed: this is what compares plans along links with those that send tasks anywhere.
    pub hops: u128,
    /// How far from balance it is in the end.
    pub left: Disbalance,
}

/// Plans and carries out, interval by interval, until there is balance, or nothing to move, or `most` intervals have passed.
/// Nothing else happens meanwhile: no task comes and none ends.
///
/// # Errors
/// When a plan cannot be carried out, which is a mistake in it.
pub fn rounds_to_balance(
    start: &[Station],
    most: u32,
    plan: impl Fn(&[Station]) -> Vec<Move>,
) -> Result<Trial, Impossible> {
    let distances = Distances::of(start);
    let mut now = start.to_vec();
    let (mut rounds, mut moves, mut hops) = (0, 0, 0);
    while !is_balanced(&now) && rounds < most {
        let steps = plan(&now);
        if steps.is_empty() {
            break;
        }
        now = carried_out(&now, &steps)?;
        rounds += 1;
        moves += steps.iter().map(|step| u128::from(step.count)).sum::<u128>();
        hops += steps.iter().map(|step| u128::from(step.count) * distances.between(step)).sum::<u128>();
    }
    Ok(Trial { rounds, is_balanced: is_balanced(&now), moves, hops, left: disbalance(&now) })
}

/// The way from each to the root.
struct Distances(BTreeMap<NodeId, Vec<usize>>);

impl Distances {
    fn of(stations: &[Station]) -> Self {
        let way = |place: usize| {
            let mut way: Vec<_> =
                std::iter::successors(Some(place), |place| stations[*place].parent).collect();
            way.reverse();
            way
        };
        Self(stations.iter().enumerate().map(|(place, station)| (station.id, way(place))).collect())
    }

    fn between(&self, step: &Move) -> u128 {
        let (Some(from), Some(to)) = (self.0.get(&step.from), self.0.get(&step.to)) else { return 0 };
        let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        (from.len() + to.len() - 2 * shared) as u128
    }
}
