//! Pools: fleets of their own behind routes of their own, read by the same list of keys as the pool without a name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slipring_hashing::Placement;

use super::analyse::{AnalyseConfig, WATCH};
use super::fleet::{FleetConfig, RuntimeChoice};
use super::forward::ForwardConfig;
use super::keys::Effect::AtReload;
use super::overlay::{GivenKind, OverlayConfig};
use super::reader::{Origin, Reader};
use super::runtime::{DockerConfig, ProcessConfig, read_docker, read_process};
use super::{analyse, fleet, forward, overlay, parse, ring, waves};
use crate::proxy::route::{Pattern, is_administrative};

/// What the pool without a name is called where a name is needed.
pub const DEFAULT: &str = "default";
/// The most pools with names.
pub const MOST_POOLS: usize = 64;
/// The longest of those names: replicas are called after it, and their names are DNS labels.
const LONGEST_NAME: usize = 32;

/// A fleet, and how requests are carried to it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Its name; [`DEFAULT`] for the one without.
    pub name: Arc<str>,
    /// What it takes; the pool without a name has `proxy.paths` instead.
    pub routes: Vec<Pattern>,
    /// The file that remembers its membership; `None` remembers nothing.
    pub state: Option<PathBuf>,
    /// Replicas: how many, how watched, how healed.
    pub fleet: FleetConfig,
    /// The process runtime.
    pub process: ProcessConfig,
    /// The Docker runtime.
    pub docker: DockerConfig,
    /// Whose processes the replicas are, if they are an overlay's.
    pub overlay: Option<OverlayConfig>,
    /// How the replicas read parts of analyses, if that is what they do.
    pub analyse: Option<AnalyseConfig>,
    /// The label of its containers when none is configured and none can be remembered.
    pub fallback_label: Option<String>,
    /// How keys are placed on replicas.
    pub placement: Placement,
    /// How requests are carried to them.
    pub forward: ForwardConfig,
}

/// What is the whole balancer's, and told apart for each pool by its name.
#[derive(Debug)]
pub(super) struct Balancer {
    pub(super) listen: SocketAddr,
    pub(super) state: Option<PathBuf>,
}

impl PoolConfig {
    /// Whether it is the one without a name.
    pub fn is_default(&self) -> bool {
        *self.name == *DEFAULT
    }

    /// What its first replicas' names begin with, and those that are drawn.
    pub fn prefix(&self) -> &str {
        prefix_of(&self.name)
    }

    /// What a replica is called among those of all pools.
    pub fn full_name(&self, replica: &str) -> String {
        if self.is_default() { replica.to_owned() } else { format!("{}/{replica}", self.name) }
    }

    /// Its containers' label, made from one that is the whole balancer's: no two pools may have the same.
    pub fn label(&self, balancer: &str) -> String {
        label_of(balancer, &self.name)
    }

    /// How many replicas it can have.
    pub fn room(&self) -> usize {
        self.placement.capacity().min(self.fleet.max_replicas)
    }

    /// Where a member tells of all of them, if it does: the path of server-sent events.
    pub fn watch(&self, member: &str) -> Option<&str> {
        if self.analyse.is_some() {
            return Some(WATCH);
        }
        let mut given = self.overlay.iter().flat_map(|given| &given.members);
        given.find(|given| given.name == member)?.watch.as_deref()
    }

