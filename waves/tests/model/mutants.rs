//! Bugs that were made before, put back: the exploration must find each of them, or it finds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use libtest_mimic::Failed;
use slipring_waves::sim::Process;
use slipring_waves::topology::Graph;
use slipring_waves::{NodeId, NodeSet, Step};
use stateright::HasDiscoveries;

use crate::explore::{Budget, explore_until};
use crate::wave::{Mask, Names, Subject, Wave, mask};

/// Echo, and what can be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum EchoBug {
    /// The original's: it counts what it hears, instead of keeping whom it has heard.
    Counts,
    /// It tells its father as soon as its first neighbor has answered.
    ReportsEarly,
    /// It waits for its father, too.
    WaitsForItsFather,
    /// It adds up what every neighbor says, and not only its children.
    CountsAll,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BadEcho {
    bug: EchoBug,
    me: NodeId,
    neighbors: BTreeSet<NodeId>,
    is_in: bool,
    father: Option<NodeId>,
    heard: Vec<NodeId>,
    counted: BTreeMap<NodeId, u32>,
    has_ended: bool,
}

/// Who is counted by now, whether the teller is the child of whom it tells or not.
type Counted = BTreeMap<NodeId, u32>;

impl BadEcho {
    fn explore(&mut self) -> Vec<Step<Counted, Counted>> {
        self.is_in = true;
        let others = self.neighbors.iter().filter(|neighbor| Some(**neighbor) != self.father);
        let told = if self.bug == EchoBug::CountsAll { self.counted.clone() } else { Counted::new() };
        others.map(|neighbor| Step::Send(*neighbor, told.clone())).collect()
    }

    fn end(&mut self) -> Vec<Step<Counted, Counted>> {
        let waits_for_father = self.bug == EchoBug::WaitsForItsFather;
        let needed = self.neighbors.len() - usize::from(self.father.is_some() && !waits_for_father);
        let needed = if self.bug == EchoBug::ReportsEarly { needed.min(1) } else { needed };
        if self.has_ended || self.heard.len() < needed {
            return Vec::new();
        }
        self.has_ended = true;
        let counted = self.counted.clone();
        vec![match self.father {
            Some(father) => Step::Send(father, counted),
            None => Step::Decide(counted),
        }]
    }
}

impl Process for BadEcho {
    type Message = Counted;
    type Decision = Counted;

    fn begin(&mut self) -> Vec<Step<Counted, Counted>> {
        if self.is_in { Vec::new() } else { self.explore() }
    }

    fn hear(&mut self, from: NodeId, told: Counted) -> Vec<Step<Counted, Counted>> {
        if self.has_ended {
            return Vec::new();
        }
        let mut steps = Vec::new();
        if !self.is_in {
            self.father = Some(from);
            steps = self.explore();
        } else if self.bug == EchoBug::Counts || (!self.heard.contains(&from) && self.father != Some(from)) {
            self.heard.push(from);
            for (node, times) in told {
                *self.counted.entry(node).or_default() += times;
            }
        }
        steps.extend(self.end());
        steps
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<Counted, Counted>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}

/// Finn, and what can be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FinnBug {
    /// It knows no second set: whoever has heard from all its in-neighbors decides.
    WithoutNInc,
    /// It decides whenever both sets are equal.
    DecidesAgain,
    /// It tells after each message, whether it has learnt anything or not.
    TellsAlways,
    /// It tells everybody once and no more.
    TellsOnce,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BadFinn {
    bug: FinnBug,
    me: NodeId,
    ins: BTreeSet<NodeId>,
    outs: BTreeSet<NodeId>,
    silent: BTreeSet<NodeId>,
    inc: NodeSet,
    ninc: NodeSet,
    told: u8,
    has_decided: bool,
}

impl BadFinn {
    fn learn(&mut self, inc: &NodeSet, ninc: &NodeSet) -> Vec<Step<(NodeSet, NodeSet), BTreeSet<NodeId>>> {
        let mut grew = self.inc.extend_by(inc);
        grew |= self.ninc.extend_by(ninc);
        grew |= self.inc.insert(self.me);
        if self.silent.is_empty() {
            grew |= self.ninc.insert(self.me);
        }
        let tells = match self.bug {
            FinnBug::TellsAlways => true,
            FinnBug::TellsOnce => self.told == 0,
            _ => grew,
        };
        let mut steps = Vec::new();
        if tells {
            self.told = self.told.saturating_add(1);
            steps.extend(self.outs.iter().map(|out| Step::Send(*out, (self.inc.clone(), self.ninc.clone()))));
        }
        let is_time = match self.bug {
            FinnBug::WithoutNInc => self.silent.is_empty(),
            _ => self.inc == self.ninc,
        };
        if is_time && (!self.has_decided || self.bug == FinnBug::DecidesAgain) {
            self.has_decided = true;
            steps.push(Step::Decide(self.inc.iter().collect()));
        }
        steps
    }
}

impl Process for BadFinn {
    type Message = (NodeSet, NodeSet);
    type Decision = BTreeSet<NodeId>;

