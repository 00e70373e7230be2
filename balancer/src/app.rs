//! The appliance put together: configuration in, a running balancer out, and its orderly end.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::access::Access;
use crate::admin::serve::{Served, serve};
use crate::admin::stream::Stream;
use crate::admin::{Admin, MOST_CALLS, MOST_WATCHERS};
use crate::config::{Config, Given};
use crate::fleet::events::Events;
use crate::fleet::runtime::docker::Family;
use crate::fleet::shell::{Surroundings, unix_ms};
use crate::inherit::Inherited;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::proxy::calm::Calm;
use crate::proxy::forward::Pool;
use crate::proxy::front::{self, Front};
use crate::proxy::pools::Pools;
use crate::proxy::tls::{Tls, TlsError};
use crate::proxy::upstream::Alarm;
use crate::proxy::worker::Listeners;
use crate::reload::{Parts, Reload, affordable, note_limits};
use crate::sampled::Sampled;
use crate::start::{Begun, PoolError, begin_pool};

/// How long the last spans may take at the least; else what is left of the drain.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why the balancer did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address could not be bound.
    #[error("{address} cannot be bound: is another program there? choose another {key}, or stop it")]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
    /// It was free when it was bound.
    #[error("nobody can listen for {key}: has another program begun to listen there meanwhile?")]
    Listen { key: &'static str, source: io::Error },
    /// The replicas could not begin.
    #[error(transparent)]
    Main(PoolError),
    /// Those of a pool with a name could not.
    #[error("pool {name} could not begin")]
    Pool { name: String, source: PoolError },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A thread of the data plane could not begin.
    #[error("the threads that serve clients could not begin: are enough open files allowed (ulimit -n)?")]
    Threads(#[source] io::Error),
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
    main: Vec<std::net::TcpListener>,
    over_tls: Option<(Vec<std::net::TcpListener>, Tls)>,
    /// One.
    admin_only: Vec<std::net::TcpListener>,
    admin_tls: Option<Tls>,
    /// Another balancer serves until this one can, or clients wait in a queue meanwhile.
    beside: bool,
    front: Arc<Front>,
    alarm: Alarm,
    admin: Admin,
    administrators: Places,
    runtime: &'static str,
}

impl Balancer {
    /// Binds the ports that were not inherited, then begins the fleets. Nobody is served before [`Balancer::open`]. A
    /// reload reads what is `given` again.
    ///
    /// # Errors
    /// When a port is taken or replicas cannot be started at all; then nothing is left running.
    pub async fn start(config: Config, given: Given, mut inherited: Inherited) -> Result<Self, StartError> {
        let beside = config.reuse_port || !inherited.is_empty();
        let workers = config.proxy.workers;
        let mut bound = |key: &'static str, address| {
            match inherited.take(key) {
                Some(socket) => front::share(socket, workers),
                None => front::bind(address, workers, config.reuse_port),
            }
            .map_err(|source| StartError::Bind { key, address, source })
        };
        let main = bound("listen", config.listen)?;
        let over_tls = match &config.tls {
            Some((address, files)) => {
                let tls = Tls::load(files.clone(), &[b"h2", b"http/1.1"])?;
                Some((bound("tls.listen", *address)?, tls))
            }
            None => None,
        };
        let admin_tls = config.admin.tls.clone().map(|files| Tls::load(files, &[b"http/1.1"])).transpose()?;
        let admin_only = match inherited.take("admin.listen") {
            Some(socket) => front::share(socket, 1),
            None => front::bind(config.admin.listen, 1, config.reuse_port),
        }
        .map_err(|source| StartError::Bind {
            key: "admin.listen",
            address: config.admin.listen,
            source,
        })?;
        let metrics = Arc::new(Metrics::new()?);
        let events = Events::starting_at(unix_ms());
        let alarm = Alarm::default();
        let around = Surroundings {
            metrics: metrics.clone(),
            events: events.clone(),
            alarm: alarm.clone(),
            workers: config.proxy.workers,
        };
        let limited = affordable(&config);
        let calm = Calm::new(&limited, &metrics).map_err(StartError::AccessLog)?;
        let family = Family::default();
        let begun = begin_all(&config, &around, &family).await?;
        let runtime = begun[0].runtime;
        let gateways = begun.iter().filter(|_| config.admin.trust_gateway);
        let own_addresses: HashSet<_> = gateways.flat_map(|begun| begun.own_addresses.clone()).collect();
        note_limits(&metrics, &config, &limited);
        let pools = config.all_pools().zip(begun);
        let mut pools = pools
            .map(|(pool, begun)| Arc::new(Pool::new(pool.clone(), &limited, begun.fleet, metrics.clone())));
        let unnamed = pools.next().expect("the pool without a name is always there");
        let clients = Places::new(limited.max_connections);
        let administrators = Places::new(config.admin.max_connections);
        let watchers = Places::new(config.admin.max_watchers);
        let pools = Arc::new(ArcSwap::from_pointee(Pools::new(unnamed, pools.collect(), limited, calm)));
        let access = Access::new(config.admin.token.clone(), own_addresses.iter().copied().collect());
        let access = Arc::new(ArcSwap::from_pointee(access));
        let stopping = CancellationToken::new();
        let reload = Reload::new(Parts {
            given,
            config,
            own_addresses,
            pools: pools.clone(),
            access: access.clone(),
            clients: clients.clone(),
            administrators: administrators.clone(),
            watchers: watchers.clone(),
            around,
            family,
            stopping: stopping.clone(),
        });
        let admin = Admin {
            pools: pools.clone(),
            events,
            access,
            metrics: metrics.clone(),
            reload,
            planning: Arc::new(Semaphore::new(1)),
            calling: Arc::new(Semaphore::new(MOST_CALLS)),
            watching: Arc::new(Semaphore::new(MOST_WATCHERS)),
            watchers,
            stream: Stream::default(),
            stopping,
            ended: CancellationToken::new(),
        };
        let contract = admin.contract();
        let front = Front { pools, contract, places: clients, metrics, complaints: Sampled::default() };
        let front = Arc::new(front);
        Ok(Self {
            main,
            over_tls,
            admin_only,
            admin_tls,
            beside,
            front,
            alarm,
            admin,
            administrators,
            runtime,
        })
    }

    /// Lets clients connect. Where another balancer serves them until then, or the queue of an inherited socket holds
    /// them, only when every pool has settled: nobody would be better off here before.
    ///
    /// # Errors
    /// When another program listens there by now.
    pub async fn open(&self) -> Result<(), StartError> {
        if self.beside {
            let pools = self.admin.pools.load_full();
            join_all(pools.all().map(async |pool| {
                let within = pool.config.fleet.start_timeout;
                if tokio::time::timeout(within, pool.fleet.settled()).await.is_err() {
                    tracing::warn!(
                        pool = &*pool.config.name,
                        ?within,
                        "not every replica has settled in time"
                    );
                }
            }))
            .await;
        }
        let over_tls = self.over_tls.as_ref().map_or(&[][..], |(listeners, _)| listeners);
        for (key, listeners) in
            [("admin.listen", &self.admin_only[..]), ("tls.listen", over_tls), ("listen", &self.main)]
        {
            front::listen(listeners).map_err(|source| StartError::Listen { key, source })?;
        }
        Ok(())
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

    /// Where administrators connect, with what they speak there.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn admin_url(&self) -> io::Result<String> {
        let scheme = if self.admin_tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.admin_only[0].local_addr()?))
    }

    /// What runs the replicas of the pool without a name.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    /// Reads the configuration again whenever it is asked to.
    pub fn reload(&self) -> Arc<Reload> {
        self.admin.reload.clone()
    }

    /// Ends the fleets of a balancer that is not to serve. Returns the full names of those that could not be stopped.
    pub async fn give_up(self) -> Vec<String> {
        end_all(&self.admin.pools.load_full()).await
    }

    /// Serves until `shutdown` resolves; then accepts nothing more, lets requests finish, and stops every replica.
    /// Returns the full names of those that could not be stopped.
    ///
    /// # Errors
    /// When its threads could not begin; then nothing is left running.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Vec<String>, StartError> {
        let Self { main, over_tls, admin_only, admin_tls, front, alarm, admin, administrators, .. } = self;
        let mut following = JoinSet::new();
        for tls in over_tls.iter().map(|(_, tls)| tls).chain(&admin_tls) {
            following.spawn(tls.clone().follow());
        }
        // First, so that nobody is told that it is ready before it is.
        let mut threads = match front.clone().serve(listeners(main, over_tls), &alarm) {
            Ok(threads) => threads,
            Err(source) => {
                end_all(&admin.pools.load_full()).await;
                return Err(StartError::Threads(source));
            }
        };
        let ended = admin.ended.clone();
        let served = Served {
            router: admin.everything(),
            tls: admin_tls.clone(),
            metrics: admin.metrics.clone(),
            pools: admin.pools.clone(),
        };
        let administration = tokio::spawn(async move {
            for listener in admin_only {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        serve(listener, served.clone(), administrators.clone(), ended.clone()).await;
                    }
                    Err(error) => tracing::error!(%error, "the admin port cannot be served"),
                }
            }
        });
        let stopping = admin.stopping.clone();
        shutdown.await;
        let asked = Instant::now();
        stopping.cancel();
        // After the change that may be under way, no other begins.
        let mut last = admin.reload.present().await;
        let drain = last.config.drain_timeout;
        threads.drain(drain).await;
        let pools = admin.pools.load_full();
        let (mut left, left_before) = tokio::join!(end_all(&pools), last.all_ended());
        left.extend(left_before);
        threads.end().await;
        if let Some(log) = pools.calm.log.clone() {
            let ended = tokio::task::spawn_blocking(move || log.end(LAST_LINES));
            if let Err(error) = ended.await {
                tracing::error!(%error, "the access log ended early");
            }
        }
        pools.calm.traces.end(drain.saturating_sub(asked.elapsed()).max(LAST_SPANS)).await;
        following.abort_all();
        admin.ended.cancel();
        if let Err(error) = administration.await {
            tracing::error!(%error, "the admin port ended early");
        }
        Ok(left)
    }
}

