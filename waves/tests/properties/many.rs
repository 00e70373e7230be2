//! Any number of waves at once, on one network that shuffles the messages of all of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use slipring_waves::sim::{Network, Process, Told, Uninformed, finns};
use slipring_waves::topology::Graph;
use slipring_waves::{Finn, Known, NodeId, Step, Token, WaveId};

use crate::{chosen, config, connected, rough};

/// A node in all the waves that it has heard of, as a live one is: a table of machines by the waves' names.
#[derive(Clone, Debug)]
struct Live {
    me: NodeId,
    neighbors: BTreeSet<NodeId>,
    /// What it is to begin.
    begins: Vec<Wave>,
    echoes: BTreeMap<WaveId, Uninformed<Told>>,
    finns: BTreeMap<WaveId, Finn>,
}

#[derive(Clone, Copy, Debug)]
struct Wave {
    id: WaveId,
    is_finn: bool,
}

#[derive(Clone, Debug)]
enum Message {
    Echo(WaveId, Token<Told>),
    Finn(WaveId, Known),
}

type Decision = (WaveId, BTreeMap<NodeId, u32>);

fn echo(wave: WaveId, steps: Vec<Step<Token<Told>, Told>>) -> Vec<Step<Message, Decision>> {
    let step = |step: Step<_, Told>| match step {
        Step::Send(to, token) => Step::Send(to, Message::Echo(wave, token)),
        Step::Decide(told) => Step::Decide((wave, told.counted)),
    };
    steps.into_iter().map(step).collect()
}

fn finn(wave: WaveId, steps: Vec<Step<Known, BTreeSet<NodeId>>>) -> Vec<Step<Message, Decision>> {
    let step = |step: Step<_, BTreeSet<NodeId>>| match step {
        Step::Send(to, known) => Step::Send(to, Message::Finn(wave, known)),
        Step::Decide(inc) => Step::Decide((wave, inc.into_iter().map(|node| (node, 1)).collect())),
    };
    steps.into_iter().map(step).collect()
}

impl Live {
    fn echo(&mut self, wave: WaveId) -> &mut Uninformed<Told> {
        let (me, neighbors) = (self.me, self.neighbors.clone());
        self.echoes.entry(wave).or_insert_with(|| Uninformed::Yes { neighbors, own: Told::of(me) })
    }

    fn finn(&mut self, wave: WaveId) -> &mut Finn {
        let (me, neighbors) = (self.me, self.neighbors.clone());
        self.finns.entry(wave).or_insert_with(|| Finn::new(me, neighbors.clone(), neighbors))
    }
}

impl Process for Live {
    type Message = Message;
    type Decision = Decision;

    fn begin(&mut self) -> Vec<Step<Message, Decision>> {
        let begins = self.begins.clone();
        let mut steps = Vec::new();
        for Wave { id, is_finn } in begins {
            steps.extend(if is_finn {
                finn(id, self.finn(id).begin())
            } else {
                echo(id, self.echo(id).begin())
            });
        }
        steps
    }

    fn hear(&mut self, from: NodeId, message: Message) -> Vec<Step<Message, Decision>> {
        match message {
            Message::Echo(wave, token) => echo(wave, self.echo(wave).hear(from, token)),
            Message::Finn(wave, known) => finn(wave, self.finn(wave).hear(from, known)),
        }
    }

    fn give_up(&mut self, _neighbor: NodeId) -> Vec<Step<Message, Decision>> {
        Vec::new()
    }

    fn awaited(&self) -> BTreeSet<NodeId> {
        BTreeSet::new()
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn waves_that_overlap_never_mix(
        graph in connected(), drawn in vec((any::<Index>(), any::<bool>()), 1..12), seed: u64,
    ) {
        let mut lives: BTreeMap<_, _> = graph.ids().map(|me| {
            let neighbors = graph.neighbors(me);
            (me, Live { me, neighbors, begins: Vec::new(), echoes: BTreeMap::new(), finns: BTreeMap::new() })
        }).collect();
        let mut waves = Vec::new();
        for (number, (any, is_finn)) in (1..).zip(drawn) {
            let initiator = chosen(&graph, any);
            let wave = Wave { id: WaveId { initiator, number }, is_finn };
            waves.push(wave);
            lives.get_mut(&initiator).unwrap().begins.push(wave);
        }
        let (outcome, _) = Network::new(lives, rough(seed)).run(graph.ids());
        let everybody: BTreeMap<_, _> = graph.ids().map(|node| (node, 1)).collect();
        for wave in &waves {
            let decided = outcome.decided.iter().filter(|decided| decided.decision.0 == wave.id);
            let deciders: Vec<_> = decided.clone().map(|decided| decided.node).collect();
            prop_assert_eq!(deciders.len(), if wave.is_finn { everybody.len() } else { 1 });
            prop_assert_eq!(deciders.iter().collect::<BTreeSet<_>>().len(), deciders.len());
            for decided in decided {
                prop_assert_eq!(&decided.decision.1, &everybody, "{:?}", wave);
            }
        }
        let echoes = waves.iter().filter(|wave| !wave.is_finn).count();
        if echoes == waves.len() {
            prop_assert_eq!(outcome.sent, (echoes * 2 * graph.edge_count()) as u64);
        }
    }

    /// What was said of another network altogether changes nothing here.
    #[test]
    fn a_stranger_is_not_heard(graph in connected(), any: Index, seed: u64) {
        let node = chosen(&graph, any);
        let stranger = 1_000_000 + seed as u32 % 1000;
        let mut finn = finns(&graph).remove(&node).unwrap();
        finn.begin();
        let before = finn.clone();
        let told = Known { inc: [stranger].into(), ninc: [stranger].into() };
        prop_assert_eq!(finn.hear(stranger, told), vec![]);
        prop_assert_eq!(finn, before);
    }
}

#[test]
fn a_wave_of_another_number_is_another_wave() {
    let graph = Graph::line(2);
    let mut node = Live {
        me: 0,
        neighbors: graph.neighbors(0),
        begins: vec![Wave { id: WaveId { initiator: 0, number: 1 }, is_finn: false }],
        echoes: BTreeMap::new(),
        finns: BTreeMap::new(),
    };
    assert_eq!(node.begin().len(), 1);
    let late = Message::Echo(WaveId { initiator: 0, number: 0 }, Token::Report(Told::of(1)));
    assert!(node.hear(1, late).is_empty(), "a report of a wave that was before");
    let now = Message::Echo(WaveId { initiator: 0, number: 1 }, Token::Report(Told::of(1)));
    assert!(matches!(node.hear(1, now)[..], [Step::Decide(_)]));
}