    fn begin(&mut self) -> Vec<Step<Self::Message, Self::Decision>> {
        if self.inc.is_empty() { self.learn(&NodeSet::default(), &NodeSet::default()) } else { Vec::new() }
    }

    fn hear(&mut self, from: NodeId, (inc, ninc): Self::Message) -> Vec<Step<Self::Message, Self::Decision>> {
        self.silent.remove(&from);
        self.learn(&inc, &ninc)
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<Self::Message, Self::Decision>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}

/// A barrier that counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BadBarrier {
    awaited: usize,
    outs: BTreeSet<NodeId>,
    is_released: bool,
}

impl Process for BadBarrier {
    type Message = ();
    type Decision = ();

    fn begin(&mut self) -> Vec<Step<(), ()>> {
        if self.is_released || self.awaited > 0 {
            return Vec::new();
        }
        self.is_released = true;
        self.outs.iter().map(|out| Step::Send(*out, ())).chain([Step::Decide(())]).collect()
    }

    fn hear(&mut self, _from: NodeId, (): ()) -> Vec<Step<(), ()>> {
        self.awaited = self.awaited.saturating_sub(1);
        self.begin()
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<(), ()>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}

/// Nothing that its messages say is thrown away, and names are what they are.
macro_rules! subject {
    ($subject:ty, $progress:expr, $allowance:expr) => {
        impl Subject for $subject {
            fn progress(&self) -> usize {
                $progress(self)
            }

            fn allowance(&self) -> Option<usize> {
                $allowance(self)
            }

            fn rest_of(&self, _from: NodeId, message: &Self::Message) -> Option<Self::Message> {
                Some(message.clone())
            }

            fn write<H: Hasher>(&self, _names: &Names, hasher: &mut H) {
                self.hash(hasher);
            }

            fn write_message<H: Hasher>(message: &Self::Message, _names: &Names, hasher: &mut H) {
                message.hash(hasher);
            }
        }
    };
}
subject!(
    BadEcho,
    |echo: &BadEcho| usize::from(echo.is_in) + echo.heard.len() + usize::from(echo.has_ended),
    |_| None
);
subject!(
    BadFinn,
    |finn: &BadFinn| finn.inc.len() + finn.ninc.len() + 100 - finn.silent.len(),
    |finn: &BadFinn| Some(finn.inc.len() + finn.ninc.len())
);
subject!(BadBarrier, |bad: &BadBarrier| 100 - bad.awaited + usize::from(bad.is_released), |_| None);

fn everybody(graph: &Graph) -> Mask {
    mask(graph.ids())
}

fn names(graph: &Graph) -> Arc<Vec<Names>> {
    Arc::new(vec![graph.ids().collect()])
}

fn echo(bug: EchoBug, graph: &Graph) -> Wave<BadEcho> {
    let bad = |me| BadEcho {
        bug,
        me,
        neighbors: graph.neighbors(me),
        is_in: false,
        father: None,
        heard: Vec::new(),
        counted: [(me, 1)].into(),
        has_ended: false,
    };
    Wave {
        processes: graph.ids().map(|id| (id, bad(id))).collect(),
        initiators: 1,
        deciders: 1,
        preceding: vec![everybody(graph); graph.nodes().len()],
        is_right: |wave, _, counted| *counted == wave.graph.ids().map(|id| (id, 1)).collect(),
        messages: Some(2 * graph.edge_count()),
        in_the_end: |_, _| true,
        symmetries: names(graph),
        graph: graph.clone(),
    }
}

fn finn(bug: FinnBug, graph: &Graph) -> Wave<BadFinn> {
    let bad = |me| BadFinn {
        bug,
        me,
        ins: graph.ins(me),
        silent: graph.ins(me),
        outs: graph.outs(me),
        inc: NodeSet::default(),
        ninc: NodeSet::default(),
        told: 0,
        has_decided: false,
    };
    Wave {
        processes: graph.ids().map(|id| (id, bad(id))).collect(),
        initiators: 1,
        deciders: everybody(graph),
        preceding: vec![everybody(graph); graph.nodes().len()],
        is_right: |wave, _, inc| *inc == wave.graph.ids().collect(),
        messages: None,
        in_the_end: |_, _| true,
        symmetries: names(graph),
        graph: graph.clone(),
    }
}

fn barrier(graph: &Graph) -> Wave<BadBarrier> {
    let bad = |id| BadBarrier { awaited: graph.ins(id).len(), outs: graph.outs(id), is_released: false };
    Wave {
        processes: graph.ids().map(|id| (id, bad(id))).collect(),
        initiators: everybody(graph),
        deciders: everybody(graph),
        preceding: graph.ids().map(|id| mask(graph.ancestors(id))).collect(),
        is_right: |_, _, ()| true,
        messages: Some(graph.arc_count()),
        in_the_end: |_, _| true,
        symmetries: names(graph),
        graph: graph.clone(),
    }
}

fn found<P: Subject>(bug: &dyn Debug, wave: &Wave<P>, property: &'static str) -> Result<(), Failed> {
    let explored = explore_until(wave, Budget(2_000_000), HasDiscoveries::AllOf([property].into()));
    match explored.broken.get(property) {
        Some(events) => {
            println!("model: the bug {bug:?} is found: not so: {property}, after {events}");
            Ok(())
        }
        None => Err(format!("{bug:?} did not break '{property}', but {:?}", explored.broken).into()),
    }
}

pub(crate) fn check() -> Result<(), Failed> {
    let (line, triangle) = (Graph::line(3), Graph::complete(3));
    let right = "a decision is the right one";
    let preceded = "a decision is preceded by an event everywhere";
    let ended = "when nothing is under way, all is decided";
    let few = "there are no more messages than there may be";
    let once = "nobody decides twice, and nobody who must not";
    for property in ["a repetition changes nothing", right, preceded] {
        found(&EchoBug::Counts, &echo(EchoBug::Counts, &triangle), property)?;
    }
    found(&EchoBug::ReportsEarly, &echo(EchoBug::ReportsEarly, &triangle), right)?;
    found(&EchoBug::WaitsForItsFather, &echo(EchoBug::WaitsForItsFather, &line), ended)?;
    found(&EchoBug::CountsAll, &echo(EchoBug::CountsAll, &triangle), right)?;
    found(&FinnBug::WithoutNInc, &finn(FinnBug::WithoutNInc, &line), preceded)?;
    found(&FinnBug::DecidesAgain, &finn(FinnBug::DecidesAgain, &line), once)?;
    found(&FinnBug::TellsAlways, &finn(FinnBug::TellsAlways, &line), few)?;
    found(&FinnBug::TellsOnce, &finn(FinnBug::TellsOnce, &line), ended)?;
    let diamond = Graph::parse_edges("0 -> 1\n0 -> 2\n1 -> 3\n2 -> 3").expect("four arcs");
    found(&"a barrier that counts", &barrier(&diamond), preceded)
}
