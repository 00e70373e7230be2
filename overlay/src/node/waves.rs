//! Carries the messages of waves (`crate::wave` decides which): each is one call to a neighbor, answered before what comes of
//! it is sent, so that no call waits for another and a graph with cycles cannot lock itself up.
//!
//! A wave has a deadline at each process, and whoever is told of it gets less time than whoever tells, so that an answer from
//! below that had to give somebody up still arrives.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slipring_waves::{NodeId, Step, Token, WaveId};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::Node;
use crate::peers::{Peers, endpoint};
use crate::topology::{Process, Topology};
use crate::wave::{Answer, Graph, Heard, Steps, Table, Told, TooMany, Why};
use crate::wave_wire::wave_message::Token as WireToken;
use crate::wave_wire::waves_client::WavesClient;
use crate::wave_wire::{Explore, Outcome, Purpose, WaveMessage};
use crate::wire::MetricsResponse;

/// How long a wave may take at the most, whoever asks for it.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// What of its time a process gives its neighbors.
const SHARE: f64 = 0.9;
/// Bytes of a message: what some hundred processes tell.
pub(super) const LARGEST_MESSAGE: usize = 4 << 20;
/// Bytes of a line of the journal that a wave takes along.
const LONGEST_LINE: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Waves {
    pub(super) graph: Graph,
    pub(super) own: NodeId,
    links: BTreeMap<NodeId, WavesClient<Channel>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Table,
    /// Of each wave under way.
    running: HashMap<WaveId, Running>,
}

#[derive(Debug)]
struct Running {
    time: Time,
    timer: AbortHandle,
    /// Who began it.
    waiting: Option<oneshot::Sender<Told>>,
}

/// Until when a wave waits here, and until when its father does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    own: Instant,
    father: Instant,
}

impl Time {
    /// Of whoever is told of a wave by one that has so long.
    pub(super) fn below(remaining: Duration) -> Self {
        let (now, remaining) = (Instant::now(), remaining.min(LONGEST));
        Self { own: now + remaining.mul_f64(SHARE), father: now + remaining }
    }
}

impl Waves {
    /// Links to neighbors are those that questions take; who is a neighbor only by its own word gets one more.
    pub(super) fn of(
        topology: &Topology,
        own: &Process,
        peers: &Peers,
    ) -> Result<Self, tonic::transport::Error> {
        let graph = Graph::of(topology);
        let number = graph.number(own.id.as_str()).expect("a process is one of its file's");
        let link = |&neighbor: &NodeId| {
            let id = graph.name(neighbor);
            let channel = match peers.get(id) {
                Some(peer) => peer.channel(),
                None => endpoint(&topology.processes[id].authority())?.connect_lazy(),
            };
            Ok((neighbor, WavesClient::new(channel)))
        };
        let neighbors = graph.neighbors(number);
        let links = neighbors.iter().map(link).collect::<Result<_, _>>()?;
        // Anywhere: others remember the numbers of an earlier life, and no clock is trusted to have gone on since.
        let table = Table::new(number, neighbors.clone(), rand::random::<u64>() >> 16);
        let state = Mutex::new(State { table, running: HashMap::new() });
        Ok(Self { own: number, graph, links, state })
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        self.state().table.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, to: NodeId, message: WaveMessage, until: Instant) -> Result<Outcome, Status> {
        let client = self.links.get(&to).ok_or_else(|| Status::not_found("it is no neighbor"))?;
        let mut request = Request::new(message);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        let said = timeout_at(until, client.clone().deliver(request)).await;
        Ok(said.map_err(|_| Status::deadline_exceeded("no answer in time"))??.into_inner().outcome())
    }
}

/// Why whoever did not take a message is given up.
fn why(status: &Status, until: Instant) -> Why {
    match status.code() {
        Code::ResourceExhausted => Why::Overloaded,
        // The client library calls its own deadline so, and connections that break as well.
        Code::DeadlineExceeded | Code::Cancelled if Instant::now() >= until => Why::Silent,
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => Why::Refused,
        _ => Why::Unreachable,
    }
}

