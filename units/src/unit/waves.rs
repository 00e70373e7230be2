//! The waves that a unit takes part in: the pure machines, each with its deadline, its messages counted and its events kept.
//!
//! No socket and no clock: who is linked and what time it is are arguments, and what is to be done comes out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_waves::topology::Tree;
use slipring_waves::{Barrier, Echo, Finn, Known, NodeId, Released, Step, Token, WaveId};

use crate::config::Config;
use crate::frame::{Algorithm, Errand, Frame, Sender};
use crate::gathered::Gathered;
use crate::trace::{Event, Kind, Trace, What};

/// Waves at one unit at a time, with those that have ended and are remembered.
pub(super) const MOST: usize = 1_024;
/// How long one is remembered when its time is over: until then a late message finds it, and its events can be asked for.
const REMEMBERED: Duration = Duration::from_secs(5);
/// A wave of whoever does not say how long it may take.
const UNSAID: Duration = Duration::from_secs(1);

/// Now, by two clocks: one for deadlines, one that others have too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For deadlines.
    pub at: Instant,
    /// Microseconds since 1970.
    pub wall_us: u64,
}

/// Who is linked with a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// Whom it hangs on.
    pub up: Option<u16>,
    /// Who hangs on it.
    pub below: BTreeSet<u16>,
    /// Who should hang on it and does not.
    pub absent_below: BTreeSet<u16>,
    /// On whom it should hang, if it hangs on nobody.
    pub absent_up: Option<u16>,
}

/// A message of a wave.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// Echo: there is a wave.
    Explore,
    /// Echo: what was gathered.
    Report(Gathered),
    /// Finn: what the sender knows.
    Known(Known),
    /// Barrier: the sender is through.
    Released,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Send this.
    Send(NodeId, Frame),
    /// Say that this unit has decided.
    Decided {
        /// In which wave.
        wave: WaveId,
        /// Messages that it sent; of an Echo, that all sent.
        sent: u64,
        /// Of an Echo.
        tree: Option<Gathered>,
        /// Of Finn.
        on: BTreeSet<NodeId>,
        /// Whether its neighbors in this wave were others than the tree's. An Echo says it by who is missing.
        is_elsewhere: bool,
    },
}

/// Why a message changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// A report of a wave that is not known here, or any more.
    UnknownWave,
    /// It belongs to another algorithm than the wave.
    WrongAlgorithm,
    /// Only neighbors take part.
    NotANeighbor,
    /// There are too many.
    TooMany,
    /// The wave's time is over: what it decided stays as it is.
    Late,
}

impl Ignored {
    /// For metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::UnknownWave => "unknown_wave",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::NotANeighbor => "not_a_neighbor",
            Self::TooMany => "too_many_waves",
            Self::Late => "late",
        }
    }
}

#[derive(Debug)]
enum Machine {
    Echo(Echo<Gathered>),
    Finn(Finn),
    Barrier(Barrier),
}

#[derive(Debug)]
struct Active {
    machine: Machine,
    errand: Errand,
    ends: Instant,
    has_ended: bool,
    father: Option<u16>,
    is_elsewhere: bool,
    sent: u64,
    trace: Trace,
}

/// What is remembered of a wave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recalled {
    /// Messages that this unit sent.
    pub sent: u64,
    /// Who told it first.
    pub father: Option<u16>,
    /// What happened.
    pub trace: Trace,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Waves {
    port: u16,
    spans: HashMap<u16, u32>,
    active: HashMap<WaveId, Active>,
    order: VecDeque<WaveId>,
}

/// A machine's steps, whatever its messages are.
type Steps = Vec<Step<Told, (Option<Gathered>, BTreeSet<NodeId>)>>;

fn echo(steps: Vec<Step<Token<Gathered>, Gathered>>) -> Steps {
    let step = |step| match step {
        Step::Send(to, Token::Explore) => Step::Send(to, Told::Explore),
        Step::Send(to, Token::Report(tree)) => Step::Send(to, Told::Report(tree)),
        Step::Decide(tree) => Step::Decide((Some(tree), BTreeSet::new())),
    };
    steps.into_iter().map(step).collect()
}

fn finn(steps: Vec<Step<Known, BTreeSet<NodeId>>>) -> Steps {
    let step = |step| match step {
        Step::Send(to, known) => Step::Send(to, Told::Known(known)),
        Step::Decide(on) => Step::Decide((None, on)),
    };
    steps.into_iter().map(step).collect()
}

