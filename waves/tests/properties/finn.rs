use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use slipring_waves::NodeId;
use slipring_waves::sim::{Network, finns};
use slipring_waves::topology::Graph;

use crate::{chosen, config, connected, directed, in_rounds, rough};

fn some(graph: &Graph, drawn: &[Index]) -> BTreeSet<NodeId> {
    drawn.iter().map(|any| chosen(graph, *any)).collect()
}

/// Whoever decides knows its ancestors, each of which precedes it; within 2·N·m messages.
fn check(graph: &Graph, initiators: &BTreeSet<NodeId>, seed: u64) -> Result<BTreeSet<NodeId>, TestCaseError> {
    let (outcome, processes) = Network::new(finns(graph), rough(seed)).run(initiators.iter().copied());
    prop_assert!(outcome.sent <= 2 * (graph.nodes().len() * graph.arc_count()) as u64);
    let mut deciders = BTreeSet::new();
    for decided in &outcome.decided {
        prop_assert!(deciders.insert(decided.node), "{} decides twice", decided.node);
        let ancestors = graph.ancestors(decided.node);
        prop_assert_eq!(&decided.decision, &ancestors);
        prop_assert!(decided.preceded_by.iter().eq(ancestors), "their events precede it, and nobody else's");
    }
    prop_assert!(processes.iter().all(|(node, process)| process.has_decided() == deciders.contains(node)));
    Ok(deciders)
}

proptest! {
    #![proptest_config(config(256))]

    /// Where links count both ways: everybody decides, knowing everybody, whoever begins.
    #[test]
    fn everybody_decides_on_a_connected_graph(graph in connected(), any in vec(any::<Index>(), 1..4), seed: u64) {
        let deciders = check(&graph, &some(&graph, &any), seed)?;
        prop_assert_eq!(deciders, graph.ids().collect());
    }

    /// Strongly connected is enough: a ring of one-way arcs, and any others.
    #[test]
    fn everybody_decides_on_a_strongly_connected_graph(
        nodes in 2_usize..14, more in vec((any::<Index>(), any::<Index>()), 0..20), any in vec(any::<Index>(), 1..4), seed: u64,
    ) {
        let ring = Graph::one_way_ring(nodes);
        let arcs = more.iter().map(|(from, to)| (from.index(nodes) as NodeId, to.index(nodes) as NodeId));
        let lines: Vec<_> = ring.arcs().chain(arcs.filter(|(from, to)| from != to)).collect();
        let text: String = lines.iter().map(|(from, to)| format!("{from} -> {to}\n")).collect();
        let graph = Graph::parse_edges(&text).unwrap();
        prop_assert!(graph.is_strongly_connected());
        let deciders = check(&graph, &some(&graph, &any), seed)?;
        prop_assert_eq!(deciders.len(), nodes);
    }

    /// On any directed graph, everybody beginning: each decides, knowing exactly its ancestors.
    #[test]
    fn deciders_know_exactly_their_ancestors(graph in directed(), seed: u64) {
        let all: BTreeSet<_> = graph.ids().collect();
        prop_assert_eq!(check(&graph, &all, seed)?, all);
    }

    /// The same with some beginning: whoever has an ancestor that never hears of the wave does not decide, all others do.
    #[test]
    fn who_has_an_ancestor_that_never_hears_does_not_decide(
        graph in directed(), any in vec(any::<Index>(), 1..4), seed: u64,
    ) {
        let initiators = some(&graph, &any);
        let heard: BTreeSet<_> = initiators.iter().flat_map(|node| graph.descendants(*node)).collect();
        let able: BTreeSet<_> = graph.ids().filter(|node| graph.ancestors(*node).is_subset(&heard)).collect();
        prop_assert_eq!(check(&graph, &initiators, seed)?, able);
    }

    /// Time: the farthest has heard of everybody after as many rounds as the graph is wide, and that it has heard of all
    /// after twice as many; one more says so to those who know it.
    #[test]
    fn it_takes_twice_the_diameter_and_two_at_most(graph in connected(), any in vec(any::<Index>(), 1..4), seed: u64) {
        let (outcome, _) = Network::new(finns(&graph), in_rounds(seed)).run(some(&graph, &any));
        let last = outcome.decided.iter().map(|decided| decided.round).max();
        prop_assert!(last <= Some(2 * graph.diameter() as u32 + 2), "{:?} rounds, diameter {}", last, graph.diameter());
    }
}
