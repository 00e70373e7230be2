//! The fleet's decisions: an event and a time go in, commands come out.
//!
//! Nothing in here waits, knows a clock, a socket or an engine; the shell performs the commands and reports what
//! came of them as further events. Every event about a replica names its [`Instance`], so that late news of an
//! earlier life changes nothing. A controller that polls and repairs (level-triggered all the way) was the
//! alternative: it heals within its polling interval, not within milliseconds of a death. We take events as hints
//! and let [`Event::Observed`] correct what they missed.

mod configured;
mod healing;
mod leaving;
mod member;
mod membership;
mod reconcile;
mod slow_start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use slipring_hashing::{Placement, ReplicaId, Table, Weight};

use super::backoff::BackoffPolicy;
use super::events::News;
use super::memory::Remembered;
use super::request::{Change, RequestError};
use super::runtime::{Found, SpawnFailure};
use super::state::{Duty, Instance, ReplicaView, Running, State};
use crate::config::RespawnName;
use leaving::Leaving;
use member::{Member, Phase};
use membership::Addition;
pub(crate) use membership::ring_member;

/// What the decisions depend on, beside the events.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consecutive missed heartbeats that flatline a replica.
    pub failures: u32,
    /// From the start of one heartbeat to the start of the next.
    pub heartbeat_interval: Duration,
    /// What one heartbeat may take; a replica that missed its last is asked again after this, or after nine tenths of
    /// the interval if that is longer.
    pub heartbeat_timeout: Duration,
    /// From launch to the first good heartbeat.
    pub start_timeout: Duration,
    /// Of a drain, and again from the polite signal to the kill.
    pub stop_timeout: Duration,
    /// Spawns, and apart from them stops, under way at a time.
    pub task_batch: usize,
    /// Heartbeats under way at a time.
    pub request_batch: usize,
    /// What a respawned replica is called.
    pub respawn_name: RespawnName,
    /// Delays between deaths and respawns.
    pub backoff: BackoffPolicy,
    /// The most replicas there may be.
    pub max_replicas: usize,
    /// How long a member that is back, or new, takes to its whole share; zero: no time.
    pub slow_start: Duration,
    /// What names that are drawn begin with.
    pub prefix: String,
    /// Members that are listed by name, with their shares; all others are alike.
    pub listed: BTreeMap<String, Weight>,
    /// What each member is for, where all of them are given for ever: nobody joins them, and nobody leaves.
    pub duties: BTreeMap<String, Duty>,
    /// Seeds the drawing of names and victims.
    pub seed: u64,
    /// The wall clock at time zero, in milliseconds since 1970; names show it.
    pub unix_ms: u64,
}

/// Tells one caller's `/add` from another's.
pub type Ticket = u64;

/// The answer to an `/add`: the members then, or why nothing was added.
pub type Answer = Result<Vec<String>, SpawnFailure>;

/// What one heartbeat came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// A 2xx in time.
    Good,
    /// Nobody listens at the address: no need to ask again.
    Refused,
    /// Anything else; the words say what.
    Missed(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// These new members are wanted. Names were checked by [`Core::names_to_add`] at the same instant.
    Add { ticket: Ticket, names: Vec<String> },
    /// These members are to go. Names were checked by [`Core::names_to_remove`].
    Remove { names: Vec<String> },
    /// A spawn succeeded.
    Spawned { instance: Instance, running: Running },
    /// A spawn failed.
    SpawnFailed { instance: Instance, failure: SpawnFailure },
    /// The runtime saw it end.
    Exited { instance: Instance, why: String },
    /// A request found nobody listening at its address.
    Refused { instance: Instance },
    /// A heartbeat ended.
    Beat { instance: Instance, beat: Beat },
    /// Requests were answered by it since it was last asked for a heartbeat.
    Served { instance: Instance },
    /// A draining replica has no request left, or its time is over.
    Drained { instance: Instance },
    /// Nothing is left of it.
    Stopped { instance: Instance },
    /// It could not be stopped.
    StopFailed { instance: Instance, why: String },
    /// What really ran when the runtime was asked, at time `asked`.
    Observed { asked: Duration, found: Vec<Found> },
    /// Other settings hold from now on; newly listed members are added with this ticket.
    Configured { settings: Box<Settings>, ticket: Ticket },
    /// Only time has passed.
    Tick,
    /// Everything is to stop.
    Shutdown,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start it; answer with `Spawned` or `SpawnFailed`.
    Spawn(Instance),
    /// End it, politely for `grace`, and remove every trace; answer with `Stopped` or `StopFailed`.
    Stop { instance: Instance, grace: Duration },
    /// Ask for a heartbeat; answer with `Beat`.
    Probe { instance: Instance, running: Running },
    /// Wait until no request is left on it, at most `within`; answer with `Drained`.
    Drain { instance: Instance, within: Duration },
    /// Whoever waits for an answer of it should wait no more.
    Abandon(Instance),
    /// Let the world know.
    Tell(News),
    /// Answer an `/add`.
    Answer { ticket: Ticket, answer: Answer },
    /// What readers see has changed.
    Publish,
    /// What must survive a restart has changed.
    Remember,
}

