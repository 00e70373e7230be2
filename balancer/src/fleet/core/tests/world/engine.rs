//! The engine's side of the world: what becomes of the processes that the core asks for.

use std::time::Duration;

use super::{Beat, Event, Found, Happening, Instance, Process, Sabotage, SpawnFailure, World};
use crate::fleet::core::tests::ms;
use crate::fleet::core::tests::script::running;

impl World {
    pub(super) fn launch(&mut self, instance: Instance) {
        let incarnation = instance.incarnation;
        if let Some(other) = self.named(&instance.name) {
            self.watch.name_taken(&instance, &other);
            let failure = SpawnFailure::new("the name is taken", "wait");
            return self.report(Event::SpawnFailed { instance, failure });
        }
        if self.chance(self.faults.spawn_fails) {
            self.fault("spawn fails", &instance.name);
            let failure = SpawnFailure::new("the engine refuses", "try again");
            return self.report(Event::SpawnFailed { instance, failure });
        }
        if self.chance(self.faults.exits_on_start) {
            self.fault("exits on start", &instance.name);
            self.plan_within(ms(50), Happening::Exit(instance.clone()));
        }
        let hung = self.chance(self.faults.hangs_on_start);
        if hung {
            self.fault("hangs on start", &instance.name);
        }
        let (running, ready) = (running(incarnation), self.now + self.latency(ms(300)));
        let process =
            Process { instance: instance.clone(), running: running.clone(), alive: true, hung, ready };
        self.processes.insert(key(&instance), process);
        self.report(Event::Spawned { instance, running });
    }

    pub(super) fn haunt(&mut self, instance: &Instance) {
        if self.named(&instance.name).is_none() {
            self.fault("haunt", &instance.name);
            self.watch.forgiven.insert(instance.clone());
            self.watch.haunting.insert(instance.clone());
            let running = running(instance.incarnation);
            let process =
                Process { instance: instance.clone(), running, alive: true, hung: false, ready: self.now };
            self.processes.insert(key(instance), process);
        }
    }

    pub(super) fn exit(&mut self, instance: &Instance) {
        let Some(process) = self.processes.get_mut(&key(instance)).filter(|process| process.alive) else {
            return;
        };
        process.alive = false;
        if !self.corpses_stay {
            self.processes.remove(&key(instance));
        }
        if self.chance(self.faults.exit_is_lost) {
            return self.fault("exit is lost", &instance.name);
        }
        self.report(Event::Exited { instance: instance.clone(), why: "signal: 9".into() });
    }

    pub(super) fn end(&mut self, instance: Instance) {
        if self.chance(self.faults.stop_fails) {
            self.fault("stop fails", &instance.name);
            self.watch.forgiven.insert(instance.clone());
            return self.report(Event::StopFailed { instance, why: "it hangs in the kernel".into() });
        }
        if self.sabotage != Sabotage::LeaveRunning {
            self.exit(&instance);
            self.processes.remove(&key(&instance));
            self.watch.forgiven.remove(&instance);
        }
        self.report(Event::Stopped { instance });
    }

    pub(super) fn answer(&mut self, instance: Instance, asked: Duration) {
        let process = self.process(&instance).filter(|process| process.alive);
        let hung = process.is_some_and(|process| process.hung);
        let listens = process.is_some_and(|process| process.ready <= self.now);
        if hung || self.chance(self.faults.beat_is_slow) {
            if !hung {
                self.fault("beat is slow", &instance.name);
            }
            let missed = Event::Beat { instance, beat: Beat::Missed("no answer".into()) };
            return self.plan(asked + self.settings.heartbeat_timeout - self.now, Happening::Deliver(missed));
        }
        let beat = if listens { Beat::Good } else { Beat::Refused };
        self.give(Event::Beat { instance, beat });
    }

    /// News on its way to the core; about ends perhaps twice.
    pub(super) fn report(&mut self, event: Event) {
        let twice = matches!(event, Event::Exited { .. } | Event::Observed { .. })
            && self.chance(self.faults.told_again);
        if twice {
            self.fault("told again", "");
            self.plan_within(ms(2000), Happening::Deliver(event.clone()));
        }
        self.plan_within(ms(50), Happening::Deliver(event));
    }

    pub(super) fn process(&self, instance: &Instance) -> Option<&Process> {
        self.processes.get(&key(instance))
    }

    fn named(&self, name: &str) -> Option<Instance> {
        self.processes
            .values()
            .map(|process| &process.instance)
            .find(|instance| instance.name == name)
            .cloned()
    }

    pub(super) fn found(&self) -> Vec<Found> {
        let found =
            |p: &Process| Found { instance: p.instance.clone(), running: p.alive.then(|| p.running.clone()) };
        self.processes.values().map(found).collect()
    }

    /// Everything that is there, alive or not.
    pub(in super::super) fn present(&self) -> Vec<Instance> {
        self.processes.values().map(|process| process.instance.clone()).collect()
    }

    pub(in super::super) fn kill(&mut self, name: &str) {
        if let Some(instance) = self.named(name) {
            self.fault("killed", name);
            self.exit(&instance);
        }
    }

    pub(in super::super) fn hang(&mut self, name: &str) {
        for process in self.processes.values_mut().filter(|process| process.instance.name == name) {
            process.hung = true;
        }
        self.fault("hung", name);
    }
}

fn key(instance: &Instance) -> (u64, String) {
    (instance.incarnation, instance.name.clone())
}
