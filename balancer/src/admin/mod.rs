//! The control plane: the contract's calls, on both ports, and what is to be seen, on the admin-only port.

pub mod access;
mod contract;
mod inspect;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use crate::fleet::handle::Fleet;
use crate::metrics::Metrics;
use crate::proxy::error::failure;
use crate::proxy::key::KeySource;
use access::Access;

/// Administrative calls at a time; more are refused.
const MOST_CALLS: usize = 64;
/// Streams of events at a time; more are refused.
pub const MOST_WATCHERS: usize = 64;
/// The largest body of a call, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

/// What the calls work on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The fleet.
    pub fleet: Fleet,
    /// Who is let in.
    pub access: Arc<Access>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Where requests' keys come from, for `/route`.
    pub key: Vec<KeySource>,
    /// The most replicas there may be.
    pub room: usize,
    /// Plans are computed one at a time.
    pub planning: Arc<Semaphore>,
    /// Places for streams of events.
    pub watching: Arc<Semaphore>,
    /// Cancelled when the balancer takes no more requests.
    pub stopping: CancellationToken,
    /// How long a change may take.
    pub change_timeout: Duration,
}

impl Admin {
    /// `/rep`, `/add`, `/rm`.
    pub fn contract(&self) -> Router {
        self.guarded(contract::routes())
    }

    /// Those, and everything else.
    pub fn everything(&self) -> Router {
        let seen = Router::new()
            .route("/metrics", get(inspect::metrics))
            .route("/ring", get(inspect::ring))
            .route("/route", get(inspect::route))
            .route("/replicas", get(inspect::replicas))
            .route("/events", get(inspect::events))
            .route("/plan", post(plan::plan));
        let health =
            Router::new().route("/healthz", get(inspect::healthz)).route("/readyz", get(inspect::readyz));
        let unguarded = health.with_state(self.clone());
        self.guarded(contract::routes().merge(seen))
            .merge(unguarded)
            .fallback(any(unknown))
            .method_not_allowed_fallback(wrong_method)
    }

    fn guarded(&self, routes: Router<Self>) -> Router {
        let limits = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_: tower::BoxError| overloaded()))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(MOST_CALLS));
        routes
            .route_layer(axum::middleware::from_fn_with_state(self.access.clone(), access::guard))
            .route_layer(limits)
            .layer(axum::extract::DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(self.clone())
    }
}

fn overloaded() -> Response {
    let mut response =
        failure(StatusCode::SERVICE_UNAVAILABLE, "too many administrative calls at once; try again");
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response.into_response()
}

async fn wrong_method(method: http::Method, uri: http::Uri) -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, &format!("'{}' does not take {method}", uri.path()))
        .into_response()
}

async fn unknown(uri: http::Uri) -> Response {
    let known = "/rep, /add, /rm, /metrics, /healthz, /readyz, /ring, /route, /plan, /replicas, /events";
    failure(StatusCode::NOT_FOUND, &format!("there is no '{}' here; there are {known}", uri.path()))
        .into_response()
}
