//! One node in one wave, whichever algorithm it follows: what the simulator and the model checker drive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::topology::Graph;
use crate::{Barrier, Echo, Finn, Gather, Known, NodeId, Released, Step, Token};

/// A state machine of one node in one wave.
///
/// What it does in answer may depend on nothing but what it was told: right is a set of those who were heard, wrong a
/// counter in a `static`.
pub trait Process: Clone + Debug {
    /// What travels.
    type Message: Clone + Debug;
    /// What is decided.
    type Decision: Clone + Debug;

    /// It begins, as an initiator.
    fn begin(&mut self) -> Vec<Step<Self::Message, Self::Decision>>;
    /// A message arrives.
    fn hear(&mut self, from: NodeId, message: Self::Message) -> Vec<Step<Self::Message, Self::Decision>>;
    /// A neighbor is not waited for any longer; nothing, where there is no such thing.
    fn give_up(&mut self, neighbor: NodeId) -> Vec<Step<Self::Message, Self::Decision>>;
    /// Whom it waits for.
    fn awaited(&self) -> BTreeSet<NodeId>;
}

/// A node that has not heard of an Echo wave yet, or is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uninformed<P> {
    /// It has not.
    Yes {
        /// Its neighbors.
        neighbors: BTreeSet<NodeId>,
        /// What it has to tell.
        own: P,
    },
    /// It is in it.
    No(Echo<P>),
}

impl<P: Gather + Clone + Debug> Uninformed<P> {
    /// The machine, if it is in the wave.
    pub const fn echo(&self) -> Option<&Echo<P>> {
        match self {
            Self::Yes { .. } => None,
            Self::No(echo) => Some(echo),
        }
    }
}

impl<P: Gather + Clone + Debug> Process for Uninformed<P> {
    type Message = Token<P>;
    type Decision = P;

    fn begin(&mut self) -> Vec<Step<Token<P>, P>> {
        let Self::Yes { neighbors, own } = self else { return Vec::new() };
        let (echo, steps) = Echo::begin(neighbors.iter().copied(), own.clone());
        *self = Self::No(echo);
        steps
    }

    fn hear(&mut self, from: NodeId, token: Token<P>) -> Vec<Step<Token<P>, P>> {
        match self {
            // A report cannot be the first that is heard; if it is, it is of no wave that this node is in.
            Self::Yes { neighbors, own } if matches!(token, Token::Explore) => {
                let (echo, steps) = Echo::join(from, neighbors.iter().copied(), own.clone());
                *self = Self::No(echo);
                steps
            }
            Self::Yes { .. } => Vec::new(),
            Self::No(echo) => echo.hear(from, token),
        }
    }

    fn give_up(&mut self, neighbor: NodeId) -> Vec<Step<Token<P>, P>> {
        match self {
            Self::Yes { .. } => Vec::new(),
            Self::No(echo) => echo.give_up(neighbor),
        }
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        self.echo().map(|echo| echo.awaited().clone()).unwrap_or_default()
    }
}

impl Process for Finn {
    type Message = Known;
    type Decision = BTreeSet<NodeId>;

    fn begin(&mut self) -> Vec<Step<Known, Self::Decision>> {
        Self::begin(self)
    }

    fn hear(&mut self, from: NodeId, told: Known) -> Vec<Step<Known, Self::Decision>> {
        Self::hear(self, from, told)
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<Known, Self::Decision>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        self.silent().clone()
    }
}

impl Process for Barrier {
    type Message = Released;
    type Decision = Released;

    fn begin(&mut self) -> Vec<Step<Released, Released>> {
        Self::begin(self)
    }

    fn hear(&mut self, from: NodeId, _released: Released) -> Vec<Step<Released, Released>> {
        Self::hear(self, from)
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<Released, Released>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        self.silent().clone()
    }
}

/// What a simulated Echo wave gathers: each node, with what it was told by its children and about whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// How many times each node was counted.
    pub counted: BTreeMap<NodeId, u32>,
    /// Which neighbors were given up, and by whom.
    pub missing: BTreeSet<(NodeId, NodeId)>,
}

impl Told {
    /// What one node has to tell.
    pub fn of(node: NodeId) -> Self {
        Self { counted: [(node, 1)].into(), missing: BTreeSet::new() }
    }
}

impl Gather for Told {
    fn gather(mut self, children: Vec<(NodeId, Self)>, missing: &BTreeSet<NodeId>) -> Self {
        let me = self.counted.keys().next().copied();
        self.missing.extend(me.into_iter().flat_map(|me| missing.iter().map(move |other| (me, *other))));
        for (_, child) in children {
            for (node, times) in child.counted {
                *self.counted.entry(node).or_default() += times;
            }
            self.missing.extend(child.missing);
        }
        self
    }
}

/// A process for each node that counts whom it has heard of, along links whichever way they count.
pub fn echoes(graph: &Graph) -> BTreeMap<NodeId, Uninformed<Told>> {
    let uninformed = |id| Uninformed::Yes { neighbors: graph.neighbors(id), own: Told::of(id) };
    graph.ids().map(|id| (id, uninformed(id))).collect()
}

/// A process for each node.
pub fn finns(graph: &Graph) -> BTreeMap<NodeId, Finn> {
    graph.ids().map(|id| (id, Finn::new(id, graph.ins(id), graph.outs(id)))).collect()
}

/// A process for each node.
pub fn barriers(graph: &Graph) -> BTreeMap<NodeId, Barrier> {
    graph.ids().map(|id| (id, Barrier::new(graph.ins(id), graph.outs(id)))).collect()
}
