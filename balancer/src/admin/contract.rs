//! `/rep`, `/add`, `/rm`, exactly as existing clients expect them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::WARNING;
use http::{HeaderValue, Method, Uri};
use serde_json::json;

use super::Admin;
use super::payload::Payload;
use super::refusal::Refusal;
use crate::fleet::handle::{ChangeError, Changed};
use crate::fleet::request::Change;
use crate::proxy::forward::Pool;

/// What a change may take, beside its starts and stops.
const CHANGE_MARGIN: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/rep", any(rep)).route("/add", any(add)).route("/rm", any(rm))
}

async fn rep(State(admin): State<Admin>, method: Method, uri: Uri) -> Result<Response, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method("GET, HEAD"));
    }
    Ok(members(&admin.pool(&uri)?.fleet.snapshot().names))
}

async fn add(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let (pool, change) = change(&admin, request, &Method::POST, "POST").await?;
    answer(&pool, pool.fleet.add(change)).await
}

async fn rm(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let (pool, change) = change(&admin, request, &Method::DELETE, "DELETE").await?;
    answer(&pool, pool.fleet.remove(change)).await
}

/// What is asked for, and of which pool; the method is looked at before the body.
async fn change(
    admin: &Admin,
    request: Request,
    method: &Method,
    allowed: &'static str,
) -> Result<(Arc<Pool>, Change), Refusal> {
    if request.method() != method {
        return Err(Refusal::Method(allowed));
    }
    let pool = admin.pool(request.uri())?;
    let Payload(body) = Payload::from_request(request, admin).await?;
    Ok((pool, Change::parse(&body).map_err(ChangeError::from)?))
}

async fn answer(
    pool: &Pool,
    change: impl Future<Output = Result<Changed, ChangeError>>,
) -> Result<Response, Refusal> {
    let fleet = &pool.config.fleet;
    let within = fleet.start_timeout + fleet.stop_timeout * 2 + CHANGE_MARGIN;
    match tokio::time::timeout(within, change).await {
        Ok(changed) => Ok(in_effect(&changed?)),
        Err(_) => Err(Refusal::UnderWay),
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