fn barrier(steps: Vec<Step<Released, Released>>) -> Steps {
    let step = |step| match step {
        Step::Send(to, Released) => Step::Send(to, Told::Released),
        Step::Decide(Released) => Step::Decide((None, BTreeSet::new())),
    };
    steps.into_iter().map(step).collect()
}

impl Told {
    const fn what(&self) -> What {
        match self {
            Self::Explore => What::Explore,
            Self::Report(_) => What::Report,
            Self::Known(_) => What::Known,
            Self::Released => What::Released,
        }
    }
}

fn node(port: u16) -> NodeId {
    port.into()
}

fn port(node: NodeId) -> Option<u16> {
    node.try_into().ok()
}

impl Around {
    fn linked(&self, errand: &Errand) -> impl Iterator<Item = NodeId> {
        let up = self.up.filter(|_| !errand.is_below);
        up.into_iter().chain(self.below.iter().copied()).map(node)
    }

    fn is_linked(&self, from: NodeId) -> bool {
        port(from).is_some_and(|port| self.up == Some(port) || self.below.contains(&port))
    }

    fn absent(&self, errand: &Errand) -> BTreeSet<u16> {
        let up = self.absent_up.filter(|_| !errand.is_below);
        self.absent_below.iter().copied().chain(up).collect()
    }
}

impl Waves {
    /// Of one unit of a tree.
    pub(super) fn new(port: u16, tree: &Arc<Tree>) -> Self {
        let levels = |unit: u16, avoiding: Option<u16>| {
            // Breadth first: how many levels of links there are from here, away from one neighbor.
            let (mut ring, mut count) = (vec![(unit, avoiding)], 0);
            while !ring.is_empty() {
                count += 1;
                let next = ring.iter().flat_map(|(unit, from)| {
                    tree.neighbors(*unit)
                        .filter(move |next| Some(*next) != *from)
                        .map(move |next| (next, Some(*unit)))
                });
                ring = next.collect();
            }
            count
        };
        let spans = tree.neighbors(port).map(|neighbor| (neighbor, levels(neighbor, Some(port)))).collect();
        Self { port, spans, active: HashMap::new(), order: VecDeque::new() }
    }

    /// The unit begins a wave, or is among those that do.
    ///
    /// # Errors
    /// When there are too many, or its time is over.
    pub(super) fn start(
        &mut self,
        algorithm: Algorithm,
        errand: Errand,
        around: &Around,
        own: impl FnOnce() -> Gathered,
        now: Now,
    ) -> Result<Vec<Output>, Ignored> {
        let Some(wave) = errand.wave else { return Err(Ignored::UnknownWave) };
        if let Some(active) = self.in_time(&errand, wave, now)? {
            // It was told of it before it was asked to begin.
            let steps = match &mut active.machine {
                Machine::Finn(machine) => finn(machine.begin()),
                Machine::Barrier(machine) => barrier(machine.begin()),
                Machine::Echo(_) => Steps::new(),
            };
            return Ok(self.act(wave, steps, now));
        }
        let (machine, steps) = match algorithm {
            Algorithm::Echo => {
                let own = Gathered { missing: around.absent(&errand), ..own() };
                let (machine, steps) = Echo::begin(around.linked(&errand), own);
                (Machine::Echo(machine), echo(steps))
            }
            Algorithm::Finn => {
                let mut machine = self.finn(&errand, around);
                let steps = finn(machine.begin());
                (Machine::Finn(machine), steps)
            }
            Algorithm::Barrier => {
                let mut machine = Self::barrier(around);
                let steps = barrier(machine.begin());
                (Machine::Barrier(machine), steps)
            }
        };
        self.admit(wave, machine, errand, None, around, now)?;
        self.note(wave, Kind::Begin, None, None, now);
        Ok(self.act(wave, steps, now))
    }

    fn finn(&self, errand: &Errand, around: &Around) -> Finn {
        Finn::new(node(self.port), around.linked(errand), around.linked(errand))
    }

    fn barrier(around: &Around) -> Barrier {
        Barrier::new(around.up.map(node), around.below.iter().copied().map(node))
    }

