//! Work stealing: who has least to do takes from who has most.

use super::{Move, Station, are_countable};

/// One round: each unit in turn, the least loaded (tasks a core) first, takes from the most loaded one as many tasks as make
/// both alike, rounded down.
pub fn stealing(stations: &[Station]) -> Vec<Move> {
    if !are_countable(stations) {
        return Vec::new();
    }
    let mut now: Vec<Station> = stations.to_vec();
    let mut thieves: Vec<usize> = (0..now.len()).collect();
    // Compared without fractions: load/cores < load/cores.
    let order = |one: &Station, other: &Station| {
        let (left, right) = (product(one.load, other.cores), product(other.load, one.cores));
        left.cmp(&right).then(one.id.cmp(&other.id))
    };
    thieves.sort_by(|one, other| order(&stations[*one], &stations[*other]));
    let mut moves = Vec::new();
    for thief in thieves {
        let Some(victim) = (0..now.len()).max_by(|one, other| order(&now[*one], &now[*other])) else { break };
        let (own, other) = (now[thief], now[victim]);
        let difference = product(other.load, own.cores).saturating_sub(product(own.load, other.cores));
        // Less than the victim has: it fits again.
        let count = (difference / (u128::from(own.cores) + u128::from(other.cores)).max(1)) as u64;
        if count > 0 {
            now[thief].load += count;
            now[victim].load -= count;
            moves.push(Move { from: other.id, to: own.id, count });
        }
    }
    moves
}

/// Too large for tasks and cores that somebody made up, else.
fn product(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}
