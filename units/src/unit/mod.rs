//! One unit: an owner of all it has, to which everything else is an event.

mod edge;
mod metrics;
mod transfer;
mod uplink;
mod waves;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slipring_waves::topology::Tree;
use slipring_waves::{NodeId, WaveId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::frame::{Algorithm, Errand, Frame, Sender, State};
use crate::gathered::Gathered;
use crate::link::{Inbound, Outbox};
use crate::places::Places;
use crate::tasks::{AddError, Journal, JournalError, TaskId, Tasks, Verdict};
use metrics::Metrics;
use uplink::Uplink;
use waves::{Around, Ignored, Now, Output, Told, Waves};

/// Events that wait for the owner. Links wait when there are more.
const WAITING: usize = 4_096;
/// Links of strangers. Units that bring tasks have places of their own, one each.
const STRANGERS: usize = 256;
/// Links of balancers: there is one, and the one before it that nobody has noticed to be gone.
const BALANCERS: usize = 8;
/// Bytes of a wave's purpose.
pub(crate) const LONGEST_PURPOSE: usize = 64;
/// How often the balancer hears what has changed, at most.
const TOLD: Duration = Duration::from_millis(100);
/// How long whoever has tasks moved waits for the target.
const MOVING: Duration = Duration::from_secs(2);
/// Nodes from here on are strangers' links: ports are below.
const STRANGER: NodeId = 1 << 31;

/// What a unit is started with.
#[derive(Debug)]
pub struct Options {
    /// The tree that it belongs to.
    pub tree: Arc<Tree>,
    /// Which of its units it is.
    pub port: u16,
    /// What all of them are told.
    pub config: Config,
    /// Where the others are.
    pub places: Places,
    /// The folder of its journal; without one, its tasks end with it.
    pub state: Option<std::path::PathBuf>,
}

/// Why a unit cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// It is not in the tree.
    #[error("no unit has port {port}; these do: {}", .ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", "))]
    NoUnit {
        /// The port.
        port: u16,
        /// Those that are.
        ports: Vec<u16>,
    },
    /// What it did before cannot be read, or what it does cannot be written.
    #[error("the unit's journal")]
    Journal(#[from] JournalError),
    /// The folder of its journal cannot be made.
    #[error("the folder {} cannot be made", .path.display())]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Tasks are on their way to somebody who is not there.
    #[error(
        "tasks of unit {port} are offered to {to}, which this tree does not have: start the tree that has it once more, or name another folder for this one's tasks"
    )]
    Left {
        /// Whose tasks.
        port: u16,
        /// To whom.
        to: u16,
    },
    /// It cannot serve.
    #[error("the unit cannot serve")]
    Serve(#[source] std::io::Error),
}

/// Who is at the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Whom the unit hangs on.
    Up(u16),
    /// Who hangs on it.
    Below(u16),
    /// Who begins waves and has tasks moved.
    Balancer,
    /// A unit that brings tasks: it has at most one offer for us at a time.
    Source(u16),
    /// Anybody else.
    Stranger,
}

type LinkId = u64;

/// Numbers for links.
#[derive(Clone, Debug, Default)]
struct LinkIds(Arc<AtomicU64>);

impl LinkIds {
    fn next(&self) -> LinkId {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// What happens to a unit.
#[derive(Debug)]
enum Event {
    /// There is a link.
    Opened { link: LinkId, peer: Peer, out: Outbox },
    /// Something came over it.
    Inbound { link: LinkId, inbound: Inbound },
    /// It is gone.
    Closed { link: LinkId },
    /// An offer was answered.
    Settled { to: u16, batch: u64, verdict: Verdict },
    /// Somebody calls.
    Call(Call),
}

/// What is asked of a unit over HTTP.
#[derive(Debug)]
enum Call {
    /// How it is.
    Specs(oneshot::Sender<State>),
    /// A new task.
    Add(oneshot::Sender<Result<TaskId, AddError>>),
    /// Its tasks by name.
    Tasks(oneshot::Sender<Names>),
    /// The tree from it downwards.
    Echo(oneshot::Sender<Result<Gathered, Ignored>>),
    /// Tasks for somebody else.
    Move { to: u16, count: u64, answer: oneshot::Sender<Moved> },
}

/// What has become of an order to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Moved {
    count: u64,
    reason: Option<String>,
}

/// Tasks by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Names {
    running: Vec<TaskId>,
    queued: Vec<TaskId>,
    reserved: BTreeMap<u16, Vec<TaskId>>,
    finished: u64,
    /// The latest that were finished.
    recent: Vec<TaskId>,
}

