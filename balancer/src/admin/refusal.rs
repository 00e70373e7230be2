//! Why an administrative call is refused, and the one place where that becomes a status.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};

use super::access::Denied;
use super::plan::PlanError;
use super::relay::RelayError;
use crate::chain;
use crate::fleet::handle::ChangeError;
use crate::fleet::request::RequestError;
use crate::proxy::error::failure;
use crate::reload::ReloadError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Not from here, and without the token.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Not exactly one `Host`, or none that could be one.
    #[error("a request needs one valid Host header")]
    Host,
    /// Another method than these.
    #[error("this endpoint takes {0}")]
    Method(&'static str),
    /// A method that the path does not take; axum says which it does.
    #[error("'{path}' does not take {method}")]
    MethodOf { path: String, method: Method },
    /// Nothing is there.
    #[error(
        "there is no '{0}' here; there are / (a page for browsers), /rep, /add, /rm, /metrics, /healthz, /readyz, /ring, \
         /route, /plan, /pools, /replicas, /events, /stream, /relay/POOL/PATH, /reload"
    )]
    Unknown(String),
    /// A pool that is not configured.
    #[error("there is no pool '{name}'; there are {there_are}")]
    NoPool { name: String, there_are: String },
    /// A call about two pools.
    #[error("say which pool, once: ?pool=NAME")]
    TwoPools,
    /// More callers than there are places.
    #[error("too many administrative calls at once; try again")]
    Overloaded,
    /// More pages than there are places.
    #[error(
        "{0} pages are fed already, which is the most (admin.max_watchers): close one, or raise it and reload"
    )]
    TooManyPages(usize),
    /// A call that was not passed on.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A body that is too large.
    #[error("the payload is larger than {0} bytes, the most that is taken")]
    TooLarge(usize),
    /// A body that did not come.
    #[error("the payload did not come within {0:?}")]
    Stalled(Duration),
    /// A body that broke off.
    #[error("the payload broke off")]
    Broken,
    /// A change that was not made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A change that takes too long to wait for.
    #[error("the change is still under way; see GET /rep")]
    UnderWay,
    /// A plan that cannot be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A configuration that is not obeyed.
    #[error("{}", chain::words(.0))]
    Reload(ReloadError),
    /// A question about no key, or about several.
    #[error("say which key, once: /route?key=123456")]
    NoKey,
    /// An id that is none.
    #[error("an id is a number from 0 to 4294967295")]
    NoId,
    /// Another kind of key.
    #[error("as is `id` or `bytes`")]
    NoKind,
    /// Our own fault; the log has the cause.
    #[error("{0}; the log says why")]
    Internal(&'static str),
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        Self::Reload(error)
    }
}

impl Refusal {
    /// The status for the caller.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Method(_) | Self::MethodOf { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unknown(_) | Self::NoPool { .. } => StatusCode::NOT_FOUND,
            Self::Overloaded | Self::TooManyPages(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Relay(error) => error.status(),
            Self::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
            Self::UnderWay => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Reload(ReloadError::ShuttingDown) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Change(ChangeError::Gone | ChangeError::Refused(RequestError::ShuttingDown)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Change(ChangeError::Failed(failure)) if !failure.name_taken => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // The contract's answer to every mistake of the caller.
            Self::Change(_)
            | Self::Host
            | Self::TooLarge(_)
            | Self::Broken
            | Self::Plan(_)
            | Self::Reload(_)
            | Self::TwoPools
            | Self::NoKey
            | Self::NoId
            | Self::NoKind => StatusCode::BAD_REQUEST,
        }
    }

    /// Seconds after which a caller may try again, where that may help.
    fn retry_after(&self) -> Option<HeaderValue> {
        let seconds = if matches!(self, Self::Overloaded) { "1" } else { "5" };
        (self.status() == StatusCode::SERVICE_UNAVAILABLE).then(|| HeaderValue::from_static(seconds))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = failure(self.status(), &self.to_string());
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Self::Method(allowed) = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response.into_response()
    }
}
