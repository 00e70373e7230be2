//! A world of its own for the core: it performs the commands in virtual time, with faults drawn from a seed, and
//! keeps the promises of `runtime/mod.rs` and of the shell, but no others: exits may be lost, late or told twice,
//! listings are out of date when they arrive, stops fail, heartbeats hang.

mod engine;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use slipring_hashing::{Placement, Table, Weight};

use super::super::{
    Beat, Command, Core, Event, Found, Instance, Remembered, Running, Settings, SpawnFailure, State, Ticket,
};
use super::ms;
use super::properties::Watch;

pub(super) const RECONCILE: Duration = ms(3000);
/// Events and commands kept for the message of a failure.
const LOG: usize = 60;

/// How likely each fault is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) spawn_is_slow: f64,
    pub(super) spawn_fails: f64,
    pub(super) exits_on_start: f64,
    pub(super) hangs_on_start: f64,
    pub(super) exit_is_lost: f64,
    pub(super) told_again: f64,
    pub(super) stop_fails: f64,
    pub(super) beat_is_slow: f64,
}

/// A bug put back, to see that it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    /// Every report is taken for one about the present life.
    ForgetIncarnations,
    /// Nobody is told what became of an `/add`.
    LoseAnswers,
    /// Stops are said to be done and are not.
    LeaveRunning,
    /// What really runs is never asked.
    NeverReconcile,
}

#[derive(Clone, Debug)]
struct Process {
    instance: Instance,
    running: Running,
    alive: bool,
    hung: bool,
    ready: Duration,
}

#[derive(Debug)]
enum Happening {
    Deliver(Event),
    Launch(Instance),
    /// An engine starts what a dead balancer asked for.
    Haunt(Instance),
    Exit(Instance),
    End(Instance),
    Answer {
        instance: Instance,
        asked: Duration,
    },
    Reconcile,
    Look {
        asked: Duration,
    },
}

