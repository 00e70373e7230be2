//! `/rep`, `/add`, `/rm`, exactly as existing clients expect them.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{ALLOW, RETRY_AFTER, WARNING};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::Admin;
use crate::fleet::handle::{ChangeError, Changed};
use crate::fleet::request::{Change, RequestError};
use crate::proxy::error::failure;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/rep", any(rep)).route("/add", any(add)).route("/rm", any(rm))
}

async fn rep(State(admin): State<Admin>, method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return wrong_method("GET, HEAD");
    }
    members(&admin.fleet.snapshot().names)
}

async fn add(State(admin): State<Admin>, method: Method, body: Result<Bytes, BytesRejection>) -> Response {
    if method != Method::POST {
        return wrong_method("POST");
    }
    let change = match read(body) {
        Ok(change) => change,
        Err(refused) => return refusal(&refused),
    };
    answer(tokio::time::timeout(admin.change_timeout, admin.fleet.add(change)).await)
}

async fn rm(State(admin): State<Admin>, method: Method, body: Result<Bytes, BytesRejection>) -> Response {
    if method != Method::DELETE {
        return wrong_method("DELETE");
    }
    let change = match read(body) {
        Ok(change) => change,
        Err(refused) => return refusal(&refused),
    };
    answer(tokio::time::timeout(admin.change_timeout, admin.fleet.remove(change)).await)
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Change, ChangeError> {
    // A body that is too large or breaks off is no JSON object either.
    let body = body.map_err(|_| RequestError::Payload)?;
    Ok(Change::parse(&body)?)
}

fn answer<E>(result: Result<Result<Changed, ChangeError>, E>) -> Response {
    match result {
        Ok(Ok(changed)) => in_effect(&changed),
        Ok(Err(error)) => refusal(&error),
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "the change is still under way; see GET /rep")
            .into_response(),
    }
}

/// The change is in effect; that a restart might forget it is no failure of the call, and no secret either.
fn in_effect(changed: &Changed) -> Response {
    let mut response = members(&changed.members);
    if let Some(why) = &changed.unwritten {
        let words: String = why.chars().map(|c| if c == '"' || c == '\\' { '\'' } else { c }).collect();
        let warning = format!("199 slipring \"in effect, but not remembered yet: {words}\"");
        let printable: String =
            warning.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        match HeaderValue::from_str(&printable) {
            Ok(value) => drop(response.headers_mut().insert(WARNING, value)),
            Err(error) => tracing::error!(%error, warning, "no header can say it"),
        }
    }
    response
}

fn members(names: &[String]) -> Response {
    let message = json!({ "N": names.len(), "replicas": names });
    axum::Json(json!({ "message": message, "status": "successful" })).into_response()
}

/// The one place where a refused change becomes a status.
fn refusal(error: &ChangeError) -> Response {
    let unavailable = match error {
        ChangeError::Refused(refused) => matches!(refused, RequestError::ShuttingDown),
        ChangeError::Failed(failure) => !failure.name_taken,
        ChangeError::Gone => true,
    };
    let status = if unavailable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
    let mut response = failure(status, &error.to_string());
    if unavailable {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response.into_response()
}

fn wrong_method(allowed: &'static str) -> Response {
    let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, &format!("this endpoint takes {allowed}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response.into_response()
}
