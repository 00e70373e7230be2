//! Waves run in one process, on any graph: the same state machines as live, and a seed in place of the network.
//!
//! The network keeps messages as long as it likes, delivers them in any order, and some of them twice; nodes die. All of it
//! is chosen by the seed, so that a run can be repeated. Nothing is lost but by death: whatever is between two that live
//! carries on (live that is a connection, or a repetition).
//!
//! A node that has died is given up by those who wait for it when nothing else is under way, which is when a deadline
//! would have passed.

mod process;

pub use process::{Process, Told, Uninformed, barriers, echoes, finns};

use std::collections::{BTreeMap, BTreeSet};

use crate::random::SplitMix64;
use crate::{NodeId, NodeSet, Step};

/// In which order messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In any, by the seed.
    Any,
    /// Each takes one unit of time, however long its way: what is sent in one round arrives in the next, in any order
    /// among themselves.
    Rounds,
}

/// What the network does to a wave.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Of all that is chosen.
    pub seed: u64,
    /// Of the messages.
    pub order: Order,
    /// How many of a hundred messages arrive once more, again and again; at most 99.
    pub repeated: usize,
    /// Who dies, and after how many messages that it was told: after 0 it was never alive.
    pub dying: BTreeMap<NodeId, usize>,
    /// How many times in a hundred, after a message has arrived, somebody gives up a neighbor that may well be alive.
    pub hasty: usize,
    /// Whether to keep account of which events precede which. It costs a set with every message.
    pub is_causal: bool,
}

impl Conditions {
    /// A network that delivers everything once, in any order.
    pub const fn new(seed: u64) -> Self {
        Self { seed, order: Order::Any, repeated: 0, dying: BTreeMap::new(), hasty: 0, is_causal: false }
    }
}

/// Somebody has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<D> {
    /// Who.
    pub node: NodeId,
    /// What.
    pub decision: D,
    /// In which round.
    pub round: u32,
    /// Who had an event that precedes the decision, if account was kept.
    pub preceded_by: NodeSet,
}

/// What became of a wave when nothing was under way any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<D> {
    /// How many messages were sent. A message that arrives twice was sent once.
    pub sent: u64,
    /// How many times a message arrived at somebody who lived.
    pub arrived: u64,
    /// How many rounds there were ([`Order::Rounds`]).
    pub rounds: u32,
    /// All decisions in the order in which they were made.
    pub decided: Vec<Decided<D>>,
    /// Who gave up whom.
    pub given_up: BTreeSet<(NodeId, NodeId)>,
}

/// Processes, and what is under way between them.
#[derive(Clone, Debug)]
pub struct Network<P: Process> {
    processes: BTreeMap<NodeId, P>,
    conditions: Conditions,
    random: SplitMix64,
    under_way: Vec<Letter<P::Message>>,
    /// For the next round.
    later: Vec<Letter<P::Message>>,
    /// How many more messages a node that dies takes.
    left: BTreeMap<NodeId, usize>,
    pasts: BTreeMap<NodeId, NodeSet>,
    outcome: Outcome<P::Decision>,
}

#[derive(Clone, Debug)]
struct Letter<M> {
    from: NodeId,
    to: NodeId,
    message: M,
    past: NodeSet,
}

impl<P: Process> Network<P> {
    /// Processes that have not begun.
    pub fn new(processes: BTreeMap<NodeId, P>, conditions: Conditions) -> Self {
        let outcome =
            Outcome { sent: 0, arrived: 0, rounds: 0, decided: Vec::new(), given_up: BTreeSet::new() };
        Self {
            processes,
            random: SplitMix64::new(conditions.seed),
            left: conditions.dying.clone(),
            conditions,
            under_way: Vec::new(),
            later: Vec::new(),
            pasts: BTreeMap::new(),
            outcome,
        }
    }

    /// Lets them begin and runs until nothing is under way.
    pub fn run(
        mut self,
        initiators: impl IntoIterator<Item = NodeId>,
    ) -> (Outcome<P::Decision>, BTreeMap<NodeId, P>) {
        for initiator in initiators {
            self.at(initiator, None, Process::begin);
        }
        loop {
            while self.deliver() {}
            if !self.give_up() {
                return (self.outcome, self.processes);
            }
        }
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.left.get(&node) == Some(&0)
    }

    /// Something happens at a node, if it lives.
    fn at<F>(&mut self, node: NodeId, past: Option<&NodeSet>, event: F)
    where
        F: FnOnce(&mut P) -> Vec<Step<P::Message, P::Decision>>,
    {
        if self.is_dead(node) {
            return;
        }
        let Some(process) = self.processes.get_mut(&node) else { return };
        let steps = event(process);
        let mut here = NodeSet::default();
        if self.conditions.is_causal {
            let known = self.pasts.entry(node).or_default();
            known.insert(node);
            known.extend_by(past.unwrap_or(&NodeSet::default()));
            here = known.clone();
        }
        for step in steps {
            match step {
                Step::Send(to, message) => {
                    self.outcome.sent += 1;
                    let letter = Letter { from: node, to, message, past: here.clone() };
                    match self.conditions.order {
                        Order::Any => self.under_way.push(letter),
                        Order::Rounds => self.later.push(letter),
                    }
                }
                Step::Decide(decision) => self.outcome.decided.push(Decided {
                    node,
                    decision,
                    round: self.outcome.rounds,
                    preceded_by: here.clone(),
                }),
            }
        }
    }

    /// Delivers a message; false if none is under way.
    fn deliver(&mut self) -> bool {
        if self.under_way.is_empty() {
            if self.later.is_empty() {
                return false;
            }
            self.under_way.append(&mut self.later);
            self.outcome.rounds += 1;
        }
        let chosen = self.random.below(self.under_way.len());
        let letter = self.under_way.swap_remove(chosen);
        if self.conditions.repeated > 0 && self.random.happens(self.conditions.repeated.min(99)) {
            self.under_way.push(letter.clone());
        }
        let Letter { from, to, message, past } = letter;
        if !self.is_dead(to) {
            self.outcome.arrived += 1;
            self.at(to, Some(&past), |process| process.hear(from, message));
        }
        if let Some(left) = self.left.get_mut(&to) {
            *left = left.saturating_sub(1);
        }
        if self.conditions.hasty > 0 && self.random.happens(self.conditions.hasty) {
            self.give_up_any();
        }
        true
    }

    /// Somebody's deadline passes, though what it waits for is only slow.
    fn give_up_any(&mut self) {
        let alive = self.processes.iter().filter(|(node, _)| !self.is_dead(**node));
        let waiting: Vec<_> = alive
            .flat_map(|(node, process)| process.awaited().into_iter().map(|other| (*node, other)))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let (node, other) = waiting[self.random.below(waiting.len())];
        self.outcome.given_up.insert((node, other));
        self.at(node, None, |process| process.give_up(other));
    }

    /// Whoever waits for somebody who is dead gives it up; false if nobody does.
    fn give_up(&mut self) -> bool {
        let mut waiting = Vec::new();
        for (node, process) in self.processes.iter().filter(|(node, _)| !self.is_dead(**node)) {
            let dead = process.awaited().into_iter().filter(|awaited| self.is_dead(*awaited));
            waiting.extend(dead.map(|dead| (*node, dead)));
        }
        for (node, dead) in &waiting {
            self.outcome.given_up.insert((*node, *dead));
            self.at(*node, None, |process| process.give_up(*dead));
        }
        // Who cannot give up waits for ever.
        waiting.retain(|(node, dead)| !self.processes[node].awaited().contains(dead));
        !waiting.is_empty()
    }
}
