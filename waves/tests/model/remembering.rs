//! Is nothing that matters thrown away? The same waves are explored without: every message stays for ever as it was sent,
//! and states that differ in names are two. Every machine must come to be in the same states, no more and no fewer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;

use libtest_mimic::Failed;
use slipring_waves::sim::{Process, echoes, finns};
use slipring_waves::topology::Graph;
use slipring_waves::{NodeId, Step};
use stateright::Model;

use crate::graphs::{labelled, subsets};
use crate::wave::{Mask, Mixer, Names, State, Subject, Wave};

/// A machine, of which nothing is believed that [`Subject`] says of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembering<P>(P);

impl<P: Subject> Process for Remembering<P> {
    type Message = P::Message;
    type Decision = P::Decision;

    fn begin(&mut self) -> Vec<Step<P::Message, P::Decision>> {
        self.0.begin()
    }

    fn hear(&mut self, from: NodeId, message: P::Message) -> Vec<Step<P::Message, P::Decision>> {
        self.0.hear(from, message)
    }

    fn give_up(&mut self, neighbor: NodeId) -> Vec<Step<P::Message, P::Decision>> {
        self.0.give_up(neighbor)
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        self.0.awaited()
    }
}

impl<P: Subject> Subject for Remembering<P> {
    fn progress(&self) -> usize {
        self.0.progress()
    }

    fn allowance(&self) -> Option<usize> {
        self.0.allowance()
    }

    fn rest_of(&self, _from: NodeId, message: &P::Message) -> Option<P::Message> {
        Some(message.clone())
    }

    fn write<H: Hasher>(&self, names: &Names, hasher: &mut H) {
        self.0.write(names, hasher);
    }

    fn write_message<H: Hasher>(message: &P::Message, names: &Names, hasher: &mut H) {
        P::write_message(message, names, hasher);
    }
}

/// Every state of every machine in a wave of which nothing is expected.
fn reached<P: Subject>(
    graph: &Graph,
    initiators: Mask,
    processes: BTreeMap<NodeId, P>,
    show: fn(&P) -> String,
) -> BTreeSet<(NodeId, String)> {
    let wave = Wave {
        graph: graph.clone(),
        processes,
        initiators,
        deciders: 0,
        preceding: vec![0; graph.nodes().len()],
        is_right: |_, _, _| true,
        messages: None,
        in_the_end: |_, _| true,
        // Their own names alone.
        symmetries: Arc::new(vec![graph.ids().collect()]),
    };
    // By what is counted of a state: in which order messages came to lie somewhere makes no other.
    let mut seen = HashSet::new();
    let hash = |state: &State<P>| BuildHasherDefault::<Mixer>::default().hash_one(state);
    let mut waiting = wave.init_states();
    let mut reached = BTreeSet::new();
    while let Some(state) = waiting.pop() {
        for (id, node) in state.nodes() {
            reached.insert((id, show(&node.process)));
        }
        waiting.extend(wave.next_states(&state).into_iter().filter(|next| seen.insert(hash(next))));
    }
    reached
}

fn compare<P: Subject>(
    graph: &Graph,
    initiators: Mask,
    processes: BTreeMap<NodeId, P>,
) -> Result<usize, Failed> {
    let remembering = processes.iter().map(|(id, process)| (*id, Remembering(process.clone()))).collect();
    let all = reached(graph, initiators, remembering, |process| format!("{:?}", process.0));
    let fewer = reached(graph, initiators, processes, |process| format!("{process:?}"));
    if all == fewer {
        return Ok(all.len());
    }
    let missed: Vec<_> = all.symmetric_difference(&fewer).take(3).collect();
    Err(format!("{:?}: reached by one of both alone: {missed:?}", graph.arcs().collect::<Vec<_>>()).into())
}

pub(crate) fn check() -> Result<(), Failed> {
    let mut states = 0;
    for graph in [2, 3].into_iter().flat_map(labelled) {
        // All at once on a triangle would be millions.
        for initiators in
            subsets(&graph).into_iter().filter(|set| graph.edge_count() < 3 || set.count_ones() == 1)
        {
            states += compare(&graph, initiators, finns(&graph))?;
        }
        for initiator in graph.ids() {
            states += compare(&graph, 1 << initiator, echoes(&graph))?;
        }
    }
    for graph in labelled(4) {
        states += compare(&graph, 1, echoes(&graph))?;
        if graph.edge_count() == 3 && graph.neighbors(0).len() == 3 {
            states += compare(&graph, 1, finns(&graph))?;
        }
    }
    println!("model: with every message kept for ever, machines come to be in the same {states} states");
    Ok(())
}
