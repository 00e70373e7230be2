//! What the data plane could not do, and the one place where it becomes a status.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::pool::ConnectError;

/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: &str = "1";

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
    /// No route has this path.
    #[error("'{0}' endpoint does not exist in server replicas")]
    NoRoute(String),
}

impl ProxyError {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoReplica | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Lost(_) | Self::Died => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoute(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer for the client.
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut response = failure(self.status(), &self.to_string());
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
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