impl Node {
    /// Begins a wave, and waits for what it gathers: everything, or what there is when the time is over.
    pub(super) async fn echo(self: &Arc<Self>, within: Duration) -> Result<Answer, TooMany> {
        let began = Instant::now();
        let (sender, told) = oneshot::channel();
        let time = Time { own: began + within, father: began + within };
        let wave = {
            let mut state = self.waves.state();
            let (wave, steps) =
                state.table.begin(self.told()).inspect_err(|_| self.metrics.waves.rejected())?;
            state.running.insert(wave, self.running(wave, time, Some(sender)));
            self.go_on(state, wave, steps);
            wave
        };
        let told = told.await.expect("at its deadline at the latest a wave decides");
        let answer = Answer::of(wave, told, &self.waves.graph, began.elapsed());
        self.metrics.waves.ended(&answer, began.elapsed());
        if let Some(mismatch) = &answer.mismatch {
            tracing::warn!(%wave, mismatch, "a wave took other messages than two on each link");
        }
        Ok(answer)
    }

    /// A neighbor's message.
    pub(super) fn hear(
        self: &Arc<Self>,
        wave: WaveId,
        from: NodeId,
        token: Token<Told>,
        time: Time,
    ) -> Result<Heard, TooMany> {
        let mut state = self.waves.state();
        let (heard, steps) = state.table.hear(wave, from, token, || self.told())?;
        if heard == Heard::Joined {
            state.running.insert(wave, self.running(wave, time, None));
        }
        self.go_on(state, wave, steps);
        Ok(heard)
    }

    fn running(
        self: &Arc<Self>,
        wave: WaveId,
        time: Time,
        waiting: Option<oneshot::Sender<Told>>,
    ) -> Running {
        let node = self.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(time.own).await;
            let mut state = node.waves.state();
            let steps = state.table.late(wave);
            node.go_on(state, wave, steps);
        });
        Running { time, timer: timer.abort_handle(), waiting }
    }

    /// Does what the table says, and forgets the wave if it has ended here.
    fn go_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>, wave: WaveId, steps: Steps) {
        let Some(time) = state.running.get(&wave).map(|running| running.time) else { return };
        let ended = if state.table.is_under_way(wave) { None } else { state.running.remove(&wave) };
        drop(state);
        let waiting = ended.and_then(|ended| {
            ended.timer.abort();
            ended.waiting
        });
        let mut decided = None;
        for step in steps {
            match step {
                Step::Send(to, token) => drop(tokio::spawn(self.clone().deliver(wave, to, token, time))),
                Step::Decide(told) => decided = Some(told),
            }
        }
        if let (Some(told), Some(waiting)) = (decided, waiting)
            && waiting.send(told).is_err()
        {
            tracing::debug!(%wave, "who began a wave has gone away");
        }
    }

    async fn deliver(self: Arc<Self>, wave: WaveId, to: NodeId, token: Token<Told>, time: Time) {
        let (until, is_explore) = match &token {
            Token::Explore => (time.own, true),
            Token::Report(_) => (time.father, false),
        };
        let remaining = time.own.saturating_duration_since(Instant::now()).as_millis();
        let message = WaveMessage {
            wave: wave.to_string(),
            from: self.process.id.to_string(),
            purpose: Purpose::Metrics.into(),
            remaining_ms: u32::try_from(remaining).unwrap_or(u32::MAX),
            token: Some(match token {
                Token::Explore => WireToken::Explore(Explore {}),
                Token::Report(told) => WireToken::Report(told.wire(&self.waves.graph)),
            }),
        };
        let why = match self.waves.send(to, message, until).await {
            Ok(Outcome::Over) if is_explore => Why::Over,
            Ok(_) => return,
            Err(status) => {
                let (process, why) = (self.waves.graph.name(to), why(&status, until));
                self.metrics.waves.undelivered(why);
                tracing::debug!(%wave, %process, %status, "a wave's message did not arrive");
                why
            }
        };
        // Whoever waits for a report that is lost gives us up itself.
        if is_explore {
            let mut state = self.waves.state();
            let steps = state.table.give_up(wave, to, why);
            self.go_on(state, wave, steps);
        }
    }

    /// What this process tells in a wave: as it says to whoever asks for its metrics, in bounded lines.
    fn told(&self) -> MetricsResponse {
        let mut said = self.said();
        for line in &mut said.recent_logs {
            if line.len() > LONGEST_LINE {
                line.truncate(line.floor_char_boundary(LONGEST_LINE));
                line.push('…');
            }
        }
        said
    }
}
