//! What a new balancer begins with: the remembered members, those that still run, or the first ones.
//!
//! Nothing is moved or written before it is certain that the fleet can begin: a membership that the configuration
//! has no room for is a mistake in the configuration, not a corrupt file.

use slipring_hashing::ReplicaId;

use super::events::{Events, News};
use super::memory::{Memory, Recollection, Remembered};
use super::runtime::{Found, Runtime, RuntimeError};
use super::shell::BeginError;
use crate::config::{FixedMember, Listed, PoolConfig, RuntimeChoice};

/// What is known before anything was asked of a runtime.
#[derive(Debug)]
pub struct Past {
    memory: Option<Memory>,
    recollection: Recollection,
}

impl Past {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// When it cannot be read, or names more members than the ring holds.
    pub fn recall(config: &PoolConfig) -> Result<Self, BeginError> {
        // Whom the configuration lists is there: nothing else is remembered.
        let path = config.state.clone().filter(|_| config.fleet.runtime != RuntimeChoice::Static);
        let memory = path.map(|path| Memory::open(path, &config.placement)).transpose()?;
        let recollection = memory.as_ref().map_or(Ok(Recollection::Nothing), Memory::recall)?;
        if let Recollection::Members { members, .. } = &recollection
            && config.overlay.is_none()
        {
            check_room(config, members.len(), "are remembered")?;
        }
        Ok(Self { memory, recollection })
    }

    /// What ran the members.
    pub fn runtime(&self) -> Option<&str> {
        match &self.recollection {
            Recollection::Members { runtime, .. } => runtime.as_deref(),
            Recollection::Nothing | Recollection::Corrupt(_) => None,
        }
    }

    /// What tells this fleet's containers from all others: the configured label; or one that is remembered, and was
    /// drawn at first; or, where nothing is, one that the port makes, `None` when there is not even a fixed one.
    ///
    /// A balancer in a container, whose `container` has this name, may lose what it remembers whenever that container is
    /// replaced. The name is the engine's, nobody else's, and its successor's: it makes the label instead.
    ///
    /// # Errors
    /// When it cannot be remembered.
    pub fn label(&self, config: &PoolConfig, container: Option<&str>) -> Result<Option<String>, BeginError> {
        if let Some(label) = &config.docker.fleet {
            return Ok(Some(label.clone()));
        }
        let by_container = container.map(|name| config.label(&format!("slipring-{name}")));
        if let Some(memory) = &self.memory {
            let first = || by_container.unwrap_or_else(|| format!("slipring-{:016x}", rand::random::<u64>()));
            return Ok(Some(memory.fleet(first)?));
        }
        Ok(by_container.or_else(|| config.fallback_label.clone()))
    }

    /// The members to begin with, and the memory to write them to. Later starts serve with whom they can and heal
    /// the others; a first one fails whole.
    pub(super) async fn members<R: Runtime>(
        self,
        config: &PoolConfig,
        runtime: &R,
        found: &[Found],
        warn: impl FnOnce(String),
    ) -> Result<(Vec<Remembered>, Option<Memory>), BeginError> {
        let mut memory = self.memory;
        if let Some(memory) = &mut memory {
            memory.run_by(runtime.name());
        }
        let corrupt = match self.recollection {
            Recollection::Members { members, .. } if config.overlay.is_none() => {
                return Ok((members, memory));
            }
            Recollection::Corrupt(why) => Some(why),
            Recollection::Nothing | Recollection::Members { .. } => None,
        };
        let mut members = match &config.overlay {
            Some(_) => Vec::new(),
            None => adopted(found),
        };
        if members.is_empty() {
            members = match (&config.overlay, config.fleet.runtime) {
                (Some(overlay), _) => given(&overlay.members),
                (None, RuntimeChoice::Static) => listed(&config.fleet.upstreams),
                _ => first_members(config.prefix(), config.fleet.replicas),
            };
            let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
            runtime.vet(&names).await.map_err(|error| match error {
                RuntimeError::Foreign { name, owner } if config.overlay.is_none() => {
                    BeginError::FirstName { prefix: config.prefix().to_owned(), name, owner }
                }
                other => other.into(),
            })?;
        }
        check_room(config, members.len(), "run already")?;
        if let (Some(why), Some(memory)) = (corrupt, &memory) {
            let aside = memory.set_aside();
            let aside = aside
                .map_or("it could not be moved".into(), |aside| format!("it is now {}", aside.display()));
            warn(format!("the membership file is corrupt ({why}) and is not obeyed; {aside}"));
        }
        Ok((members, memory))
    }
}

fn check_room(config: &PoolConfig, members: usize, how: &'static str) -> Result<(), BeginError> {
    let capacity = config.placement.capacity();
    if members > capacity { Err(BeginError::Full { members, how, capacity }) } else { Ok(()) }
}

/// The members that what runs speaks of, in order of identity.
fn adopted(found: &[Found]) -> Vec<Remembered> {
    let mut members: Vec<Remembered> = Vec::new();
    for instance in found.iter().map(|found| &found.instance) {
        if !members.iter().any(|member| member.id == instance.id || member.name == instance.name) {
            members.push(Remembered { id: instance.id, name: instance.name.clone(), claims: Vec::new() });
        }
    }
    members.sort_by_key(|member| member.id);
    members
}

/// `Server-1`, `Server-2`, … with the identities 0, 1, …
fn first_members(prefix: &str, count: usize) -> Vec<Remembered> {
    let member = |id: u16| {
        let id = ReplicaId(id);
        Remembered { id, name: format!("{prefix}-{}", id.number()), claims: Vec::new() }
    };
    (0..u16::MAX).take(count).map(member).collect()
}

/// The listed addresses.
fn listed(upstreams: &[Listed]) -> Vec<Remembered> {
    numbered(upstreams.iter().map(|listed| listed.address.to_string()))
}

/// An overlay's processes.
fn given(members: &[FixedMember]) -> Vec<Remembered> {
    numbered(members.iter().map(|member| member.name.clone()))
}

/// Names with the identities 0, 1, …
fn numbered(names: impl Iterator<Item = String>) -> Vec<Remembered> {
    let member = |(id, name)| Remembered { id: ReplicaId(id), name, claims: Vec::new() };
    (0..u16::MAX).zip(names).map(member).collect()
}

/// Tells what the operator should know of the beginning.
pub(super) fn warn(events: &Events, unix_ms: u64, why: String) {
    tracing::warn!("{why}");
    events.publish(unix_ms, News::Warning { why });
}
