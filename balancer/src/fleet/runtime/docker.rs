//! Replicas as containers of a Docker engine.
//!
//! Name = hostname = network alias. Labels say whose a container is and which life of which replica, so that a
//! balancer that comes back finds its own and touches nobody else's; addresses are always the engine's answer
//! about a container with our labels, never remembered ones.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum,
    EndpointSettings, HostConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    WaitContainerOptions,
};
use futures_util::StreamExt;
use slipring_hashing::ReplicaId;
use tokio::sync::Mutex;

use super::super::state::{Handle, Instance, Running};
use super::container::{default_gateways, is_container, mounted_container};
use super::docker_ends::{last_words, report_ends};
use super::docker_given::Given;
use super::docker_image::{ensure_own, own_image};
use super::{Exits, Found, Owner, Runtime, RuntimeError};
use crate::config::{DockerConfig, FixedMember};

pub(super) const FLEET: &str = "slipring.fleet";
const NAME: &str = "slipring.replica";
const ID: &str = "slipring.id";
const INCARNATION: &str = "slipring.incarnation";
const WORK: &str = "slipring.work";
/// How long the engine may think about one call, in seconds.
const ENGINE_TIMEOUT: u64 = 30;

/// Builds `slipring:<version>` from this executable, unless it is there, and says its name.
///
/// # Errors
/// When no engine answers, or the image cannot be built.
pub async fn build_own_image(socket: PathBuf) -> Result<String, RuntimeError> {
    let docker = connect(&socket).await?;
    let image = own_image();
    ensure_own(&docker, &image).await?;
    Ok(image)
}

async fn connect(socket: &Path) -> Result<Docker, RuntimeError> {
    let no_engine = |source| RuntimeError::NoEngine { socket: socket.to_owned(), source: Box::new(source) };
    Docker::connect_with_socket(&socket.to_string_lossy(), ENGINE_TIMEOUT, bollard::API_DEFAULT_VERSION)
        .map_err(no_engine)?
        .negotiate_version()
        .await
        .map_err(no_engine)
}

/// The name of the container that this process runs in, if the engine knows it: nobody else on the engine has it, and
/// who replaces that container gives its successor the same.
pub async fn own_name(config: &DockerConfig) -> Option<String> {
    if !is_container() {
        return None;
    }
    let docker = connect(&config.socket).await.ok()?;
    own_container(&docker).await?.name?.strip_prefix('/').map(str::to_owned)
}

/// The container that this process runs in, if it is one of this engine's. The hostname is anybody's to choose,
/// and names of other containers are what people choose: it counts only as the beginning of an id.
async fn own_container(docker: &Docker) -> Option<ContainerInspectResponse> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for candidate in mounted_container().into_iter().chain([hostname]) {
        match docker.inspect_container(&candidate, None::<InspectContainerOptions>).await {
            Ok(found) if is_id(found.id.as_deref(), &candidate) => return Some(found),
            Ok(_) => tracing::info!(candidate, "a container has this one's hostname as its name"),
            Err(error) => tracing::debug!(%error, candidate, "not a container of this engine"),
        }
    }
    None
}

/// The labels of the fleets of one balancer, which may share a network: whoever of them leaves it last removes it.
#[derive(Clone, Debug, Default)]
pub struct Family(Arc<std::sync::Mutex<BTreeSet<String>>>);

