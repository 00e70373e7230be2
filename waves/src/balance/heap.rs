//! The original's rule: every overloaded unit gives one task to the freest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Move, Station};

/// One round. A unit is overloaded when it has `max_percent` of its cores in tasks; the most loaded gives first. Free is who
/// has most cores without a task, after those that were given before. Nobody gives to one that is less free than itself.
pub fn heap(stations: &[Station], max_percent: u32) -> Vec<Move> {
    let free = |load: u64, cores: u64| i128::from(cores) - i128::from(load);
    let is_overloaded = |station: &&Station| {
        let full = u128::from(station.cores) * u128::from(max_percent);
        station.load > 0 && u128::from(station.load) * 100 >= full
    };
    let mut overloaded: Vec<_> = stations.iter().filter(is_overloaded).collect();
    overloaded.sort_by_key(|station| (free(station.load, station.cores), station.id));
    let by_freedom = stations.iter().map(|station| (free(station.load, station.cores), Reverse(station.id)));
    let mut freest: BinaryHeap<_> = by_freedom.collect();
    let mut moves = Vec::new();
    for station in overloaded {
        let Some((space, Reverse(to))) = freest.pop() else { break };
        // After it the giver must not be freer than the taker was: else the task only goes to and fro.
        let is_better = to != station.id && space > free(station.load, station.cores) + 1;
        if is_better {
            moves.push(Move { from: station.id, to, count: 1 });
        }
        freest.push((space - i128::from(is_better), Reverse(to)));
    }
    moves
}