    /// What a pool is whose members tell something of themselves.
    pub fn told_kind(&self) -> Option<&'static str> {
        let given = self.overlay.as_ref().map(|given| given.kind.name());
        given.or(self.analyse.as_ref().map(|_| "analyse"))
    }

    pub(super) fn read(r: &mut Reader<'_>, name: &str, balancer: &Balancer) -> Self {
        let placement = ring::read(r);
        let mut fleet = fleet::read(r, &placement);
        let process = read_process(r);
        let docker = read_docker(r);
        let overlay = overlay::read(r, prefix_of(name), &mut fleet, &process, &docker, placement.capacity());
        let waves = waves::read(r, prefix_of(name), &mut fleet, &process, &docker, placement.capacity());
        if overlay.is_some() && waves.is_some() {
            r.mistake(&["waves.topology"], "no overlay.topology beside it: they are two pools");
        }
        let overlay = overlay.or(waves);
        let analyse = analyse::read(r, &mut fleet, &process, &docker);
        if analyse.is_some() && overlay.is_some() {
            r.mistake(
                &[analyse::STORE],
                "no overlay.topology or waves.topology beside it: they are two pools",
            );
        }
        let is_default = name == DEFAULT;
        let Balancer { listen, state } = balancer;
        if fleet.runtime == RuntimeChoice::Docker
            && docker.fleet.is_none()
            && state.is_none()
            && listen.port() == 0
        {
            r.mistake(
                &["state", "listen", "docker.fleet", "fleet.runtime"],
                "docker.fleet, or a file in state, or a fixed port in listen: a later balancer finds its containers by one of them",
            );
        }
        let fallback_label =
            (listen.port() != 0).then(|| label_of(&format!("slipring-{}", listen.port()), name));
        let state =
            state.as_deref().map(|path| if is_default { path.to_owned() } else { beside(path, name) });
        let is_overlay = overlay.as_ref().is_some_and(|overlay| overlay.kind == GivenKind::Overlay);
        let forward = forward::read(r, is_overlay);
        forward.upstream.check(r, &fleet, &process, &docker, overlay.is_some());
        let (name, routes) = (name.into(), Vec::new());
        Self {
            name,
            routes,
            state,
            fleet,
            process,
            docker,
            overlay,
            analyse,
            fallback_label,
            placement,
            forward,
        }
    }

    /// All pools with names. Their containers are told apart by a label each: `main`'s with their name.
    pub(super) fn read_all(r: &mut Reader<'_>, main: &Self, balancer: &Balancer) -> Vec<Self> {
        let mut pools: Vec<Self> = Vec::new();
        let mut routes = BTreeMap::new();
        let mut labels = BTreeMap::new();
        labels.extend(main.docker.fleet.clone().map(|label| (label, main.name.clone())));
        for (name, origin) in r.pools() {
            check_name(r, &name, &origin, pools.len());
            let pool = r.within(&name, origin, |r| Self::read_named(r, &name, main, balancer, &mut routes));
            if let Some(label) = pool.docker.fleet.clone()
                && let Some(other) = labels.insert(label, pool.name.clone())
            {
                let expected = format!(
                    "a docker.fleet of its own: pool {other} has this one, and each would remove the other's containers"
                );
                r.wrong_pool(&name, r.pools()[&name].clone(), &expected);
            }
            pools.push(pool);
        }
        pools
    }

    fn read_named(
        r: &mut Reader<'_>,
        name: &str,
        main: &Self,
        balancer: &Balancer,
        taken: &mut BTreeMap<String, String>,
    ) -> Self {
        let before = r.mistakes();
        let routes = r.own(
            "routes",
            AtReload,
            "[]",
            "What it takes: a host, a path or both; the most specific route wins.",
            parse::routes,
        );
        let is_sound = r.mistakes() == before;
        for (index, route) in routes.iter().enumerate() {
            if let Some(other) = taken.insert(route.to_string(), name.to_owned()) {
                let expected = format!("each route once: pool {other} has `{route}` already");
                r.wrong_item("routes", index, &expected);
            }
            if route.exact_path().is_some_and(is_administrative) && !route.names_a_host() {
                let expected = format!("a host before `{route}`: without one it is the balancer's own");
                r.wrong_item("routes", index, &expected);
            }
        }
        let mut pool = Self::read(r, name, balancer);
        // Workers are asked by nobody.
        if routes.is_empty() && is_sound && pool.analyse.is_none() {
            r.mistake(&["routes"], "at least one route, like \"api.example.com/*\" or \"/api/*\"");
        }
        pool.routes = routes;
        let derived = || main.docker.fleet.as_ref().map(|label| label_of(label, name));
        pool.docker.fleet = pool.docker.fleet.or_else(derived);
        pool
    }
}

fn prefix_of(name: &str) -> &str {
    if name == DEFAULT { "Server" } else { name }
}

fn check_name(r: &mut Reader<'_>, name: &str, origin: &Origin, before: usize) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|&byte| byte != b'-');
    let bytes = name.as_bytes();
    let fits = bytes.len() <= LONGEST_NAME && bytes.iter().all(|&byte| inner(byte));
    if !(fits && edge(bytes.first()) && edge(bytes.last())) {
        let expected = format!(
            "a name of 1 to {LONGEST_NAME} lower-case letters, digits and hyphens, no hyphen at either end"
        );
        r.wrong_pool(name, origin.clone(), &expected);
    } else if name == DEFAULT {
        let expected = "another name: the keys of this pool are those outside of every [pool.…]";
        r.wrong_pool(name, origin.clone(), expected);
    } else if before == MOST_POOLS {
        r.wrong_pool(name, origin.clone(), &format!("at most {MOST_POOLS} pools"));
    }
}

/// No name of a container or of a balancer has a slash: no two labels are alike.
fn label_of(balancer: &str, pool: &str) -> String {
    if pool == DEFAULT { balancer.to_owned() } else { format!("{balancer}/{pool}") }
}

/// `state-NAME.json` beside `state.json`.
fn beside(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or(String::new(), |text| format!(".{}", text.to_string_lossy()));
    path.with_file_name(format!("{stem}-{name}{extension}"))
}
