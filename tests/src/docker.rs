//! A real Docker engine, and fleets on it that meet nobody else's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerCreateBody, ContainerSummary, HostConfig, NetworkCreateRequest};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, UploadToContainerOptionsBuilder,
    WaitContainerOptions,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::skip::{require, skipped};

/// Where the engine is.
pub const SOCKET: &str = "/var/run/docker.sock";
const ENGINE_TIMEOUT: u64 = 30;

/// The engine, or `None` and a word about the test that is skipped.
///
/// # Panics
/// When no engine answers and `SLIPRING_REQUIRE` holds `docker`.
pub async fn engine() -> Option<Docker> {
    let answering = async {
        let docker = connect()?;
        docker.ping().await?;
        Ok::<_, EngineError>(docker)
    };
    match timeout(Duration::from_secs(5), answering).await {
        Ok(Ok(docker)) => return Some(docker),
        Ok(Err(error)) => skipped("docker", &format!("no Docker engine answers at {SOCKET}: {error}")),
        Err(_) => skipped("docker", &format!("no Docker engine answers at {SOCKET} in time")),
    }
    None
}

/// As [`engine`], for what takes an engine so long that the suite has no time for all of it: skipped without `long`, too.
///
/// # Panics
/// As [`engine`].
pub async fn engine_at_length() -> Option<Docker> {
    if require("long") {
        return engine().await;
    }
    skipped("long", "it takes an engine long; .ci/run has it");
    None
}

fn connect() -> Result<Docker, EngineError> {
    Docker::connect_with_socket(SOCKET, ENGINE_TIMEOUT, bollard::API_DEFAULT_VERSION)
}

/// A label, a network and names that nobody else on the engine has. What carries the label is removed when the
/// last handle is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The key `docker.fleet`.
    pub label: String,
    /// The key `docker.network`.
    pub network: String,
}

