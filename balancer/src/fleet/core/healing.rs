//! The life of a member: spawned, asked for heartbeats, given up, removed, spawned again.

use std::time::Duration;

use super::super::names;
use super::member::Phase;
use super::{Beat, Command, Core, Instance, News, RespawnName, Running, SpawnFailure};
use slipring_hashing::ReplicaId;

/// A starting replica is asked this often, so that it serves soon after it can.
const STARTING_PROBE: Duration = Duration::from_millis(20);

impl Core {
    pub(super) fn spawning(&self) -> usize {
        let members = self.members.values().filter(|m| matches!(m.phase, Phase::Spawning)).count();
        members + self.leaving.values().filter(|leaving| leaving.awaits_spawn()).count()
    }

    /// Those who wait longest come first; a namesake on its way out holds a name until it is gone.
    pub(super) fn issue_spawns(&mut self, now: Duration) {
        let mut due: Vec<_> = self
            .members
            .values()
            .filter_map(|m| match m.phase {
                Phase::Queued { at } if at <= now => Some((at, m.instance.id)),
                _ => None,
            })
            .filter(|(_, id)| !self.name_is_held(&self.members[id].instance.name))
            .collect();
        due.sort_unstable();
        let places = self.settings.task_batch.saturating_sub(self.spawning());
        for (_, id) in due.into_iter().take(places) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.phase = Phase::Spawning;
            member.ended_early = None;
            let instance = member.instance.clone();
            self.tell(News::Spawning { replica: instance.name.clone(), incarnation: instance.incarnation });
            self.out.push(Command::Spawn(instance));
            self.publish();
        }
    }

    pub(super) fn issue_probes(&mut self, now: Duration) {
        let mut due: Vec<_> = self
            .members
            .values()
            .filter(|m| m.is_up() && !m.probing && m.probe_at <= now)
            .map(|m| (m.probe_at, m.instance.id))
            .collect();
        due.sort_unstable();
        let places = self.settings.request_batch.saturating_sub(self.asking.len());
        for (_, id) in due.into_iter().take(places) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(running) = member.running.clone() else { continue };
            member.probing = true;
            member.asked_at = now;
            let interval = self.settings.heartbeat_interval;
            member.probe_at = match member.phase {
                Phase::Starting { .. } => now + STARTING_PROBE.min(interval),
                // From when this one was due, so that what begins late does not push back all that follow.
                _ => (member.probe_at + interval).max(now + interval / 2),
            };
            let instance = member.instance.clone();
            self.asking.push(instance.clone());
            self.out.push(Command::Probe { instance, running });
        }
    }

    pub(super) fn give_up_starts(&mut self, now: Duration) {
        let late = |phase| matches!(phase, Phase::Starting { deadline } if deadline <= now);
        let late: Vec<_> = self.members.values().filter(|m| late(m.phase)).map(|m| m.instance.id).collect();
        let within = self.settings.start_timeout;
        for id in late {
            let hindrance = self.members.get(&id).and_then(|member| member.hindrance.as_ref());
            let because = hindrance.map_or(String::new(), |why| format!(": {why}"));
            self.flatline(id, &format!("no good heartbeat within {within:?} of its start{because}"), now);
        }
    }

    pub(super) fn spawned(&mut self, instance: &Instance, running: Running, now: Duration) {
        let deadline = now + self.settings.start_timeout;
        let Some(member) = self.current(instance) else { return self.spawned_too_late(instance, running) };
        if member.phase != Phase::Spawning {
            return;
        }
        member.phase = Phase::Starting { deadline };
        member.launched = now;
        member.probe_at = now;
        member.missed = 0;
        member.served_at = None;
        let address = running.address.to_string();
        member.running = Some(running);
        let ended_early = member.ended_early.take();
        let (replica, incarnation) = (instance.name.clone(), instance.incarnation);
        self.tell(News::Started { replica, incarnation, address });
        self.publish();
        self.join_if_complete(instance.id);
        if let Some(why) = ended_early {
            self.flatline(instance.id, &format!("it ended as soon as it had started: {why}"), now);
        }
    }

    pub(super) fn spawn_failed(&mut self, instance: &Instance, failure: &SpawnFailure, now: Duration) {
        let Some(member) = self.current(instance) else { return self.leaving_never_began(instance) };
        if member.phase != Phase::Spawning {
            return;
        }
        member.phase = Phase::Queued { at: now }; // nothing of it is left
        self.tell(News::SpawnFailed { replica: instance.name.clone(), why: failure.to_string() });
        if !self.roll_back(instance.id, failure) {
            self.requeue(instance.id, &failure.to_string(), now);
        }
    }

    pub(super) fn exited(&mut self, instance: &Instance, why: &str, now: Duration) {
        let Some(member) = self.current(instance) else { return self.leaving_exited(instance) };
        if member.phase == Phase::Spawning {
            member.ended_early = Some(why.to_owned());
        } else if member.is_up() {
            self.flatline(instance.id, why, now);
        }
    }

    /// A replica that had listened and listens no more is dead; one that starts may not listen yet.
    pub(super) fn refused(&mut self, instance: &Instance, now: Duration) {
        if self.current(instance).is_some_and(|m| matches!(m.phase, Phase::Live | Phase::Suspect)) {
            self.flatline(instance.id, "connection refused", now);
        }
    }

    pub(super) fn beat(&mut self, instance: &Instance, beat: Beat, now: Duration) {
        let (limit, interval) = (self.settings.failures, self.settings.heartbeat_interval);
        let timeout = self.settings.heartbeat_timeout;
        if let Some(at) = self.asking.iter().position(|asked| asked == instance) {
            self.asking.swap_remove(at);
        }
        let Some(member) = self.current(instance) else { return };
        member.probing = false;
        if !member.is_up() {
            return;
        }
        let starting = matches!(member.phase, Phase::Starting { .. });
        let why = match beat {
            Beat::Good => return self.good_beat(instance, starting, now),
            Beat::Missed(why) if starting => return self.hindered(instance, why),
            Beat::Refused if starting => return,
            Beat::Refused => return self.refused(instance, now),
            Beat::Missed(why) => why,
        };
        member.missed += 1;
        // A tenth of an interval early, so that a silence is detected within interval × failures + timeout with time
        // to spare; not earlier, so that a stall shorter than its heartbeats' intervals is no death.
        member.probe_at = member.asked_at + timeout.max(interval * 9 / 10);
        let missed = member.missed;
        if missed >= limit && !self.is_the_last_that_serves(instance.id, now) {
            return self.flatline(instance.id, &format!("{missed} heartbeats missed in a row: {why}"), now);
        }
        let Some(member) = self.current(instance) else { return };
        member.phase = Phase::Suspect;
        self.tell(News::Suspect { replica: instance.name.clone(), missed, why });
        self.publish();
    }

    /// One that starts is asked many times a second: told is what is new.
    fn hindered(&mut self, instance: &Instance, why: String) {
        let Some(member) = self.current(instance) else { return };
        if member.hindrance.as_ref() != Some(&why) {
            member.hindrance = Some(why);
            self.publish();
        }
    }

    /// Its heartbeats may fail for reasons of their own (a path that is slow, a full accept queue): while requests
    /// are answered and nobody else could answer them, it stays.
    fn is_the_last_that_serves(&self, id: ReplicaId, now: Duration) -> bool {
        let others = self.members.values().filter(|member| member.instance.id != id);
        let others = others.filter(|member| self.is_routed(&member.instance.name));
        let served = self.members.get(&id).and_then(|member| member.served_at);
        others.into_iter().all(|other| other.phase != Phase::Live)
            && served.is_some_and(|at| now.saturating_sub(at) <= self.settings.heartbeat_interval)
    }

    pub(super) fn served(&mut self, instance: &Instance, now: Duration) {
        if let Some(member) = self.current(instance) {
            member.served_at = Some(now);
        }
    }

    fn good_beat(&mut self, instance: &Instance, starting: bool, now: Duration) {
        let interval = self.settings.heartbeat_interval;
        let Some(member) = self.current(instance) else { return };
        if starting {
            member.live_since = Some(now);
            // The pause before the next heartbeat was a starting replica's.
            member.probe_at = now + interval;
            self.begin_slowly(instance.id, now);
        }
        let Some(member) = self.current(instance) else { return };
        (member.missed, member.hindrance) = (0, None);
        if member.phase != Phase::Live {
            member.phase = Phase::Live;
            self.tell(News::Live { replica: instance.name.clone() });
            self.publish();
        }
    }

    /// Gives a running member up: its waiting requests go elsewhere, what is left of it is removed.
    pub(super) fn flatline(&mut self, id: ReplicaId, why: &str, now: Duration) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.running = None;
        member.probing = false;
        member.warming = None;
        (member.missed, member.hindrance) = (0, None);
        member.last_error = Some(why.to_owned());
        let lived = member.live_since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let delay = member.backoff.died(&self.settings.backoff, lived);
        member.phase = Phase::Removing { respawn_at: now + delay };
        let instance = member.instance.clone();
        self.tell(News::Flatlined { replica: instance.name.clone(), why: why.to_owned() });
        self.out.push(Command::Abandon(instance.clone()));
        self.stops.push_back((instance, Duration::ZERO));
        self.publish();
    }

    /// The corpse is gone: the next life begins when its backoff is over.
    pub(super) fn corpse_gone(&mut self, id: ReplicaId, now: Duration) {
        let Some(member) = self.members.get(&id) else { return };
        if let Phase::Removing { respawn_at } = member.phase {
            self.queue_again(id, respawn_at, now);
        }
    }

    /// The next life after a spawn that failed.
    fn requeue(&mut self, id: ReplicaId, why: &str, now: Duration) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.last_error = Some(why.to_owned());
        let delay = member.backoff.died(&self.settings.backoff, Duration::ZERO);
        self.queue_again(id, now + delay, now);
    }

    fn queue_again(&mut self, id: ReplicaId, at: Duration, now: Duration) {
        let Some(member) = self.members.get(&id) else { return };
        let was = member.instance.name.clone();
        let name = match self.settings.respawn_name {
            RespawnName::Same => was.clone(),
            RespawnName::New => {
                let taken = |name: &str| self.members.values().any(|m| m.instance.name == name);
                names::random(
                    &self.settings.prefix,
                    &mut self.rng,
                    self.settings.unix_ms + now.as_millis() as u64,
                    taken,
                )
            }
        };
        let instance = self.incarnate(id, name.clone());
        let Some(member) = self.members.get_mut(&id) else { return };
        member.instance = instance;
        member.phase = Phase::Queued { at };
        member.restarts += 1;
        let restarts = member.restarts;
        let backoff_ms = at.saturating_sub(now).as_millis() as u64;
        if name != was {
            self.tell(News::Renamed { replica: name.clone(), was });
            self.out.push(Command::Remember);
        }
        self.tell(News::Respawning { replica: name, backoff_ms, restarts });
        self.publish();
    }
}
