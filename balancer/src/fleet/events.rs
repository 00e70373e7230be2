//! What the fleet tells the world: a bounded history, and a broadcast of what follows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::config::{DEFAULT, PoolChanges};

/// Events kept for readers who come late.
const HISTORY: usize = 1024;

/// One thing that happened to one replica, or to its fleet.
#[derive(Clone, Debug, Serialize)]
pub struct FleetEvent {
    /// Counts upwards, over all pools, and over restarts too.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Whose fleet it was.
    #[serde(serialize_with = "as_text")]
    pub pool: Arc<str>,
    /// What the replica is among the others, if it is not like them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub news: News,
}

/// What happened. `replica` is a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum News {
    /// A replica became a member.
    Added { replica: String, id: u32 },
    /// A member was taken over from an earlier balancer, still running.
    Adopted { replica: String, id: u32 },
    /// The runtime was asked to start it.
    Spawning { replica: String, incarnation: u64 },
    /// It runs; no heartbeat yet.
    Started { replica: String, incarnation: u64, address: String },
    /// It could not be started.
    SpawnFailed { replica: String, why: String },
    /// Its heartbeat came: requests may.
    Live { replica: String },
    /// It missed a heartbeat.
    Suspect { replica: String, missed: u32, why: String },
    /// It is given up for dead.
    Flatlined { replica: String, why: String },
    /// It will be started again after this delay; how often it was started again before.
    Respawning { replica: String, backoff_ms: u64, restarts: u64 },
    /// A respawn took a new name.
    Renamed { replica: String, was: String },
    /// It left the ring; its requests in flight finish.
    Draining { replica: String },
    /// Nothing is left of it.
    Stopped { replica: String },
    /// Something with our label that belongs to no member was found and removed.
    Orphan { replica: String },
    /// Stopping failed; what is left is tried again at the next reconciliation.
    StopFailed { replica: String, why: String },
    /// The configuration was read again and is obeyed: keys with another value, pools.
    Reloaded { keys: Vec<String>, pools: PoolChanges },
    /// The configuration was read again, and nothing was changed.
    ReloadRefused { why: String },
    /// A hint of what the operator should know.
    Warning { why: String },
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[derive(Debug)]
struct Log {
    history: VecDeque<Arc<FleetEvent>>,
    /// The last thing that happened to each replica of each pool that is not gone.
    last: HashMap<Arc<str>, BTreeMap<String, Arc<FleetEvent>>>,
    next: u64,
}

/// The one place where events are published, by all pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    /// In whose name events are published.
    pool: Arc<str>,
    roles: Arc<BTreeMap<String, String>>,
    log: Arc<Mutex<Log>>,
    live: broadcast::Sender<Arc<FleetEvent>>,
}

impl Events {
    /// No events yet. Their numbers begin at the clock's milliseconds, so that those of an earlier life are lower.
    pub fn starting_at(unix_ms: u64) -> Self {
        let log = Log { history: VecDeque::with_capacity(HISTORY), last: HashMap::new(), next: unix_ms };
        let (pool, roles, log) = (DEFAULT.into(), Arc::default(), Arc::new(Mutex::new(log)));
        Self { pool, roles, log, live: broadcast::Sender::new(HISTORY) }
    }

    /// The same place, for the events of this pool.
    pub fn of_pool(&self, pool: &Arc<str>) -> Self {
        Self { pool: pool.clone(), ..self.clone() }
    }

    /// The same place, where replicas of these names have these roles.
    pub fn with_roles(self, roles: BTreeMap<String, String>) -> Self {
        Self { roles: Arc::new(roles), ..self }
    }

    /// Publishes one event. Nobody need be listening.
    pub fn publish(&self, unix_ms: u64, news: News) {
        let role = news.replica().and_then(|replica| self.roles.get(replica)).cloned();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let event = FleetEvent { sequence: log.next, unix_ms, pool: self.pool.clone(), role, news };
        let event = Arc::new(event);
        log.next += 1;
        if log.history.len() == HISTORY {
            log.history.pop_front();
        }
        log.history.push_back(event.clone());
        log.note(&event);
        // Under the lock, so that a subscriber sees each event exactly once; an error is nobody listening.
        let _ = self.live.send(event);
    }

