//! The appliance put together: configuration in, a running balancer out, and its orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::admin::access::Access;
use crate::admin::serve::{Limits, serve};
use crate::admin::{Admin, MOST_CALLS, MOST_WATCHERS, PAYLOAD_TIMEOUT};
use crate::config::{Config, RuntimeChoice};
use crate::fleet::handle::Fleet;
use crate::fleet::runtime::docker::DockerRuntime;
use crate::fleet::runtime::process::ProcessRuntime;
use crate::fleet::shell::{BeginError, begin};
use crate::metrics::Metrics;
use crate::proxy::forward::Proxy;
use crate::proxy::server::Front;
use crate::sampled::Sampled;

/// Connections that wait for `accept`; the kernel may allow fewer (net.core.somaxconn).
const BACKLOG: u32 = 4096;
/// Ends of instances waiting to be heard.
const EXITS: usize = 1024;

/// Why the balancer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    #[error("{address} cannot be bound: is another program there? choose another {key}, or stop it")]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
    /// The fleet could not begin.
    #[error(transparent)]
    Fleet(#[from] BeginError),
    /// The counters could not be made.
    #[error("the metrics could not be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A balancer whose ports are bound and whose replicas are starting.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    main: TcpListener,
    admin_only: TcpListener,
    front: Front,
    admin: Admin,
    runtime: &'static str,
}

impl Balancer {
    /// Binds both ports, then begins the fleet.
    ///
    /// # Errors
    /// When a port is taken or replicas cannot be started at all; then nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let main = bind("listen", config.listen)?;
        let admin_only = bind("admin.listen", config.admin.listen)?;
        let metrics = Arc::new(Metrics::new()?);
        let (exits, ends) = mpsc::channel(EXITS);
        let docker = match config.fleet.runtime {
            RuntimeChoice::Docker => true,
            RuntimeChoice::Process => false,
            RuntimeChoice::Auto => {
                cfg!(target_feature = "crt-static") && DockerRuntime::answers(&config.docker).await
            }
        };
        let ((fleet, own_addresses), runtime) = if docker {
            let runtime =
                DockerRuntime::connect(config.docker.clone(), exits).await.map_err(BeginError::from)?;
            (begin(&config, runtime, ends, metrics.clone()).await?, "docker")
        } else {
            let command = config.process.command.clone();
            let runtime =
                ProcessRuntime::new(command, config.fleet.start_timeout, exits).map_err(BeginError::from)?;
            (begin(&config, runtime, ends, metrics.clone()).await?, "process")
        };
        let admin = Admin {
            fleet: fleet.clone(),
            access: Arc::new(Access::new(config.admin.token.clone(), own_addresses)),
            metrics: metrics.clone(),
            key: config.proxy.key.clone(),
            room: config.placement.capacity().min(config.fleet.max_replicas),
            planning: Arc::new(Semaphore::new(1)),
            calling: Arc::new(Semaphore::new(MOST_CALLS)),
            watching: Arc::new(Semaphore::new(MOST_WATCHERS)),
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            payload_timeout: PAYLOAD_TIMEOUT.min(config.proxy.idle_timeout),
            change_timeout: config.fleet.start_timeout
                + config.fleet.stop_timeout * 2
                + Duration::from_secs(30),
        };
        let mut limited = config.proxy.clone();
        limited.max_connections = affordable(limited.max_connections);
        for (of, most) in [
            ("connections", limited.max_connections),
            ("connections_per_replica", limited.max_connections_per_replica),
            ("replicas", admin.room),
            ("admin_connections", config.admin.max_connections),
            ("admin_calls", MOST_CALLS),
            ("event_watchers", MOST_WATCHERS),
        ] {
            metrics.limit(of, most);
        }
        let proxy = Arc::new(Proxy {
            config: limited,
            start_timeout: config.fleet.start_timeout,
            fleet,
            metrics,
            complaints: Sampled::default(),
        });
        let front = Front { proxy, contract: admin.contract() };
        Ok(Self { config, main, admin_only, front, admin, runtime })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// Where administrators connect.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin_only.local_addr()
    }

    /// What runs the replicas.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.admin.fleet
    }

    /// Serves until `shutdown` resolves; then accepts nothing more, lets requests finish, and stops every replica.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { config, main, admin_only, front, admin, .. } = self;
        let limits =
            Limits { connections: config.admin.max_connections, idle_timeout: config.proxy.idle_timeout };
        let administration = tokio::spawn(serve(
            admin_only,
            admin.everything(),
            admin.metrics.clone(),
            limits,
            admin.ended.clone(),
        ));
        let stopping = admin.stopping.clone();
        let shutdown = async move {
            shutdown.await;
            stopping.cancel();
        };
        front.serve(main, shutdown, config.drain_timeout).await;
        admin.fleet.shutdown().await;
        admin.ended.cancel();
        if let Err(error) = administration.await {
            tracing::error!(%error, "the admin port ended early");
        }
    }
}

/// Clients for whom file descriptors are left beside the connections to replicas.
fn affordable(wanted: usize) -> usize {
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room = open_files.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX) / 4 * 3);
    if room < wanted {
        tracing::info!(wanted, room, "the limit of open files (ulimit -n) allows fewer clients at a time");
    }
    wanted.min(room)
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| StartError::Bind { key, address, source })
}
