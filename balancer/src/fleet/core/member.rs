//! One member: its present life, and what it remembers of earlier ones.

use std::time::Duration;

use super::super::backoff::Backoff;
use super::super::state::{Instance, ReplicaView, Running, State};
use super::slow_start::Warming;

/// Where a member is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be spawned, at `at` or when a place is free.
    Queued { at: Duration },
    /// The runtime is at it.
    Spawning,
    /// It runs; its first heartbeat must come by `deadline`.
    Starting { deadline: Duration },
    /// Its last heartbeat was good.
    Live,
    /// Its last heartbeat was missed.
    Suspect,
    /// Given up; what is left of it is being removed, and it lives again at `respawn_at` at the earliest.
    Removing { respawn_at: Duration },
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance: Instance,
    pub(super) phase: Phase,
    /// In the ring, and in `/rep`.
    pub(super) joined: bool,
    /// It was there when the fleet began.
    pub(super) first: bool,
    /// It has only a part of its share yet.
    pub(super) warming: Option<Warming>,
    pub(super) running: Option<Running>,
    pub(super) launched: Duration,
    pub(super) live_since: Option<Duration>,
    pub(super) missed: u32,
    /// When requests were last known to be answered by it.
    pub(super) served_at: Option<Duration>,
    pub(super) probe_at: Duration,
    pub(super) asked_at: Duration,
    pub(super) probing: bool,
    /// Why it ended before the runtime said that it began.
    pub(super) ended_early: Option<String>,
    pub(super) backoff: Backoff,
    pub(super) restarts: u64,
    pub(super) last_error: Option<String>,
    /// Why it has had no good heartbeat since its start.
    pub(super) hindrance: Option<String>,
}

impl Member {
    pub(super) fn new(instance: Instance, now: Duration) -> Self {
        Self {
            instance,
            phase: Phase::Queued { at: now },
            joined: false,
            first: false,
            warming: None,
            running: None,
            launched: now,
            live_since: None,
            missed: 0,
            served_at: None,
            probe_at: now,
            asked_at: now,
            probing: false,
            ended_early: None,
            backoff: Backoff::default(),
            restarts: 0,
            last_error: None,
            hindrance: None,
        }
    }

    /// Running, as far as we know.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Live | Phase::Suspect)
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Queued { .. } if self.restarts > 0 || self.last_error.is_some() => State::Respawning,
            Phase::Queued { .. } | Phase::Spawning | Phase::Starting { .. } => State::Starting,
            Phase::Live => State::Live,
            Phase::Suspect => State::Suspect,
            Phase::Removing { .. } => State::Flatlined,
        }
    }

    /// When something about it becomes due.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> + use<> {
        let phase = match self.phase {
            Phase::Queued { at } => Some(at),
            Phase::Starting { deadline } => Some(deadline),
            _ => None,
        };
        let probe = (self.is_up() && !self.probing).then_some(self.probe_at);
        phase.into_iter().chain(probe)
    }

    /// As the outside sees it; `epoch_ms` is the wall clock at time zero.
    pub(super) fn view(&self, epoch_ms: u64, role: Option<String>) -> ReplicaView {
        let respawn_at = match self.phase {
            Phase::Queued { at } if self.state() == State::Respawning => {
                Some(epoch_ms + at.as_millis() as u64)
            }
            _ => None,
        };
        ReplicaView {
            name: self.instance.name.clone(),
            id: self.instance.id,
            role,
            state: self.state(),
            incarnation: self.instance.incarnation,
            address: self.running.as_ref().map(|running| running.address),
            handle: self.running.as_ref().map(|running| running.handle.clone()),
            restarts: self.restarts,
            missed_heartbeats: self.missed,
            respawn_at_unix_ms: respawn_at,
            last_error: self.hindrance.as_ref().or(self.last_error.as_ref()).cloned(),
        }
    }

    pub(super) fn check_invariants(&self) {
        let name = &self.instance.name;
        assert_eq!(self.is_up(), self.running.is_some(), "{name}: up is running: {:?}", self.phase);
        assert!(!self.probing || self.is_up(), "{name}: only what runs is asked for heartbeats");
        assert!(self.phase != Phase::Live || self.missed == 0, "{name}: live has missed nothing");
        assert!(self.phase != Phase::Suspect || self.missed > 0, "{name}: suspect has missed something");
    }
}
