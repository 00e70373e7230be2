//! Another configuration while the balancer runs: read again from where it came, validated whole, obeyed whole or not
//! at all.
//!
//! Everything that can fail is done first, beside what runs: a log is opened, pools that are new begin. Then one table
//! takes the other's place, which is the moment at which the change happens to requests; each goes on with the table
//! that it began with. Only then are fleets told, and pools ended that are in no table any more, when the last request
//! that knows them is over. Rejected is a second balancer that takes the first one's place: it could change everything,
//! and would begin every replica anew.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::access::Access;
use crate::admin::{MOST_CALLS, MOST_WATCHERS};
use crate::chain;
use crate::config::{Config, Difference, Given, LoadError, NeedsRestart, PoolConfig, ProxyConfig};
use crate::fleet::events::News;
use crate::fleet::runtime::docker::Family;
use crate::fleet::shell::{Surroundings, unix_ms};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::proxy::forward::Pool;
use crate::proxy::pools::{Pools, Shared};
use crate::start::{Begun, PoolError, begin_pool};

/// Of the words of a refusal, what an event holds.
const LONGEST_WHY: usize = 4096;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The configuration cannot be read, or not everything in it is right.
    #[error("{}", in_words(.0))]
    Load(LoadError),
    /// Reading it ended early.
    #[error("the configuration could not be read; nothing was changed")]
    Read(#[source] tokio::task::JoinError),
    /// Something differs that cannot change now.
    #[error(transparent)]
    NeedsRestart(#[from] NeedsRestart),
    /// The access log could not be begun.
    #[error("the access log (log.file) cannot be opened; nothing was changed")]
    AccessLog(#[source] std::io::Error),
    /// A pool that is new could not begin.
    #[error("pool {name} could not begin; nothing was changed")]
    Pool {
        /// Which.
        name: String,
        /// Why.
        source: PoolError,
    },
    /// It is too late for a change.
    #[error("the balancer is shutting down")]
    ShuttingDown,
}

fn in_words(error: &LoadError) -> String {
    match error {
        LoadError::Mistakes(mistakes) => mistakes.told("nothing was changed"),
        LoadError::File { .. } => format!("{error}; nothing was changed"),
    }
}

/// See the module.
#[derive(Debug)]
pub struct Reload {
    /// One change at a time.
    present: Mutex<Present>,
    pools: Shared,
    access: Arc<ArcSwap<Access>>,
    clients: Places,
    administrators: Places,
    watchers: Places,
    around: Surroundings,
    family: Family,
    stopping: CancellationToken,
}

/// What the next configuration is compared with.
#[derive(Debug)]
pub(crate) struct Present {
    given: Given,
    pub(crate) config: Config,
    /// Where this machine's own calls come from, beside loopback.
    own_addresses: HashSet<IpAddr>,
    ending: Vec<Ending>,
    /// Full names of replicas of pools that are gone which could not be stopped.
    left: Vec<String>,
}

/// A pool that is in no table any more.
#[derive(Debug)]
struct Ending {
    name: Arc<str>,
    /// Yields the full names of those that could not be stopped.
    task: JoinHandle<Vec<String>>,
}

/// What of a running balancer a reload works on.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) given: Given,
    pub(crate) config: Config,
    pub(crate) own_addresses: HashSet<IpAddr>,
    pub(crate) pools: Shared,
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) clients: Places,
    pub(crate) administrators: Places,
    pub(crate) watchers: Places,
    pub(crate) around: Surroundings,
    pub(crate) family: Family,
    pub(crate) stopping: CancellationToken,
}

