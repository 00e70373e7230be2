//! `/relay/POOL/PATH`: a small call, passed on to a member of a pool of given members.
//!
//! For the page, which may speak to nobody but the port that it came from (its policy says so, and so does the browser):
//! who may administer may ask an overlay's leader from there, too. Letting the page call the members themselves would
//! take rules for other origins at each of them, and ports that a browser can reach.
//!
//! What a member answers is shown as data: to whoever opens it as a page it can do nothing here.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use super::Admin;
use super::given::{self, CallError};
use super::payload::Payload;
use super::refusal::Refusal;
use crate::proxy::forward::Pool;
use crate::proxy::upstream::Upstream;

/// From the call's last byte to its answer's last.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a call, and of an answer.
pub(super) const LARGEST: usize = 1 << 20;

/// Why a call was not passed on, or not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(
        "the members of pool '{0}' are replicas, which are asked through the main port: calls are passed on to pools of \
         given members, like an overlay's"
    )]
    NotGiven(String),
    #[error("no member of pool '{0}' that takes calls is live; GET /replicas?pool={0} says how they are")]
    Nobody(String),
    #[error("{member} of pool '{pool}' did not take the call: {why}; try again when it is live")]
    Refused { pool: String, member: String, why: CallError },
    #[error("{member} of pool '{pool}' broke off: {why}")]
    Broken { pool: String, member: String, why: String },
    #[error("{member} of pool '{pool}' did not answer within {WITHIN:?}")]
    Late { pool: String, member: String },
    #[error("{member} of pool '{pool}' answered with more than {LARGEST} bytes: ask it for less")]
    TooLong { pool: String, member: String },
}

impl RelayError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotGiven(_) => StatusCode::NOT_FOUND,
            Self::Nobody(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { why, .. } if why.is_nobody() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { .. } | Self::Broken { .. } | Self::TooLong { .. } => StatusCode::BAD_GATEWAY,
            Self::Late { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

pub(super) async fn relay(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let metrics = admin.metrics.clone();
    let passed = pass_on(&admin, request).await;
    metrics.relayed(passed.as_ref().map_or_else(Refusal::status, Response::status));
    passed
}

async fn pass_on(admin: &Admin, request: Request) -> Result<Response, Refusal> {
    let uri = request.uri().clone();
    let (name, path) = split(&uri).ok_or_else(|| Refusal::Unknown(uri.path().to_owned()))?;
    let pool = admin.pool_called(name)?;
    if pool.config.overlay.is_none() {
        return Err(RelayError::NotGiven(name.to_owned()).into());
    }
    let method = if request.method() == Method::POST { Method::POST } else { Method::GET };
    let mut call = http::Request::builder().method(method).uri(path);
    for header in [ACCEPT, CONTENT_TYPE] {
        if let Some(value) = request.headers().get(&header) {
            call = call.header(header, value);
        }
    }
    let Payload(body) = Payload::read(request, admin, LARGEST).await?;
    let member = given::first_live(&pool).ok_or_else(|| RelayError::Nobody(name.to_owned()))?;
    let call = call.header(HOST, member.address.to_string()).body(Full::new(body));
    let call = call.map_err(|_| Refusal::Unknown(uri.path().to_owned()))?;
    match tokio::time::timeout(WITHIN, exchange(&pool, &member, call)).await {
        Ok(answered) => Ok(answered?),
        Err(_) => {
            Err(RelayError::Late { pool: name.to_owned(), member: member.instance.name.clone() }.into())
        }
    }
}

/// The pool of `/relay/POOL/PATH?QUERY`, and the rest as it was written.
fn split(uri: &http::Uri) -> Option<(&str, String)> {
    let (pool, path) = uri.path().strip_prefix("/relay/")?.split_once('/')?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some((pool, format!("/{path}{query}")))
}

async fn exchange(
    pool: &Pool,
    member: &Upstream,
    call: http::Request<Full<Bytes>>,
) -> Result<Response, RelayError> {
    let named = || (pool.config.name.to_string(), member.instance.name.clone());
    let answered = given::ask(pool, member, call, WITHIN).await.map_err(|why| {
        let (pool, member) = named();
        RelayError::Refused { pool, member, why }
    })?;
    let (head, body) = answered.response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|error| {
        let (pool, member) = named();
        match error.downcast_ref::<LengthLimitError>() {
            Some(_) => RelayError::TooLong { pool, member },
            None => RelayError::Broken { pool, member, why: error.to_string() },
        }
    })?;
    drop(answered.connection);
    let mut response = body.to_bytes().into_response();
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    match head.headers.get(CONTENT_TYPE) {
        Some(kind) => drop(headers.insert(CONTENT_TYPE, kind.clone())),
        None => drop(headers.remove(CONTENT_TYPE)),
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_path_is_passed_on_as_it_was_written() {
        for (uri, expected) in [
            (
                "/relay/waves/wave?algorithm=echo&initiator=8000",
                Some(("waves", "/wave?algorithm=echo&initiator=8000")),
            ),
            ("/relay/a/b/c%2fd", Some(("a", "/b/c%2fd"))),
            ("/relay/a/", Some(("a", "/"))),
            ("/relay/a", None),
        ] {
            let uri = uri.parse().unwrap();
            let found = split(&uri);
            assert_eq!(found, expected.map(|(pool, path)| (pool, path.to_owned())), "{uri}");
        }
    }
}
