//! All pools, which of them a request is for, and what holds for all requests: one immutable table, so that a request
//! never sees half of a change.
//!
//! A thread of the data plane looks at it through a cache of its own ([`Reader`]): while nothing changes, that costs
//! one load, and no thread writes what another reads.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::calm::Calm;
use super::forward::Pool;
use super::route::{Routes, is_administrative};
use super::wire::path::has_dot_segments;
use crate::config::{DEFAULT, ProxyConfig};

/// The present pools, for any number of readers.
pub type Shared = Arc<ArcSwap<Pools>>;

/// See the module.
#[derive(Debug)]
pub struct Pools {
    main: Arc<Pool>,
    named: Vec<Arc<Pool>>,
    routes: Routes,
    /// Limits of clients, whatever pool they want, and the paths that the pool without a name takes.
    pub config: ProxyConfig,
    /// What keeps it calm.
    pub calm: Calm,
}

/// What is to be done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// It is a call of the administration.
    Administer,
    /// It goes to a replica of this pool.
    To(&'a Arc<Pool>),
    /// Nobody takes it.
    Nowhere,
}

impl Pools {
    /// The pool without a name, which takes `config.paths`, and those with names, which take their routes.
    pub fn new(main: Arc<Pool>, named: Vec<Arc<Pool>>, config: ProxyConfig, calm: Calm) -> Self {
        let routes = named.iter().enumerate();
        let routes = routes.flat_map(|(at, pool)| pool.config.routes.iter().map(move |route| (route, at)));
        let routes = Routes::new(routes);
        Self { main, named, routes, config, calm }
    }

    /// Where a request for `path` goes; who its host is, is asked only if there are routes.
    pub fn way<'h>(&self, host: impl FnOnce() -> &'h [u8], path: &str) -> Way<'_> {
        // One with dot segments is below no prefix but that of all: what a replica makes of it may lie elsewhere.
        let routed = if has_dot_segments(path) { "/." } else { path };
        if !self.routes.is_empty()
            && let Some(found) = self.routes.find(host(), routed)
            && (found.by_host || !is_administrative(path))
        {
            return Way::To(&self.named[found.pool]);
        }
        if is_administrative(path) {
            Way::Administer
        } else if self.takes(routed) {
            Way::To(&self.main)
        } else {
            Way::Nowhere
        }
    }

    /// Whether the pool without a name has this path.
    fn takes(&self, path: &str) -> bool {
        self.config.paths.iter().any(|route| match route.strip_suffix("/*") {
            Some(stem) => {
                path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => route == path,
        })
    }

    /// The pool without a name.
    pub fn main(&self) -> &Arc<Pool> {
        &self.main
    }

    /// All of them, the one without a name first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pool>> + Clone {
        std::iter::once(&self.main).chain(&self.named)
    }

    /// The pool of this name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Pool>> {
        if name == DEFAULT { Some(&self.main) } else { self.all().find(|pool| *pool.config.name == *name) }
    }
}

/// The present pools, as one thread sees them.
#[derive(Debug)]
pub struct Reader {
    cache: Cache<Shared, Arc<Pools>>,
    present: Rc<Present>,
}

/// The pools for as long as a request needs them, shared by the requests of one thread without touching what other
/// threads count.
#[derive(Debug)]
pub struct Present(Arc<Pools>);

impl Deref for Present {
    type Target = Pools;

    fn deref(&self) -> &Pools {
        &self.0
    }
}

impl Reader {
    /// A thread's own.
    pub fn new(shared: Shared) -> Self {
        let present = Rc::new(Present(shared.load_full()));
        Self { cache: Cache::new(shared), present }
    }

    /// The pools at this moment.
    pub fn present(&mut self) -> Rc<Present> {
        let now = self.cache.load();
        if !Arc::ptr_eq(now, &self.present.0) {
            self.present = Rc::new(Present(now.clone()));
        }
        self.present.clone()
    }
}
