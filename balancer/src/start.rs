//! From a pool's configuration to its fleet: what is remembered, what runs replicas, and the fleet itself.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{PoolConfig, RuntimeChoice};
use crate::fleet::handle::Fleet;
use crate::fleet::past::Past;
use crate::fleet::runtime::docker::{self, DockerRuntime, Family};
use crate::fleet::runtime::fixed::FixedRuntime;
use crate::fleet::runtime::mixed::MixedRuntime;
use crate::fleet::runtime::process::ProcessRuntime;
use crate::fleet::shell::{BeginError, Surroundings, begin};

/// Before an engine that has containers of ours is asked again.
const ENGINE_PAUSE: Duration = Duration::from_millis(250);
/// Ends of instances waiting to be heard.
const EXITS: usize = 1024;

/// Why a pool could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The replicas were containers, and their engine does not answer.
    #[error(
        "the replicas of this fleet are containers, and no Docker engine answered at {socket} within {within:?}: start it or set docker.socket; if none of them is left, fleet.runtime = \"process\" does without", socket = socket.display()
    )]
    EngineAway { socket: PathBuf, within: Duration },
    /// Nothing tells this fleet's containers from another's.
    #[error(
        "containers need a label that a later balancer finds them by: set docker.fleet, or state, or a fixed port in listen"
    )]
    NoLabel,
    /// The fleet could not begin.
    #[error(transparent)]
    Fleet(#[from] BeginError),
}

/// A fleet that has begun.
#[derive(Debug)]
pub struct Begun {
    /// A handle on it.
    pub fleet: Fleet,
    /// Where this machine's own calls come from, beside loopback.
    pub own_addresses: Vec<IpAddr>,
    /// What runs its replicas.
    pub runtime: &'static str,
}

/// Begins the fleet of a pool.
///
/// # Errors
/// When replicas cannot be started at all, or what is remembered cannot be read; then nothing of it is left running.
pub async fn begin_pool(
    config: &PoolConfig,
    around: Surroundings,
    family: &Family,
) -> Result<Begun, PoolError> {
    let (exits, ends) = mpsc::channel(EXITS);
    let past = Past::recall(config)?;
    let given = config.overlay.as_ref().map(|overlay| &*overlay.members);
    let ((fleet, own_addresses), runtime) = if config.fleet.runtime == RuntimeChoice::Static {
        (begin(config, past, FixedRuntime::default(), ends, around).await?, "static")
    } else if wants_docker(config, &past).await? {
        let container = docker::own_name(&config.docker).await;
        let label = past.label(config, container.as_deref())?.ok_or(PoolError::NoLabel)?;
        let runtime = DockerRuntime::connect(config.docker.clone(), label, exits);
        let runtime = runtime.await.map_err(BeginError::from)?.among(family);
        let runtime = match given {
            Some(members) => runtime.with_members(members, config.prefix()),
            None => runtime,
        };
        (begin(config, past, runtime, ends, around).await?, "docker")
    } else {
        if past.runtime() == Some("docker") {
            let pool = &*config.name;
            tracing::warn!(
                pool,
                "the replicas were containers: any that an earlier balancer left behind stay"
            );
        }
        let command = config.process.command.clone();
        let runtime =
            ProcessRuntime::new(command, config.fleet.start_timeout, exits).map_err(BeginError::from)?;
        let runtime = match &config.analyse {
            Some(analyse) => runtime.with_role(analyse.arguments(), analyse.environment()),
            None => runtime,
        };
        let begun = match given {
            Some(members) => {
                let here = runtime.with_members(members);
                let runtime = MixedRuntime::new(here, FixedRuntime::elsewhere(members));
                begin(config, past, runtime, ends, around).await?
            }
            None => begin(config, past, runtime, ends, around).await?,
        };
        (begun, "process")
    };
    Ok(Begun { fleet, own_addresses, runtime })
}

/// `auto` takes containers where an engine answers, and stays with them: those that outlived an earlier balancer
/// would be nobody's if processes took their place.
async fn wants_docker(config: &PoolConfig, past: &Past) -> Result<bool, PoolError> {
    match config.fleet.runtime {
        RuntimeChoice::Docker => return Ok(true),
        RuntimeChoice::Process | RuntimeChoice::Static => return Ok(false),
        RuntimeChoice::Auto => {}
    }
    if past.runtime() != Some("docker") {
        let possible = cfg!(target_feature = "crt-static")
            && (config.docker.fleet.is_some() || config.state.is_some() || config.fallback_label.is_some());
        return Ok(possible && DockerRuntime::answers(&config.docker).await);
    }
    let within = config.fleet.start_timeout;
    let answer = async {
        while !DockerRuntime::answers(&config.docker).await {
            tracing::info!(socket = %config.docker.socket.display(), "waiting for the Docker engine");
            tokio::time::sleep(ENGINE_PAUSE).await;
        }
    };
    match tokio::time::timeout(within, answer).await {
        Ok(()) => Ok(true),
        Err(_) => Err(PoolError::EngineAway { socket: config.docker.socket.clone(), within }),
    }
}
