//! A wave as stateright explores it: the crate's own machines, and a network that delivers in every order, and repeats.
//!
//! Every message that was sent lies at its receiver and can arrive at any time, any number of times, before and after any
//! other: that is every order and every repetition that there is. Where nothing that lies anywhere changes anything any
//! more, the wave is over. (A message that never arrives is no part of this: live, a link repeats or breaks, and a broken
//! one is given up, of which the properties are proof.)
//!
//! Two things keep the states few, without leaving one of them out that matters:
//! - A message that means nothing to its receiver any longer is thrown away, because receivers never forget
//!   ([`Subject::rest_of`]). That a repetition means nothing is not believed: each message is delivered twice in a row,
//!   and the machine itself must say so.
//! - States that differ only in what nodes are called, where the graph looks the same from each, count as one.
//!
//! With each node goes what no machine knows: how much it has sent, and who had an event before its last one.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use slipring_waves::random::SplitMix64;
use slipring_waves::sim::Process;
use slipring_waves::topology::Graph;
use slipring_waves::{NodeId, Step};
use stateright::{Model, Property};

/// Nodes as bits.
pub(crate) type Mask = u8;

pub(crate) fn mask(nodes: impl IntoIterator<Item = NodeId>) -> Mask {
    nodes.into_iter().fold(0, |mask, node| mask | 1 << node)
}

/// Other names for all nodes: who is called 0 is now called as the first says.
pub(crate) type Names = Vec<NodeId>;

/// A machine that can be explored.
pub(crate) trait Subject:
    Process<Message: Hash + Eq + Send + Sync, Decision: Debug> + Eq + Send + Sync + 'static
{
    /// How far it has come; every event that changes anything must lead farther, and there must be an end.
    fn progress(&self) -> usize;

    /// How many messages it may have sent on each way out by now, at most, if what it knows says that.
    fn allowance(&self) -> Option<usize>;

    /// What a message still has to say: none, if it never will change anything again. A message may stand for all that
    /// say the same to whoever knows what this machine knows now.
    fn rest_of(&self, from: NodeId, message: &Self::Message) -> Option<Self::Message>;

    /// Everything about it, under other names.
    fn write<H: Hasher>(&self, names: &Names, hasher: &mut H);

    /// Everything about a message, under other names.
    fn write_message<H: Hasher>(message: &Self::Message, names: &Names, hasher: &mut H);
}

/// A hasher for a few small numbers: two multiplications each, and nobody who would send colliding ones.
#[derive(Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = SplitMix64::new(self.0.rotate_left(5) ^ number).number();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A set under other names.
pub(crate) fn renamed(nodes: impl IntoIterator<Item = NodeId>, names: &Names) -> Mask {
    mask(nodes.into_iter().map(|node| names[node as usize]))
}