impl Fleet {
    /// A fleet of one test's own.
    pub fn new() -> Arc<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // Tests of other machines and containers may use the same engine: the process id alone does not do.
        let folder = tempfile::Builder::new().prefix("").tempdir().expect("a temporary folder can be made");
        let random = folder.path().file_name().map(|name| name.to_string_lossy().to_lowercase());
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let label = format!("slipring-test-{}-{number}-{}", std::process::id(), random.unwrap_or_default());
        Arc::new(Self { network: format!("{label}-net"), label })
    }

    /// So many names.
    pub fn names(&self, count: usize) -> Vec<String> {
        (1..=count).map(|n| format!("{}-{n}", self.label)).collect()
    }

    /// The name of an image of this fleet's own, see [`Fleet::build_image`].
    pub fn image(&self) -> String {
        format!("{}:test", self.label)
    }

    /// Builds the image that holds this executable alone and runs it as a replica unless it is told otherwise.
    pub async fn build_image(&self, docker: &Docker, executable: &str) {
        self.build_image_that_runs(docker, executable, "server").await;
    }

    /// As [`Fleet::build_image`], and what it runs unless it is told otherwise is this. The label comes first: an image
    /// of the same content in another test, which removes it meanwhile, would be the same one to the engine.
    pub async fn build_image_that_runs(&self, docker: &Docker, executable: &str, command: &str) {
        let program = std::fs::read(executable).expect("the executable can be read");
        let recipe = format!(
            "FROM scratch\nLABEL of={}\nCOPY slipring /slipring\nENTRYPOINT [\"/slipring\"]\nCMD [\"{command}\"]\n",
            self.label
        );
        let context = archive(&[("Dockerfile", recipe.as_bytes(), 0o644), ("slipring", &program, 0o755)]);
        let options = BuildImageOptionsBuilder::new().t(&self.image()).rm(true).forcerm(true).build();
        let mut steps = docker.build_image(options, None, Some(bollard::body_full(context.into())));
        while let Some(step) = steps.next().await {
            let step = step.expect("the image is built");
            assert!(step.error_detail.is_none(), "{step:?}");
        }
    }

    /// Starts a container beside the replicas: a client, a stranger, a balancer. The engine's socket is mounted
    /// if `with_engine`. Returns its id.
    pub async fn run(&self, docker: &Docker, name: &str, command: &[&str], with_engine: bool) -> String {
        let body = ContainerCreateBody {
            image: Some(self.image()),
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            env: Some(vec!["SERVER_ID=0".to_owned()]),
            host_config: Some(HostConfig {
                network_mode: Some(self.network.clone()),
                binds: with_engine.then(|| vec![format!("{SOCKET}:{SOCKET}")]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let created = docker.create_container(Some(options), body).await.expect("the container is created");
        docker.start_container(&created.id, None).await.expect("the container is started");
        created.id
    }

    /// Puts a file into the root of a container's own file system.
    pub async fn put(&self, docker: &Docker, container: &str, name: &str, content: &str) {
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let file = archive(&[(name, content.as_bytes(), 0o644)]);
        let put = docker.upload_to_container(container, Some(options), bollard::body_full(file.into())).await;
        put.expect("the container takes it");
    }

    /// The exit code of a container that ends by itself, and what it printed.
    pub async fn output(&self, docker: &Docker, container: &str) -> (i64, String) {
        let wait = docker.wait_container(container, None::<WaitContainerOptions>).collect::<Vec<_>>();
        timeout(Duration::from_secs(30), wait).await.expect("the container ends");
        let inspected = docker.inspect_container(container, None::<InspectContainerOptions>).await;
        let code = inspected.expect("it is still there").state.and_then(|state| state.exit_code);
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let lines: Vec<_> = docker.logs(container, Some(options)).collect().await;
        let text: String = lines.into_iter().map(|line| line.expect("a log").to_string()).collect();
        (code.expect("it has ended"), text)
    }

    /// The address of a container on this fleet's network.
    pub async fn address(&self, docker: &Docker, container: &str) -> IpAddr {
        let inspected = docker.inspect_container(container, None::<InspectContainerOptions>).await;
        let networks =
            inspected.expect("it is there").network_settings.and_then(|settings| settings.networks);
        let endpoint =
            networks.and_then(|mut networks| networks.remove(&self.network)).expect("it is on the network");
        endpoint.ip_address.and_then(|address| address.parse().ok()).expect("it has an address")
    }

    /// Makes the network before a balancer does.
    pub async fn create_network(&self, docker: &Docker) {
        let request = NetworkCreateRequest { name: self.network.clone(), ..NetworkCreateRequest::default() };
        docker.create_network(request).await.expect("the network is created");
    }

    /// All containers of this fleet, running or not.
    pub async fn containers(&self, docker: &Docker) -> Vec<ContainerSummary> {
        let filters = HashMap::from([("label", vec![format!("slipring.fleet={}", self.label)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        docker.list_containers(Some(options)).await.expect("the engine lists containers")
    }

    /// Removes everything of this fleet.
    async fn remove(&self) -> Result<(), EngineError> {
        let docker = connect()?;
        // By name and not by label: also the strangers that a test started.
        let filters = HashMap::from([("name", vec![self.label.clone()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let named = docker.list_containers(Some(options)).await?;
        for container in named.into_iter().chain(self.containers(&docker).await) {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let id = container.id.as_deref().unwrap_or_default();
            missing_is_fine(docker.remove_container(id, Some(options)).await)?;
        }
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        missing_is_fine(docker.remove_image(&self.image(), Some(options), None).await)?;
        let filters = HashMap::from([("name", vec![self.network.clone()])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in docker.list_networks(Some(options)).await? {
            missing_is_fine(docker.remove_network(network.id.as_deref().unwrap_or_default()).await)?;
        }
        Ok(())
    }
}

fn missing_is_fine<T>(removed: Result<T, EngineError>) -> Result<(), EngineError> {
    match removed {
        Ok(_) | Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Fleet {
    /// On a thread and a runtime of its own: the test's may be on its way out.
    fn drop(&mut self) {
        let removed = std::thread::scope(|scope| {
            let remove = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be made").block_on(self.remove())
            });
            remove.join()
        });
        if !matches!(removed, Ok(Ok(()))) {
            eprintln!("what is left of {} could not be removed: {removed:?}", self.label);
        }
    }
}

/// Files with their modes, as an engine takes them.
fn archive(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let size = files.iter().map(|(_, content, _)| content.len() + 4096).sum();
    let mut archive = tar::Builder::new(Vec::with_capacity(size));
    for &(name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        archive.append_data(&mut header, name, content).expect("memory is written to");
    }
    archive.into_inner().expect("memory is written to")
}
