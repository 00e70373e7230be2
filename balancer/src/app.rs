//! The appliance put together: configuration in, a running balancer out, and its orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
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
use crate::fleet::past::Past;
use crate::fleet::runtime::docker::{self, DockerRuntime};
use crate::fleet::runtime::fixed::FixedRuntime;
use crate::fleet::runtime::process::ProcessRuntime;
use crate::fleet::shell::{BeginError, begin};
use crate::metrics::Metrics;
use crate::proxy::calm::Calm;
use crate::proxy::forward::Proxy;
use crate::proxy::front::{self, Front};
use crate::proxy::tls::{Tls, TlsError};
use crate::proxy::upstream::Alarm;
use crate::proxy::worker::Listeners;
use crate::sampled::Sampled;

/// Connections that wait for `accept`; the kernel may allow fewer (net.core.somaxconn).
const BACKLOG: u32 = 4096;
/// Before an engine that has containers of ours is asked again.
const ENGINE_PAUSE: Duration = Duration::from_millis(250);
/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(2);
/// Ends of instances waiting to be heard.
const EXITS: usize = 1024;

/// Why the balancer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    #[error("{address} cannot be bound: is another program there? choose another {key}, or stop it")]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
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
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The access log could not be begun.
    #[error("the access log (log.file) cannot be opened")]
    AccessLog(#[source] io::Error),
    /// The counters could not be made.
    #[error("the metrics could not be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A balancer whose ports are bound and whose replicas are starting.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    main: Vec<std::net::TcpListener>,
    over_tls: Option<(Vec<std::net::TcpListener>, Tls)>,
    admin_only: TcpListener,
    front: Arc<Front>,
    alarm: Alarm,
    admin: Admin,
    runtime: &'static str,
}

impl Balancer {
    /// Binds both ports, then begins the fleet.
    ///
    /// # Errors
    /// When a port is taken or replicas cannot be started at all; then nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let main = front::bind(config.listen, config.proxy.workers, config.reuse_port)
            .map_err(|source| StartError::Bind { key: "listen", address: config.listen, source })?;
        let over_tls = match &config.tls {
            Some((address, files)) => {
                let tls = Tls::load(files.clone(), &[b"h2", b"http/1.1"])?;
                let listeners = front::bind(*address, config.proxy.workers, config.reuse_port)
                    .map_err(|source| StartError::Bind { key: "tls.listen", address: *address, source })?;
                Some((listeners, tls))
            }
            None => None,
        };
        let admin_only = bind("admin.listen", config.admin.listen, config.reuse_port)?;
        let metrics = Arc::new(Metrics::new()?);
        let (exits, ends) = mpsc::channel(EXITS);
        let alarm = Alarm::default();
        let past = Past::recall(&config)?;
        let ((fleet, own_addresses), runtime) = if config.fleet.runtime == RuntimeChoice::Static {
            let listed = config.fleet.upstreams.iter().map(|address| (address.to_string(), *address));
            let runtime = FixedRuntime::new(listed);
            (begin(&config, past, runtime, ends, metrics.clone(), alarm.clone()).await?, "static")
        } else if wants_docker(&config, &past).await? {
            let container = docker::own_name(&config.docker).await;
            let label = past.label(&config, container.as_deref())?.ok_or(StartError::NoLabel)?;
            let runtime = DockerRuntime::connect(config.docker.clone(), label, exits);
            let runtime = runtime.await.map_err(BeginError::from)?;
            (begin(&config, past, runtime, ends, metrics.clone(), alarm.clone()).await?, "docker")
        } else {
            if past.runtime() == Some("docker") {
                tracing::warn!("the replicas were containers: any that an earlier balancer left behind stay");
            }
            let command = config.process.command.clone();
            let runtime =
                ProcessRuntime::new(command, config.fleet.start_timeout, exits).map_err(BeginError::from)?;
            (begin(&config, past, runtime, ends, metrics.clone(), alarm.clone()).await?, "process")
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
        let proxy = Proxy {
            calm: Calm::new(&limited, &metrics).map_err(StartError::AccessLog)?,
            config: limited,
            start_timeout: config.fleet.start_timeout,
            fleet,
            metrics,
            complaints: Sampled::default(),
        };
        let front = Arc::new(Front { proxy, contract: admin.contract() });
        Ok(Self { config, main, over_tls, admin_only, front, alarm, admin, runtime })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.main[0].local_addr()
    }

    /// Where clients connect over TLS, if they can.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.over_tls.as_ref()?.0.first()?.local_addr().ok()
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
    /// Returns the names of those that could not be stopped.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Vec<String> {
        let Self { config, main, over_tls, admin_only, front, alarm, admin, .. } = self;
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
        let following = over_tls.as_ref().map(|(_, tls)| tokio::spawn(tls.clone().follow()));
        let mut threads = front.clone().serve(listeners(main, over_tls), &alarm);
        shutdown.await;
        stopping.cancel();
        threads.drain(config.drain_timeout).await;
        let left = admin.fleet.shutdown().await;
        threads.end().await;
        if front.proxy.calm.log.is_some() {
            let ended = tokio::task::spawn_blocking(move || {
                if let Some(log) = &front.proxy.calm.log {
                    log.end(LAST_LINES);
                }
            });
            if let Err(error) = ended.await {
                tracing::error!(%error, "the access log ended early");
            }
        }
        if let Some(following) = following {
            following.abort();
        }
        admin.ended.cancel();
        if let Err(error) = administration.await {
            tracing::error!(%error, "the admin port ended early");
        }
        left
    }
}

/// One of each for each thread.
fn listeners(
    main: Vec<std::net::TcpListener>,
    over_tls: Option<(Vec<std::net::TcpListener>, Tls)>,
) -> Vec<Listeners> {
    let (mut encrypted, config) = match over_tls {
        Some((listeners, tls)) => (listeners.into_iter(), Some(tls.config)),
        None => (Vec::new().into_iter(), None),
    };
    main.into_iter().map(|plain| Listeners { plain, tls: encrypted.next().zip(config.clone()) }).collect()
}

/// `auto` takes containers where an engine answers, and stays with them: those that outlived an earlier balancer
/// would be nobody's if processes took their place.
async fn wants_docker(config: &Config, past: &Past) -> Result<bool, StartError> {
    match config.fleet.runtime {
        RuntimeChoice::Docker => return Ok(true),
        RuntimeChoice::Process | RuntimeChoice::Static => return Ok(false),
        RuntimeChoice::Auto => {}
    }
    if past.runtime() != Some("docker") {
        let possible = cfg!(target_feature = "crt-static")
            && (config.docker.fleet.is_some() || config.state.is_some() || config.listen.port() != 0);
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
        Err(_) => Err(StartError::EngineAway { socket: config.docker.socket.clone(), within }),
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

fn bind(key: &'static str, address: SocketAddr, beside: bool) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(beside)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| StartError::Bind { key, address, source })
}
