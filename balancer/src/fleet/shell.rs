//! The owner task: performs the core's commands and brings back what came of them.
//!
//! Everything that takes time runs in a task of its own and returns as an event, so that the owner never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use slipring_hashing::PlacementError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::core::{Answer, Command, Core, Event, Ticket};
use super::events::{Events, News};
use super::handle::{ChangeError, ChangeReply, Changed, Fleet, Message};
use super::heartbeat::probe;
use super::memory::{Memory, MemoryError};
use super::past::{Past, warn};
use super::request::Change;
use super::runtime::{Exit, Owner as NameOwner, Runtime, RuntimeError, SpawnFailure};
use super::scribe::Scribe;
use super::state::{Instance, State};
use crate::config::PoolConfig;
use crate::metrics::Metrics;
use crate::proxy::upstream::{Alarm, Upstream, UpstreamLimits};
use crate::snapshot::{Entry, Shared, Snapshot};
use obeyed::{limits, reconciliations, settings};

/// Requests and reports waiting for the owner; more make their senders wait.
const INBOX: usize = 1024;

/// What a runtime may take for a spawn, beside the start timeout: its engine answers within half of this, or not.
const SPAWN_MARGIN: Duration = Duration::from_secs(60);
/// What a runtime may take to remove what is left of a spawn that took too long, or of the whole fleet.
const CLEAN_UP: Duration = Duration::from_secs(20);
/// What a stop may take, beside its grace.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Why the fleet could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The runtime cannot start replicas.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The membership file cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// More members than the ring holds.
    #[error(
        "{members} replicas {how}, and the configured ring holds {capacity}: raise ring.slots (or lower ring.virtual_servers, or take another ring.placement), or start with the old configuration and remove {excess} replicas first; nothing was changed", excess = members - capacity
    )]
    Full { members: usize, how: &'static str, capacity: usize },
    /// A first member's name is somebody else's.
    #[error(
        "the first replicas are called {prefix}-1, {prefix}-2 and so on, and '{name}' is the name of a container that is not this balancer's ({owner}): {advice}start with fleet.replicas = 0 and add replicas under other names", advice = owner.advice()
    )]
    FirstName { prefix: String, name: String, owner: NameOwner },
    /// The ring cannot hold the members.
    #[error("the ring cannot hold the members")]
    Placement(#[from] PlacementError),
}

/// What a fleet has beside its own configuration.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// Where everything is told.
    pub events: Events,
    /// Rung when a replica is given up.
    pub alarm: Alarm,
    /// Threads of the data plane.
    pub workers: usize,
}

/// Prepares `runtime`, takes up the remembered membership, and starts the owner task. With the fleet comes what
/// [`Runtime::own_addresses`] says.
///
/// # Errors
/// When replicas cannot be started at all, or the membership cannot be read.
pub async fn begin<R: Runtime>(
    config: &PoolConfig,
    past: Past,
    runtime: R,
    exits: mpsc::Receiver<Exit>,
    around: Surroundings,
) -> Result<(Fleet, Vec<IpAddr>), BeginError> {
    runtime.prepare().await?;
    let own_addresses = runtime.own_addresses().await;
    let unix_ms = unix_ms();
    let members = config.overlay.iter().flat_map(|overlay| &overlay.members);
    let roles = members.map(|member| (member.name.clone(), member.role.clone())).collect();
    let events = around.events.of_pool(&config.name).with_roles(roles);
    let started = Instant::now();
    let found = runtime.list().await?;
    let (remembered, memory) =
        past.members(config, &runtime, &found, |why| warn(&events, unix_ms, why)).await?;

    let settings = settings(config, unix_ms);
    let mut core = Core::new(settings, config.placement.build(&[])?);
    let first = core.begin(&remembered, found, Duration::ZERO)?;
    let (sender, inbox) = mpsc::channel(INBOX);
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty(&config.placement)?));
    let (settled_sender, settled) = watch::channel(false);
    let mut owner = Owner {
        core,
        runtime: Arc::new(runtime),
        limits: limits(config, around.workers, around.alarm),
        config: config.clone(),
        scribe: memory.map(|memory| scribe(memory, events.clone())),
        events: events.clone(),
        metrics: around.metrics,
        snapshot: snapshot.clone(),
        settled: settled_sender,
        upstreams: HashMap::new(),
        waiting: HashMap::new(),
        listing: Arc::new(Semaphore::new(1)),
        next_ticket: 1,
        started,
        unix_ms,
        sender: sender.downgrade(),
    };
    owner.perform(first);
    tokio::spawn(owner.run(inbox, exits));
    Ok((Fleet { inbox: sender, snapshot, events, settled }, own_addresses))
}

