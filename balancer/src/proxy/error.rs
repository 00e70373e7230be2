//! What the data plane could not do, and the one place where it becomes a status.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use httpdate::HttpDate;

use super::connection::ConnectError;
use super::wire::request::RequestError;
use crate::limit::Limit;

/// Which replica answered.
pub const REPLICA: HeaderName = HeaderName::from_static("x-slipring-replica");
/// Says `1` in answers that were asked of a sick replica because none is well.
pub const PANIC: HeaderName = HeaderName::from_static("x-slipring-panic");
/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: u64 = 1;

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
    /// The replica has as many requests as it may, and none of them ended in time. That is nobody's fault in particular,
    /// and not the replica's.
    #[error(
        "no place at the replica came free within {0:?}: it has as many requests under way as proxy.max_connections_per_replica allows"
    )]
    NoPlace(Duration),
    /// As many requests wait for a place at the replica as may.
    #[error("as many requests wait for the replica as proxy.max_waiting_per_replica allows")]
    QueueFull,
    /// There is no place for one more client, and there will be none: the balancer is about to end.
    #[error("there are as many clients as proxy.max_connections allows")]
    NoRoom,
    /// The connection broke after the request was sent, and repeating it may not be safe.
    #[error("the replica ended the connection before its answer")]
    Lost(#[source] Option<io::Error>),
    /// What it answered is not HTTP, or too long a head of it.
    #[error("the replica's answer cannot be understood")]
    Garbled,
    /// The answer's body stood still, on whichever side.
    #[error("the answer stalled for {0:?}")]
    Stalled(Duration),
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
    /// The client was too slow with the head of its request.
    #[error("the request did not come within {0:?}")]
    SlowHead(Duration),
    /// The request cannot be understood in one way only.
    #[error("{0}")]
    BadRequest(#[from] RequestError),
    /// The head of the request is too long.
    #[error("the head of the request is larger than {0} bytes")]
    LargeHead(usize),
    /// The body of the request is not framed as its head says.
    #[error("the request's body is not well-formed")]
    BadBody,
    /// A call of the administration with a body that no such call has.
    #[error("the payload is larger than {0} bytes, the most that is taken")]
    LargeCall(usize),
    /// A call of the administration whose body did not come.
    #[error("the payload did not come within {0:?}")]
    SlowCall(Duration),
    /// The body of the request is too long.
    #[error("the request's body is too large")]
    TooLarge,
    /// The client sends its body too slowly.
    #[error("the request's body came with less than {0} bytes a second")]
    SlowBody(u64),
    /// The client takes the answer too slowly.
    #[error("the client took less than {0} bytes a second of the answer")]
    SlowReader(u64),
    /// The client takes nothing more of the answer.
    #[error("the client took nothing more of the answer for {0:?}")]
    Unheard(Duration),
    /// The client asks too often.
    #[error("too many requests from this client: the next may come in {0:?}")]
    TooOften(Duration),
    /// The client has too many connections.
    #[error("too many connections from this client")]
    TooManyConnections,
    /// No route has this path.
    #[error("'{0}' endpoint does not exist in server replicas")]
    NoRoute(String),
}

impl ProxyError {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoReplica | Self::Unreachable(_) | Self::NoPlace(_) | Self::QueueFull | Self::NoRoom => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Lost(_) | Self::Died | Self::Garbled => StatusCode::BAD_GATEWAY,
            Self::Timeout(_) | Self::Unread(_) | Self::Stalled(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientStalled(_) | Self::SlowHead(_) | Self::SlowCall(_) | Self::SlowBody(_) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::SlowReader(_) | Self::Unheard(_) => StatusCode::GATEWAY_TIMEOUT, // nobody is told any more
            Self::TooOften(_) | Self::TooManyConnections => StatusCode::TOO_MANY_REQUESTS,
            Self::LargeHead(_) | Self::BadRequest(RequestError::Fields) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::BadRequest(RequestError::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BadRequest(RequestError::Coding) => StatusCode::NOT_IMPLEMENTED,
            Self::BadRequest(RequestError::Connect) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadRequest(_) | Self::BadBody | Self::LargeCall(_) | Self::NoRoute(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// The limit that the client ran into, as the metrics name it.
    pub fn limit(&self) -> Option<Limit> {
        Some(match self {
            Self::TooOften(_) => Limit::RequestsPerSecondPerClient,
            Self::TooManyConnections => Limit::ConnectionsPerClient,
            Self::SlowBody(_) => Limit::BodyRate,
            Self::SlowReader(_) => Limit::ReadRate,
            Self::ClientStalled(_) => Limit::BodyTime,
            Self::Unheard(_) => Limit::ReadTime,
            Self::SlowHead(_) => Limit::HeaderTime,
            Self::LargeHead(_) => Limit::HeaderBytes,
            Self::BadRequest(RequestError::Fields) => Limit::HeaderFields,
            Self::TooLarge => Limit::BodyBytes,
            Self::NoPlace(_) => Limit::ConnectionsPerReplica,
            Self::QueueFull => Limit::WaitingPerReplica,
            Self::NoRoom => Limit::Connections,
            _ => return None,
        })
    }

    /// Seconds after which the client may come again.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooOften(wait) => Some(wait.as_secs() + 1),
            error => matches!(error.status().as_u16(), 429 | 503).then_some(RETRY_AFTER_SECONDS),
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
    /// No replica was well when it was tried.
    pub panic: bool,
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self { error, replica: None, panic: false }
    }
}

impl Refusal {
    /// Writes the answer for a client that speaks HTTP/1 into `out`; how long its body is. `bodyless`: it asked with HEAD.
    pub fn write(&self, out: &mut Vec<u8>, keep_alive: bool, bodyless: bool) -> usize {
        let status = self.error.status();
        let body = failure_body(&self.error.to_string());
        let reason = status.canonical_reason().unwrap_or_default();
        let mut put = |text: std::fmt::Arguments<'_>| out.write_fmt(text).expect("writing into memory");
        put(format_args!("HTTP/1.1 {} {reason}\r\n", status.as_str()));
        put(format_args!("Date: {}\r\n", HttpDate::from(SystemTime::now())));
        put(format_args!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        if let Some(seconds) = self.error.retry_after() {
            put(format_args!("Retry-After: {seconds}\r\n"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            put(format_args!("Allow: {FORWARDED}\r\n"));
        }
        if let Some(replica) = self.replica.as_ref().and_then(|replica| replica.to_str().ok()) {
            put(format_args!("x-slipring-replica: {replica}\r\n"));
        }
        if self.panic {
            put(format_args!("{PANIC}: 1\r\n"));
        }
        put(format_args!("Connection: {}\r\n\r\n", if keep_alive { "keep-alive" } else { "close" }));
        if bodyless {
            return 0;
        }
        out.extend_from_slice(body.as_bytes());
        body.len()
    }

    /// The answer for a client that speaks HTTP/2. `bodyless`: it asked with HEAD.
    pub fn response(self, bodyless: bool) -> Response<Full<Bytes>> {
        let status = self.error.status();
        let mut response = failure(status, &self.error.to_string());
        if bodyless {
            let body = std::mem::take(response.body_mut());
            let length = body.size_hint().exact().unwrap_or_default();
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(FORWARDED));
        }
        if let Some(seconds) = self.error.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.panic {
            response.headers_mut().insert(PANIC, HeaderValue::from_static("1"));
        }
        if let Some(replica) = self.replica {
            response.headers_mut().insert(REPLICA, replica);
        }
        response
    }
}

/// The contract's shape of every refusal: `{"message":"<Error> …","status":"failure"}`.
pub fn failure(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(failure_body(message))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failure_body(message: &str) -> String {
    serde_json::json!({ "message": format!("<Error> {message}"), "status": "failure" }).to_string()
}
