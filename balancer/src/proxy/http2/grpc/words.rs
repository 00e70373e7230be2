//! What gRPC calls things: the codes, and what they are told in.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty};

use super::super::{AnswerBody, boxed};
use super::traffic::Over;
use crate::limit::Limit;
use crate::proxy::error::ProxyError;

/// The codes that the balancer itself answers with (grpc/status.h).
#[derive(Clone, Copy, Debug)]
pub(super) enum Code {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// How a call ends before its replica has ended it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Code,
    /// Of the caller's, as the metrics name it.
    pub(super) limit: Option<Limit>,
    pub(super) words: String,
}

impl Ended {
    /// What `over` means; `silent` says what of.
    pub(super) fn of(over: Over, silent: &str) -> Self {
        let (code, error) = match over {
            Over::Silence(patience) => {
                let words = format!("{silent} {patience:?}");
                return Self { code: Code::DeadlineExceeded, limit: None, words };
            }
            Over::TooLarge => (Code::ResourceExhausted, ProxyError::TooLarge),
            Over::SlowBody(rate) => (Code::ResourceExhausted, ProxyError::SlowBody(rate)),
        };
        Self { code, limit: error.limit(), words: error.to_string() }
    }
}

/// What a replica's end of a call means (gRPC over HTTP/2, "HTTP2 Transport Mapping", errors). A connection that
/// broke is UNAVAILABLE: nobody knows whether the call ran, and it is not sent again from here.
pub(super) fn meaning(error: &h2::Error) -> Code {
    if error.is_library() {
        return Code::Internal; // what it said is no HTTP/2
    }
    match error.reason() {
        None | Some(h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR) => Code::Unavailable,
        Some(h2::Reason::CANCEL) => Code::Cancelled,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(h2::Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        Some(_) => Code::Internal,
    }
}

/// Whether a replica has refused a call unread (RFC 9113 section 8.7).
pub(super) fn is_refusal(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// Whether a replica has taken a call back, as servers do that know its deadline when that has passed.
pub(super) fn is_cancelled(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::CANCEL)
}

/// Whether a replica has said that it takes no more calls on a connection, and that all is well. A call that it ends unread
/// came too late for that.
pub(super) fn is_farewell(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// Whether a replica that ended a call so has failed: with these it says that it does not want this one call, or not in
/// this protocol, which any client can bring about. What was ended from here is no end of its own.
pub(super) fn is_the_replicas_fault(error: &h2::Error) -> bool {
    use h2::Reason;
    let own = !error.is_io() && !error.is_remote() && !error.is_library();
    !own && !matches!(
        error.reason().filter(|_| error.is_remote()),
        Some(
            Reason::REFUSED_STREAM
                | Reason::HTTP_1_1_REQUIRED
                | Reason::PROTOCOL_ERROR
                | Reason::ENHANCE_YOUR_CALM
                | Reason::INADEQUATE_SECURITY
        )
    )
}

/// Whether a request is a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc")
            && matches!(value.get(b"application/grpc".len()), None | Some(b'+' | b';'))
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// An answer of the balancer's own, in gRPC's words: HTTP's 200 and a status of its own.
pub(super) fn failure(code: Code, words: &str) -> Response<AnswerBody> {
    let body = boxed(Empty::new().map_err(|never| match never {}));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = status(code, words);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

pub(super) fn status(code: Code, words: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code as u16));
    if let Ok(words) = HeaderValue::from_str(&words.replace('%', "%25")) {
        headers.insert(HeaderName::from_static("grpc-message"), words);
    }
    headers
}
