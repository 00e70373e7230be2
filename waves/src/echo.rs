//! Echo: one initiator learns something of everybody, with two messages on each edge.
//!
//! The first who tells a node of the wave is its father. It tells all its other neighbors, and when it has heard from each of
//! them, it tells its father. The initiator decides when it has heard from all. On an edge that is no father's edge both ends
//! tell each other of the wave, which is two messages as well: 2·E, always.
//!
//! Only a father is told what was gathered, so each node counts once, however many ways lead to it.
//!
//! Not in the paper: a neighbor can be given up ([`Echo::give_up`]). The wave then ends without it, and says so.

use std::collections::BTreeSet;
use std::mem;

use crate::{NodeId, Step};

/// What a wave gathers. Whatever the order in which the children were heard, they are folded in the order of their numbers.
pub trait Gather: Sized {
    /// What a node tells its father: of itself, of its children, and of neighbors that were given up.
    #[must_use]
    fn gather(self, children: Vec<(NodeId, Self)>, missing: &BTreeSet<NodeId>) -> Self;
}

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token<P> {
    /// To every neighbor but the father: there is a wave.
    Explore,
    /// To the father: what this node and those behind it have told.
    Report(P),
}

/// One node in one wave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Echo<P> {
    father: Option<NodeId>,
    awaited: BTreeSet<NodeId>,
    missing: BTreeSet<NodeId>,
    own: Option<P>,
    children: Vec<(NodeId, P)>,
}

/// What a node does.
type Steps<P> = Vec<Step<Token<P>, P>>;

impl<P: Gather> Echo<P> {
    /// The node begins the wave. `own` is what it has to tell.
    pub fn begin(neighbors: impl IntoIterator<Item = NodeId>, own: P) -> (Self, Steps<P>) {
        Self::start(None, neighbors.into_iter().collect(), own)
    }

    /// The node is told of the wave for the first time. Who tells is its father, a neighbor or not.
    pub fn join(father: NodeId, neighbors: impl IntoIterator<Item = NodeId>, own: P) -> (Self, Steps<P>) {
        let mut others: BTreeSet<_> = neighbors.into_iter().collect();
        others.remove(&father);
        Self::start(Some(father), others, own)
    }

    fn start(father: Option<NodeId>, awaited: BTreeSet<NodeId>, own: P) -> (Self, Steps<P>) {
        let mut steps: Vec<_> =
            awaited.iter().map(|neighbor| Step::Send(*neighbor, Token::Explore)).collect();
        let mut echo =
            Self { father, awaited, missing: BTreeSet::new(), own: Some(own), children: Vec::new() };
        steps.extend(echo.end());
        (echo, steps)
    }

    /// A message from a neighbor. One from somebody else, a second one from the same, and one after the end change nothing.
    pub fn hear(&mut self, from: NodeId, token: Token<P>) -> Steps<P> {
        if !self.awaited.remove(&from) {
            return Vec::new();
        }
        if let Token::Report(told) = token {
            self.children.push((from, told));
        }
        self.end()
    }

    /// A neighbor is not waited for any longer: what it would have told is missing.
    pub fn give_up(&mut self, neighbor: NodeId) -> Steps<P> {
        if !self.awaited.remove(&neighbor) {
            return Vec::new();
        }
        self.missing.insert(neighbor);
        self.end()
    }

    fn end(&mut self) -> Steps<P> {
        if !self.awaited.is_empty() {
            return Vec::new();
        }
        let Some(own) = self.own.take() else { return Vec::new() };
        self.children.sort_unstable_by_key(|(child, _)| *child);
        let gathered = own.gather(mem::take(&mut self.children), &self.missing);
        vec![match self.father {
            Some(father) => Step::Send(father, Token::Report(gathered)),
            None => Step::Decide(gathered),
        }]
    }

    /// Who told of the wave first; none is the initiator's.
    pub const fn father(&self) -> Option<NodeId> {
        self.father
    }

    /// Who has not been heard yet.
    pub const fn awaited(&self) -> &BTreeSet<NodeId> {
        &self.awaited
    }

    /// Which children have told what, until it is gathered.
    pub fn children(&self) -> &[(NodeId, P)] {
        &self.children
    }

    /// Who was given up.
    pub const fn missing(&self) -> &BTreeSet<NodeId> {
        &self.missing
    }

    /// Whether the node has told its father, or decided.
    pub const fn has_ended(&self) -> bool {
        self.own.is_none()
    }
}