/// One of each for each thread.
fn listeners(
    main: Vec<std::net::TcpListener>,
    over_tls: Option<(Vec<std::net::TcpListener>, Tls)>,
) -> Vec<Listeners> {
    let (mut encrypted, config) = match over_tls {
        Some((listeners, tls)) => (listeners.into_iter(), Some(tls.config())),
        None => (Vec::new().into_iter(), None),
    };
    main.into_iter().map(|plain| Listeners { plain, tls: encrypted.next().zip(config.clone()) }).collect()
}

/// Begins every pool, or none: those that have begun are ended when one cannot.
async fn begin_all(
    config: &Config,
    around: &Surroundings,
    family: &Family,
) -> Result<Vec<Begun>, StartError> {
    let mut all: Vec<Begun> = Vec::new();
    for pool in config.all_pools() {
        match begin_pool(pool, around.clone(), family).await {
            Ok(begun) => all.push(begun),
            Err(source) => {
                join_all(all.iter().map(|begun| begun.fleet.shutdown())).await;
                let name = pool.name.to_string();
                return Err(match pool.is_default() {
                    true => StartError::Main(source),
                    false => StartError::Pool { name, source },
                });
            }
        }
    }
    Ok(all)
}

/// Ends every pool at the same time; the full names of what is left.
async fn end_all(pools: &Pools) -> Vec<String> {
    let ends = pools.all().map(async |pool| {
        let left = pool.fleet.shutdown().await;
        left.iter().map(|name| pool.config.full_name(name)).collect::<Vec<_>>()
    });
    join_all(ends).await.concat()
}
