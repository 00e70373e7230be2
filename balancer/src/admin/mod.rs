//! The control plane: the contract's calls, on both ports, and what is to be seen, on the admin-only port.

pub mod access;
mod contract;
mod given;
mod inspect;
pub mod page;
mod payload;
mod plan;
mod refusal;
mod relay;
pub mod serve;
pub mod stream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use crate::fleet::events::Events;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::proxy::forward::Pool;
use crate::proxy::pools::Shared;
use crate::reload::Reload;
use access::Access;
use refusal::Refusal;
use stream::Stream;

/// Administrative calls at a time; more are refused.
pub const MOST_CALLS: usize = 64;
/// Streams of events at a time; more are refused.
pub const MOST_WATCHERS: usize = 64;
/// The largest body of a call, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// How long a call's body may take.
pub const PAYLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the calls work on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The pools.
    pub pools: Shared,
    /// What all of them tell.
    pub events: Events,
    /// Who is let in.
    pub access: Arc<ArcSwap<Access>>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Reads the configuration again.
    pub reload: Arc<Reload>,
    /// Plans are computed one at a time.
    pub planning: Arc<Semaphore>,
    /// Places for calls, on both ports together.
    pub calling: Arc<Semaphore>,
    /// Places for streams of events.
    pub watching: Arc<Semaphore>,
    /// Places for pages that are fed.
    pub watchers: Places,
    /// What feeds them.
    pub stream: Stream,
    /// Cancelled when the balancer takes no more requests.
    pub stopping: CancellationToken,
    /// Cancelled when the fleet has ended: there is nothing more to tell.
    pub ended: CancellationToken,
}

impl Admin {
    /// How long a call's body may take.
    fn payload_timeout(&self) -> Duration {
        PAYLOAD_TIMEOUT.min(self.pools.load().config.idle_timeout)
    }

    /// The pool that a call is about: `?pool=NAME`, or the one without a name.
    fn pool(&self, uri: &http::Uri) -> Result<Arc<Pool>, Refusal> {
        match self.named_pool(uri)? {
            Some(pool) => Ok(pool),
            None => Ok(self.pools.load().main().clone()),
        }
    }

    /// The pool of `?pool=NAME`.
    fn named_pool(&self, uri: &http::Uri) -> Result<Option<Arc<Pool>>, Refusal> {
        let mut named =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("pool="));
        let Some(name) = named.next() else { return Ok(None) };
        if named.next().is_some() {
            return Err(Refusal::TwoPools);
        }
        self.pool_called(name).map(Some)
    }

    fn pool_called(&self, name: &str) -> Result<Arc<Pool>, Refusal> {
        let pools = self.pools.load();
        pools.by_name(name).cloned().ok_or_else(|| Refusal::NoPool {
            name: name.to_owned(),
            there_are: pools.all().map(|pool| pool.config.name.to_string()).collect::<Vec<_>>().join(", "),
        })
    }

    /// `/rep`, `/add`, `/rm`.
    pub fn contract(&self) -> Router {
        self.guarded(contract::routes())
    }

    /// Those, and everything else.
    pub fn everything(&self) -> Router {
        let relay = get(relay::relay).post(relay::relay).layer(DefaultBodyLimit::max(relay::LARGEST));
        let seen = Router::new()
            .route("/metrics", get(inspect::metrics))
            .route("/ring", get(inspect::ring))
            .route("/route", get(inspect::route))
            .route("/pools", get(inspect::pools))
            .route("/replicas", get(inspect::replicas))
            .route("/events", get(inspect::events))
            .route("/stream", get(stream::watch))
            .route("/plan", post(plan::plan))
            .route("/relay/{pool}/{*path}", relay)
            .route("/reload", post(reload));
        let health =
            Router::new().route("/healthz", get(inspect::healthz)).route("/readyz", get(inspect::readyz));
        let unguarded =
            health.merge(page::routes()).method_not_allowed_fallback(wrong_method).with_state(self.clone());
        self.guarded(contract::routes().merge(seen)).merge(unguarded).fallback(any(unknown))
    }

    fn guarded(&self, routes: Router<Self>) -> Router {
        let limits = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_: tower::BoxError| Refusal::Overloaded))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(self.calling.clone()));
        routes
            .method_not_allowed_fallback(wrong_method)
            .route_layer(middleware::from_fn_with_state(self.access.clone(), access::guard))
            .route_layer(limits)
            .layer(middleware::from_fn_with_state(self.metrics.clone(), count_refusals))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(self.clone())
    }
}

/// Reads the configuration again: what that changed, or why it changed nothing.
async fn reload(State(admin): State<Admin>) -> Result<Json<Value>, Refusal> {
    let difference = admin.reload.reload().await?;
    Ok(Json(json!({ "message": difference, "status": "successful" })))
}

async fn count_refusals(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        metrics.admin_refused(status);
    }
    response
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> Refusal {
    Refusal::MethodOf { path: uri.path().to_owned(), method }
}

async fn unknown(uri: http::Uri) -> Refusal {
    Refusal::Unknown(uri.path().to_owned())
}