    /// Everything remembered after `sequence`, and a receiver of all that follows.
    pub fn subscribe(&self, after: u64) -> (Vec<Arc<FleetEvent>>, broadcast::Receiver<Arc<FleetEvent>>) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let past = log.history.iter().filter(|event| event.sequence > after).cloned().collect();
        (past, self.live.subscribe())
    }

    /// The last thing that happened to each replica of a pool, by its name; of those that are gone nothing.
    pub fn last_of(&self, pool: &str) -> BTreeMap<String, Arc<FleetEvent>> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.last.get(pool).cloned().unwrap_or_default()
    }

    /// Everything remembered.
    pub fn history(&self) -> Vec<Arc<FleetEvent>> {
        self.subscribe(0).0
    }
}

impl Log {
    /// Keeps what the history forgets: when, and why, each replica came to be as it is.
    fn note(&mut self, event: &Arc<FleetEvent>) {
        let Some(replica) = event.news.replica() else { return };
        let last = self.last.entry(event.pool.clone()).or_default();
        match &event.news {
            // It belongs to nobody, whatever its name.
            News::Orphan { .. } => return,
            News::Stopped { .. } => {
                last.remove(replica);
                if last.is_empty() {
                    self.last.remove(&event.pool);
                }
                return;
            }
            News::Renamed { was, .. } => drop(last.remove(was)),
            _ => {}
        }
        last.insert(replica.to_owned(), event.clone());
    }
}

impl News {
    /// To whom it happened, if it was one replica.
    pub fn replica(&self) -> Option<&str> {
        match self {
            Self::Added { replica, .. }
            | Self::Adopted { replica, .. }
            | Self::Spawning { replica, .. }
            | Self::Started { replica, .. }
            | Self::SpawnFailed { replica, .. }
            | Self::Live { replica }
            | Self::Suspect { replica, .. }
            | Self::Flatlined { replica, .. }
            | Self::Respawning { replica, .. }
            | Self::Renamed { replica, .. }
            | Self::Draining { replica }
            | Self::Stopped { replica }
            | Self::Orphan { replica }
            | Self::StopFailed { replica, .. } => Some(replica),
            Self::Reloaded { .. } | Self::ReloadRefused { .. } | Self::Warning { .. } => None,
        }
    }

    /// The event's name, as `/events` and the metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Added { .. } => "added",
            Self::Adopted { .. } => "adopted",
            Self::Spawning { .. } => "spawning",
            Self::Started { .. } => "started",
            Self::SpawnFailed { .. } => "spawn_failed",
            Self::Live { .. } => "live",
            Self::Suspect { .. } => "suspect",
            Self::Flatlined { .. } => "flatlined",
            Self::Respawning { .. } => "respawning",
            Self::Renamed { .. } => "renamed",
            Self::Draining { .. } => "draining",
            Self::Stopped { .. } => "stopped",
            Self::Orphan { .. } => "orphan",
            Self::StopFailed { .. } => "stop_failed",
            Self::Reloaded { .. } => "reloaded",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::Warning { .. } => "warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_last_is_known_of_those_that_are_there_however_much_happens_to_others() {
        let events = Events::starting_at(1);
        let api = events.of_pool(&Arc::from("api"));
        let live = |replica: &str| News::Live { replica: replica.into() };
        events.publish(1, live("quiet"));
        api.publish(2, live("quiet"));
        for n in 0..HISTORY as u64 * 2 {
            events.publish(n, live("loud"));
        }
        api.publish(3, News::Renamed { replica: "new".into(), was: "quiet".into() });
        let told = |pool: &str| -> Vec<_> {
            let last = events.last_of(pool);
            last.iter().map(|(name, event)| (name.clone(), event.unix_ms, event.news.name())).collect()
        };
        let loud = HISTORY as u64 * 2 - 1;
        assert_eq!(told(DEFAULT), [("loud".into(), loud, "live"), ("quiet".into(), 1, "live")]);
        assert_eq!(told("api"), [("new".into(), 3, "renamed")]);
        api.publish(4, News::Stopped { replica: "new".into() });
        assert!(events.log.lock().unwrap().last.len() == 1, "a pool that is gone leaves nothing behind");
    }
}
