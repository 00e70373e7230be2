use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use slipring_waves::sim::{Network, Process as _, barriers};
use slipring_waves::topology::Graph;
use slipring_waves::{NodeId, blocked};

use crate::{config, directed, rough};

/// Arcs from lower numbers to higher ones alone.
fn acyclic() -> impl Strategy<Value = Graph> {
    directed().prop_map(|graph| {
        let lone: String = graph.ids().map(|id| format!("{id}\n")).collect();
        let arcs: String =
            graph.arcs().filter(|(a, b)| a < b).map(|(a, b)| format!("{a} -> {b}\n")).collect();
        Graph::parse_edges(&(lone + &arcs)).unwrap()
    })
}

fn is_on_a_cycle(graph: &Graph, node: NodeId) -> bool {
    graph.outs(node).iter().any(|next| graph.descendants(*next).contains(&node))
}

proptest! {
    #![proptest_config(config(256))]

    /// It reaches everybody, with one message on each arc, after all its ancestors.
    #[test]
    fn everybody_is_released_where_there_is_no_cycle(graph in acyclic(), seed: u64) {
        let (outcome, processes) = Network::new(barriers(&graph), rough(seed)).run(graph.ids());
        prop_assert_eq!(outcome.decided.len(), graph.nodes().len());
        prop_assert_eq!(outcome.sent, graph.arc_count() as u64);
        for decided in &outcome.decided {
            prop_assert!(decided.preceded_by.iter().eq(graph.ancestors(decided.node)));
        }
        let waiting = processes.iter().map(|(node, process)| (*node, process.awaited())).collect();
        prop_assert_eq!(blocked(&waiting), None);
    }

    /// Whoever is on a cycle or behind one waits for ever, everybody else is through; and the cycle is found.
    #[test]
    fn a_cycle_is_reported_and_nobody_hangs_silently(graph in directed(), seed: u64) {
        let (outcome, processes) = Network::new(barriers(&graph), rough(seed)).run(graph.ids());
        let released: BTreeSet<_> = outcome.decided.iter().map(|decided| decided.node).collect();
        let stuck: BTreeSet<_> = graph.ids().filter(|node| graph.ancestors(*node).iter().any(|a| is_on_a_cycle(&graph, *a))).collect();
        prop_assert_eq!(&graph.ids().filter(|node| !released.contains(node)).collect::<BTreeSet<_>>(), &stuck);

        let waiting = processes.iter().filter(|(_, process)| !process.is_released());
        let waiting: BTreeMap<_, _> = waiting.map(|(node, process)| (*node, process.awaited())).collect();
        match blocked(&waiting) {
            None => prop_assert!(stuck.is_empty()),
            Some(found) => {
                let next = found.cycle.iter().cycle().skip(1);
                for (node, awaited) in found.cycle.iter().zip(next) {
                    prop_assert!(graph.ins(*node).contains(awaited) && stuck.contains(node));
                }
                let on_it: BTreeSet<_> = found.cycle.iter().copied().collect();
                prop_assert_eq!(on_it.len(), found.cycle.len());
                let all_behind: BTreeSet<_> = graph.descendants(found.cycle[0]).difference(&on_it).copied().collect();
                prop_assert_eq!(found.behind, all_behind);
            }
        }
    }
}
