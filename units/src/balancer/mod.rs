//! The balancer: begins waves, keeps what came of them, and has tasks moved. Units go on without it.

mod client;
mod edge;
mod kept;
mod metrics;
mod plan;
mod rebalance;
mod record;
mod traces;
mod watch;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use slipring_waves::WaveId;
use slipring_waves::topology::Tree;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::frame::{Algorithm, Errand, Frame, Sender, State};
use crate::gathered::{self, Gathered};
use crate::link::Outbox;
use crate::places::Places;
use crate::trace::Trace;
use crate::unit::micros;
use kept::Kept;
use metrics::Metrics;
use record::{Move, Record};
use traces::Traces;
use watch::Watchers;

/// Events that wait.
const WAITING: usize = 4_096;
/// Waves that run at a time.
const MOST: usize = 512;
/// Waves whose events are fetched at a time: of further ones only what is counted is kept.
const RECALLING: usize = 8;
/// How long units may take to tell what happened.
const RECALL: Duration = Duration::from_millis(500);
/// How often those who watch are told how the units are, at most.
const TOLD: Duration = Duration::from_millis(200);
/// How long a unit may take to obey.
const OBEYING: Duration = Duration::from_secs(3);

/// Bytes of what a unit says of an order that it did not carry out; of longer words the first.
const LONGEST_REASON: usize = 128;

/// What a balancer is started with.
#[derive(Debug)]
pub struct Options {
    /// The units.
    pub tree: Arc<Tree>,
    /// Its port, by which units know it.
    pub port: u16,
    /// What all are told.
    pub config: Config,
    /// Where the units are.
    pub places: Places,
}

/// What happens to it.
#[derive(Debug)]
enum Event {
    /// A unit is linked.
    Opened { unit: u16, out: Outbox },
    /// It told something.
    Frame { unit: u16, frame: Frame },
    /// It is not linked any more.
    Closed { unit: u16 },
    /// A client of the WebSocket, with whom waves' ends are shared.
    Joined { out: Outbox },
    /// Somebody calls.
    Call(Call),
}

#[derive(Debug)]
enum Call {
    /// A wave; its record, without events, when it is over.
    Wave(Wanted, oneshot::Sender<Result<Arc<Record>, Refused>>),
    /// An order to a unit: it says how many, and if fewer, why.
    Order(u16, Order, oneshot::Sender<(u64, Option<String>)>),
    /// What a wave's plan has done.
    Moved(WaveId, Vec<Move>),
    /// How the units are.
    Units(oneshot::Sender<Arc<str>>),
    /// The last waves.
    Waves(oneshot::Sender<Vec<Arc<Record>>>),
}

/// A wave that is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    algorithm: Algorithm,
    initiator: Option<u16>,
    purpose: String,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Move { to: u16, count: u64 },
    Add { count: u64 },
}

/// Why there is no wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("no unit is linked: they are starting, or all of them are gone")]
    NobodyThere,
    #[error("the unit that was to begin is not linked")]
    NotThere,
    #[error("no unit has that port")]
    NoUnit,
    #[error("too many waves run: try again")]
    TooMany,
}

/// Asks the balancer.
#[derive(Clone, Debug)]
struct Handle {
    events: mpsc::Sender<Event>,
}

/// It is ending.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the balancer is ending")]
struct Ending;

impl Handle {
    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Ending> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Call(call(answer))).await.map_err(|_| Ending)?;
        answered.await.map_err(|_| Ending)
    }

    async fn wave(&self, wanted: Wanted) -> Result<Result<Arc<Record>, Refused>, Ending> {
        self.ask(|answer| Call::Wave(wanted, answer)).await
    }
}

struct Pending {
    wanted: Wanted,
    initiators: BTreeSet<u16>,
    started: Instant,
    started_ms: u64,
    until: Instant,
    expected: BTreeSet<u16>,
    decided: BTreeSet<u16>,
    sent: u64,
    is_still: bool,
    callers: Vec<oneshot::Sender<Result<Arc<Record>, Refused>>>,
}

