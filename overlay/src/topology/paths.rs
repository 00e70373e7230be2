//! Ways through the overlay, which is a graph and not a tree.
//!
//! Whoever asks chooses the whole way (source routing), because only then is a partition with two parents asked for
//! once; a tree search at every hop would ask for it twice and have to throw one answer away.

use std::collections::{HashMap, VecDeque};

use super::{ProcessId, Topology};

/// Ways that are kept: the best, and those to fall back upon.
const MOST_PATHS: usize = 4;
/// Steps of a way. A longer one costs more deadline than it is worth.
pub(super) const LONGEST: usize = 8;
/// Steps of the search, which in a dense graph would not end in time.
const MOST_STEPS: usize = 20_000;

/// See [`Topology::paths`].
pub(super) fn paths(
    topology: &Topology,
    from: &ProcessId,
    to: &ProcessId,
    hops: &[ProcessId],
) -> Vec<Vec<ProcessId>> {
    if from == to {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    let mut unfinished = VecDeque::from([vec![from.clone()]]);
    for _ in 0..MOST_STEPS {
        let Some(way) = unfinished.pop_front() else { break };
        let last = way.last().expect("a way begins somewhere");
        let Some(process) = topology.processes.get(last) else { continue };
        for next in &process.neighbors {
            if way.contains(next) || hops.contains(next) {
                continue;
            }
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == to {
                longer.remove(0);
                found.push(longer);
                if found.len() == MOST_PATHS {
                    return found;
                }
            } else if longer.len() <= LONGEST {
                unfinished.push_back(longer);
            }
        }
    }
    // In a dense graph the search ends before it comes there; the shortest way is found in any.
    if found.is_empty() {
        found.extend(shortest(topology, from, to, hops).filter(|way| way.len() <= LONGEST));
    }
    found
}

/// The way of the fewest steps from one process to another that passes none of `hops`, however many those are; `None`: no
/// way leads there.
pub(super) fn shortest(
    topology: &Topology,
    from: &ProcessId,
    to: &ProcessId,
    hops: &[ProcessId],
) -> Option<Vec<ProcessId>> {
    let mut came_from: HashMap<&ProcessId, &ProcessId> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(id) = queue.pop_front() {
        for next in topology.processes.get(id).into_iter().flat_map(|process| &process.neighbors) {
            if next != from && !hops.contains(next) && !came_from.contains_key(next) {
                came_from.insert(next, id);
                queue.push_back(next);
            }
        }
    }
    let mut way: Vec<_> = std::iter::successors(Some(to), |id| came_from.get(id).copied()).cloned().collect();
    way.reverse();
    (way[0] == *from).then(|| way.split_off(1))
}
