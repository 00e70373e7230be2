use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use slipring_waves::NodeId;
use slipring_waves::sim::{Conditions, Network, Uninformed, echoes};

use crate::{chosen, config, connected, directed, dying, in_rounds, rough};

proptest! {
    #![proptest_config(config(256))]

    /// On any connected graph, in any order, with messages that come again.
    #[test]
    fn one_decision_that_counts_everybody_once(graph in connected(), any: Index, seed: u64) {
        let initiator = chosen(&graph, any);
        let (outcome, processes) = Network::new(echoes(&graph), rough(seed)).run([initiator]);
        prop_assert_eq!(outcome.sent, 2 * graph.edge_count() as u64, "two messages on each edge");
        let [decided] = &outcome.decided[..] else { panic!("{:?}", outcome.decided) };
        prop_assert_eq!(decided.node, initiator);
        let once: BTreeMap<_, _> = graph.ids().map(|id| (id, 1)).collect();
        prop_assert_eq!(&decided.decision.counted, &once);
        prop_assert!(decided.preceded_by.iter().eq(once.keys().copied()), "an event everywhere before it");
        prop_assert!(processes.values().all(|process| process.echo().is_some_and(|echo| echo.has_ended())));
    }

    /// Fathers make a tree: everybody but the initiator has one, and they lead to it.
    #[test]
    fn fathers_lead_to_the_initiator(graph in connected(), any: Index, seed: u64) {
        let initiator = chosen(&graph, any);
        let (_, processes) = Network::new(echoes(&graph), rough(seed)).run([initiator]);
        let father = |node: NodeId| processes[&node].echo().and_then(|echo| echo.father());
        for node in graph.ids() {
            let way: Vec<_> = std::iter::successors(Some(node), |node| father(*node)).take(100).collect();
            prop_assert!(way.len() <= graph.nodes().len());
            prop_assert_eq!(way.last(), Some(&initiator));
            prop_assert!(way.windows(2).all(|pair| graph.neighbors(pair[0]).contains(&pair[1])));
        }
    }

    /// With a delay of one unit for each message: down and up again.
    #[test]
    fn it_takes_twice_the_diameter_and_one_at_most(graph in connected(), any: Index, seed: u64) {
        let (outcome, _) = Network::new(echoes(&graph), in_rounds(seed)).run([chosen(&graph, any)]);
        prop_assert!(outcome.rounds as usize <= 2 * graph.diameter() + 1, "{} rounds", outcome.rounds);
    }

    /// Nodes that never lived: the wave ends, and says who is missing.
    #[test]
    fn the_dead_are_named_and_nobody_else(
        graph in connected(), any: Index, drawn in vec(any::<Index>(), 0..6), seed: u64, repeated in 0_usize..60,
    ) {
        let initiator = chosen(&graph, any);
        let mut dead = dying(&graph, drawn.into_iter().map(|any| (any, 0)).collect());
        dead.remove(&initiator);
        // Who can be reached without passing through the dead.
        let mut alive = BTreeSet::from([initiator]);
        let mut found = vec![initiator];
        let mut named = BTreeSet::new();
        while let Some(node) = found.pop() {
            for neighbor in graph.neighbors(node) {
                if dead.contains_key(&neighbor) {
                    named.insert((node, neighbor));
                } else if alive.insert(neighbor) {
                    found.push(neighbor);
                }
            }
        }
        let conditions = Conditions { dying: dead, repeated, ..Conditions::new(seed) };
        let (outcome, _) = Network::new(echoes(&graph), conditions).run([initiator]);
        let [decided] = &outcome.decided[..] else { panic!("{:?}", outcome.decided) };
        prop_assert_eq!(&decided.decision.counted, &alive.into_iter().map(|node| (node, 1)).collect());
        prop_assert_eq!(&decided.decision.missing, &named);
        prop_assert_eq!(&outcome.given_up, &named);
    }

    /// Nodes that die in the midst of it: the wave ends, counts nobody twice, and whoever it does not count is behind
    /// somebody that it names.
    #[test]
    fn it_ends_whoever_dies_when(
        graph in connected(), any: Index, drawn in vec((any::<Index>(), 0_usize..6), 1..6), seed: u64, repeated in 0_usize..60,
    ) {
        let initiator = chosen(&graph, any);
        let mut dying = dying(&graph, drawn);
        dying.remove(&initiator);
        let conditions = Conditions { dying: dying.clone(), repeated, is_causal: true, ..Conditions::new(seed) };
        let (outcome, processes) = Network::new(echoes(&graph), conditions).run([initiator]);
        let [decided] = &outcome.decided[..] else { panic!("{:?}", outcome.decided) };
        let told = &decided.decision;
        prop_assert!(told.counted.values().all(|times| *times == 1), "{:?}", told);
        prop_assert!(told.missing.iter().all(|(_, named)| dying.contains_key(named)), "{:?}", told);
        prop_assert!(told.missing.is_subset(&outcome.given_up));
        prop_assert!(outcome.sent <= 2 * graph.edge_count() as u64);
        let father = |node: NodeId| processes[&node].echo().and_then(|echo| echo.father());
        for node in graph.ids().filter(|node| !told.counted.contains_key(node)) {
            let is_informed = matches!(processes[&node], Uninformed::No(_));
            // Its way to the initiator leads through somebody who died; or it never heard of the wave, because
            // all those around it that did died.
            let is_cut_off = std::iter::successors(Some(node), |node| father(*node))
                .take(100)
                .any(|node| dying.contains_key(&node));
            prop_assert!(is_cut_off || !is_informed, "{} is not counted: {:?}", node, told);
        }
    }

    /// Neighbors that are slow and no more, and are given up: who does so gets less, and what comes late changes nothing.
    #[test]
    fn giving_up_too_early_doubles_nothing(graph in connected(), any: Index, hasty in 1_usize..50, seed: u64) {
        let initiator = chosen(&graph, any);
        let conditions = Conditions { hasty, ..rough(seed) };
        let (outcome, _) = Network::new(echoes(&graph), conditions).run([initiator]);
        let [decided] = &outcome.decided[..] else { panic!("{:?}", outcome.decided) };
        let told = &decided.decision;
        prop_assert!(told.counted.values().all(|times| *times == 1), "{:?}", told);
        prop_assert!(told.missing.is_subset(&outcome.given_up));
        prop_assert!(outcome.sent <= 2 * graph.edge_count() as u64);
        if told.missing.is_empty() {
            prop_assert_eq!(told.counted.len(), graph.nodes().len(), "nobody is left out in silence");
        }
    }

    /// Links that count one way in a file are links all the same.
    #[test]
    fn a_directed_graph_is_an_undirected_one(graph in directed(), any: Index, seed: u64) {
        let initiator = chosen(&graph, any);
        let (outcome, _) = Network::new(echoes(&graph), rough(seed)).run([initiator]);
        let part = graph.both_ways().descendants(initiator);
        let edges = graph.edges().filter(|(one, _)| part.contains(one)).count();
        prop_assert_eq!(outcome.sent, 2 * edges as u64);
        prop_assert!(outcome.decided[0].decision.counted.keys().eq(part.iter()));
    }
}