impl Reload {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            given,
            config,
            own_addresses,
            pools,
            access,
            clients,
            administrators,
            watchers,
            around,
            family,
            stopping,
        } = parts;
        around.metrics.obeyed(unix_ms());
        let (ending, left) = (Vec::new(), Vec::new());
        let present = Mutex::new(Present { given, config, own_addresses, ending, left });
        Arc::new(Self { present, pools, access, clients, administrators, watchers, around, family, stopping })
    }

    /// Reads the configuration again and obeys it, after those who asked before. Goes on to its end also if the
    /// caller does not wait for it.
    ///
    /// # Errors
    /// With the reasons, all of them; then nothing was changed.
    pub async fn reload(self: Arc<Self>) -> Result<Difference, ReloadError> {
        let attempt = tokio::spawn(async move {
            let outcome = self.attempt().await;
            self.tell(&outcome);
            outcome
        });
        attempt.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a reload ended early");
            Err(ReloadError::ShuttingDown)
        })
    }

    fn tell(&self, outcome: &Result<Difference, ReloadError>) {
        let now = unix_ms();
        let news = match outcome {
            Ok(Difference { keys, pools }) => {
                let keys: Vec<_> = keys.iter().map(|change| change.key.clone()).collect();
                tracing::info!(?keys, ?pools, "the configuration was read again");
                self.around.metrics.reloads("applied").inc();
                self.around.metrics.obeyed(now);
                News::Reloaded { keys, pools: pools.clone() }
            }
            Err(error) => {
                let mut why = chain::words(error);
                tracing::warn!("the configuration was read again and is not obeyed: {why}");
                self.around.metrics.reloads("refused").inc();
                why.truncate(why.floor_char_boundary(LONGEST_WHY));
                News::ReloadRefused { why }
            }
        };
        self.around.events.publish(now, news);
    }

    async fn attempt(&self) -> Result<Difference, ReloadError> {
        let mut present = tokio::select! {
            present = self.present.lock() => present,
            () = self.stopping.cancelled() => return Err(ReloadError::ShuttingDown),
        };
        if self.stopping.is_cancelled() {
            return Err(ReloadError::ShuttingDown);
        }
        // On a thread that may wait: an overlay's hosts are looked up.
        let mut given = present.given.clone();
        let loading = tokio::task::spawn_blocking(move || (given.load(), given));
        let (next, given) = loading.await.map_err(ReloadError::Read)?;
        present.given = given;
        let mut next = next.map_err(ReloadError::Load)?;
        // There are as many threads as there are, also when the machine has more cores now.
        next.proxy.workers = present.config.proxy.workers;
        let difference = Difference::between(&present.config, &next)?;
        let limited = affordable(&next);
        let before = self.pools.load_full();
        let calm = before.calm.again(&limited, &self.around.metrics).map_err(ReloadError::AccessLog)?;
        let mut begun = self.begin_new(&mut present, &next, &difference.pools.added).await?;

        // From here on nothing can fail.
        if next.admin.trust_gateway {
            present.own_addresses.extend(begun.values().flat_map(|begun| begun.own_addresses.clone()));
        }
        let mut pools = next.all_pools().map(|config| match before.by_name(&config.name) {
            Some(pool) => pool.again(config, &limited),
            None => {
                let begun = begun.remove(&*config.name).expect("every pool that is new has begun");
                Arc::new(Pool::new(config.clone(), &limited, begun.fleet, self.around.metrics.clone()))
            }
        });
        let unnamed = pools.next().expect("the pool without a name is always there");
        let after = Pools::new(unnamed, pools.collect(), limited.clone(), calm);
        let changed: Vec<_> = changed(&before, &after).cloned().collect();
        note_limits(&self.around.metrics, &next, &limited);
        self.clients.resize(limited.max_connections);
        self.administrators.resize(next.admin.max_connections);
        self.watchers.resize(next.admin.max_watchers);
        let own_addresses = present.own_addresses.iter().copied().collect();
        self.access.store(Arc::new(Access::new(next.admin.token.clone(), own_addresses)));
        self.pools.store(Arc::new(after));

        for pool in changed {
            if let Err(error) = pool.fleet.configure(pool.config.clone()).await {
                tracing::error!(%error, pool = &*pool.config.name, "its fleet is gone");
            }
        }
        for name in &difference.pools.removed {
            if let Some(pool) = before.by_name(name) {
                let ending = Ending { name: pool.config.name.clone(), task: self.end_unused(pool) };
                present.ending.push(ending);
            }
        }
        present.config = next;
        Ok(difference)
    }

    /// Begins the pools of these names, or none.
    async fn begin_new(
        &self,
        present: &mut Present,
        next: &Config,
        names: &[String],
    ) -> Result<HashMap<Arc<str>, Begun>, ReloadError> {
        present.collect_ended(names).await;
        let mut begun = HashMap::new();
        for config in next.all_pools().filter(|pool| names.iter().any(|name| **name == *pool.name)) {
            let one = tokio::select! {
                one = begin_pool(config, self.around.clone(), &self.family) => one.map_err(|source| {
                    ReloadError::Pool { name: config.name.to_string(), source }
                }),
                () = self.stopping.cancelled() => Err(ReloadError::ShuttingDown),
            };
            match one {
                Ok(one) => drop(begun.insert(config.name.clone(), one)),
                Err(error) => {
                    join_all(begun.values().map(|begun: &Begun| begun.fleet.shutdown())).await;
                    return Err(error);
                }
            }
        }
        Ok(begun)
    }

    /// Ends a pool in the background, once no request that came before the change needs it; at the latest after the
    /// time that is left to the requests of one that is removed.
    fn end_unused(&self, pool: &Arc<Pool>) -> JoinHandle<Vec<String>> {
        let (fleet, config, unused) = (pool.fleet.clone(), pool.config.clone(), pool.unused());
        let metrics = self.around.metrics.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(config.fleet.stop_timeout, unused).await.is_err() {
                tracing::debug!(pool = &*config.name, "requests still know it");
            }
            let left = fleet.shutdown().await;
            limits_of(&config).iter().for_each(|(of, _)| metrics.no_limit(of));
            left.iter().map(|name| config.full_name(name)).collect()
        })
    }

    /// Waits for the change that is under way; none follows once the balancer is stopping.
    pub(crate) async fn present(&self) -> tokio::sync::MutexGuard<'_, Present> {
        self.present.lock().await
    }
}