    /// A message came.
    ///
    /// # Errors
    /// When it means nothing here; it changed nothing then.
    pub(super) fn hear(
        &mut self,
        from: NodeId,
        told: Told,
        errand: Errand,
        around: &Around,
        own: impl FnOnce() -> Gathered,
        now: Now,
    ) -> Result<Vec<Output>, Ignored> {
        let wave = errand.wave.ok_or(Ignored::UnknownWave)?;
        let what = told.what();
        if let Some(active) = self.in_time(&errand, wave, now)? {
            let steps = match (&mut active.machine, told) {
                (Machine::Echo(machine), Told::Explore) => echo(machine.hear(from, Token::Explore)),
                (Machine::Echo(machine), Told::Report(tree)) => echo(machine.hear(from, Token::Report(tree))),
                (Machine::Finn(machine), Told::Known(known)) => finn(machine.hear(from, known)),
                (Machine::Barrier(machine), Told::Released) => barrier(machine.hear(from)),
                _ => return Err(Ignored::WrongAlgorithm),
            };
            self.note(wave, Kind::Receive, port(from), Some(what), now);
            return Ok(self.act(wave, steps, now));
        }
        let (machine, steps, father) = match told {
            Told::Explore => {
                let own = Gathered { missing: around.absent(&errand), ..own() };
                let (machine, steps) = Echo::join(from, around.linked(&errand), own);
                (Machine::Echo(machine), echo(steps), Some(from))
            }
            Told::Known(known) if around.is_linked(from) => {
                let mut machine = self.finn(&errand, around);
                let steps = finn(machine.hear(from, known));
                (Machine::Finn(machine), steps, Some(from))
            }
            Told::Released if around.is_linked(from) => {
                let mut machine = Self::barrier(around);
                let steps = barrier(machine.hear(from));
                (Machine::Barrier(machine), steps, Some(from))
            }
            Told::Known(_) | Told::Released => return Err(Ignored::NotANeighbor),
            Told::Report(_) => return Err(Ignored::UnknownWave),
        };
        self.admit(wave, machine, errand, father, around, now)?;
        self.note(wave, Kind::Receive, port(from), Some(what), now);
        Ok(self.act(wave, steps, now))
    }

    /// The wave, if the unit takes part in it.
    ///
    /// # Errors
    /// When its time is over, by the unit's clock or by the sender's: nobody waits for what would come of it.
    fn in_time(&mut self, errand: &Errand, wave: WaveId, now: Now) -> Result<Option<&mut Active>, Ignored> {
        match self.active.get_mut(&wave) {
            Some(active) if active.ends <= now.at => Err(Ignored::Late),
            None if errand.left_us == Some(0) => Err(Ignored::Late),
            known => Ok(known),
        }
    }

    /// A neighbor's link is gone: it is not waited for.
    pub(super) fn lost(&mut self, neighbor: NodeId, now: Now) -> Vec<Output> {
        let waiting: Vec<_> = self
            .active
            .iter()
            .filter(|(_, active)| match &active.machine {
                Machine::Echo(machine) => machine.awaited().contains(&neighbor),
                _ => false,
            })
            .map(|(wave, _)| *wave)
            .collect();
        waiting.into_iter().flat_map(|wave| self.give_up(wave, &[neighbor], now)).collect()
    }

    fn give_up(&mut self, wave: WaveId, neighbors: &[NodeId], now: Now) -> Vec<Output> {
        let mut outputs = Vec::new();
        for neighbor in neighbors {
            let Some(active) = self.active.get_mut(&wave) else { break };
            let Machine::Echo(machine) = &mut active.machine else { break };
            let steps = echo(machine.give_up(*neighbor));
            self.note(wave, Kind::Missing, port(*neighbor), None, now);
            outputs.extend(self.act(wave, steps, now));
        }
        outputs
    }

