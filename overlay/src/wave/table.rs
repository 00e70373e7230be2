//! The waves that pass through one process: those under way, and the names of those that were, so that a late message begins
//! nothing anew. Both are bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use slipring_waves::{Echo, NodeId, Step, Token, WaveId};

use super::{One, Told, Why};
use crate::wire::MetricsResponse;

/// Waves under way at a time.
const MOST: usize = 1000;
/// Of these, those begun here: who begins many leaves room for those of others.
const MOST_BEGUN: usize = 100;
/// Names that are remembered. Who has forgotten a wave joins it again and is told so by its neighbors, who have not.
const REMEMBERED: usize = 16_384;

/// What is to be sent, or is decided.
pub(crate) type Steps = Vec<Step<Token<Told>, Told>>;

/// There are as many waves as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is the first of its wave.
    Joined,
    Taken,
    /// It was heard before, or is not waited for.
    Repeated,
    /// The wave has ended here.
    Over,
    /// A report in a wave that is not known here.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Table {
    own: NodeId,
    neighbors: BTreeSet<NodeId>,
    next: u64,
    begun: usize,
    under_way: HashMap<WaveId, Wave>,
    ended: Ended,
}

#[derive(Debug)]
struct Wave {
    echo: Echo<Told>,
    /// Neighbors that were told of it, without those that did not take it.
    explored: BTreeSet<NodeId>,
    given_up: BTreeMap<NodeId, Why>,
}

#[derive(Debug, Default)]
struct Ended {
    names: HashSet<WaveId>,
    order: VecDeque<WaveId>,
}

impl Ended {
    fn remember(&mut self, wave: WaveId) {
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        if self.names.insert(wave) {
            self.order.push_back(wave);
        }
    }
}

impl Table {
    /// Its own waves have the numbers from `first` on. It has to be another one at each start, because others remember
    /// the waves of an earlier life.
    pub(crate) fn new(own: NodeId, neighbors: BTreeSet<NodeId>, first: u64) -> Self {
        Self { own, neighbors, next: first, begun: 0, under_way: HashMap::new(), ended: Ended::default() }
    }

    pub(crate) fn is_under_way(&self, wave: WaveId) -> bool {
        self.under_way.contains_key(&wave)
    }

    /// How many waves are under way.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Begins a wave.
    pub(crate) fn begin(&mut self, metrics: MetricsResponse) -> Result<(WaveId, Steps), TooMany> {
        if self.begun >= MOST_BEGUN || self.under_way.len() >= MOST {
            return Err(TooMany);
        }
        let wave = WaveId { initiator: self.own, number: self.next };
        self.next = self.next.wrapping_add(1);
        self.begun += 1;
        let (echo, steps) = Echo::begin(self.neighbors.iter().copied(), self.own(None, metrics));
        Ok((wave, self.start(wave, echo, steps)))
    }

    /// A neighbor's message; `metrics` are asked for if it is the first of its wave.
    pub(crate) fn hear(
        &mut self,
        wave: WaveId,
        from: NodeId,
        token: Token<Told>,
        metrics: impl FnOnce() -> MetricsResponse,
    ) -> Result<(Heard, Steps), TooMany> {
        if let Some(running) = self.under_way.get_mut(&wave) {
            if !running.echo.awaited().contains(&from) {
                return Ok((Heard::Repeated, Vec::new()));
            }
            let steps = running.echo.hear(from, token);
            return Ok((Heard::Taken, self.end(wave, steps)));
        }
        // A wave of our own that is not under way has ended, whether it is remembered or not.
        if wave.initiator == self.own || self.ended.names.contains(&wave) {
            return Ok((Heard::Over, Vec::new()));
        }
        match token {
            Token::Report(_) => Ok((Heard::Unknown, Vec::new())),
            Token::Explore if self.under_way.len() >= MOST => Err(TooMany),
            Token::Explore => {
                let own = self.own(Some(from), metrics());
                let (echo, steps) = Echo::join(from, self.neighbors.iter().copied(), own);
                Ok((Heard::Joined, self.start(wave, echo, steps)))
            }
        }
    }

    /// A neighbor is not waited for any longer, or did not take what it was told.
    pub(crate) fn give_up(&mut self, wave: WaveId, neighbor: NodeId, why: Why) -> Steps {
        let Some(running) = self.under_way.get_mut(&wave) else { return Vec::new() };
        match why {
            Why::Unreachable | Why::Overloaded | Why::Refused => {
                running.explored.remove(&neighbor);
            }
            Why::Silent | Why::Over => {}
        }
        if running.echo.awaited().contains(&neighbor) {
            running.given_up.insert(neighbor, why);
        }
        let steps = running.echo.give_up(neighbor);
        self.end(wave, steps)
    }

    /// The time is over: whoever was not heard is given up.
    pub(crate) fn late(&mut self, wave: WaveId) -> Steps {
        let Some(running) = self.under_way.get(&wave) else { return Vec::new() };
        let silent = running.echo.awaited().clone();
        silent.into_iter().flat_map(|neighbor| self.give_up(wave, neighbor, Why::Silent)).collect()
    }

    fn own(&self, father: Option<NodeId>, metrics: MetricsResponse) -> Told {
        let one = One { father, metrics, ..One::default() };
        Told(BTreeMap::from([(self.own, one)]))
    }

    fn start(&mut self, wave: WaveId, echo: Echo<Told>, steps: Steps) -> Steps {
        let explored = steps.iter().filter_map(|step| match step {
            Step::Send(to, Token::Explore) => Some(*to),
            _ => None,
        });
        let explored = explored.collect();
        self.under_way.insert(wave, Wave { echo, explored, given_up: BTreeMap::new() });
        self.end(wave, steps)
    }

    /// If the wave has ended here: what is told last says how it was, and its name is remembered.
    fn end(&mut self, wave: WaveId, mut steps: Steps) -> Steps {
        if !self.under_way.get(&wave).is_some_and(|running| running.echo.has_ended()) {
            return steps;
        }
        let Some(running) = self.under_way.remove(&wave) else { return steps };
        self.ended.remember(wave);
        let (told, reports) = match steps.last_mut() {
            Some(Step::Send(_, Token::Report(told))) => (told, 1),
            Some(Step::Decide(told)) => {
                self.begun -= 1;
                (told, 0)
            }
            _ => return steps,
        };
        if let Some(own) = told.0.get_mut(&self.own) {
            own.messages = u32::try_from(running.explored.len() + reports).unwrap_or(u32::MAX);
            own.given_up = running.given_up;
        }
        steps
    }
}

#[cfg(test)]
mod tests;
