//! One wave up, one pass down, and nothing moves that need not.
//!
//! In a tree each link parts it in two, and to give the part below its shares exactly |its load − its shares| tasks must go
//! over that link, whatever else is done: so the moves of a plan that sends just those are the fewest, once it is settled who
//! has a share rounded up. That is a choice, and it is made by the same count: going up, each unit knows for every number
//! of roundings-up below it what they cost at least; going down, each is told how many there are to be.
//!
//! Quadratic in the number of units, because of that choice.

use super::{Move, Station, are_countable, shares};

/// Every unit has its share after these moves, in this order: nobody gives what it does not have yet. A move goes over one
/// link. The sum of their counts is the least that any way of reaching balance takes.
///
/// # Panics
/// When a parent does not come before its children.
pub fn tree(stations: &[Station]) -> Vec<Move> {
    if !are_countable(stations) {
        return Vec::new();
    }
    let shares = shares(stations);
    let low: u128 = shares.iter().map(|(low, _)| u128::from(*low)).sum();
    let load: u128 = stations.iter().map(|station| u128::from(station.load)).sum();
    let children = children(stations);
    let below = Below::all(stations, &shares, &children);
    let extra = extras(usize::try_from(load - low).unwrap_or(usize::MAX), &below, &children);
    let flows: Vec<i128> = (0..stations.len())
        .map(|place| below[place].surplus - i128::try_from(extra[place]).unwrap_or(i128::MAX))
        .collect();
    let flow = |place: usize, is_up: bool| {
        let parent = stations[stations[place].parent?].id;
        let (own, count) =
            (stations[place].id, u64::try_from(flows[place].unsigned_abs()).unwrap_or(u64::MAX));
        match flows[place] {
            1.. if is_up => Some(Move { from: own, to: parent, count }),
            ..=-1 if !is_up => Some(Move { from: parent, to: own, count }),
            _ => None,
        }
    };
    // What goes up first, from below; then what goes down, from above.
    let up = (0..stations.len()).rev().filter_map(|place| flow(place, true));
    up.chain((0..stations.len()).filter_map(|place| flow(place, false))).collect()
}

fn children(stations: &[Station]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); stations.len()];
    for (place, station) in stations.iter().enumerate() {
        if let Some(parent) = station.parent {
            assert!(parent < place, "a parent comes before its children");
            children[parent].push(place);
        }
    }
    children
}

/// What a unit knows of itself and all below.
struct Below {
    /// Tasks beyond the shares rounded down.
    surplus: i128,
    /// How many moves it takes at least, the link upwards included, if this many of them have a task more.
    costs: Vec<u128>,
    /// Before each child was counted in: the same of the unit and the children before it, without the link upwards.
    steps: Vec<Vec<u128>>,
}

impl Below {
    fn all(stations: &[Station], shares: &[(u64, bool)], children: &[Vec<usize>]) -> Vec<Self> {
        let mut all: Vec<Option<Self>> = (0..stations.len()).map(|_| None).collect();
        for place in (0..stations.len()).rev() {
            let (low, has_part) = shares[place];
            let mut surplus = i128::from(stations[place].load) - i128::from(low);
            let mut costs = vec![0; 1 + usize::from(has_part)];
            let mut steps = Vec::new();
            for child in &children[place] {
                let child = all[*child].as_ref().expect("children come after their parent");
                surplus += child.surplus;
                let sum = joined(&costs, &child.costs);
                steps.push(std::mem::replace(&mut costs, sum));
            }
            if stations[place].parent.is_some() {
                for (extra, cost) in (0_i128..).zip(&mut costs) {
                    *cost += (surplus - extra).unsigned_abs();
                }
            }
            all[place] = Some(Self { surplus, costs, steps });
        }
        all.into_iter().map(|below| below.expect("each place was visited")).collect()
    }
}

/// What both cost at least together, for every sum.
fn joined(one: &[u128], other: &[u128]) -> Vec<u128> {
    let mut sum = vec![u128::MAX; one.len() + other.len() - 1];
    for (a, cost) in one.iter().enumerate() {
        for (b, more) in other.iter().enumerate() {
            sum[a + b] = sum[a + b].min(cost + more);
        }
    }
    sum
}

/// How many of each subtree have a task more.
fn extras(all: usize, below: &[Below], children: &[Vec<usize>]) -> Vec<usize> {
    let mut extra = vec![0; below.len()];
    if let Some(root) = extra.first_mut() {
        *root = all;
    }
    for place in 0..below.len() {
        let mut left = extra[place];
        for (child, before) in children[place].iter().zip(&below[place].steps).rev() {
            let costs = &below[*child].costs;
            let given = (0..costs.len().min(left + 1)).filter(|given| left - given < before.len());
            let given = given.min_by_key(|given| costs[*given] + before[left - given]).unwrap_or(0);
            extra[*child] = given;
            left -= given;
        }
    }
    extra
}
