//! Leaving: drained, stopped, gone. What leaves holds no identity any more, but its name until it is gone.

use std::time::Duration;

use slipring_hashing::ReplicaId;

use super::super::state::ReplicaView;
use super::member::Phase;
use super::{Command, Core, Found, Instance, News, Running, State};
use std::sync::Arc;

/// At shutdown, before a stop that failed is tried again.
const STOP_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The runtime is still starting it; then it is stopped at once.
    AwaitingSpawn,
    /// Requests in flight finish.
    Draining,
    /// The runtime is, or soon will be, ending it.
    Stopping,
}

/// What is left of a member that was removed.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) instance: Instance,
    running: Option<Running>,
    stage: Stage,
    last_error: Option<String>,
}

impl Leaving {
    pub(super) fn awaits_spawn(&self) -> bool {
        self.stage == Stage::AwaitingSpawn
    }

    pub(super) fn view(&self, role: Option<String>) -> ReplicaView {
        ReplicaView {
            name: self.instance.name.clone(),
            id: self.instance.id,
            role,
            state: if self.stage == Stage::Stopping { State::Stopped } else { State::Draining },
            incarnation: self.instance.incarnation,
            address: self.running.as_ref().map(|running| running.address),
            handle: self.running.as_ref().map(|running| running.handle.clone()),
            restarts: 0,
            missed_heartbeats: 0,
            respawn_at_unix_ms: None,
            last_error: self.last_error.clone(),
        }
    }
}

impl Core {
    pub(super) fn remove(&mut self, names: &[String]) {
        let named = |id: &ReplicaId| self.members.get(id).is_some_and(|m| names.contains(&m.instance.name));
        let ids: Vec<_> = self.order.iter().copied().filter(named).collect();
        for id in ids {
            self.dismiss(id);
        }
        self.out.push(Command::Remember);
        self.publish();
    }