impl Family {
    fn labels(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub struct DockerRuntime {
    docker: Docker,
    config: DockerConfig,
    /// The label of everything that is ours.
    fleet: String,
    family: Family,
    image: String,
    given: Given,
    /// Image and network are made by one at a time; the others find them there.
    making: Mutex<()>,
}

impl DockerRuntime {
    /// Connects, and reports ends of containers with the label `fleet` from then on.
    ///
    /// # Errors
    /// When no engine answers.
    pub async fn connect(config: DockerConfig, fleet: String, exits: Exits) -> Result<Self, RuntimeError> {
        let docker = connect(&config.socket).await?;
        tokio::spawn(report_ends(docker.clone(), fleet.clone(), exits));
        let image = config.image.clone().unwrap_or_else(own_image);
        let family = Family::default();
        family.labels().insert(fleet.clone());
        let (given, making) = (Given::default(), Mutex::new(()));
        Ok(Self { docker, config, fleet, family, image, given, making })
    }

    /// The same, where these members' work is given, in containers whose names begin with `prefix` and a hyphen.
    /// Their work is Slipring's own, whatever other replicas' image is.
    #[must_use]
    pub fn with_members(self, members: &[FixedMember], prefix: &str) -> Self {
        let config = DockerConfig { image: None, ..self.config };
        Self { given: Given::new(members, prefix), image: own_image(), config, ..self }
    }

    /// The same, as one of several.
    #[must_use]
    pub fn among(self, family: &Family) -> Self {
        family.labels().insert(self.fleet.clone());
        Self { family: family.clone(), ..self }
    }

    /// Whether an engine answers at the configured socket.
    pub async fn answers(config: &DockerConfig) -> bool {
        let socket = config.socket.to_string_lossy();
        let Ok(docker) = Docker::connect_with_socket(&socket, 2, bollard::API_DEFAULT_VERSION) else {
            return false;
        };
        matches!(tokio::time::timeout(Duration::from_secs(2), docker.ping()).await, Ok(Ok(_)))
    }

    fn port(&self, name: &str) -> u16 {
        self.given.port(name).unwrap_or(self.config.port)
    }

    async fn ensure_network(&self) -> Result<(), RuntimeError> {
        let _one = self.making.lock().await;
        let network = &self.config.network;
        match self.docker.inspect_network(network, None::<InspectNetworkOptions>).await {
            Ok(_) => return Ok(()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(engine(&format!("look at network {network}"), error)),
        }
        let request = NetworkCreateRequest {
            name: network.clone(),
            labels: Some([(FLEET.to_owned(), self.fleet.clone())].into()),
            ..NetworkCreateRequest::default()
        };
        match self.docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(409) => Ok(()), // another balancer was quicker
            Err(error) => Err(engine(&format!("create network {network}"), error)),
        }
    }

    /// A balancer that runs in a container itself reaches its replicas over their network.
    async fn join_network(&self) {
        if !is_container() {
            return;
        }
        let network = &self.config.network;
        let Some(container) = own_container(&self.docker).await.and_then(|own| own.id) else {
            return tracing::info!(
                network,
                "this seems to be a container, but none that the engine knows; if it is one, start it without --hostname"
            );
        };
        let request = NetworkConnectRequest { container: container.clone(), endpoint_config: None };
        match self.docker.connect_network(network, request).await {
            Ok(()) => tracing::info!(network, "the balancer's container joined the network"),
            Err(error) if error.to_string().contains("already exists in network") => {}
            Err(error) => tracing::warn!(
                %error, container, network,
                "the balancer's container could not join the replicas' network: start it with --network"
            ),
        }
    }

    fn body(&self, instance: &Instance) -> ContainerCreateBody {
        let name = self.given.container_name(&instance.name);
        let endpoint = EndpointSettings { aliases: Some(vec![name.clone()]), ..EndpointSettings::default() };
        let labels = [
            (FLEET, self.fleet.clone()),
            (NAME, instance.name.clone()),
            (ID, instance.id.number().to_string()),
            (INCARNATION, instance.incarnation.to_string()),
        ];
        let labels = labels.into_iter().chain(self.given.digest(&instance.name).map(|digest| (WORK, digest)));
        let port = self.port(&instance.name);
        let own = self.config.image.is_none();
        let demonstration =
            || own.then(|| vec!["server".into(), "--listen".into(), format!("0.0.0.0:{port}")]);
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(name),
            env: Some(vec![format!("SERVER_ID={}", instance.id.number()), format!("PORT={port}")]),
            cmd: self.given.arguments(&instance.name).or_else(demonstration),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).collect()),
            host_config: Some(HostConfig {
                network_mode: Some(self.config.network.clone()),
                mounts: self.given.mounts(&instance.name),
                binds: self.given.binds(&instance.name),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some([(self.config.network.clone(), endpoint)].into()),
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Creates and starts the container; each thing that stands in the way and can be mended is mended once.
    async fn launch(&self, instance: &Instance) -> Result<String, RuntimeError> {
        let (mut name, mut image, mut network) = (false, false, false);
        loop {
            let error = match self.create_and_start(instance).await {
                Ok(container) => return Ok(container),
                Err(error) => error,
            };
            let words = error.to_string();
            match status(&error) {
                Some(409) if !std::mem::replace(&mut name, true) => {
                    self.clear_name(&self.given.container_name(&instance.name)).await?;
                }
                Some(404) if words.contains("network") && !std::mem::replace(&mut network, true) => {
                    self.ensure_network().await?;
                    self.join_network().await;
                }
                Some(404) if words.contains("image") && !std::mem::replace(&mut image, true) => {
                    self.ensure_image().await?;
                }
                _ => return Err(engine(&format!("start container {}", instance.name), error)),
            }
        }
    }

    /// After a failure nothing of it is left.
    async fn create_and_start(&self, instance: &Instance) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::new();
        let options = options.name(&self.given.container_name(&instance.name)).build();
        let container = self.docker.create_container(Some(options), self.body(instance)).await?.id;
        match self.docker.start_container(&container, None).await {
            Ok(()) => Ok(container),
            Err(error) => {
                self.remove_leftover(&container).await;
                Err(error)
            }
        }
    }

    async fn remove_leftover(&self, container: &str) {
        if let Err(left) = self.remove(container).await {
            tracing::warn!(error = %left, "what is left of a failed start stays until the next reconciliation");
        }
    }

    async fn ensure_image(&self) -> Result<(), RuntimeError> {
        let _one = self.making.lock().await;
        if self.config.image.is_none() {
            return ensure_own(&self.docker, &self.image).await;
        }
        match self.docker.inspect_image(&self.image).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => {
                Err(RuntimeError::NoImage { image: self.image.clone() })
            }
            Err(error) => Err(engine(&format!("look at image {}", self.image), error)),
        }
    }

    /// The container of this name; the engine itself would also take the beginning of an id for one.
    async fn named(&self, name: &str) -> Result<Option<Named>, RuntimeError> {
        match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) if found.name.as_deref().and_then(|path| path.strip_prefix('/')) == Some(name) => {
                let config = found.config.unwrap_or_default();
                let fleet = config.labels.and_then(|mut labels| labels.remove(FLEET));
                let owner = Owner { fleet, image: config.image.unwrap_or_default() };
                let ours = owner.fleet.as_ref() == Some(&self.fleet);
                Ok(found.id.map(|id| Named { id, ours, owner }))
            }
            Ok(_) => Ok(None),
            Err(error) if status(&error) == Some(404) || is_ambiguous(&error) => Ok(None),
            Err(error) => Err(engine(&format!("look at container {name}"), error)),
        }
    }

    async fn is_there(&self, id: &str) -> Result<bool, RuntimeError> {
        match self.docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(engine(&format!("look at container {id}"), error)),
        }
    }

    /// A name is taken: a corpse of ours is removed, anybody else's container is left alone.
    async fn clear_name(&self, name: &str) -> Result<(), RuntimeError> {
        match self.named(name).await? {
            None => Ok(()),
            Some(Named { ours: true, id, .. }) => self.remove(&id).await,
            Some(Named { owner, .. }) => Err(RuntimeError::Foreign { name: name.to_owned(), owner }),
        }
    }

    async fn remove(&self, container: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.docker.remove_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) if status(&error) == Some(409) => self.await_removal(container).await,
            Err(error) => Err(engine(&format!("remove container {container}"), error)),
        }
    }

    /// Somebody else is removing it (`docker rm -f` at the same moment): wait until it is gone.
    async fn await_removal(&self, container: &str) -> Result<(), RuntimeError> {
        for _ in 0..100 {
            if !self.is_there(container).await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let source = EngineError::RequestTimeoutError;
        Err(engine(&format!("finish the removal of container {container}"), source))
    }

    async fn ours(&self, more: Option<(&str, u64)>) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let mut labels = vec![format!("{FLEET}={}", self.fleet)];
        labels.extend(more.map(|(label, value)| format!("{label}={value}")));
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        self.docker.list_containers(Some(options)).await.map_err(|error| engine("list containers", error))
    }

    fn found(&self, container: &ContainerSummary) -> Option<Found> {
        let labels = container.labels.as_ref()?;
        let instance = labelled(labels)?;
        let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let endpoint = networks.and_then(|networks| networks.get(&self.config.network));
        let address = endpoint.and_then(|endpoint| address(endpoint, self.port(&instance.name)));
        // One that an earlier balancer gave other work is as good as ended.
        let up = matches!(
            container.state,
            Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED)
        ) && labels.get(WORK) == self.given.digest(&instance.name).as_ref();
        let handle = Handle::Container(short(container.id.as_deref()?));
        Some(Found { instance, running: address.filter(|_| up).map(|address| Running { address, handle }) })
    }
}

