//! What is explored: each algorithm on a graph, and what must become of it there.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use slipring_waves::sim::{Process as _, Told, Uninformed, barriers, echoes, finns};
use slipring_waves::topology::Graph;
use slipring_waves::{Barrier, Finn, Known, NodeId, NodeSet, Released, Token, blocked};

use crate::graphs::symmetries;
use crate::wave::{Mask, Mixer, Names, Subject, Wave, mask, renamed};

impl Subject for Uninformed<Told> {
    fn progress(&self) -> usize {
        match self {
            Self::Yes { .. } => 0,
            // It is in the wave, and hears from one after the other.
            Self::No(echo) => 1 + 100 - echo.awaited().len(),
        }
    }

    /// Each node sends to each neighbor once, which is counted.
    fn allowance(&self) -> Option<usize> {
        None
    }

    /// Whoever is not awaited any longer never will be.
    fn rest_of(&self, from: NodeId, token: &Token<Told>) -> Option<Token<Told>> {
        match self {
            Self::No(echo) if !echo.awaited().contains(&from) => None,
            _ => Some(token.clone()),
        }
    }

    fn write<H: Hasher>(&self, names: &Names, hasher: &mut H) {
        if let Self::No(echo) = self {
            (echo.father().map(|father| names[father as usize]), echo.has_ended()).hash(hasher);
            renamed(echo.awaited().iter().copied(), names).hash(hasher);
            hasher.write_u64(echo.children().iter().fold(0, |sum, (child, told)| {
                let mut hasher = Mixer::default();
                names[*child as usize].hash(&mut hasher);
                write_told(told, names, &mut hasher);
                hasher.finish().wrapping_add(sum)
            }));
        }
    }

    fn write_message<H: Hasher>(token: &Token<Told>, names: &Names, hasher: &mut H) {
        match token {
            Token::Explore => hasher.write_u8(0),
            Token::Report(told) => write_told(told, names, hasher),
        }
    }
}

fn write_told<H: Hasher>(told: &Told, names: &Names, hasher: &mut H) {
    let counted: BTreeSet<_> =
        told.counted.iter().map(|(node, times)| (names[*node as usize], *times)).collect();
    counted.hash(hasher);
}

impl Subject for Finn {
    fn progress(&self) -> usize {
        self.known().inc.len() + self.known().ninc.len() + 100 - self.silent().len()
    }

    /// It tells only when it has learnt something. Each node can learn 2·N things: that makes 2·N·m messages at most.
    fn allowance(&self) -> Option<usize> {
        Some(self.known().inc.len() + self.known().ninc.len())
    }

    /// Knowledge only grows, so that a message says to it, now and later, what it says together with what is known
    /// already; nothing, if that is all, and its sender was heard.
    fn rest_of(&self, from: NodeId, told: &Known) -> Option<Known> {
        let mut rest = told.clone();
        rest.inc.extend_by(&self.known().inc);
        rest.ninc.extend_by(&self.known().ninc);
        let is_old = rest == *self.known() && !self.silent().contains(&from);
        (!is_old).then_some(rest)
    }

    fn write<H: Hasher>(&self, names: &Names, hasher: &mut H) {
        Self::write_message(self.known(), names, hasher);
        (renamed(self.silent().iter().copied(), names), self.has_decided()).hash(hasher);
    }

    fn write_message<H: Hasher>(known: &Known, names: &Names, hasher: &mut H) {
        let set = |nodes: &NodeSet| renamed(nodes.iter(), names);
        (set(&known.inc), set(&known.ninc)).hash(hasher);
    }
}

impl Subject for Barrier {
    fn progress(&self) -> usize {
        usize::from(self.is_released()) + 100 - self.silent().len()
    }

    fn allowance(&self) -> Option<usize> {
        None
    }

    /// Whoever was heard is not waited for again.
    fn rest_of(&self, from: NodeId, released: &Released) -> Option<Released> {
        self.silent().contains(&from).then_some(*released)
    }

    fn write<H: Hasher>(&self, names: &Names, hasher: &mut H) {
        (renamed(self.silent().iter().copied(), names), self.is_released()).hash(hasher);
    }

    fn write_message<H: Hasher>(_released: &Released, _names: &Names, _hasher: &mut H) {}
}

fn everybody(graph: &Graph) -> Mask {
    mask(graph.ids())
}

/// Echo from one initiator, on a connected graph: 2·E messages, not one less or more.
pub(crate) fn echo(graph: Graph, initiator: NodeId) -> Wave<Uninformed<Told>> {
    let messages = 2 * graph.edge_count();
    Wave {
        processes: echoes(&graph),
        initiators: mask([initiator]),
        deciders: mask([initiator]),
        preceding: vec![everybody(&graph); graph.nodes().len()],
        is_right: |wave, _, told| told.counted == wave.graph.ids().map(|id| (id, 1)).collect(),
        messages: Some(messages),
        in_the_end: |_, state| {
            state.nodes().all(|(_, node)| node.process.echo().is_some_and(|echo| echo.has_ended()))
        },
        symmetries: Arc::new(symmetries(&graph, mask([initiator]))),
        graph,
    }
}

/// Finn from any initiators, on any graph: at most 2·N·m messages. Whoever has no ancestor that never hears of the wave
/// decides, knowing its ancestors; on a strongly connected graph that is everybody, knowing everybody.
pub(crate) fn finn(graph: Graph, initiators: Mask) -> Wave<Finn> {
    let begin = graph.ids().filter(|id| initiators >> id & 1 == 1);
    let heard: BTreeSet<_> = begin.flat_map(|id| graph.descendants(id)).collect();
    let able = graph.ids().filter(|id| graph.ancestors(*id).is_subset(&heard));
    Wave {
        processes: finns(&graph),
        initiators,
        deciders: mask(able),
        preceding: graph.ids().map(|id| mask(graph.ancestors(id))).collect(),
        is_right: |wave, node, inc| *inc == wave.graph.ancestors(node),
        messages: None,
        in_the_end: |_, _| true,
        symmetries: Arc::new(symmetries(&graph, initiators)),
        graph,
    }
}

/// The barrier, on any graph: m messages and everybody through where there is no cycle, a cycle reported where there is.
pub(crate) fn barrier(graph: Graph) -> Wave<Barrier> {
    let is_on_a_cycle =
        |id: &NodeId| graph.outs(*id).iter().any(|next| graph.descendants(*next).contains(id));
    let through: BTreeSet<_> =
        graph.ids().filter(|id| !graph.ancestors(*id).iter().any(is_on_a_cycle)).collect();
    let messages = through.iter().map(|id| graph.outs(*id).len()).sum();
    Wave {
        processes: barriers(&graph),
        initiators: everybody(&graph),
        deciders: mask(through),
        preceding: graph.ids().map(|id| mask(graph.ancestors(id))).collect(),
        is_right: |_, _, _| true,
        messages: Some(messages),
        in_the_end: |wave, state| {
            let waiting = state.nodes().filter(|(_, node)| !node.process.is_released());
            let found = blocked(&waiting.map(|(id, node)| (id, node.process.awaited())).collect());
            found.is_some() == (wave.deciders != everybody(&wave.graph))
        },
        symmetries: Arc::new(symmetries(&graph, everybody(&graph))),
        graph,
    }
}
