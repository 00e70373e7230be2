//! Finn: everybody decides, on any strongly connected directed graph, with any initiators.
//!
//! A node knows two sets: `inc`, those whose event precedes its own, and `ninc`, those all of whose in-neighbors' do. When all
//! its in-neighbors were heard, it belongs to the second itself. Whoever learns something tells it to its out-neighbors; when
//! both sets are equal, it decides: nobody is left of whom something is still to come.
//!
//! Each of the 2·N elements makes a node tell at most once, so a wave takes at most 2·N·m messages on m arcs; duplicates and
//! disorder change nothing, because joining sets does not mind. Where the graph is not strongly connected it is no wave: a
//! node decides when it knows exactly its ancestors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{NodeId, NodeSet, Step};

/// What travels, and what a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Known {
    /// Of whom it has heard.
    pub inc: NodeSet,
    /// Of whom it has heard that they have heard from all their in-neighbors.
    pub ninc: NodeSet,
}

/// One node in one wave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finn {
    me: NodeId,
    ins: BTreeSet<NodeId>,
    silent: BTreeSet<NodeId>,
    outs: BTreeSet<NodeId>,
    known: Known,
    has_begun: bool,
    has_decided: bool,
}

/// What a node does. It decides on whom it knows.
type Steps = Vec<Step<Known, BTreeSet<NodeId>>>;

impl Finn {
    /// A node that has not heard of the wave yet.
    pub fn new(
        me: NodeId,
        ins: impl IntoIterator<Item = NodeId>,
        outs: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let ins: BTreeSet<_> = ins.into_iter().collect();
        Self {
            me,
            silent: ins.clone(),
            ins,
            outs: outs.into_iter().collect(),
            known: Known::default(),
            has_begun: false,
            has_decided: false,
        }
    }

    /// The node begins, as one of the initiators. In a wave that it is in already this changes nothing.
    pub fn begin(&mut self) -> Steps {
        if self.has_begun { Vec::new() } else { self.learn(&Known::default()) }
    }

    /// A message from an in-neighbor; one from anybody else changes nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a message that has arrived is the node's")]
    pub fn hear(&mut self, from: NodeId, told: Known) -> Steps {
        if !self.ins.contains(&from) {
            return Vec::new();
        }
        self.silent.remove(&from);
        self.learn(&told)
    }

    fn learn(&mut self, told: &Known) -> Steps {
        let mut grew = self.known.inc.extend_by(&told.inc);
        grew |= self.known.ninc.extend_by(&told.ninc);
        grew |= self.known.inc.insert(self.me);
        if self.silent.is_empty() {
            grew |= self.known.ninc.insert(self.me);
        }
        self.has_begun = true;
        let mut steps = Steps::new();
        if grew {
            steps.extend(self.outs.iter().map(|out| Step::Send(*out, self.known.clone())));
        }
        if !self.has_decided && self.known.inc == self.known.ninc {
            self.has_decided = true;
            steps.push(Step::Decide(self.known.inc.iter().collect()));
        }
        steps
    }

    /// What it knows.
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// Which in-neighbors were not heard yet.
    pub const fn silent(&self) -> &BTreeSet<NodeId> {
        &self.silent
    }

    /// Whether it has decided.
    pub const fn has_decided(&self) -> bool {
        self.has_decided
    }
}