/// One line of the log.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug")]
pub(super) enum Line {
    Event(Event),
    Command(Command),
    Fault(&'static str, String),
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Duration,
    pub(super) faults: Faults,
    pub(super) watch: Watch,
    pub(super) rng: SmallRng,
    pub(super) log: VecDeque<(Duration, Line)>,
    pub(super) sabotage: Sabotage,
    /// Whether the dead stay until they are removed, as containers do.
    pub(super) corpses_stay: bool,
    pub(super) settings: Settings,
    placement: Placement,
    memory: Vec<Remembered>,
    agenda: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    processes: BTreeMap<(u64, String), Process>,
    tickets: Ticket,
}

impl World {
    /// A faultless world with a fleet of these names.
    pub(super) fn new(seed: u64, settings: Settings, placement: Placement, names: &[&str]) -> Self {
        let member = |(id, name): (u16, &&str)| Remembered {
            id: slipring_hashing::ReplicaId(id),
            name: (*name).into(),
            claims: Vec::new(),
        };
        let mut world = Self {
            core: Core::new(settings.clone(), placement.build(&[]).unwrap()),
            now: ms(0),
            faults: Faults::default(),
            watch: Watch::new(settings.clone()),
            rng: SmallRng::seed_from_u64(seed),
            log: VecDeque::new(),
            sabotage: Sabotage::None,
            corpses_stay: true,
            settings,
            placement,
            memory: (0..).zip(names).map(member).collect(),
            agenda: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            tickets: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.plan(ms(0), Happening::Reconcile);
        let found = self.found();
        let commands = self.core.begin(&self.memory, found, self.now).unwrap();
        self.perform(commands);
    }

    /// The balancer is killed and started again: what runs stays, what was under way is done or not.
    pub(super) fn restart(&mut self) {
        let agenda = std::mem::take(&mut self.agenda);
        for happening in agenda.into_values() {
            match happening {
                Happening::Launch(instance) if self.rng.random() => {
                    self.plan_within(ms(1000), Happening::Haunt(instance));
                }
                Happening::Launch(_) | Happening::End(_) | Happening::Exit(_) if self.rng.random() => {
                    self.happen(happening);
                }
                _ => {}
            }
        }
        self.agenda.retain(|_, happening| matches!(happening, Happening::Exit(_) | Happening::Haunt(_)));
        self.fault("restart", "");
        let before: Arc<Table> = self.core.table().clone();
        self.core = Core::new(self.settings.clone(), self.placement.build(&[]).unwrap());
        self.watch.restarted();
        self.begin();
        let ids = |table: &Table| table.members().iter().map(|member| member.id).collect::<Vec<_>>();
        assert_eq!(ids(&before), ids(self.core.table()), "a restart keeps the members");
        // Those that had a part of their share have all of it after a restart.
        let whole = before.members().iter().all(|member| member.weight == Weight::ONE);
        assert!(!whole || before == *self.core.table(), "a restart moves no key");
    }

    /// The next thing that happens, if it does until `end`.
    pub(super) fn step(&mut self, end: Duration) -> bool {
        let deadline = self.core.next_deadline(self.now);
        assert!(deadline.is_none_or(|at| at > self.now), "the next deadline lies ahead");
        let planned = self.agenda.first_key_value().map(|(&(at, _), _)| at);
        let Some(at) = planned.into_iter().chain(deadline).min().filter(|&at| at <= end) else {
            self.now = end;
            return false;
        };
        self.now = at;
        match self.agenda.first_entry().filter(|entry| entry.key().0 == at) {
            Some(first) => {
                let happening = first.remove();
                self.happen(happening);
            }
            None => self.give(Event::Tick),
        }
        true
    }

    pub(super) fn run_until(&mut self, end: Duration) {
        while self.step(end) {}
    }

    /// Gives the core an event now.
    pub(super) fn give(&mut self, event: Event) {
        let event = if self.sabotage == Sabotage::ForgetIncarnations {
            self.aimed_at_the_present(event)
        } else {
            event
        };
        self.note(Line::Event(event.clone()));
        self.watch.given(&event);
        let (ring, seen) = (self.core.table().clone(), self.seen());
        let commands = self.core.handle(event, self.now);
        self.core.check_invariants();
        self.watch.ring(&ring, self.core.table());
        let other_ring = !Arc::ptr_eq(&ring, self.core.table());
        self.watch.told(other_ring || seen != self.seen(), &commands);
        self.perform(commands);
    }

    /// What readers must be told of.
    fn seen(&self) -> Vec<(u64, State)> {
        self.core.views().iter().map(|view| (view.incarnation, view.state)).collect()
    }

    fn aimed_at_the_present(&self, mut event: Event) -> Event {
        if let Event::Spawned { instance, .. }
        | Event::SpawnFailed { instance, .. }
        | Event::Exited { instance, .. }
        | Event::Refused { instance }
        | Event::Beat { instance, .. }
        | Event::Stopped { instance } = &mut event
            && let Some(present) = self.core.views().iter().find(|view| view.id == instance.id)
        {
            (instance.name, instance.incarnation) = (present.name.clone(), present.incarnation);
        }
        event
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            if self.sabotage == Sabotage::LoseAnswers && matches!(command, Command::Answer { .. }) {
                continue;
            }
            self.watch.commanded(&command);
            match &command {
                Command::Spawn(instance) => {
                    let launch = Happening::Launch(instance.clone());
                    let slow = self.chance(self.faults.spawn_is_slow);
                    if slow {
                        self.fault("spawn is slow", &instance.name);
                    }
                    self.plan_within(if slow { ms(8000) } else { ms(200) }, launch);
                }
                Command::Stop { instance, grace } => {
                    let obeys = self.process(instance).is_none_or(|p| !p.alive || !p.hung);
                    let patience = if obeys { self.latency(ms(100)) } else { *grace + ms(5) };
                    self.plan(patience, Happening::End(instance.clone()));
                }
                Command::Probe { instance, .. } => {
                    let answer = Happening::Answer { instance: instance.clone(), asked: self.now };
                    self.plan_within(ms(20), answer);
                }
                Command::Drain { instance, within } => {
                    let drained = Event::Drained { instance: instance.clone() };
                    self.plan_within(*within, Happening::Deliver(drained));
                }
                Command::Remember => self.memory = self.core.remember(),
                Command::Abandon(_) | Command::Tell(_) | Command::Answer { .. } | Command::Publish => {}
            }
            if command != Command::Publish {
                self.note(Line::Command(command));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(event) => self.give(event),
            Happening::Launch(instance) => self.launch(instance),
            Happening::Haunt(instance) => self.haunt(&instance),
            Happening::Exit(instance) => self.exit(&instance),
            Happening::End(instance) => self.end(instance),
            Happening::Answer { instance, asked } => self.answer(instance, asked),
            Happening::Reconcile => {
                let asked = self.now;
                self.plan(RECONCILE, Happening::Reconcile);
                if self.sabotage != Sabotage::NeverReconcile {
                    self.plan_within(ms(100), Happening::Look { asked });
                }
            }
            Happening::Look { asked } => {
                let found = self.found();
                self.report(Event::Observed { asked, found });
            }
        }
    }

    pub(super) fn add(&mut self, names: Vec<String>) -> Ticket {
        self.tickets += 1;
        self.give(Event::Add { ticket: self.tickets, names });
        self.tickets
    }

    pub(super) fn fault(&mut self, what: &'static str, name: &str) {
        *self.watch.fired.entry(what).or_default() += 1;
        self.note(Line::Fault(what, name.to_owned()));
    }

    fn note(&mut self, line: Line) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((self.now, line));
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.agenda.insert((self.now + after, self.sequence), happening);
    }

    fn plan_within(&mut self, most: Duration, happening: Happening) {
        let after = self.latency(most);
        self.plan(after, happening);
    }

    fn latency(&mut self, most: Duration) -> Duration {
        ms(self.rng.random_range(0..=most.as_millis() as u64))
    }

    fn chance(&mut self, likely: f64) -> bool {
        likely > 0.0 && self.rng.random_bool(likely)
    }
}