impl Runtime for DockerRuntime {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn prepare(&self) -> Result<(), RuntimeError> {
        self.ensure_image().await?;
        self.ensure_network().await?;
        self.join_network().await;
        Ok(())
    }

    async fn vet(&self, names: &[String]) -> Result<(), RuntimeError> {
        for name in names {
            let name = self.given.container_name(name);
            if let Some(Named { ours: false, owner, .. }) = self.named(&name).await? {
                return Err(RuntimeError::Foreign { name, owner });
            }
        }
        Ok(())
    }

    async fn spawn(&self, instance: &Instance) -> Result<Running, RuntimeError> {
        let container = self.launch(instance).await?;
        match self.docker.inspect_container(&container, None::<InspectContainerOptions>).await {
            Ok(inspected) => {
                let networks = inspected.network_settings.and_then(|settings| settings.networks);
                let endpoint = networks.and_then(|mut networks| networks.remove(&self.config.network));
                let port = self.port(&instance.name);
                if let Some(address) = endpoint.and_then(|endpoint| address(&endpoint, port)) {
                    return Ok(Running { address, handle: Handle::Container(short(&container)) });
                }
                let last_words = last_words(&self.docker, &container).await;
                self.remove_leftover(&container).await;
                let (name, network) = (instance.name.clone(), self.config.network.clone());
                Err(RuntimeError::NoAddress { name, network, last_words })
            }
            Err(error) => {
                self.remove_leftover(&container).await;
                Err(engine(&format!("look at container {}", instance.name), error))
            }
        }
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), RuntimeError> {
        for container in self.ours(Some((INCARNATION, instance.incarnation))).await? {
            if container.labels.as_ref().and_then(labelled).as_ref() != Some(instance) {
                continue; // of an earlier balancer, with the same number
            }
            let Some(id) = container.id else { continue };
            if !grace.is_zero() {
                let polite = KillContainerOptionsBuilder::new().signal("SIGINT").build();
                match self.docker.kill_container(&id, Some(polite)).await {
                    Ok(()) => {
                        let mut end =
                            std::pin::pin!(self.docker.wait_container(&id, None::<WaitContainerOptions>));
                        if tokio::time::timeout(grace, end.next()).await.is_err() {
                            tracing::info!(name = instance.name, "it did not end by itself and is killed");
                        }
                    }
                    Err(error) => tracing::debug!(%error, name = instance.name, "it ended by itself"),
                }
            }
            self.remove(&id).await?;
        }
        Ok(())
    }

