//! Ways through the overlay, which is a graph and not a tree.
//!
//! Whoever asks chooses the whole way (source routing), because only then is a partition with two parents asked for
//! once; a tree search at every hop would ask for it twice and have to throw one answer away.

use std::collections::VecDeque;

use super::{ProcessId, Topology};

/// Ways that are kept: the best, and those to fall back upon.
const MOST_PATHS: usize = 4;
/// Processes on a way. A longer one costs more deadline than it is worth.
const LONGEST: usize = 8;
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
    found
}