/// A wave, and what must become of it. Nodes are numbered from 0.
#[derive(Clone, Debug)]
pub(crate) struct Wave<P: Subject> {
    /// On which graph.
    pub(crate) graph: Graph,
    /// Before anything has happened.
    pub(crate) processes: BTreeMap<NodeId, P>,
    /// Who begins, each at any time.
    pub(crate) initiators: Mask,
    /// Who decides in the end; nobody else ever does.
    pub(crate) deciders: Mask,
    /// Of each node, whose events must precede its decision.
    pub(crate) preceding: Vec<Mask>,
    /// Whether a decision is the right one.
    pub(crate) is_right: fn(&Self, NodeId, &P::Decision) -> bool,
    /// How many messages there are in the end, where that is known exactly.
    pub(crate) messages: Option<usize>,
    /// What else must hold when nothing is under way any more.
    pub(crate) in_the_end: fn(&Self, &State<P>) -> bool,
    /// The names under which everything looks the same.
    pub(crate) symmetries: Arc<Vec<Names>>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node<P: Subject> {
    pub(crate) process: P,
    /// What can arrive.
    inbox: Vec<Letter<P::Message>>,
    past: Mask,
    /// Counted only where the number of messages is known exactly.
    sent: u8,
    decisions: u8,
    faults: Faults,
}

/// What must never have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Faults {
    has_stood_still: bool,
    has_overspent: bool,
    has_minded_a_repetition: bool,
    has_erred: bool,
    has_decided_too_early: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Letter<M> {
    from: NodeId,
    message: M,
    past: Mask,
}

/// All nodes; those that nothing happened to are shared by the states before and after.
#[derive(Clone, Debug)]
pub(crate) struct State<P: Subject> {
    nodes: Vec<Arc<Node<P>>>,
    symmetries: Arc<Vec<Names>>,
}

impl<P: Subject> State<P> {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node<P>)> + '_ {
        (0..).zip(&self.nodes).map(|(id, node)| (id, &**node))
    }

    pub(crate) fn sent(&self) -> usize {
        self.nodes().map(|(_, node)| usize::from(node.sent)).sum()
    }

    pub(crate) fn decided(&self) -> Mask {
        mask(self.nodes().filter(|(_, node)| node.decisions > 0).map(|(id, _)| id))
    }

    fn has_none(&self, fault: fn(&Faults) -> bool) -> bool {
        self.nodes().all(|(_, node)| !fault(&node.faults))
    }

    fn hash_under(&self, names: &Names) -> u64 {
        let nodes = self.nodes().map(|(id, node)| {
            let mut hasher = Mixer::default();
            hasher.write_u32(names[id as usize]);
            node.process.write(names, &mut hasher);
            (renamed(bits(node.past), names), node.sent, node.decisions, node.faults).hash(&mut hasher);
            // In whatever order they were sent: the sum does not mind.
            let letters = node.inbox.iter().map(|letter| {
                let mut hasher = Mixer::default();
                hasher.write_u32(names[letter.from as usize]);
                hasher.write_u8(renamed(bits(letter.past), names));
                P::write_message(&letter.message, names, &mut hasher);
                hasher.finish()
            });
            hasher.write_u64(letters.fold(0, u64::wrapping_add));
            hasher.finish()
        });
        nodes.fold(0, u64::wrapping_add)
    }
}

pub(crate) fn bits(mask: Mask) -> impl Iterator<Item = NodeId> {
    (0..Mask::BITS).filter(move |bit| mask >> bit & 1 == 1)
}

impl<P: Subject> PartialEq for State<P> {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

impl<P: Subject> Eq for State<P> {}

impl<P: Subject> Hash for State<P> {
    /// The same for all states that differ in names alone.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let hashes = self.symmetries.iter().map(|names| self.hash_under(names));
        state.write_u64(hashes.min().unwrap_or_default());
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An initiator begins.
    Begin(NodeId),
    /// Something that lies at a node arrives.
    Arrive { at: NodeId, letter: usize },
}

impl<P: Subject> Wave<P> {
    /// What becomes of it; nothing, if it changes nothing.
    fn after(&self, state: &State<P>, event: &Event) -> Option<State<P>> {
        let (at, letter) = match *event {
            Event::Begin(node) => (node, None),
            Event::Arrive { at, letter } => (at, Some(&state.nodes[at as usize].inbox[letter])),
        };
        let before = &*state.nodes[at as usize];
        let mut node = before.clone();
        let steps = match letter {
            None => node.process.begin(),
            Some(letter) => node.process.hear(letter.from, letter.message.clone()),
        };
        if steps.is_empty() && node.process == before.process {
            return None;
        }
        node.past |= letter.map_or(0, |letter| letter.past) | 1 << at;
        node.faults.has_stood_still |= node.process.progress() <= before.process.progress();
        if let Some(letter) = letter {
            let mut again = node.process.clone();
            let steps = again.hear(letter.from, letter.message.clone());
            node.faults.has_minded_a_repetition |= !steps.is_empty() || again != node.process;
        }
        let past = node.past;
        let mut letters = Vec::new();
        for step in steps {
            match step {
                Step::Send(to, message) => letters.push((to, Letter { from: at, message, past })),
                Step::Decide(decision) => {
                    let preceding = self.preceding[at as usize];
                    node.decisions = node.decisions.saturating_add(1);
                    node.faults.has_decided_too_early |= past & preceding != preceding;
                    node.faults.has_erred |= !(self.is_right)(self, at, &decision);
                }
            }
        }
        match (before.process.allowance(), node.process.allowance()) {
            (Some(before), Some(now)) => {
                node.faults.has_overspent |= letters.len() > (now - before) * self.graph.outs(at).len();
            }
            _ => node.sent = node.sent.saturating_add(letters.len() as u8),
        }
        let rest = node.inbox.iter().filter_map(|letter| rest_of(&node.process, past, letter));
        node.inbox = without_twins(rest);

        let mut next = state.clone();
        next.nodes[at as usize] = Arc::new(node);
        for (to, letter) in letters {
            let receiver = &next.nodes[to as usize];
            let Some(letter) = rest_of(&receiver.process, receiver.past, &letter) else { continue };
            if !receiver.inbox.contains(&letter) {
                Arc::make_mut(&mut next.nodes[to as usize]).inbox.push(letter);
            }
        }
        Some(next)
    }