struct Recalling {
    record: Record,
    traces: Traces,
    until: Instant,
    left: BTreeSet<u16>,
}

impl Recalling {
    fn record(self) -> Record {
        let (events, events_left_out) = self.traces.events();
        Record { events, events_left_out, ..self.record }
    }

    /// What a unit has told, if it was asked and has not told yet.
    fn hear(&mut self, unit: u16, father: Option<u16>, trace: Trace) {
        if self.left.remove(&unit) {
            self.record.untold.remove(&unit);
            self.record.fathers.extend(father.map(|father| (unit, father)));
            self.traces.add(unit, trace);
        }
    }
}

/// Takes how many tasks an order has moved or added, and why not more.
type Obeyed = oneshot::Sender<(u64, Option<String>)>;

/// An order that was given.
struct Ordered {
    unit: u16,
    /// How many tasks it is about.
    most: u64,
    until: Instant,
    caller: Obeyed,
}

struct Balancer {
    port: u16,
    tree: Arc<Tree>,
    config: Config,
    links: BTreeMap<u16, Outbox>,
    states: BTreeMap<u16, State>,
    pending: HashMap<WaveId, Pending>,
    recalling: HashMap<WaveId, Recalling>,
    kept: Kept,
    orders: HashMap<u64, Ordered>,
    clients: Vec<Outbox>,
    watchers: Watchers,
    is_news: bool,
    told: Instant,
    number: u64,
    metrics: Arc<Metrics>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When it cannot serve.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let Options { tree, port, config, places } = options;
    let (events, inbox) = mpsc::channel(WAITING);
    let (handle, metrics, watchers) = (Handle { events }, Arc::new(Metrics::new()), Watchers::new());
    let mut tasks = tokio::task::JoinSet::new();
    for unit in tree.units() {
        let link = client::Link {
            own: port,
            unit: unit.port,
            events: handle.events.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(link.run(places.authority(unit.port)));
    }
    if let Some(interval) = config.rebalance_interval {
        tasks.spawn(rebalance::every(interval, config.clone(), handle.clone()));
    }
    let edge = edge::Edge {
        tree: Arc::clone(&tree),
        config: Arc::new(config.clone()),
        handle,
        metrics: Arc::clone(&metrics),
        watchers: watchers.clone(),
    };
    let mut balancer = Balancer {
        port,
        tree,
        config,
        links: BTreeMap::new(),
        states: BTreeMap::new(),
        pending: HashMap::new(),
        recalling: HashMap::new(),
        kept: Kept::default(),
        orders: HashMap::new(),
        clients: Vec::new(),
        watchers,
        is_news: true,
        told: Instant::now(),
        number: micros(),
        metrics,
    };
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(edge.serve(listener, async move { drop(ended.await) }));
    tokio::select! {
        () = balancer.run(inbox) => {}
        () = shutdown => {}
    }
    balancer.watchers.end();
    drop(end);
    tasks.shutdown().await;
    drop(balancer);
    match tokio::time::timeout(Duration::from_secs(1), serving).await {
        Ok(Ok(served)) => served,
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

impl Balancer {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>) {
        loop {
            let news = (self.is_news && self.watchers.any()).then_some(self.told);
            let pending = self.pending.values().map(|pending| pending.until);
            let recalling = self.recalling.values().map(|recalling| recalling.until);
            let orders = self.orders.values().map(|order| order.until);
            let wake = pending.chain(recalling).chain(orders).chain(news).min();
            let sleeping = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = inbox.recv() => {
                    let Some(event) = event else { return };
                    self.event(event);
                    for _ in 0..64 {
                        match inbox.try_recv() {
                            Ok(event) => self.event(event),
                            Err(_) => break,
                        }
                    }
                }
                () = sleeping => {}
            }
            self.late();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { unit, out } => {
                self.links.insert(unit, out);
                self.is_news = true;
            }
            Event::Closed { unit } => self.closed(unit),
            Event::Frame { unit, frame } => self.frame(unit, frame),
            Event::Joined { out } => {
                self.clients.retain(|client| !client.is_closed());
                self.clients.push(out);
            }
            Event::Call(call) => self.call(call),
        }
    }

    fn closed(&mut self, unit: u16) {
        self.links.remove(&unit);
        self.is_news = true;
        let lost: Vec<u64> =
            self.orders.iter().filter(|(_, order)| order.unit == unit).map(|(ticket, _)| *ticket).collect();
        for ticket in lost {
            self.obeyed(unit, ticket, 0, Some(format!("{unit} is gone")));
        }
        // A wave that only it could end is over.
        let hopeless: Vec<WaveId> = self
            .pending
            .iter_mut()
            .filter_map(|(wave, pending)| {
                pending.expected.remove(&unit);
                pending.expected.is_subset(&pending.decided).then_some(*wave)
            })
            .collect();
        for wave in hopeless {
            self.over(wave, None);
        }
        let recalled: Vec<WaveId> = self.recalling.keys().copied().collect();
        for wave in recalled {
            self.recalled(wave, |recalling| {
                recalling.left.remove(&unit);
            });
        }
    }

    fn frame(&mut self, unit: u16, frame: Frame) {
        match frame {
            Frame::State(state) if !state.is_countable() => self.metrics.rejected("counts"),
            Frame::Decided { sent, tree, .. }
                if sent > gathered::MOST || tree.as_ref().is_some_and(|tree| !tree.is_countable()) =>
            {
                self.metrics.rejected("counts");
            }
            Frame::State(state) => {
                self.states.insert(unit, state);
                self.is_news = true;
            }
            Frame::Decided { wave, sent, tree, is_elsewhere, .. } => {
                if let Some(pending) = self.pending.get_mut(&wave) {
                    pending.is_still &= !is_elsewhere;
                }
                self.decided(wave, unit, sent, tree);
            }
            Frame::Recalled { wave, father, trace, .. } => {
                self.recalled(wave, |recalling| recalling.hear(unit, father, trace));
            }
            Frame::Moved { ticket, moved, reason, .. } => self.obeyed(unit, ticket, moved, reason),
            _ => self.metrics.rejected("wrong_route"),
        }
    }

    /// What the unit that was given an order says of it; nobody else is asked.
    fn obeyed(&mut self, unit: u16, ticket: u64, count: u64, reason: Option<String>) {
        match self.orders.entry(ticket) {
            Entry::Occupied(order) if order.get().unit == unit => {
                let Ordered { most, caller, .. } = order.remove();
                let reason = reason.map(|mut reason| {
                    reason.retain(|character| !character.is_control());
                    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
                    reason
                });
                drop(caller.send((count.min(most), reason)));
            }
            Entry::Occupied(_) => self.metrics.rejected("not_asked"),
            // Its time is over: the caller was told so.
            Entry::Vacant(_) => self.metrics.rejected("unknown_order"),
        }
    }

    fn decided(&mut self, wave: WaveId, unit: u16, sent: u64, tree: Option<Gathered>) {
        let Some(pending) = self.pending.get_mut(&wave) else {
            return self.metrics.rejected("unknown_wave");
        };
        if !pending.decided.insert(unit) {
            return self.metrics.rejected("decided_twice");
        }
        pending.sent += sent;
        if pending.expected.is_subset(&pending.decided) {
            self.over(wave, tree);
        }
    }

    fn over(&mut self, wave: WaveId, tree: Option<Gathered>) {
        let Some(pending) = self.pending.remove(&wave) else { return };
        let record = self.record(wave, &pending, tree);
        self.metrics.wave(&record);
        if record.is_wrong {
            tracing::error!(%wave, messages = record.messages, expected = ?record.expected, "a wave sent another number of messages than it must");
        }
        self.share(&record);
        let answer = Arc::new(record.clone());
        for caller in pending.callers {
            drop(caller.send(Ok(Arc::clone(&answer))));
        }
        // Of too many at a time nobody is asked.
        let asked = self.links.iter().filter(|_| self.recalling.len() < RECALLING);
        let left: BTreeSet<u16> = asked
            .filter(|(_, out)| out.try_send(Frame::Recall { sender: Sender(self.port), wave }).is_ok())
            .map(|(unit, _)| *unit)
            .collect();
        if left.is_empty() {
            return self.keep(record);
        }
        let (traces, until) = (Traces::default(), Instant::now() + RECALL);
        self.recalling.insert(wave, Recalling { record, traces, until, left });
    }

    fn record(&self, wave: WaveId, pending: &Pending, tree: Option<Gathered>) -> Record {
        let algorithm = pending.wanted.algorithm;
        let mut fathers = BTreeMap::new();
        let reached: BTreeSet<u16> = match (&tree, algorithm) {
            (Some(tree), _) => {
                for unit in tree.all() {
                    fathers.extend(unit.children.iter().map(|child| (child.port, unit.port)));
                }
                tree.all().map(|unit| unit.port).collect()
            }
            (None, Algorithm::Echo) => BTreeSet::new(),
            (None, Algorithm::Finn | Algorithm::Barrier) => pending.decided.clone(),
        };
        let all: BTreeSet<u16> = self.tree.units().iter().map(|unit| unit.port).collect();
        let missing: BTreeSet<u16> = all.difference(&reached).copied().collect();
        let edges = reached.len().saturating_sub(1) as u64;
        let untold = self.links.keys().copied().chain(reached.iter().copied()).collect();
        let is_complete = missing.is_empty();
        let nodes = reached.len() as u64;
        Record {
            kind: "wave",
            id: wave,
            algorithm,
            purpose: pending.wanted.purpose.clone(),
            initiators: pending.initiators.clone(),
            started_ms: pending.started_ms,
            took_us: u64::try_from(pending.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            messages: pending.sent,
            expected: match algorithm {
                Algorithm::Echo => Some(2 * edges),
                Algorithm::Barrier => Some(edges),
                Algorithm::Finn => None,
            },
            bound: (algorithm == Algorithm::Finn).then_some(2 * nodes * 2 * edges),
            is_complete,
            is_wrong: false,
            missing_subtrees: self.subtrees(&missing),
            missing,
            decided: pending.decided.clone(),
            fathers,
            moves: Vec::new(),
            events: Vec::new(),
            events_left_out: 0,
            untold,
            is_still: pending.is_still,
            tree,
        }
        .checked()
    }

    /// Of those that are missing, the topmost ones with whoever is missing below them.
    fn subtrees(&self, missing: &BTreeSet<u16>) -> BTreeMap<u16, BTreeSet<u16>> {
        let top = missing
            .iter()
            .filter(|port| self.tree.parent_of(**port).is_none_or(|above| !missing.contains(&above)));
        top.map(|port| {
            let below =
                self.tree.subtree(*port).iter().map(|unit| unit.port).filter(|unit| missing.contains(unit));
            (*port, below.collect())
        })
        .collect()
    }

    /// With clients of the original, which wait for messages.
    fn share(&mut self, record: &Record) {
        let (sender, errand) = (
            Sender(self.port),
            Errand { wave: Some(record.id), purpose: record.purpose.clone(), ..Errand::default() },
        );
        let frame = match (&record.tree, record.algorithm) {
            (Some(tree), _) => Frame::EchoBack { sender, errand, payload: tree.clone() },
            (None, Algorithm::Finn) => {
                let decided: BTreeSet<u32> = record.decided.iter().copied().map(u32::from).collect();
                let known = slipring_waves::Known {
                    inc: decided.iter().copied().collect(),
                    ninc: decided.into_iter().collect(),
                };
                Frame::Finn { sender, errand, known }
            }
            (None, Algorithm::Barrier | Algorithm::Echo) => return,
        };
        self.clients.retain(|client| client.try_send(frame.clone()).is_ok());
    }

    fn recalled(&mut self, wave: WaveId, hear: impl FnOnce(&mut Recalling)) {
        let Some(recalling) = self.recalling.get_mut(&wave) else { return };
        hear(recalling);
        if recalling.left.is_empty()
            && let Some(recalling) = self.recalling.remove(&wave)
        {
            self.keep(recalling.record());
        }
    }

    fn keep(&mut self, record: Record) {
        // The tree is told to who asked for it.
        let record = Record { tree: None, ..record };
        self.watchers.tell(&record);
        self.kept.push(record);
    }

    fn late(&mut self) {
        let now = Instant::now();
        let late: Vec<WaveId> =
            self.pending.iter().filter(|(_, pending)| pending.until <= now).map(|(wave, _)| *wave).collect();
        for wave in late {
            self.over(wave, None);
        }
        let late: Vec<WaveId> = self
            .recalling
            .iter()
            .filter(|(_, recalling)| recalling.until <= now)
            .map(|(wave, _)| *wave)
            .collect();
        for wave in late {
            if let Some(recalling) = self.recalling.remove(&wave) {
                self.keep(recalling.record());
            }
        }
        let late: Vec<(u64, u16)> = self
            .orders
            .iter()
            .filter(|(_, order)| order.until <= now)
            .map(|(ticket, order)| (*ticket, order.unit))
            .collect();
        for (ticket, unit) in late {
            self.obeyed(unit, ticket, 0, Some(format!("{unit} did not answer within {OBEYING:?}")));
        }
        if self.is_news && self.told <= now && self.watchers.any() {
            self.watchers.tell_text(self.units());
            (self.is_news, self.told) = (false, now + TOLD);
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Wave(wanted, caller) => {
                if let Err((refused, caller)) = self.begin(wanted, caller) {
                    drop(caller.send(Err(refused)));
                }
            }
            Call::Order(unit, order, caller) => self.order(unit, order, caller),
            Call::Moved(wave, moves) => {
                self.metrics.moved(&moves);
                if let Some(recalling) = self.recalling.get_mut(&wave) {
                    recalling.record.moves = moves;
                } else if let Some(kept) = self.kept.find(wave) {
                    let record = Record { moves, ..Record::clone(kept) };
                    self.watchers.tell(&record);
                    *kept = Arc::new(record);
                }
            }
            Call::Units(caller) => drop(caller.send(self.units())),
            Call::Waves(caller) => drop(caller.send(self.kept.all())),
        }
    }

    #[expect(clippy::type_complexity, reason = "the caller goes back to whoever answers it")]
    fn begin(
        &mut self,
        wanted: Wanted,
        caller: oneshot::Sender<Result<Arc<Record>, Refused>>,
    ) -> Result<(), (Refused, oneshot::Sender<Result<Arc<Record>, Refused>>)> {
        let linked: BTreeSet<u16> = self.links.keys().copied().collect();
        let initiators: BTreeSet<u16> = match (wanted.initiator, wanted.algorithm) {
            (Some(port), _) if self.tree.unit(port).is_none() => return Err((Refused::NoUnit, caller)),
            (Some(port), _) if !linked.contains(&port) => return Err((Refused::NotThere, caller)),
            // A barrier opens at whoever waits for nobody.
            (_, Algorithm::Barrier) => linked.clone(),
            (Some(port), _) => BTreeSet::from([port]),
            // The root; if it is gone, the first that is there.
            (None, _) => self
                .tree
                .units()
                .iter()
                .map(|unit| unit.port)
                .find(|port| linked.contains(port))
                .into_iter()
                .collect(),
        };
        if initiators.is_empty() {
            return Err((Refused::NobodyThere, caller));
        }
        if self.pending.len() >= MOST {
            return Err((Refused::TooMany, caller));
        }
        self.number += 1;
        let wave = WaveId { initiator: u32::from(self.port), number: self.number };
        let deadline = self.config.wave_deadline;
        let errand = Errand {
            wave: Some(wave),
            purpose: wanted.purpose.clone(),
            left_us: u64::try_from(deadline.as_micros()).ok(),
            is_below: false,
        };
        let started = Instant::now();
        for initiator in &initiators {
            let (sender, algorithm) = (Sender(self.port), wanted.algorithm);
            let start = Frame::Start { sender, algorithm, errand: errand.clone() };
            if let Some(out) = self.links.get(initiator)
                && out.try_send(start).is_err()
            {
                self.metrics.rejected("slow_link");
            }
        }
        let expected = match wanted.algorithm {
            Algorithm::Echo => initiators.clone(),
            Algorithm::Finn | Algorithm::Barrier => linked,
        };
        let pending = Pending {
            initiators: if wanted.algorithm == Algorithm::Barrier { BTreeSet::new() } else { initiators },
            wanted,
            started,
            started_ms: micros() / 1_000,
            // The units' own deadline is the first: what they tell at its end is to be heard.
            until: started + deadline + deadline / 4 + Duration::from_millis(50),
            expected,
            decided: BTreeSet::new(),
            sent: 0,
            is_still: true,
            callers: vec![caller],
        };
        self.pending.insert(wave, pending);
        Ok(())
    }

    fn order(&mut self, unit: u16, order: Order, caller: Obeyed) {
        self.number += 1;
        let (sender, ticket) = (Sender(self.port), self.number);
        let (frame, most) = match order {
            Order::Move { to, count } => (Frame::Move { sender, ticket, to, count }, count),
            Order::Add { count } => (Frame::Add { sender, ticket, count }, count),
        };
        self.orders.insert(ticket, Ordered { unit, most, until: Instant::now() + OBEYING, caller });
        if self.links.get(&unit).is_none_or(|out| out.try_send(frame).is_err()) {
            self.obeyed(unit, ticket, 0, Some(format!("{unit} is not linked")));
        }
    }

    fn units(&self) -> Arc<str> {
        let units: Vec<_> = self
            .tree
            .units()
            .iter()
            .map(|unit| {
                let state = self.states.get(&unit.port).cloned().unwrap_or_default();
                let is_live = self.links.contains_key(&unit.port);
                UnitNow {
                    name: &unit.name,
                    port: unit.port,
                    cpu: unit.cpu,
                    parent: self.tree.parent_of(unit.port),
                    is_live,
                    load: state.load,
                    running: state.running,
                    queued: state.queued,
                    reserved: state.reserved,
                    finished: state.finished,
                    link: state.link.filter(|_| is_live),
                }
            })
            .collect();
        let (load, cpu) =
            units.iter().fold((0, 0), |(load, cpu), unit| (load + unit.load, cpu + u64::from(unit.cpu)));
        let now = UnitsNow {
            kind: "units",
            strategy: self.config.strategy.name(),
            rebalance_interval_s: self
                .config
                .rebalance_interval
                .map_or(0.0, |interval| interval.as_secs_f64()),
            max_cpu: self.config.max_cpu,
            disbalance: ratio(load, cpu),
            units,
        };
        serde_json::to_string(&now).expect("only maps with keys of text").into()
    }
}

/// Tasks per core.
#[expect(clippy::cast_precision_loss, reason = "tasks and cores are far fewer than 2^52")]
fn ratio(load: u64, cpu: u64) -> f64 {
    if cpu == 0 { 0.0 } else { load as f64 / cpu as f64 }
}

#[derive(Serialize)]
struct UnitsNow<'a> {
    kind: &'static str,
    strategy: &'static str,
    rebalance_interval_s: f64,
    max_cpu: u32,
    disbalance: f64,
    units: Vec<UnitNow<'a>>,
}

#[derive(Serialize)]
struct UnitNow<'a> {
    name: &'a str,
    port: u16,
    cpu: u32,
    parent: Option<u16>,
    is_live: bool,
    load: u64,
    running: u64,
    queued: u64,
    reserved: u64,
    finished: u64,
    link: Option<u16>,
}
