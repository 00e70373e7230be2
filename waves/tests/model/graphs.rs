//! Which graphs there are, and what is the same in them.

use std::collections::BTreeSet;

use slipring_waves::NodeId;
use slipring_waves::topology::Graph;

use crate::wave::{Mask, Names, mask, renamed};

/// All orders of the numbers below `nodes`.
fn orders(nodes: usize) -> Vec<Names> {
    let mut orders = vec![Vec::new()];
    for node in 0..nodes as NodeId {
        let longer = orders.iter().flat_map(|order: &Names| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, node);
                order
            })
        });
        orders = longer.collect();
    }
    orders
}

/// Under which names a graph and a set of its nodes look the same; their own names are among them.
pub(crate) fn symmetries(graph: &Graph, chosen: Mask) -> Vec<Names> {
    let arcs: Vec<_> = graph.arcs().collect();
    let nodes = 0..graph.nodes().len() as NodeId;
    let chosen: Vec<_> = nodes.filter(|node| chosen >> node & 1 == 1).collect();
    let same = |names: &Names| {
        renamed(chosen.iter().copied(), names) == mask(chosen.iter().copied())
            && arcs.iter().all(|(from, to)| graph.outs(names[*from as usize]).contains(&names[*to as usize]))
    };
    orders(graph.nodes().len()).into_iter().filter(same).collect()
}

/// Every connected graph with these names for its nodes.
pub(crate) fn labelled(nodes: usize) -> Vec<Graph> {
    let graphs = (0..1 << (nodes * (nodes - 1) / 2)).map(|bits| Graph::of_bits(nodes, bits));
    graphs.filter(Graph::is_connected).collect()
}

/// The same, one of those that differ in names alone.
pub(crate) fn unlabelled(nodes: usize) -> Vec<Graph> {
    let mut seen = BTreeSet::new();
    labelled(nodes).into_iter().filter(|graph| seen.insert(name(graph))).collect()
}

/// What is the same for all graphs that differ in names alone, and for no others.
pub(crate) fn name(graph: &Graph) -> String {
    let code = |names: Names| {
        let mut arcs: Vec<_> =
            graph.arcs().map(|(from, to)| (names[from as usize], names[to as usize])).collect();
        arcs.sort_unstable();
        arcs
    };
    let least = orders(graph.nodes().len()).into_iter().map(code).min();
    format!("{least:?}")
}

/// Sets of nodes that are not empty, one of those from which the graph looks the same.
pub(crate) fn subsets(graph: &Graph) -> Vec<Mask> {
    let all = everybody(graph);
    let symmetries = symmetries(graph, all);
    let nodes = |mask: Mask| graph.ids().filter(move |id| mask >> id & 1 == 1);
    let least = |mask: &Mask| symmetries.iter().all(|names| renamed(nodes(*mask), names) >= *mask);
    (1..=all).filter(least).collect()
}

fn everybody(graph: &Graph) -> Mask {
    mask(graph.ids())
}

/// Every graph of one-way arcs with these names for its nodes, connected or not.
pub(crate) fn directed(nodes: usize) -> Vec<Graph> {
    let pairs: Vec<_> =
        (0..nodes).flat_map(|a| (0..nodes).filter(move |b| *b != a).map(move |b| (a, b))).collect();
    let lone: String = (0..nodes).map(|node| format!("{node}\n")).collect();
    let graphs = (0..1_u64 << pairs.len()).map(|bits| {
        let arcs = pairs.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        let arcs: String = arcs.map(|(_, (from, to))| format!("{from} -> {to}\n")).collect();
        Graph::parse_edges(&(lone.clone() + &arcs)).expect("numbers and arrows")
    });
    graphs.collect()
}

/// One of each sort of node: those from which the graph looks the same count once.
pub(crate) fn sorts(graph: &Graph) -> Vec<NodeId> {
    let symmetries = symmetries(graph, everybody(graph));
    graph.ids().filter(|id| symmetries.iter().all(|names| names[*id as usize] >= *id)).collect()
}
