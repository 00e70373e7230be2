//! What a replica is, as the outside sees it.

use std::net::SocketAddr;

use serde::Serialize;
use slipring_hashing::ReplicaId;

/// A replica's state. starting → live → suspect → flatlined → respawning; draining → stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Launched, or about to be; no heartbeat yet.
    Starting,
    /// Its last heartbeat was good.
    Live,
    /// It missed a heartbeat; requests go elsewhere while they can.
    Suspect,
    /// Dead; what is left of it is being removed.
    Flatlined,
    /// Waiting for its backoff, or being started again.
    Respawning,
    /// Out of the ring; requests in flight finish.
    Draining,
    /// No request is on it any more; the runtime is ending it, and then it is not shown at all.
    Stopped,
}

impl State {
    /// All of them, for metrics.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Live,
        Self::Suspect,
        Self::Flatlined,
        Self::Respawning,
        Self::Draining,
        Self::Stopped,
    ];

    /// The word for it in answers, events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Flatlined => "flatlined",
            Self::Respawning => "respawning",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// One start of one replica. Everything that is done or reported about a replica names its instance, so
/// that news of an earlier life changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    /// The identity, which the ring knows.
    pub id: ReplicaId,
    /// The name, which users and the runtime know.
    pub name: String,
    /// Counts starts over the whole fleet, upwards.
    pub incarnation: u64,
}

/// What the runtime knows of a running instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is to the operating system or engine.
    pub handle: Handle,
}

/// A process id or a container id, for people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Handle {
    /// A child process.
    Pid(u32),
    /// A container.
    Container(String),
    /// Somebody else's, as the configuration names it.
    Upstream(String),
}

/// What is given of a member that is no replica like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// What it is among the others.
    pub role: String,
    /// Whether it is on the ring.
    pub is_routed: bool,
}

/// One replica as `/replicas` and the snapshot show it.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// Its number: the contract's `SERVER_ID`.
    #[serde(serialize_with = "as_number")]
    pub id: ReplicaId,
    /// What it is among the others, if it is not like them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its state.
    pub state: State,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Where it listens, once launched.
    pub address: Option<SocketAddr>,
    /// What runs it, once launched.
    #[serde(flatten)]
    pub handle: Option<Handle>,
    /// How often it was started again.
    pub restarts: u64,
    /// Heartbeats missed in a row.
    pub missed_heartbeats: u32,
    /// When it is started again at the earliest, while it waits for its backoff: milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respawn_at_unix_ms: Option<u64>,
    /// Why it last died or did not start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

fn as_number<S: serde::Serializer>(id: &ReplicaId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(id.number())
}
