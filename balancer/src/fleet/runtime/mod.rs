//! What runs replicas. The fleet's decisions are the same for all; only here is a process or a container known.
//!
//! One conformance suite (`tests/`) runs on every runtime that starts something; `fixed` starts nothing.

mod container;
pub mod docker;
mod docker_ends;
mod docker_given;
mod docker_image;
pub mod fixed;
pub mod mixed;
pub mod process;
mod spawner;

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::state::{Instance, Running};

/// Starts, ends and lists instances.
///
/// An implementor guarantees that
/// - after `spawn` succeeded the instance runs, and its end, whatever the cause, is reported once on the channel
///   that the runtime was made with (a hint: the fleet also works if it comes late or never);
/// - after `spawn` failed nothing of it is left. What ends at once may be that, or a success and a reported end;
/// - after `stop` succeeded nothing of it is left, and its name can be used again. Stopping what is not there is
///   a success;
/// - instances do not outlive the balancer unless `list` of the next balancer finds them.
///
/// Wrong: `stop` that returns when the signal is sent. Right: `stop` that returns when the name is free.
pub trait Runtime: Send + Sync + 'static {
    /// `process`, `docker` or `static`.
    fn name(&self) -> &'static str;
    /// Makes sure, once, that replicas can be started: the engine answers, image and network are there.
    fn prepare(&self) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Whether these names are free for us.
    fn vet(&self, names: &[String]) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Starts an instance.
    fn spawn(&self, instance: &Instance) -> impl Future<Output = Result<Running, RuntimeError>> + Send;
    /// Asks it to end, kills it after `grace` (zero: at once), removes what is left.
    fn stop(
        &self,
        instance: &Instance,
        grace: Duration,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
    /// Addresses, beside loopback, that this machine's own calls come from when the balancer is in a container.
    fn own_addresses(&self) -> impl Future<Output = Vec<IpAddr>> + Send;
    /// Removes what `prepare` made, after the last instance. What others use stays.
    fn clean_up(&self) -> impl Future<Output = ()> + Send;
    /// All instances of this fleet, running or not.
    fn list(&self) -> impl Future<Output = Result<Vec<Found>, RuntimeError>> + Send;
}

/// An instance that `list` found; `running` is `None` for what has ended and was not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which life of which replica.
    pub instance: Instance,
    /// Where it is, if it runs.
    pub running: Option<Running>,
}

/// An instance ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Which.
    pub instance: Instance,
    /// How, in words.
    pub why: String,
}

/// Where runtimes report ends.
pub type Exits = mpsc::Sender<Exit>;

/// Why a replica could not be started, for the caller of `/add` and the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// Whether the caller can mend it by choosing another name.
    pub name_taken: bool,
    words: String,
}

impl SpawnFailure {
    /// What happened, and what to do about it.
    pub fn new(what: &str, advice: &str) -> Self {
        Self { name_taken: false, words: format!("{what}: {advice}") }
    }
}

impl std::fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

impl From<RuntimeError> for SpawnFailure {
    fn from(error: RuntimeError) -> Self {
        Self {
            name_taken: matches!(error, RuntimeError::Foreign { .. } | RuntimeError::NotListed { .. }),
            words: crate::chain::words(&error),
        }
    }
}

/// Whose a container is that has a name we want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The fleet of another balancer, or of this one under another label.
    pub fleet: Option<String>,
    /// What it runs.
    pub image: String,
}

impl Owner {
    /// What may be done if it is an earlier balancer's.
    pub(crate) fn advice(&self) -> String {
        let take_over = |fleet| {
            format!(
                "if it is left of an earlier balancer, take its fleet over with docker.fleet = \"{fleet}\"; otherwise "
            )
        };
        self.fleet.as_ref().map(take_over).unwrap_or_default()
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.fleet {
            Some(fleet) => write!(f, "its label says slipring.fleet={fleet}"),
            None => write!(f, "its image is {}", self.image),
        }
    }
}

/// What a runtime could not do, and what the user can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No program could be started.
    #[error(
        "{program} cannot be started: check that it exists, is executable, and that processes and memory are left"
    )]
    Exec { program: String, source: std::io::Error },
    /// A process ended before it said where it listens.
    #[error("{name} ended before it listened ({status}): its own messages are in the balancer's log")]
    EndedEarly { name: String, status: String },
    /// A process did not say in time where it listens.
    #[error(
        "{name} did not say within {within:?} where it listens: raise fleet.start_timeout, or see its messages"
    )]
    Silent { name: String, within: Duration },
    /// The configured program is not there.
    #[error(
        "process.command: there is no program {program} to start{searched}: install it, or write its path"
    )]
    NoProgram { program: String, searched: &'static str },
    /// A signal had no effect.
    #[error(
        "{name} (process {pid}) is still there after SIGKILL: it hangs in the kernel, see /proc/{pid}/stack"
    )]
    Unkillable { name: String, pid: u32 },
    /// The engine does not answer.
    #[error("no Docker engine answers at {socket}: start it, set docker.socket, or use fleet.runtime = \"process\"", socket = socket.display())]
    NoEngine { socket: PathBuf, source: Box<bollard::errors::Error> },
    /// The image is not there and is not ours to build.
    #[error(
        "there is no image {image}: build or load it on this engine, or leave docker.image empty for Slipring's own"
    )]
    NoImage { image: String },
    /// Our own image cannot be built from an executable that needs shared libraries.
    #[error(
        "this executable is linked dynamically and cannot be an image by itself: build it with `make image`, or set docker.image"
    )]
    NotStatic,
    /// The image could not be built.
    #[error("the image {image} could not be built: {message}")]
    Build { image: String, message: String },
    /// Somebody else's container has the name.
    #[error(
        "the name '{name}' belongs to a container that is not this balancer's ({owner}): choose another name, or, if nobody needs it, `docker rm -f {name}`"
    )]
    Foreign { name: String, owner: Owner },
    /// An address that the configuration does not list.
    #[error("there is no '{name}' among fleet.upstreams: list it there")]
    NotListed { name: String },
    /// The name of a machine leads nowhere.
    #[error(
        "the machine of {name}, {host}, cannot be found: see overlay.topology, or the names of this network"
    )]
    NoHost { name: String, host: String, source: std::io::Error },
    /// No space.
    #[error(
        "the Docker engine's disk is full ({message}): free some space, for example with `docker system prune`"
    )]
    DiskFull { message: String },
    /// A container without an address.
    #[error(
        "container {name} has no address on network {network}: it ended at once{last_words}, or the network was changed"
    )]
    NoAddress { name: String, network: String, last_words: String },
    /// The engine answered before and does not any more.
    #[error(
        "no Docker engine answers any more at docker.socket, so it could not {doing}: start it again; replicas that run go on serving"
    )]
    Away { doing: String, source: Box<bollard::errors::Error> },
    /// Anything else that the engine refuses.
    #[error("the Docker engine could not {doing}")]
    Engine { doing: String, source: Box<bollard::errors::Error> },
    /// The executable could not be read.
    #[error("{what} cannot be read")]
    Unreadable { what: String, source: std::io::Error },
    /// The runtime is gone.
    #[error("the balancer is shutting down")]
    ShuttingDown,
}
