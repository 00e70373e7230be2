//! Keys of the runtimes: processes and containers.

use std::path::PathBuf;

use super::keys::Effect::AtRestart;
use super::parse;
use super::reader::Reader;

/// Replicas as child processes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// A program and its arguments; empty: Slipring's own demonstration replica.
    pub command: Vec<String>,
}

/// Replicas as containers.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerConfig {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The network that replicas share.
    pub network: String,
    /// A user's own image; `None`: the appliance's own, built when it is missing.
    pub image: Option<String>,
    /// The port that replicas listen on inside.
    pub port: u16,
    /// Tells this balancer's containers from another's on the same engine; `None`: a label of its own, remembered
    /// beside the membership.
    pub fleet: Option<String>,
}

pub(super) fn read_process(r: &mut Reader<'_>) -> ProcessConfig {
    r.section("process", "Replicas as child processes.");
    ProcessConfig {
        command: r.key(
            "process.command", AtRestart,
            "[]",
            "A program of your own and its arguments: it gets PORT and SERVER_ID in its environment. [] runs the demonstration replica.",
            parse::words,
        ),
    }
}

pub(super) fn read_docker(r: &mut Reader<'_>) -> DockerConfig {
    r.section("docker", "Replicas as containers.");
    DockerConfig {
        socket: r.key("docker.socket", AtRestart, "/var/run/docker.sock", "The engine's socket.", parse::file_path),
        network: r.key("docker.network", AtRestart, "my_net", "The network of the replicas; made when it is missing.", parse::docker_name),
        image: r.key("docker.image", AtRestart, "", "An image of your own that listens on docker.port; \"\" builds slipring:<version> from this executable.", parse::optional_text),
        port: r.key("docker.port", AtRestart, "5000", "What replicas listen on inside their container.", parse::number(1_u16..=u16::MAX)),
        fleet: r
            .own("docker.fleet", AtRestart, "", "The label that tells this balancer's containers from another's on the same engine; \"\": one that is drawn once and remembered beside state (in a container: slipring-<its name>; without state: slipring-<port of listen>).", parse::optional_docker_name),
    }
}