impl Present {
    /// Waits for the pools of these names that are still ending, and forgets those that have ended.
    async fn collect_ended(&mut self, names: &[String]) {
        for mut ending in std::mem::take(&mut self.ending) {
            if ending.task.is_finished() || names.iter().any(|name| **name == *ending.name) {
                self.left.extend((&mut ending.task).await.unwrap_or_default());
            } else {
                self.ending.push(ending);
            }
        }
    }

    /// Waits for all pools that are ending; the full names of what is left of those that ever ended.
    pub(crate) async fn all_ended(&mut self) -> Vec<String> {
        let names: Vec<String> = self.ending.iter().map(|ending| ending.name.to_string()).collect();
        self.collect_ended(&names).await;
        std::mem::take(&mut self.left)
    }
}

/// The pools of `after` that were there before and whose fleets have something to learn.
fn changed<'a>(before: &'a Pools, after: &'a Pools) -> impl Iterator<Item = &'a Arc<Pool>> {
    after.all().filter(|pool| before.by_name(&pool.config.name).is_some_and(|old| old.config != pool.config))
}

/// The limits that a pool has, and how they are called.
fn limits_of(config: &PoolConfig) -> [(String, usize); 3] {
    [
        (config.full_name("connections_per_replica"), config.forward.max_connections_per_replica),
        (config.full_name("waiting_per_replica"), config.forward.max_waiting_per_replica),
        (config.full_name("replicas"), config.room()),
    ]
}

/// Shows every limit beside its gauge.
pub(crate) fn note_limits(metrics: &Metrics, config: &Config, limited: &ProxyConfig) {
    for (of, most) in [
        ("connections", limited.max_connections),
        ("admin_connections", config.admin.max_connections),
        ("admin_calls", MOST_CALLS),
        ("event_watchers", MOST_WATCHERS),
        ("page_watchers", config.admin.max_watchers),
    ] {
        metrics.limit(of, most);
    }
    for (of, most) in config.all_pools().flat_map(limits_of) {
        metrics.limit(&of, most);
    }
}

/// With as many clients as file descriptors are left for beside the connections to replicas.
pub(crate) fn affordable(config: &Config) -> ProxyConfig {
    let wanted = config.proxy.max_connections;
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let room = open_files.map_or(usize::MAX, |limit| room(limit, config));
    if room < wanted {
        tracing::info!(wanted, room, "the limit of open files (ulimit -n) allows fewer clients at a time");
    }
    ProxyConfig { max_connections: wanted.min(room), ..config.proxy.clone() }
}

/// Three quarters are clients' connections; where a replica is told whose a connection is, each of them has one of its
/// own beside it.
fn room(open_files: u64, config: &Config) -> usize {
    let theirs = usize::try_from(open_files).unwrap_or(usize::MAX) / 4 * 3;
    let own = config.all_pools().any(|pool| pool.forward.upstream.transport.says_whose());
    if own { theirs / 2 } else { theirs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn who_has_a_connection_of_its_own_to_a_replica_takes_two_descriptors() {
        let of = |says_whose: &str| {
            let flags = [
                ("fleet.runtime", "static"),
                ("fleet.upstreams", "10.0.0.1:80"),
                ("proxy.send_proxy_protocol", says_whose),
            ];
            let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            Config::load(&Sources { flags, ..Sources::default() }).unwrap()
        };
        assert_eq!((room(1024, &of("false")), room(1024, &of("true"))), (768, 384));
    }
}