    /// When something is over next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let ends = |active: &Active| if active.has_ended { active.ends + REMEMBERED } else { active.ends };
        self.active.values().map(ends).min()
    }

    /// Ends what took too long, and forgets what is long over.
    pub(super) fn expire(&mut self, now: Now) -> Vec<Output> {
        let over = |active: &Active| !active.has_ended && active.ends <= now.at;
        let late: Vec<_> =
            self.active.iter().filter(|(_, active)| over(active)).map(|(wave, _)| *wave).collect();
        let mut outputs = Vec::new();
        for wave in late {
            let Some(active) = self.active.get_mut(&wave) else { continue };
            active.has_ended = true;
            if let Machine::Echo(machine) = &active.machine {
                let awaited: Vec<_> = machine.awaited().iter().copied().collect();
                outputs.extend(self.give_up(wave, &awaited, now));
            }
        }
        self.active.retain(|_, active| active.ends + REMEMBERED > now.at);
        let active = &self.active;
        self.order.retain(|wave| active.contains_key(wave));
        outputs
    }

    /// What happened in a wave.
    pub(super) fn recall(&self, wave: WaveId) -> Recalled {
        let active = self.active.get(&wave);
        active.map_or_else(Recalled::default, |active| Recalled {
            sent: active.sent,
            father: active.father,
            trace: active.trace.clone(),
        })
    }

    /// What a wave is for.
    pub(super) fn purpose(&self, wave: WaveId) -> Option<&str> {
        self.active.get(&wave).map(|active| active.errand.purpose.as_str())
    }

    /// How many are not over.
    pub(super) fn running(&self) -> usize {
        self.active.values().filter(|active| !active.has_ended).count()
    }

    fn admit(
        &mut self,
        wave: WaveId,
        machine: Machine,
        errand: Errand,
        father: Option<NodeId>,
        around: &Around,
        now: Now,
    ) -> Result<(), Ignored> {
        if self.active.len() >= MOST {
            // The oldest that has ended makes room.
            let active = &self.active;
            let ended =
                self.order.iter().position(|wave| active.get(wave).is_none_or(|active| active.has_ended));
            let ended = ended.and_then(|place| self.order.remove(place)).ok_or(Ignored::TooMany)?;
            self.active.remove(&ended);
        }
        // As long as the wave lasts, its neighbors are those that it had when it was told of it.
        let mut neighbors = around.up.iter().chain(&around.below);
        let is_elsewhere = !matches!(machine, Machine::Echo(_))
            && (neighbors.clone().count() != self.spans.len()
                || !neighbors.all(|port| self.spans.contains_key(port)));
        let left = errand.left_us.map_or(UNSAID, Duration::from_micros).min(Config::LONGEST_WAVE);
        let active = Active {
            machine,
            errand,
            ends: now.at + left,
            has_ended: false,
            father: father.and_then(port),
            is_elsewhere,
            sent: 0,
            trace: Trace::default(),
        };
        self.active.insert(wave, active);
        self.order.push_back(wave);
        Ok(())
    }

    fn note(&mut self, wave: WaveId, kind: Kind, peer: Option<u16>, what: Option<What>, now: Now) {
        if let Some(active) = self.active.get_mut(&wave) {
            active.trace.push(Event { kind, peer, at_us: now.wall_us, what });
        }
    }

    fn act(&mut self, wave: WaveId, steps: Steps, now: Now) -> Vec<Output> {
        let mut outputs = Vec::new();
        for step in steps {
            match step {
                Step::Send(to, told) => {
                    self.note(wave, Kind::Send, port(to), Some(told.what()), now);
                    outputs.extend(self.frame(wave, told, now).map(|frame| Output::Send(to, frame)));
                }
                Step::Decide((tree, on)) => {
                    self.note(wave, Kind::Decide, None, None, now);
                    let Some(active) = self.active.get_mut(&wave) else { continue };
                    active.has_ended = true;
                    let below = tree.as_ref().map_or(0, |tree| tree.sent);
                    let sent = active.sent + below;
                    let tree = tree.map(|tree| Gathered { sent, ..tree });
                    let is_elsewhere = active.is_elsewhere;
                    outputs.push(Output::Decided { wave, sent, tree, on, is_elsewhere });
                }
            }
        }
        outputs
    }

    fn frame(&mut self, wave: WaveId, told: Told, now: Now) -> Option<Frame> {
        let span = self.span(wave);
        let active = self.active.get_mut(&wave)?;
        active.sent += 1;
        let sender = Sender(self.port);
        let left = active.ends.saturating_duration_since(now.at);
        let errand = |left: Duration| Errand {
            left_us: Some(u64::try_from(left.as_micros()).unwrap_or(u64::MAX)),
            ..active.errand.clone()
        };
        Some(match told {
            // Each level below has a part of the time less, so that what it tells is in time here.
            Told::Explore => {
                Frame::Echo { sender, errand: errand(left * span / (span + 1)), payload: Default::default() }
            }
            Told::Report(tree) => {
                active.has_ended = true;
                let sent = active.sent + tree.sent;
                Frame::EchoBack {
                    sender,
                    errand: Errand { left_us: None, ..active.errand.clone() },
                    payload: Gathered { sent, ..tree },
                }
            }
            Told::Known(known) => Frame::Finn { sender, errand: errand(left), known },
            Told::Released => Frame::Barrier { sender, errand: errand(left) },
        })
    }

    /// Levels of links from here, away from the father.
    fn span(&self, wave: WaveId) -> u32 {
        let father = self.active.get(&wave).and_then(|active| active.father);
        let others = self.spans.iter().filter(|(neighbor, _)| Some(**neighbor) != father);
        others.map(|(_, levels)| *levels).max().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests;