/// The owner of all fleet state.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    rng: SmallRng,
    table: Arc<Table>,
    members: BTreeMap<ReplicaId, Member>,
    /// Members in the order in which they joined.
    order: Vec<ReplicaId>,
    leaving: BTreeMap<u64, Leaving>,
    additions: Vec<Addition>,
    stops: VecDeque<(Instance, Duration)>,
    /// What ended since the last reconciliation, and when.
    ended: Vec<(Instance, Duration)>,
    /// Stops under way, and whether each is a polite one.
    stopping: Vec<(Instance, bool)>,
    /// What could not be stopped, and since when.
    unstopped: Vec<(Instance, Duration)>,
    /// Heartbeats under way, also of lives that are over: each ends with a `Beat`.
    asking: Vec<Instance>,
    next_incarnation: u64,
    /// The largest that a batch was allowed to be: of spawns and stops, of heartbeats.
    largest: (usize, usize),
    shutting_down: bool,
    out: Vec<Command>,
}

impl Core {
    /// A fleet without members. Begin with [`Core::begin`].
    pub fn new(settings: Settings, table: Table) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(settings.seed),
            largest: (settings.task_batch, settings.request_batch),
            settings,
            table: Arc::new(table),
            members: BTreeMap::new(),
            order: Vec::new(),
            leaving: BTreeMap::new(),
            additions: Vec::new(),
            stops: VecDeque::new(),
            stopping: Vec::new(),
            unstopped: Vec::new(),
            asking: Vec::new(),
            ended: Vec::new(),
            next_incarnation: 1,
            shutting_down: false,
            out: Vec::new(),
        }
    }

    /// Takes one event at time `now` (since the fleet began) and says what to do.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Command> {
        match event {
            Event::Add { ticket, names } => self.add(ticket, names, now),
            Event::Remove { names } => self.remove(&names),
            Event::Spawned { instance, running } => self.spawned(&instance, running, now),
            Event::SpawnFailed { instance, failure } => self.spawn_failed(&instance, &failure, now),
            Event::Exited { instance, why } => self.exited(&instance, &why, now),
            Event::Refused { instance } => self.refused(&instance, now),
            Event::Beat { instance, beat } => self.beat(&instance, beat, now),
            Event::Served { instance } => self.served(&instance, now),
            Event::Drained { instance } => self.drained(&instance),
            Event::Stopped { instance } => self.stopped(&instance, now),
            Event::StopFailed { instance, why } => self.stop_failed(&instance, why, now),
            Event::Observed { asked, found } => self.observed(asked, found, now),
            Event::Configured { settings, ticket } => self.configured(*settings, ticket, now),
            Event::Tick => {}
            Event::Shutdown => self.shut_down(),
        }
        self.pump(now);
        // Readers see the fleet as it is before they hear of it, and the smaller ring before anyone waits for the last
        // request of what left it.
        self.out.sort_by_key(|command| match command {
            Command::Publish => 0,
            Command::Drain { .. } => 2,
            _ => 1,
        });
        std::mem::take(&mut self.out)
    }

    /// Does what is due and fits into the batches.
    fn pump(&mut self, now: Duration) {
        self.give_up_starts(now);
        self.warm_up(now);
        self.answer_additions(now);
        self.stop_again_at_the_end(now);
        self.issue_stops();
        self.issue_spawns(now);
        self.issue_probes(now);
    }

    /// When to send the next [`Event::Tick`], if nothing else happens before.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let members = self.members.values().flat_map(Member::deadlines);
        let additions = self.additions.iter().map(|addition| addition.deadline);
        let additions = additions.chain(self.warmer());
        members.chain(additions).chain(self.stops_again()).filter(|&at| at > now).min()
    }

    /// The names that an `/add` would use, or why it is refused. Changes nothing but the dice.
    pub fn names_to_add(&mut self, change: &Change, now: Duration) -> Result<Vec<String>, RequestError> {
        if self.shutting_down {
            return Err(RequestError::ShuttingDown);
        }
        self.changeable()?;
        let taken: Vec<_> = self.members.values().map(|member| member.instance.name.clone()).collect();
        let room = self.capacity().saturating_sub(self.members.len());
        let unix_ms = self.settings.unix_ms + now.as_millis() as u64;
        change.names_to_add(&taken, room, &self.settings.prefix, &mut self.rng, unix_ms)
    }

    /// The members that a `/rm` would remove, or why it is refused. Changes nothing but the dice.
    pub fn names_to_remove(&mut self, change: &Change) -> Result<Vec<String>, RequestError> {
        if self.shutting_down {
            return Err(RequestError::ShuttingDown);
        }
        self.changeable()?;
        let names = self.names();
        change.names_to_remove(&names, &mut self.rng)
    }

    fn changeable(&self) -> Result<(), RequestError> {
        if self.settings.duties.is_empty() { Ok(()) } else { Err(RequestError::Fixed) }
    }

    fn role(&self, name: &str) -> Option<String> {
        self.settings.duties.get(name).map(|duty| duty.role.clone())
    }

    /// Whether requests may ever go to a member of this name.
    fn is_routed(&self, name: &str) -> bool {
        self.settings.duties.get(name).is_none_or(|duty| duty.is_routed)
    }

    fn capacity(&self) -> usize {
        self.placement().capacity().min(self.settings.max_replicas)
    }

    fn placement(&self) -> &Placement {
        self.table.placement()
    }

    /// Members in the order in which they joined.
    pub fn names(&self) -> Vec<String> {
        self.order
            .iter()
            .filter_map(|id| self.members.get(id))
            .map(|member| member.instance.name.clone())
            .collect()
    }

    /// The ring.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Members in the order in which they joined, each with its instance.
    pub fn members(&self) -> impl Iterator<Item = (&Instance, State, Option<&Running>)> {
        self.order
            .iter()
            .filter_map(|id| self.members.get(id))
            .map(|m| (&m.instance, m.state(), m.running.as_ref()))
    }

    /// Everything there is to see: members, those about to join, those leaving.
    pub fn views(&self) -> Vec<ReplicaView> {
        let epoch_ms = self.settings.unix_ms;
        let joining = self.members.values().filter(|member| !member.joined);
        let joined = self.order.iter().filter_map(|id| self.members.get(id));
        joined
            .chain(joining)
            .map(|member| member.view(epoch_ms, self.role(&member.instance.name)))
            .chain(self.leaving.values().map(|leaving| leaving.view(self.role(&leaving.instance.name))))
            .collect()
    }

    /// What must survive a restart.
    pub fn remember(&self) -> Vec<Remembered> {
        let member = |id: &ReplicaId| {
            let claims = self.table.claims(*id);
            self.members.get(id).map(|m| Remembered { id: *id, name: m.instance.name.clone(), claims })
        };
        self.order.iter().filter_map(member).collect()
    }

    /// After [`Event::Shutdown`]: nothing is left.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
            && self.leaving.is_empty()
            && self.stops.is_empty()
            && self.stopping.is_empty()
            && self.unstopped.is_empty()
    }

    /// After [`Event::Shutdown`]: the names of what is left.
    pub fn left(&self) -> Vec<String> {
        let leaving = self.leaving.values().map(|leaving| &leaving.instance);
        let queued = self.stops.iter().map(|(instance, _)| instance);
        let stopping = self.stopping.iter().map(|(instance, _)| instance);
        let unstopped = self.unstopped.iter().map(|(instance, _)| instance);
        let all = leaving.chain(queued).chain(stopping).chain(unstopped);
        all.map(|instance| instance.name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn incarnate(&mut self, id: ReplicaId, name: String) -> Instance {
        let incarnation = self.next_incarnation;
        self.next_incarnation += 1;
        Instance { id, name, incarnation }
    }

    /// The member that `instance` is the present life of.
    fn current(&mut self, instance: &Instance) -> Option<&mut Member> {
        self.members.get_mut(&instance.id).filter(|member| member.instance == *instance)
    }

    /// Whether something that is on its way out still has this name.
    fn name_is_held(&self, name: &str) -> bool {
        let stops = self.stops.iter().map(|(instance, _)| instance);
        let stops = stops.chain(self.stopping.iter().map(|(instance, _)| instance));
        stops
            .chain(self.leaving.values().map(|leaving| &leaving.instance))
            .any(|instance| instance.name == name)
    }

    fn tell(&mut self, news: News) {
        self.out.push(Command::Tell(news));
    }

    fn publish(&mut self) {
        if self.out.last() != Some(&Command::Publish) {
            self.out.push(Command::Publish);
        }
    }

    /// What must hold after every event; tests call it, and so may anyone who doubts.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_invariants(&self) {
        let joined: Vec<_> = self.members.values().filter(|m| m.joined).map(|m| m.instance.id).collect();
        let mut order = self.order.clone();
        order.sort_unstable();
        assert_eq!(joined, order, "the order of joining lists just the members that joined");
        let on_ring: Vec<_> = self.table.members().iter().map(|member| member.id).collect();
        order.retain(|id| self.is_routed(&self.members[id].instance.name));
        assert_eq!(on_ring, order, "the ring holds just the members that joined and take requests");
        let names: BTreeSet<_> = self.members.values().map(|m| &m.instance.name).collect();
        assert_eq!(names.len(), self.members.len(), "no two members share a name");
        assert!(
            self.members.iter().all(|(id, m)| *id == m.instance.id),
            "members are kept under their identity"
        );
        let (tasks, requests) = self.largest;
        assert!(self.spawning() <= tasks, "spawns keep to their batch");
        for polite in [false, true] {
            assert!(self.stopping(polite) <= tasks, "stops keep to their batch");
        }
        assert!(self.asking.len() <= requests, "heartbeats keep to their batch");
        for member in self.members.values() {
            member.check_invariants();
            let draining = self.leaving.values().any(|l| l.instance.name == member.instance.name);
            let spawning = matches!(member.phase, Phase::Spawning);
            assert!(!(draining && spawning), "{}: its namesake must be gone first", member.instance.name);
        }
        assert!(!self.shutting_down || self.members.is_empty(), "a fleet that shuts down has no members");
    }
}