    fn events(&self, state: &State<P>, events: &mut Vec<Event>) {
        for (at, node) in state.nodes() {
            events.extend((0..node.inbox.len()).map(|letter| Event::Arrive { at, letter }));
        }
        events.extend(bits(self.initiators).map(Event::Begin));
    }

    fn is_over_well(&self, state: &State<P>) -> bool {
        let is_counted = self.messages.is_none_or(|messages| state.sent() == messages);
        state.decided() == self.deciders && is_counted && (self.in_the_end)(self, state)
    }
}

/// A letter as far as it still has something to say to somebody with this past.
fn rest_of<P: Subject>(process: &P, past: Mask, letter: &Letter<P::Message>) -> Option<Letter<P::Message>> {
    let message = process.rest_of(letter.from, &letter.message)?;
    // Where what is left of a message was joined with what its receiver knows, so is what preceded it.
    let past = if message == letter.message { letter.past } else { letter.past | past };
    Some(Letter { message, past, from: letter.from })
}

fn without_twins<M: Eq>(letters: impl Iterator<Item = Letter<M>>) -> Vec<Letter<M>> {
    let mut kept: Vec<Letter<M>> = Vec::new();
    for letter in letters {
        if !kept.contains(&letter) {
            kept.push(letter);
        }
    }
    kept
}

impl<P: Subject> Model for Wave<P> {
    type State = State<P>;
    type Action = Event;

    fn init_states(&self) -> Vec<State<P>> {
        let node = |process: &P| Node {
            process: process.clone(),
            inbox: Vec::new(),
            past: 0,
            sent: 0,
            decisions: 0,
            faults: Faults::default(),
        };
        let nodes = self.processes.values().map(|process| Arc::new(node(process))).collect();
        vec![State { nodes, symmetries: Arc::clone(&self.symmetries) }]
    }

    fn actions(&self, state: &State<P>, actions: &mut Vec<Event>) {
        self.events(state, actions);
    }

    fn next_state(&self, state: &State<P>, action: Event) -> Option<State<P>> {
        self.after(state, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each event leads on, so that there is an end", |_: &Self, state: &State<P>| {
                state.has_none(|faults| faults.has_stood_still)
            }),
            Property::always("a repetition changes nothing", |_: &Self, state: &State<P>| {
                state.has_none(|faults| faults.has_minded_a_repetition)
            }),
            Property::always(
                "nobody decides twice, and nobody who must not",
                |wave: &Self, state: &State<P>| {
                    state.nodes().all(|(_, node)| node.decisions <= 1)
                        && state.decided() & !wave.deciders == 0
                },
            ),
            Property::always(
                "a decision is preceded by an event everywhere",
                |_: &Self, state: &State<P>| state.has_none(|faults| faults.has_decided_too_early),
            ),
            Property::always("a decision is the right one", |_: &Self, state: &State<P>| {
                state.has_none(|faults| faults.has_erred)
            }),
            Property::always(
                "there are no more messages than there may be",
                |wave: &Self, state: &State<P>| {
                    state.has_none(|faults| faults.has_overspent)
                        && wave.messages.is_none_or(|messages| state.sent() <= messages)
                },
            ),
            Property::always("when nothing is under way, all is decided", |wave: &Self, state: &State<P>| {
                let mut events = Vec::new();
                wave.is_over_well(state) || {
                    wave.events(state, &mut events);
                    events.iter().any(|event| wave.after(state, event).is_some())
                }
            }),
        ]
    }
}
