//! What must hold of everything the core does, whatever the world does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use slipring_hashing::{ReplicaId, Table};

use super::super::{Command, Event, Instance, News, Settings, Ticket};

/// Sees every event and every command; panics when a promise is broken.
pub(super) struct Watch {
    settings: Settings,
    /// What may be there although nobody wants it: a stop failed, or a dead balancer had asked for it.
    pub(super) forgiven: HashSet<Instance>,
    /// What a dead balancer had asked for.
    pub(super) haunting: HashSet<Instance>,
    /// How often each fault happened.
    pub(super) fired: BTreeMap<&'static str, u64>,
    /// Heartbeats asked for, by incarnation.
    pub(super) probes: BTreeMap<u64, u64>,
    /// Heartbeats under way.
    asked: Vec<Instance>,
    pub(super) flatlined: u64,
    pub(super) most_spawning: usize,
    waiting: BTreeSet<Ticket>,
    spawned: BTreeSet<u64>,
    spawning: BTreeSet<u64>,
    stopping: HashMap<Instance, bool>,
    shut_down: bool,
    /// Ran under this balancer.
    up: HashSet<Instance>,
    abandoned: HashSet<Instance>,
}

impl Watch {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            forgiven: HashSet::new(),
            haunting: HashSet::new(),
            fired: BTreeMap::new(),
            probes: BTreeMap::new(),
            asked: Vec::new(),
            flatlined: 0,
            most_spawning: 0,
            waiting: BTreeSet::new(),
            spawned: BTreeSet::new(),
            spawning: BTreeSet::new(),
            stopping: HashMap::new(),
            shut_down: false,
            up: HashSet::new(),
            abandoned: HashSet::new(),
        }
    }

    pub(super) fn given(&mut self, event: &Event) {
        if let Event::Spawned { instance, .. } = event {
            self.up.insert(instance.clone());
        }
        match event {
            Event::Add { ticket, .. } => assert!(self.waiting.insert(*ticket), "a ticket is new"),
            Event::Spawned { instance, .. } | Event::SpawnFailed { instance, .. } => {
                self.spawning.remove(&instance.incarnation);
            }
            Event::Stopped { instance } | Event::StopFailed { instance, .. } => {
                self.stopping.remove(instance);
            }
            Event::Beat { instance, .. } => {
                if let Some(at) = self.asked.iter().position(|asked| asked == instance) {
                    self.asked.swap_remove(at);
                }
            }
            Event::Shutdown => self.shut_down = true,
            _ => {}
        }
    }

    pub(super) fn commanded(&mut self, command: &Command) {
        let batch = self.settings.task_batch;
        match command {
            Command::Spawn(instance) => {
                assert!(self.spawned.insert(instance.incarnation), "{instance:?} is spawned once");
                assert!(!self.shut_down, "nothing is spawned after a shutdown: {instance:?}");
                self.spawning.insert(instance.incarnation);
                self.most_spawning = self.most_spawning.max(self.spawning.len());
                assert!(
                    self.spawning.len() <= batch,
                    "spawns under way keep to their batch: {:?}",
                    self.spawning
                );
            }
            Command::Abandon(instance) => {
                self.abandoned.insert(instance.clone());
            }
            Command::Stop { instance, grace } => {
                let waited_for = self.up.contains(instance) && !self.abandoned.contains(instance);
                assert!(!waited_for, "nobody waits for an answer of {instance:?} any more");
                let polite = !grace.is_zero();
                let earlier = self.stopping.insert(instance.clone(), polite);
                assert!(earlier.is_none(), "{instance:?} is not being stopped already");
                let of_its_kind = self.stopping.values().filter(|kind| **kind == polite).count();
                assert!(of_its_kind <= batch, "stops of a kind keep to their batch: {:?}", self.stopping);
            }
            Command::Probe { instance, .. } => {
                *self.probes.entry(instance.incarnation).or_default() += 1;
                self.asked.push(instance.clone());
                assert!(
                    self.asked.len() <= self.settings.request_batch,
                    "heartbeats under way keep to their batch: {:?}",
                    self.asked
                );
            }
            Command::Answer { ticket, .. } => {
                assert!(self.waiting.remove(ticket), "ticket {ticket} is answered once");
            }
            Command::Remember => assert!(!self.shut_down, "what is remembered outlives the shutdown"),
            Command::Tell(News::Flatlined { .. }) => self.flatlined += 1,
            _ => {}
        }
    }

    /// Readers see a change before anyone acts on their having seen it.
    pub(super) fn told(&self, changed: bool, commands: &[Command]) {
        assert!(!changed || commands.contains(&Command::Publish), "readers see what changed: {commands:?}");
        let publish = commands.iter().rposition(|command| *command == Command::Publish);
        let drain = commands.iter().position(|command| matches!(command, Command::Drain { .. }));
        assert!(drain.is_none() || publish < drain, "a drain begins when the new ring is out: {commands:?}");
    }

    /// Only keys of those that left, for those that joined, and of or for those with another weight move.
    pub(super) fn ring(&self, before: &Arc<Table>, after: &Arc<Table>) {
        if Arc::ptr_eq(before, after) {
            return;
        }
        assert!(before.members() != after.members(), "a ring of the same members stays the same");
        let same = |id: ReplicaId| before.member(id) == after.member(id);
        let mut moved = BTreeSet::new();
        for slot in 0..before.slots().max(after.slots()) {
            if let (Some(from), Some(to)) = (before.owner(slot), after.owner(slot))
                && from != to
            {
                moved.insert((from, to));
            }
        }
        for (from, to) in moved {
            assert!(!same(from) || !same(to), "a slot moved from {from} to {to}");
        }
    }

    /// Two of one name.
    pub(super) fn name_taken(&mut self, second: &Instance, first: &Instance) {
        assert!(self.forgiven.contains(first), "{second:?} is spawned while {first:?} is there");
        *self.fired.entry("name is taken").or_default() += 1;
    }

    /// Callers of the dead balancer wait no more; incarnations of what never ran may be used again.
    pub(super) fn restarted(&mut self) {
        self.waiting.clear();
        self.spawned.clear();
        self.up.clear();
        self.spawning.clear();
        self.stopping.clear();
        self.asked.clear();
    }

    /// Whether a heartbeat of it is under way.
    pub(super) fn asks(&self, instance: &Instance) -> bool {
        self.asked.contains(instance)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn unfinished(&self) -> usize {
        self.spawning.len() + self.stopping.len()
    }
}