/// The clock on the wall, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

struct Owner<R> {
    core: Core,
    runtime: Arc<R>,
    config: PoolConfig,
    limits: UpstreamLimits,
    scribe: Option<Scribe>,
    events: Events,
    metrics: Arc<Metrics>,
    snapshot: Shared,
    settled: watch::Sender<bool>,
    /// Of members and of those that drain, by incarnation.
    upstreams: HashMap<u64, Arc<Upstream>>,
    waiting: HashMap<Ticket, ChangeReply>,
    listing: Arc<Semaphore>,
    next_ticket: Ticket,
    started: Instant,
    unix_ms: u64,
    /// Weak, so that the owner ends when the last handle is gone.
    sender: mpsc::WeakSender<Message>,
}

impl<R: Runtime> Owner<R> {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>, mut exits: mpsc::Receiver<Exit>) {
        let mut reconcile = reconciliations(&self.config);
        let mut done: Vec<oneshot::Sender<Vec<String>>> = Vec::new();
        let mut end: Option<Instant> = None;
        loop {
            let now = self.started.elapsed();
            let deadline = self.core.next_deadline(now).map(|at| self.started + at);
            let tick = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let patience = async {
                match end {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Shutdown(reply)) => {
                        end = end.or(Some(Instant::now() + self.end_within()));
                        done.push(reply);
                        self.handle(Event::Shutdown);
                    }
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(Exit { instance, why }) = exits.recv() => self.handle(Event::Exited { instance, why }),
                () = tick => self.handle(Event::Tick),
                () = patience => {}
                _ = reconcile.tick() => self.reconcile(),
            }
            if reconcile.period() != self.config.fleet.reconcile_interval {
                reconcile = reconciliations(&self.config);
            }
            if !done.is_empty() && (self.core.is_empty() || end.is_some_and(|end| Instant::now() >= end)) {
                return self.end(done).await;
            }
        }
    }

    /// How long everything may take to end: a drain, and then stops in their batches, one of them a second time.
    fn end_within(&self) -> Duration {
        let batches = self.core.views().len().div_ceil(self.config.fleet.task_batch) + 1;
        let stop = self.config.fleet.stop_timeout + STOP_MARGIN;
        self.config.fleet.stop_timeout + stop * u32::try_from(batches).unwrap_or(u32::MAX)
    }

    async fn end(self, done: Vec<oneshot::Sender<Vec<String>>>) {
        let left = self.core.left();
        if !left.is_empty() {
            tracing::error!(?left, "these could not be stopped");
        }
        if tokio::time::timeout(CLEAN_UP, self.runtime.clean_up()).await.is_err() {
            tracing::warn!("what the start had prepared could not be removed in time");
        }
        // Whoever hears of the end may begin another fleet with the same memory.
        if let Some(scribe) = self.scribe {
            scribe.end().await;
        }
        for reply in done {
            if reply.send(left.clone()).is_err() {
                tracing::debug!("nobody waited for the fleet's end");
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.started.elapsed();
        match message {
            Message::Add(change, reply) => match self.core.names_to_add(&change, now) {
                Ok(names) => self.vet(names, reply),
                Err(refused) => answer(reply, Err(refused.into())),
            },
            Message::Vetted(names, reply) => {
                // Another change may have come in between: the names are checked again, now as given.
                match self.core.names_to_add(&Change { n: names.len(), hostnames: names }, now) {
                    Ok(names) => {
                        let ticket = self.next_ticket;
                        self.next_ticket += 1;
                        self.waiting.insert(ticket, reply);
                        self.handle(Event::Add { ticket, names });
                    }
                    Err(refused) => answer(reply, Err(refused.into())),
                }
            }
            Message::Remove(change, reply) => match self.core.names_to_remove(&change) {
                Ok(names) => {
                    self.handle(Event::Remove { names });
                    self.answer_when_written(reply, Ok(self.core.names()));
                }
                Err(refused) => answer(reply, Err(refused.into())),
            },
            Message::Event(event) => {
                if let Event::Beat { instance, .. } = &event
                    && self.upstreams.get(&instance.incarnation).is_some_and(|upstream| upstream.has_served())
                {
                    self.handle(Event::Served { instance: instance.clone() });
                }
                self.handle(event);
            }
            Message::Configure(config, reply) => {
                self.configure(*config);
                if reply.send(()).is_err() {
                    tracing::debug!("nobody waited for the configuration to be obeyed");
                }
            }
            Message::Shutdown(_) => {}
        }
    }

    fn configure(&mut self, config: PoolConfig) {
        self.limits = limits(&config, self.limits.workers, self.limits.alarm.clone());
        self.upstreams.values().for_each(|upstream| upstream.obey(&self.limits));
        let (settings, ticket) = (settings(&config, self.unix_ms), self.next_ticket);
        self.next_ticket += 1; // nobody waits for what is added
        self.config = config;
        self.handle(Event::Configured { settings: Box::new(settings), ticket });
    }

    fn handle(&mut self, event: Event) {
        let commands = self.core.handle(event, self.started.elapsed());
        self.perform(commands);
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Spawn(instance) => self.spawn(instance),
                Command::Stop { instance, grace } => self.stop(instance, grace),
                Command::Probe { instance, running } => {
                    let (path, within) =
                        (self.config.fleet.heartbeat_path.clone(), self.config.fleet.heartbeat_timeout);
                    let transport = self.config.forward.upstream.transport.clone();
                    self.later(async move {
                        let beat = probe(running.address, &transport, path.as_ref(), within).await;
                        Message::Event(Event::Beat { instance, beat })
                    });
                }
                Command::Drain { instance, within } => self.drain(instance, within),
                Command::Abandon(instance) => {
                    if let Some(upstream) = self.upstreams.remove(&instance.incarnation) {
                        upstream.abandon();
                    }
                }
                Command::Tell(news) => self.tell(news),
                Command::Answer { ticket, answer: result } => self.answer_ticket(ticket, result),
                Command::Publish => self.publish(),
                Command::Remember => self.remember(),
            }
        }
    }

    /// Does `work` in a task of its own and takes its result as the next message.
    fn later(&self, work: impl Future<Output = Message> + Send + 'static) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let message = work.await;
            if let Some(sender) = sender.upgrade()
                && sender.send(message).await.is_err()
            {
                tracing::debug!("the fleet ended before its work");
            }
        });
    }

    fn vet(&self, names: Vec<String>, reply: ChangeReply) {
        let (runtime, sender) = (self.runtime.clone(), self.sender.clone());
        tokio::spawn(async move {
            if let Err(error) = runtime.vet(&names).await {
                return answer(reply, Err(ChangeError::Failed(error.into())));
            }
            match sender.upgrade() {
                Some(sender) => {
                    if let Err(mpsc::error::SendError(Message::Vetted(_, reply))) =
                        sender.send(Message::Vetted(names, reply)).await
                    {
                        answer(reply, Err(ChangeError::Gone));
                    }
                }
                None => answer(reply, Err(ChangeError::Gone)),
            }
        });
    }

    fn spawn(&self, instance: Instance) {
        let runtime = self.runtime.clone();
        let within = self.config.fleet.start_timeout + SPAWN_MARGIN;
        self.later(async move {
            let event = match tokio::time::timeout(within, runtime.spawn(&instance)).await {
                Ok(Ok(running)) => Event::Spawned { instance, running },
                Ok(Err(error)) => Event::SpawnFailed { instance, failure: error.into() },
                Err(_) => {
                    let left = tokio::time::timeout(CLEAN_UP, runtime.stop(&instance, Duration::ZERO)).await;
                    if !matches!(left, Ok(Ok(()))) {
                        tracing::warn!(
                            name = instance.name,
                            ?left,
                            "reconciliation removes what is left of it"
                        );
                    }
                    let what = format!("{} was not started within {within:?}", instance.name);
                    let advice = "see whether the machine or its Docker engine is overloaded";
                    Event::SpawnFailed { instance, failure: SpawnFailure::new(&what, advice) }
                }
            };
            Message::Event(event)
        });
    }

    fn stop(&self, instance: Instance, grace: Duration) {
        let runtime = self.runtime.clone();
        self.later(async move {
            let event = match runtime.stop(&instance, grace).await {
                Ok(()) => Event::Stopped { instance },
                Err(error) => Event::StopFailed { instance, why: SpawnFailure::from(error).to_string() },
            };
            Message::Event(event)
        });
    }

    fn drain(&self, instance: Instance, within: Duration) {
        let upstream = self.upstreams.get(&instance.incarnation).cloned();
        self.later(async move {
            if let Some(upstream) = upstream
                && tokio::time::timeout(within, upstream.drained()).await.is_err()
            {
                tracing::warn!(
                    name = instance.name,
                    in_flight = upstream.in_flight(),
                    "the drain's time is over"
                );
            }
            Message::Event(Event::Drained { instance })
        });
    }

    /// One listing at a time: an engine that is slow to answer is not asked ever more often.
    fn reconcile(&self) {
        let Ok(alone) = self.listing.clone().try_acquire_owned() else { return };
        let (runtime, asked) = (self.runtime.clone(), self.started.elapsed());
        self.later(async move {
            let _alone = alone;
            match runtime.list().await {
                Ok(found) => Message::Event(Event::Observed { asked, found }),
                Err(error) => {
                    tracing::warn!(error = %SpawnFailure::from(error), "what really runs could not be asked");
                    Message::Event(Event::Tick)
                }
            }
        });
    }

    fn answer_ticket(&mut self, ticket: Ticket, result: Answer) {
        if let Some(reply) = self.waiting.remove(&ticket) {
            self.answer_when_written(reply, result.map_err(ChangeError::Failed));
        }
    }

    fn tell(&self, news: News) {
        let unix_ms = self.unix_ms + self.started.elapsed().as_millis() as u64;
        match &news {
            News::Flatlined { .. }
            | News::SpawnFailed { .. }
            | News::StopFailed { .. }
            | News::Warning { .. } => {
                tracing::warn!(pool = &*self.config.name, news = %serde_json::json!(news), "fleet");
            }
            _ => tracing::info!(pool = &*self.config.name, news = %serde_json::json!(news), "fleet"),
        }
        self.metrics.happened(&news);
        self.events.publish(unix_ms, news);
    }

    fn publish(&mut self) {
        let mut members = Vec::new();
        for (instance, state, running) in self.core.members() {
            let upstream = running.map(|running| {
                let new = || {
                    let metrics = self.metrics.replica(&self.config.full_name(&instance.name));
                    Arc::new(Upstream::new(instance.clone(), running.address, &self.limits, metrics))
                };
                self.upstreams.entry(instance.incarnation).or_insert_with(new).clone()
            });
            members.push((instance.id, Entry { state, upstream }));
        }
        let views = self.core.views();
        // Also those that only drained: their counters were still wanted.
        let remain = |name: &str| views.iter().any(|view| view.name == name);
        for gone in self.snapshot.load().views.iter().filter(|view| !remain(&view.name)) {
            self.metrics.forget(&self.config.full_name(&gone.name));
        }
        let snapshot = Snapshot::new(self.core.table().clone(), self.core.names(), views, members);
        if snapshot.count(State::Starting) == 0 {
            self.settled.send_if_modified(|settled| !std::mem::replace(settled, true));
        }
        self.snapshot.store(Arc::new(snapshot));
    }

    fn remember(&self) {
        if let Some(scribe) = &self.scribe {
            scribe.remember(self.core.remember());
        }
    }

    /// Answers a caller when the change is on disk, or cannot be written, which the answer then says.
    fn answer_when_written(&self, reply: ChangeReply, result: Result<Vec<String>, ChangeError>) {
        let mut changed = match result {
            Ok(members) => Changed { members, unwritten: None },
            Err(error) => return answer(reply, Err(error)),
        };
        let Some(scribe) = &self.scribe else { return answer(reply, Ok(changed)) };
        let written = scribe.written();
        tokio::spawn(async move {
            changed.unwritten = written.wait().await.err();
            answer(reply, Ok(changed));
        });
    }
}

fn scribe(memory: Memory, events: Events) -> Scribe {
    Scribe::new(memory, move |why| {
        tracing::warn!(why, "the membership could not be written");
        events.publish(unix_ms(), News::Warning { why });
    })
}

fn answer(reply: ChangeReply, result: Result<Changed, ChangeError>) {
    if reply.send(result).is_err() {
        tracing::debug!("the caller of a change was gone before its answer");
    }
}

mod obeyed;
#[cfg(test)]
mod tests;
