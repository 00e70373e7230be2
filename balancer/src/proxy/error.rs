//! What the data plane could not do, and the one place where it becomes a status.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::headers::REPLICA;
use super::pool::ConnectError;

/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: &str = "1";
/// What is forwarded, for those who asked for what is not.
const FORWARDED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// Why a request got no replica's answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// No replica is live.
    #[error("no replica is live")]
    NoReplica,
    /// The last one that was tried took no connection.
    #[error("no replica could be reached")]
    Unreachable(#[source] ConnectError),
    /// The connection broke after the request was sent, and repeating it may not be safe.
    #[error("the replica ended the connection before its answer")]
    Lost(#[source] Option<hyper::Error>),
    /// The replica was given up while the request waited for it.
    #[error("the replica died before its answer")]
    Died,
    /// No head of an answer in time.
    #[error("the replica did not answer within {0:?}")]
    Timeout(Duration),
    /// It took nothing more of the request.
    #[error("the replica read nothing more of the request for {0:?}")]
    Unread(Duration),
    /// The client sent nothing more of its body.
    #[error("the request's body stalled for {0:?}")]
    ClientStalled(Duration),
    /// The client broke off its body; it will hardly read this.
    #[error("the request's body broke off")]
    ClientGone,
    /// No route has this path.
    #[error("'{0}' endpoint does not exist in server replicas")]
    NoRoute(String),
    /// Not exactly one `Host`, or none that could be one (RFC 9112 section 3.2).
    #[error("a request needs one valid Host header")]
    Host,
    /// A tunnel was asked for.
    #[error("this balancer makes no tunnels: CONNECT is not forwarded")]
    Tunnel,
}

impl ProxyError {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoReplica | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Lost(_) | Self::Died => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) | Self::Unread(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientStalled(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ClientGone | Self::NoRoute(_) | Self::Host => StatusCode::BAD_REQUEST,
            Self::Tunnel => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Whether another replica may be asked, the request itself permitting. After a timeout the client has waited
    /// long enough; its own failures stay its own.
    pub fn may_be_repeated(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Died)
    }
}

/// An error, and the replica that it happened with.
#[derive(Debug)]
pub struct Refusal {
    /// What happened.
    pub error: ProxyError,
    /// The name of the last replica that was tried.
    pub replica: Option<HeaderValue>,
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self { error, replica: None }
    }
}

impl Refusal {
    /// The answer for the client.
    pub fn response(self) -> Response<Full<Bytes>> {
        let status = self.error.status();
        let mut response = failure(status, &self.error.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(FORWARDED));
        }
        if let Some(replica) = self.replica {
            response.headers_mut().insert(REPLICA, replica);
        }
        response
    }
}

/// The contract's shape of every refusal: `{"message":"<Error> …","status":"failure"}`.
pub fn failure(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "message": format!("<Error> {message}"), "status": "failure" });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