struct Link {
    peer: Peer,
    out: Outbox,
}

/// Who waits for tasks to be moved.
enum Waiter {
    Call(oneshot::Sender<Moved>),
    Ticket { link: LinkId, ticket: u64 },
}

struct Moving {
    waiter: Option<Waiter>,
    count: u64,
    until: Instant,
}

struct Unit {
    port: u16,
    name: String,
    cpu: u32,
    tree: Arc<Tree>,
    config: Config,
    places: Places,
    tasks: Tasks,
    waves: Waves,
    links: HashMap<LinkId, Link>,
    up: Option<(u16, LinkId)>,
    below: BTreeMap<u16, LinkId>,
    sources: BTreeMap<u16, LinkId>,
    calls: HashMap<WaveId, oneshot::Sender<Result<Gathered, Ignored>>>,
    moving: BTreeMap<u16, Moving>,
    /// What the balancer was told last, and when it may be told again.
    told: (State, Instant),
    begun: u64,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
}

/// Serves a unit until `shutdown`.
///
/// # Errors
/// When it cannot begin, or cannot write down what it does.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), UnitError> {
    let Options { tree, port, config, places, state } = options;
    let no_unit = || UnitError::NoUnit { port, ports: tree.units().iter().map(|unit| unit.port).collect() };
    let known = tree.unit(port).ok_or_else(no_unit)?.clone();
    let journal = journal(state.as_deref(), port)?;
    // One of them says it for all.
    let strays = state.filter(|_| tree.root().port == port).map(|folder| strays(&folder, &tree));
    if let Some(strays) = strays.filter(|strays| !strays.is_empty()) {
        tracing::warn!(
            files = ?strays,
            "journals of units that this tree does not have: their tasks wait until a tree with those units is started, or the files are moved away"
        );
    }
    let (events, inbox) = mpsc::channel(WAITING);
    let (links, metrics) = (LinkIds::default(), Arc::new(Metrics::new()));
    let mut unit = Unit {
        port,
        name: known.name,
        cpu: known.cpu,
        tasks: Tasks::new(port, known.cpu, config.queue, journal),
        waves: Waves::new(port, &tree),
        tree: Arc::clone(&tree),
        config,
        places: places.clone(),
        links: HashMap::new(),
        up: None,
        below: BTreeMap::new(),
        sources: BTreeMap::new(),
        calls: HashMap::new(),
        moving: BTreeMap::new(),
        told: (State::default(), Instant::now()),
        begun: micros(),
        metrics: Arc::clone(&metrics),
        events: events.clone(),
    };
    for (to, offer) in unit.tasks.open_offers().collect::<Vec<_>>() {
        if unit.tree.unit(to).is_none() {
            return Err(UnitError::Left { port, to });
        }
        unit.bring(to, offer);
    }
    let uplink = Uplink { port, tree, places, links: links.clone(), events: events.clone() };
    let uplink = tokio::spawn(uplink.run());
    let (end, ended) = oneshot::channel::<()>();
    let edge = edge::Edge { port, tree: Arc::clone(&unit.tree), links, events, metrics };
    let serving = tokio::spawn(edge.serve(listener, async move { drop(ended.await) }));
    tokio::select! {
        () = unit.run(inbox) => {}
        () = shutdown => {}
    }
    drop(end);
    uplink.abort();
    drop(unit);
    // Links are closed by now; what is left are calls that would have been answered.
    let served = tokio::time::timeout(Duration::from_secs(1), serving).await;
    match served {
        Ok(Ok(served)) => served.map_err(UnitError::Serve),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

fn journal(folder: Option<&Path>, port: u16) -> Result<Journal, UnitError> {
    let Some(folder) = folder else { return Ok(Journal::in_memory(micros())) };
    std::fs::create_dir_all(folder)
        .map_err(|source| UnitError::Folder { path: folder.to_owned(), source })?;
    Ok(Journal::open(&folder.join(format!("{port}.journal")), micros())?)
}

/// Journals in a folder that are no unit's.
fn strays(folder: &Path, tree: &Tree) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let is_stray = |path: &std::path::PathBuf| {
        let port = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u16>().ok());
        path.extension().is_some_and(|extension| extension == "journal")
            && port.is_some_and(|port| tree.unit(port).is_none())
    };
    let mut strays: Vec<_> = files.filter(is_stray).collect();
    strays.sort();
    strays
}