    pub(super) fn shut_down(&mut self) {
        self.shutting_down = true;
        self.refuse_additions();
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            self.dismiss(id);
        }
        self.publish();
    }

    /// Takes a member out of ring and membership, and sees to what is left of it.
    pub(super) fn dismiss(&mut self, id: ReplicaId) {
        let Some(member) = self.members.remove(&id) else { return };
        // Its identity is free for another, for whom these do not wait.
        self.additions.iter_mut().for_each(|addition| addition.forget(id));
        if member.joined {
            self.order.retain(|other| *other != id);
            self.table = Arc::new(self.table.without(id));
        }
        let instance = member.instance;
        let stage = match member.phase {
            Phase::Queued { .. } => {
                self.tell(News::Stopped { replica: instance.name });
                return;
            }
            Phase::Spawning => Stage::AwaitingSpawn,
            Phase::Removing { .. } => Stage::Stopping, // its stop is under way
            Phase::Starting { .. } | Phase::Live | Phase::Suspect => Stage::Draining,
        };
        if stage == Stage::Draining {
            self.tell(News::Draining { replica: instance.name.clone() });
            self.out.push(Command::Drain { instance: instance.clone(), within: self.settings.stop_timeout });
        }
        let leaving = Leaving { instance, running: member.running, stage, last_error: member.last_error };
        self.leaving.insert(leaving.instance.incarnation, leaving);
    }

    pub(super) fn drained(&mut self, instance: &Instance) {
        let grace = self.settings.stop_timeout;
        self.stop_leaving(instance, Stage::Draining, grace);
    }

    /// It ended by itself while it drained: what is left is removed at once.
    pub(super) fn leaving_exited(&mut self, instance: &Instance) {
        self.stop_leaving(instance, Stage::Draining, Duration::ZERO);
    }

    pub(super) fn spawned_too_late(&mut self, instance: &Instance, running: Running) {
        if let Some(leaving) = self.leaving_life(instance) {
            leaving.running = Some(running);
        }
        let grace = self.settings.stop_timeout;
        self.stop_leaving(instance, Stage::AwaitingSpawn, grace);
    }

    fn stop_leaving(&mut self, instance: &Instance, from: Stage, grace: Duration) {
        if let Some(leaving) = self.leaving_life(instance)
            && leaving.stage == from
        {
            leaving.stage = Stage::Stopping;
            self.out.push(Command::Abandon(instance.clone()));
            self.stops.push_back((instance.clone(), grace));
            self.publish();
        }
    }

    fn leaving_life(&mut self, instance: &Instance) -> Option<&mut Leaving> {
        self.leaving.get_mut(&instance.incarnation).filter(|leaving| leaving.instance == *instance)
    }

    pub(super) fn leaving_never_began(&mut self, instance: &Instance) {
        if self.leaving_life(instance).is_some_and(|leaving| leaving.awaits_spawn()) {
            self.leaving_is_gone(instance);
        }
    }

    fn leaving_is_gone(&mut self, instance: &Instance) {
        if self.leaving_life(instance).is_some() {
            self.leaving.remove(&instance.incarnation);
            self.tell(News::Stopped { replica: instance.name.clone() });
            self.publish();
        }
    }

    /// Polite stops may take their grace, and must not keep a corpse from being removed: each kind has its batch.
    pub(super) fn issue_stops(&mut self) {
        for polite in [false, true] {
            let mut places = self.settings.task_batch.saturating_sub(self.stopping(polite));
            while places > 0
                && let Some(at) = self.stops.iter().position(|(_, grace)| grace.is_zero() != polite)
                && let Some((instance, grace)) = self.stops.remove(at)
            {
                places -= 1;
                self.stopping.push((instance.clone(), polite));
                self.out.push(Command::Stop { instance, grace });
            }
        }
    }

    /// Stops of one kind under way.
    pub(super) fn stopping(&self, polite: bool) -> usize {
        self.stopping.iter().filter(|(_, kind)| *kind == polite).count()
    }

    pub(super) fn stopped(&mut self, instance: &Instance, now: Duration) {
        self.ended.push((instance.clone(), now));
        let Some(at) = self.stopping.iter().position(|(stopping, _)| stopping == instance) else { return };
        self.stopping.swap_remove(at);
        if self.current(instance).is_some() {
            self.corpse_gone(instance.id, now);
        } else {
            self.leaving_is_gone(instance);
        }
    }

    /// What could not be stopped is tried again when a listing shows it, and at the end of the fleet until somebody
    /// loses patience. A member does not wait for it with its next life.
    pub(super) fn stop_failed(&mut self, instance: &Instance, why: String, now: Duration) {
        let Some(at) = self.stopping.iter().position(|(stopping, _)| stopping == instance) else { return };
        self.stopping.swap_remove(at);
        self.unstopped.push((instance.clone(), now));
        if let Some(leaving) = self.leaving_life(instance) {
            leaving.last_error = Some(why.clone());
        }
        self.tell(News::StopFailed { replica: instance.name.clone(), why });
        self.publish();
        if self.current(instance).is_some() {
            self.corpse_gone(instance.id, now);
        }
    }

    /// What a listing, asked for at `asked`, says of the stops that failed.
    pub(super) fn stop_again_if_seen(&mut self, asked: Duration, found: &[Found]) {
        for (instance, since) in std::mem::take(&mut self.unstopped) {
            if found.iter().any(|f| f.instance == instance) {
                self.stops.push_back((instance, Duration::ZERO));
            } else if since < asked {
                self.leaving_is_gone(&instance);
            } else {
                self.unstopped.push((instance, since));
            }
        }
    }

    pub(super) fn stop_again_at_the_end(&mut self, now: Duration) {
        for (instance, since) in std::mem::take(&mut self.unstopped) {
            if self.shutting_down && since + STOP_PAUSE <= now {
                self.stops.push_back((instance, Duration::ZERO));
            } else {
                self.unstopped.push((instance, since));
            }
        }
    }

    /// When stops that failed are tried again without a listing.
    pub(super) fn stops_again(&self) -> impl Iterator<Item = Duration> {
        let unstopped = self.unstopped.iter().filter(|_| self.shutting_down);
        unstopped.map(|(_, since)| *since + STOP_PAUSE)
    }
}
