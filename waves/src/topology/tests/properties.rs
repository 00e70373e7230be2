use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::topology::*;

/// Names with everything in them that may be in a name, and much that means something in DOT.
fn a_name() -> impl Strategy<Value = String> {
    "[a-c0-9\"\\\\ {}\\[\\]<>;=,/*#é-]{0,6}[a-z\\\\\"]"
}

/// The generator's seed is fixed, so a failure here is a failure everywhere; `SLIPRING_WAVES_SEED` explores.
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
    fn any_graph_is_read_as_it_was_written(
        names in proptest::collection::btree_set(a_name(), 1..8),
        arcs in proptest::collection::vec((0_usize..8, 0_usize..8), 0..20),
        both_ways: bool,
        said in proptest::collection::vec((proptest::option::of(1_u16..), proptest::option::of(1_u32..=1024), proptest::option::of("(?s).{0,5}")), 8),
    ) {
        let mut sketch = graph::Sketch::default();
        for (name, (port, cpu, label)) in names.iter().zip(said) {
            let node = sketch.add(name).unwrap();
            if let Some(port) = port {
                // Two equal ones: the first keeps it.
                sketch.set_port(node, port).unwrap_or_default();
            }
            sketch.nodes[node].cpu = cpu;
            // A carriage return is the one thing that DOT has no letter for.
            sketch.nodes[node].label = label.map(|label| label.replace('\r', ""));
        }
        for (from, to) in arcs {
            if from < names.len() && to < names.len() && from != to {
                sketch.link(from, to, both_ways).unwrap();
            }
        }
        let graph = sketch.finish();
        let text = graph.to_dot();
        prop_assert_eq!(&Graph::parse_dot(&text).unwrap(), &graph, "{}", text);
        prop_assert_eq!(Topology::parse(&text).unwrap(), Topology::Graph(graph));
    }

    #[test]
    fn a_random_tree_is_the_originals_kind(units in 1_usize..300, seed: u64) {
        let tree = Tree::random(units, seed).unwrap();
        prop_assert_eq!(tree.units().len(), units);
        prop_assert!(tree.levels() <= Tree::MOST_LEVELS);
        prop_assert!(tree.longest_path().2 <= Tree::LONGEST_PATH);
        let ports: Vec<_> = tree.units().iter().map(|unit| unit.port).collect();
        prop_assert_eq!(&ports, &(8000..).take(units).collect::<Vec<_>>());
        prop_assert!(tree.units().iter().all(|unit| [2, 4, 6, 8].contains(&unit.cpu)));
        prop_assert_eq!(tree.children_of(8000).count(), 2.min(units - 1));
        prop_assert!(ports.iter().all(|port| tree.children_of(*port).count() <= 3));
        prop_assert_eq!(tree.edges().count(), units - 1);
        prop_assert_eq!(&Tree::parse(&tree.to_json()).unwrap(), &tree);
        prop_assert_eq!(&Graph::parse_dot(&tree.to_dot()).unwrap().to_tree().unwrap(), &tree);
        prop_assert_eq!(Tree::random(units, seed).unwrap(), tree, "one seed, one tree");
    }

    #[test]
    fn who_is_above_has_below_it(units in 1_usize..100, seed: u64) {
        let tree = Tree::random(units, seed).unwrap();
        for unit in tree.units() {
            let below = tree.subtree(unit.port);
            prop_assert_eq!(&below[0], unit);
            for other in tree.units() {
                let is_below = unit == other || tree.ancestors(other.port).any(|port| port == unit.port);
                prop_assert_eq!(below.contains(other), is_below);
            }
            for child in tree.children_of(unit.port) {
                prop_assert_eq!(tree.parent_of(child), Some(unit.port));
            }
        }
    }

    #[test]
    fn random_graphs_are_what_they_are_called(nodes in 1_usize..60, more in 0_usize..80, seed: u64) {
        let graph = Graph::random_connected(nodes, more, seed);
        prop_assert!(graph.is_connected() && graph.is_strongly_connected() && graph.is_symmetric());
        prop_assert_eq!(graph.nodes().len(), nodes);
        prop_assert_eq!(graph.edge_count(), (nodes - 1 + more).min(nodes * (nodes - 1) / 2));
        prop_assert_eq!(graph.arc_count(), 2 * graph.edge_count());
        prop_assert_eq!(&Graph::random_connected(nodes, more, seed), &graph, "one seed, one graph");
        prop_assert_eq!(Graph::random_directed(nodes, more, seed).arc_count(), more.min(nodes * (nodes - 1)));
        if more == 0 {
            prop_assert!(nodes > Tree::MOST_LEVELS || graph.to_tree().is_ok());
        }
    }

    #[test]
    fn nothing_that_is_read_panics(text in "\\PC{0,80}|[\"\\\\{}\\[\\];=,:<>\\-/*#\n a-c0]{0,60}") {
        for text in [text.clone(), format!("graph {{{text}}}"), format!("digraph {{ a {text}"), format!("{{{text}}}")] {
            let topologies = [
                Topology::parse(&text).ok(),
                Graph::parse_dot(&text).ok().map(Topology::Graph),
                Graph::parse_edges(&text).ok().map(Topology::Graph),
                Graph::parse_overlay(&text).ok().map(Topology::Graph),
                Tree::parse(&text).ok().map(Topology::Tree),
            ];
            for topology in topologies.into_iter().flatten() {
                let graph = topology.graph();
                prop_assert_eq!(Graph::parse_dot(&graph.to_dot()).unwrap(), graph);
            }
        }
    }
}