/// Since 1970.
pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn now() -> Now {
    Now { at: Instant::now(), wall_us: micros() }
}

const fn stranger(link: LinkId) -> NodeId {
    STRANGER | (link as NodeId & (STRANGER - 1))
}

impl Unit {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>) {
        loop {
            let tasks = match self.tasks.turn(Instant::now()) {
                Ok(next) => next,
                Err(error) => {
                    // A full disk may have room again.
                    tracing::error!(%error, "what was finished cannot be written down");
                    Some(Instant::now() + Duration::from_secs(1))
                }
            };
            self.tell();
            let told = (self.told.0 != self.state()).then_some(self.told.1);
            let moving =
                self.moving.values().filter(|moving| moving.waiter.is_some()).map(|moving| moving.until);
            let wake = [tasks, self.waves.next_deadline(), told, moving.min()].into_iter().flatten().min();
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
                    // What has come meanwhile is looked at before the clock is.
                    for _ in 0..64 {
                        match inbox.try_recv() {
                            Ok(event) => self.event(event),
                            Err(_) => break,
                        }
                    }
                }
                () = sleeping => {}
            }
            let outputs = self.waves.expire(now());
            self.put(outputs);
            self.late();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Opened { link, peer, out } => self.opened(link, peer, out),
            Event::Closed { link } => self.closed(link),
            Event::Inbound { link, inbound: Inbound::Rejected(why) } => self.rejected(link, why.name()),
            Event::Inbound { link, inbound: Inbound::Frame(frame) } => self.frame(link, frame),
            Event::Settled { to, batch, verdict } => self.settled(to, batch, verdict),
            Event::Call(call) => self.call(call),
        }
    }

    fn opened(&mut self, link: LinkId, peer: Peer, out: Outbox) {
        let alike = || self.links.values().filter(|link| link.peer == peer).count();
        let is_full = match peer {
            Peer::Stranger => alike() >= STRANGERS,
            Peer::Balancer => alike() >= BALANCERS,
            Peer::Up(_) | Peer::Below(_) | Peer::Source(_) => false,
        };
        if is_full {
            self.metrics.rejected("too_many_links");
            return; // without an outbox it ends
        }
        // An earlier link of the same unit is dead, whether or not that was noticed.
        let earlier = match peer {
            Peer::Up(port) => self.up.replace((port, link)).map(|(_, link)| link),
            Peer::Below(port) => self.below.insert(port, link),
            Peer::Source(port) => self.sources.insert(port, link),
            Peer::Balancer | Peer::Stranger => None,
        };
        self.links.insert(link, Link { peer, out });
        if let Some(earlier) = earlier {
            self.closed(earlier);
        }
        if peer == Peer::Balancer {
            self.told.0 = State::default();
        }
    }

    fn closed(&mut self, link: LinkId) {
        let Some(Link { peer, .. }) = self.links.remove(&link) else { return };
        let lost = match peer {
            Peer::Up(port) => {
                self.up.take_if(|(_, up)| *up == link);
                port.into()
            }
            Peer::Below(port) => {
                if self.below.get(&port) == Some(&link) {
                    self.below.remove(&port);
                }
                port.into()
            }
            Peer::Balancer => return,
            Peer::Source(port) => {
                if self.sources.get(&port) == Some(&link) {
                    self.sources.remove(&port);
                }
                stranger(link)
            }
            Peer::Stranger => stranger(link),
        };
        let outputs = self.waves.lost(lost, now());
        self.put(outputs);
    }

    fn rejected(&self, link: LinkId, why: &'static str) {
        self.metrics.rejected(why);
        tracing::debug!(link, why, "a message was refused");
    }

    fn around(&self) -> Around {
        let below: BTreeSet<u16> = self.below.keys().copied().collect();
        let children = self.tree.children_of(self.port);
        Around {
            up: self.up.map(|(port, _)| port),
            absent_below: children.filter(|child| !below.contains(child)).collect(),
            absent_up: self.tree.parent_of(self.port).filter(|_| self.up.is_none()),
            below,
        }
    }

    fn own(&self) -> Gathered {
        let counts = self.tasks.counts();
        Gathered {
            name: self.name.clone(),
            load: counts.load() as u64,
            cpu: self.cpu,
            port: self.port,
            movable: (counts.queued + counts.running) as u64,
            ..Gathered::default()
        }
    }

    fn state(&self) -> State {
        let counts = self.tasks.counts();
        State {
            sender: self.port,
            load: counts.load() as u64,
            running: counts.running as u64,
            queued: counts.queued as u64,
            reserved: counts.reserved as u64,
            finished: counts.finished,
            link: self.up.map(|(port, _)| port),
        }
    }

    fn frame(&mut self, link: LinkId, frame: Frame) {
        let Some(Link { peer, .. }) = self.links.get(&link) else { return };
        let peer = *peer;
        let from = match peer {
            Peer::Up(port) | Peer::Below(port) => port.into(),
            Peer::Balancer | Peer::Source(_) | Peer::Stranger => stranger(link),
        };
        if let Some(reason) = self.refusal(peer, &frame) {
            return self.rejected(link, reason);
        }
        match frame {
            Frame::Echo { errand, .. } => self.told(from, Told::Explore, errand),
            Frame::EchoBack { errand, payload, .. } => self.told(from, Told::Report(payload), errand),
            // The original's says no purpose, because it has one: a task for every unit.
            Frame::Finn { errand: Errand { wave: None, .. }, .. } => {
                let errand = self.fresh("spread".to_owned(), false);
                self.start(Algorithm::Finn, errand);
            }
            Frame::Finn { errand, known, .. } => self.told(from, Told::Known(known), errand),
            Frame::Barrier { errand, .. } => self.told(from, Told::Released, errand),
            Frame::Start { algorithm, errand, .. } if peer == Peer::Balancer => self.start(algorithm, errand),
            Frame::Recall { wave, .. } if peer == Peer::Balancer => {
                let waves::Recalled { sent, father, trace } = self.waves.recall(wave);
                self.send(link, Frame::Recalled { wave, sender: self.port, sent, father, trace });
            }
            Frame::Add { ticket, count, .. } if peer == Peer::Balancer => {
                let time = self.config.task_time;
                let mut added = Moved::default();
                while added.count < count && added.reason.is_none() {
                    match self.tasks.add(None, time) {
                        Ok(_) => added.count += 1,
                        Err(error) => added.reason = Some(error.to_string()),
                    }
                }
                self.moved(Waiter::Ticket { link, ticket }, added);
            }
            Frame::Move { ticket, to, count, .. } if peer == Peer::Balancer => {
                self.give(to, count, Waiter::Ticket { link, ticket });
            }
            Frame::Offer { sender, offer } if peer == Peer::Source(sender) => {
                let batch = offer.batch;
                match self.tasks.take(sender, offer) {
                    Ok(verdict) => {
                        self.metrics.offered(verdict);
                        self.send(link, Frame::Answer { sender: self.port, batch, verdict });
                    }
                    // No answer: it will be asked again.
                    Err(error) => {
                        let is_old = matches!(error, JournalError::Inconsistent(_));
                        self.metrics.rejected(if is_old { "old_offer" } else { "journal" });
                        tracing::warn!(%error, from = sender, batch, "an offer cannot be answered");
                    }
                }
            }
            _ => self.rejected(link, "wrong_route"),
        }
    }

    /// Why a frame is none that this peer of ours would send.
    fn refusal(&self, peer: Peer, frame: &Frame) -> Option<&'static str> {
        let errand = match frame {
            Frame::Echo { errand, .. }
            | Frame::EchoBack { errand, .. }
            | Frame::Finn { errand, .. }
            | Frame::Barrier { errand, .. }
            | Frame::Start { errand, .. } => errand,
            Frame::Offer { sender, .. } if self.tree.unit(*sender).is_none() => return Some("unknown_unit"),
            Frame::Offer { offer, .. } if !Tasks::is_sane(offer) => return Some("offer"),
            _ => return None,
        };
        let is_linked = matches!(peer, Peer::Up(_) | Peer::Below(_));
        if errand.purpose.len() > LONGEST_PURPOSE {
            return Some("long_purpose");
        }
        match frame {
            Frame::Start { .. } => None,
            Frame::EchoBack { payload, .. } if !payload.is_countable() => Some("counts"),
            // A wave that has a name is the units' own.
            _ if errand.wave.is_some() && !is_linked => Some("not_a_neighbor"),
            Frame::Finn { known, .. } => {
                let is_unit =
                    |node: NodeId| u16::try_from(node).is_ok_and(|port| self.tree.unit(port).is_some());
                let all = known.inc.iter().chain(known.ninc.iter()).all(is_unit);
                (is_linked && !all).then_some("unknown_unit")
            }
            _ => None,
        }
    }

    fn fresh(&mut self, purpose: String, is_below: bool) -> Errand {
        self.begun += 1;
        let wave = WaveId { initiator: self.port.into(), number: self.begun };
        let left = self.config.wave_deadline.as_micros();
        Errand { wave: Some(wave), purpose, left_us: u64::try_from(left).ok(), is_below }
    }

    fn told(&mut self, from: NodeId, told: Told, errand: Errand) {
        let errand = match (&told, errand.wave) {
            // The original's messages have no wave: one is begun for them.
            (Told::Explore, None) => self.fresh(errand.purpose, false),
            _ => errand,
        };
        let (around, own) = (self.around(), self.own());
        match self.waves.hear(from, told, errand, &around, || own, now()) {
            Ok(outputs) => self.put(outputs),
            Err(ignored) => self.metrics.rejected(ignored.name()),
        }
    }

    fn start(&mut self, algorithm: Algorithm, errand: Errand) {
        let wave = errand.wave;
        let (around, own) = (self.around(), self.own());
        match self.waves.start(algorithm, errand, &around, || own, now()) {
            Ok(outputs) => {
                self.metrics.wave(algorithm);
                self.put(outputs);
            }
            Err(ignored) => {
                self.metrics.rejected(ignored.name());
                if let Some(call) = wave.and_then(|wave| self.calls.remove(&wave)) {
                    drop(call.send(Err(ignored)));
                }
            }
        }
    }

    fn put(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, frame) => {
                    let link = match u16::try_from(to) {
                        Ok(port) => self
                            .below
                            .get(&port)
                            .copied()
                            .or_else(|| self.up.filter(|(up, _)| *up == port).map(|(_, link)| link)),
                        Err(_) => self.links.keys().copied().find(|link| stranger(*link) == to),
                    };
                    match link {
                        Some(link) => self.send(link, frame),
                        None => {
                            let outputs = self.waves.lost(to, now());
                            self.put(outputs);
                        }
                    }
                }
                Output::Decided { wave, sent, tree, on, is_elsewhere } => {
                    if let Some(call) = self.calls.remove(&wave) {
                        drop(call.send(Ok(tree.unwrap_or_default())));
                        continue;
                    }
                    if !on.is_empty() {
                        self.spread(wave);
                    }
                    let decided = Frame::Decided { wave, sender: self.port, sent, tree, on, is_elsewhere };
                    for link in self.balancers() {
                        self.send(link, decided.clone());
                    }
                }
            }
        }
    }

    /// A wave of Finn's adds one task to every unit, once: the task's name is the wave's.
    fn spread(&mut self, wave: WaveId) {
        if self.waves.purpose(wave) != Some("spread") {
            return;
        }
        let name = format!("{wave}-{}", self.port);
        if let Err(error) = self.tasks.add(Some(name), self.config.task_time) {
            tracing::warn!(%error, %wave, "the wave's task was not added");
            self.metrics.rejected("task");
        }
    }

    fn balancers(&self) -> Vec<LinkId> {
        let balancers = self.links.iter().filter(|(_, link)| link.peer == Peer::Balancer);
        balancers.map(|(link, _)| *link).collect()
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        let Some(Link { out, .. }) = self.links.get(&link) else { return };
        if out.try_send(frame).is_err() {
            // Gone, or too slow to be waited for.
            self.metrics.rejected("slow_link");
            self.closed(link);
        }
    }

    fn tell(&mut self) {
        let state = self.state();
        if self.told.0 == state || self.told.1 > Instant::now() {
            return;
        }
        for link in self.balancers() {
            self.send(link, Frame::State(state.clone()));
        }
        self.metrics.state(&state, self.waves.running());
        self.told = (state, Instant::now() + TOLD);
    }

    fn give(&mut self, to: u16, count: u64, waiter: Waiter) {
        let reason = if to == self.port || self.tree.unit(to).is_none() {
            Some(format!("{to} is no other unit"))
        } else if self.moving.contains_key(&to) {
            Some(format!("an earlier offer to {to} is not answered yet"))
        } else {
            None
        };
        if reason.is_some() {
            return self.moved(waiter, Moved { count: 0, reason });
        }
        match self.tasks.reserve(to, usize::try_from(count).unwrap_or(usize::MAX), Instant::now()) {
            Ok(Some(offer)) => {
                let count = offer.tasks.len() as u64;
                self.bring(to, offer);
                self.moving
                    .insert(to, Moving { waiter: Some(waiter), count, until: Instant::now() + MOVING });
            }
            Ok(None) => self.moved(waiter, Moved::default()),
            Err(error) => {
                tracing::error!(%error, "tasks cannot be set aside");
                self.moved(waiter, Moved { count: 0, reason: Some(error.to_string()) });
            }
        }
    }

    fn bring(&mut self, to: u16, offer: crate::tasks::Offer) {
        let count = offer.tasks.len() as u64;
        self.moving.insert(to, Moving { waiter: None, count, until: Instant::now() });
        tokio::spawn(transfer::bring(self.port, to, offer, self.places.clone(), self.events.clone()));
    }

    fn settled(&mut self, to: u16, batch: u64, verdict: Verdict) {
        if let Err(error) = self.tasks.settle(to, batch, verdict) {
            // A full disk may have room again; until then the offer is open.
            tracing::error!(%error, to, "an answer cannot be written down");
            let events = self.events.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(events.send(Event::Settled { to, batch, verdict }).await);
            });
            return;
        }
        let Some(Moving { waiter, count, .. }) = self.moving.remove(&to) else { return };
        let moved = match verdict {
            Verdict::Accepted => Moved { count, reason: None },
            Verdict::Refused => Moved { count: 0, reason: Some(format!("{to} has no room")) },
        };
        if let Some(waiter) = waiter {
            self.moved(waiter, moved);
        }
    }

    /// Who waited long enough is told so; the offer goes on.
    fn late(&mut self) {
        let now = Instant::now();
        let late: Vec<_> = self
            .moving
            .iter_mut()
            .filter(|(_, moving)| moving.until <= now)
            .filter_map(|(to, moving)| Some((*to, moving.waiter.take()?)))
            .collect();
        for (to, waiter) in late {
            let reason = format!("{to} does not answer; the tasks are set aside until it does");
            self.moved(waiter, Moved { count: 0, reason: Some(reason) });
        }
    }

    fn moved(&mut self, waiter: Waiter, moved: Moved) {
        match waiter {
            Waiter::Call(call) => drop(call.send(moved)),
            Waiter::Ticket { link, ticket } => {
                let (sender, Moved { count, reason }) = (Sender(self.port), moved);
                self.send(link, Frame::Moved { sender, ticket, moved: count, reason });
            }
        }
    }

    fn call(&mut self, call: Call) {
        match call {
            Call::Specs(answer) => drop(answer.send(self.state())),
            Call::Tasks(answer) => drop(answer.send(self.names())),
            Call::Add(answer) => drop(answer.send(self.tasks.add(None, self.config.task_time))),
            Call::Move { to, count, answer } => self.give(to, count, Waiter::Call(answer)),
            Call::Echo(answer) => {
                let errand = self.fresh("ask".to_owned(), true);
                if let Some(wave) = errand.wave {
                    self.calls.insert(wave, answer);
                }
                self.start(Algorithm::Echo, errand);
            }
        }
    }

    fn names(&self) -> Names {
        let ledger = self.tasks.ledger();
        let running: HashSet<&TaskId> = self.tasks.running().collect();
        let offered =
            |reserved: &crate::tasks::Reserved| reserved.tasks.iter().map(|task| task.id.clone()).collect();
        Names {
            queued: ledger.held.keys().filter(|id| !running.contains(id)).cloned().collect(),
            running: running.into_iter().cloned().collect(),
            reserved: ledger.reserved.iter().map(|(to, reserved)| (*to, offered(reserved))).collect(),
            finished: ledger.finished,
            recent: ledger.recent.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journals_of_units_that_are_not_in_the_tree_are_found() {
        let folder = tempfile::TempDir::new().expect("a folder");
        for name in
            ["8000.journal", "8001.journal", "7000.journal", "8001.new", "notes.journal", "99999.journal"]
        {
            std::fs::write(folder.path().join(name), "").expect("ours");
        }
        let tree = Tree::parse(r#"{"name":"a","port":8000,"cpu":1,"children":[]}"#).expect("a tree");
        let found = strays(folder.path(), &tree);
        assert_eq!(found, ["7000.journal", "8001.journal"].map(|name| folder.path().join(name)));
        assert!(strays(&folder.path().join("none"), &tree).is_empty());
    }
}