    async fn own_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = default_gateways();
        if !is_container() {
            return addresses;
        }
        let Some(own) = own_container(&self.docker).await else { return addresses };
        let networks = own.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        for (name, endpoint) in networks {
            let network = self.docker.inspect_network(&name, None::<InspectNetworkOptions>).await;
            let bridge = network.is_ok_and(|network| network.driver.as_deref() == Some("bridge"));
            addresses.extend(
                endpoint.gateway.filter(|_| bridge).and_then(|gateway| gateway.parse::<IpAddr>().ok()),
            );
        }
        addresses
    }

    async fn clean_up(&self) {
        let network = &self.config.network;
        let Ok(found) = self.docker.inspect_network(network, None::<InspectNetworkOptions>).await else {
            return;
        };
        let made_by = found.labels.and_then(|mut labels| labels.remove(FLEET));
        let ours = made_by.is_some_and(|label| self.family.labels().contains(&label));
        if ours && let Err(error) = self.docker.remove_network(network).await {
            tracing::info!(%error, network, "the network stays: others use it");
        }
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        Ok(self.ours(None).await?.iter().filter_map(|container| self.found(container)).collect())
    }
}

/// Which instance a container or an event speaks of.
pub(super) fn labelled(labels: &HashMap<String, String>) -> Option<Instance> {
    let number: u16 = labels.get(ID)?.parse().ok()?;
    let id = ReplicaId(number.checked_sub(1)?);
    let incarnation = labels.get(INCARNATION)?.parse().ok()?;
    Some(Instance { id, name: labels.get(NAME)?.clone(), incarnation })
}

fn address(endpoint: &EndpointSettings, port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = endpoint.ip_address.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// A container that has a name we want.
struct Named {
    id: String,
    ours: bool,
    owner: Owner,
}

/// Whether `candidate` is an id, or the 12 characters of it that are a container's hostname by default.
fn is_id(id: Option<&str>, candidate: &str) -> bool {
    candidate.len() >= 12 && id.is_some_and(|id| id.starts_with(candidate))
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(super) fn is_disk_full(error: &EngineError) -> bool {
    says_disk_full(&error.to_string())
}

pub(super) fn says_disk_full(words: &str) -> bool {
    words.contains("no space left on device")
}

fn engine(doing: &str, source: EngineError) -> RuntimeError {
    if is_disk_full(&source) {
        return RuntimeError::DiskFull { message: source.to_string() };
    }
    let away = matches!(&source, EngineError::HyperLegacyError { err } if err.is_connect());
    let (doing, source) = (doing.to_owned(), Box::new(source));
    if away { RuntimeError::Away { doing, source } } else { RuntimeError::Engine { doing, source } }
}

/// The engine's word for an id's beginning that is several containers'.
fn is_ambiguous(error: &EngineError) -> bool {
    error.to_string().to_lowercase().contains("multiple ids found with provided prefix")
}
