//! `/rep`, `/add`, `/rm`, exactly as existing clients expect them.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::Method;
use serde_json::json;

use super::Admin;
use super::payload::Payload;
use super::refusal::Refusal;
use crate::fleet::handle::ChangeError;
use crate::fleet::request::Change;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/rep", any(rep)).route("/add", any(add)).route("/rm", any(rm))
}

async fn rep(State(admin): State<Admin>, method: Method) -> Result<Response, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::Method("GET, HEAD"));
    }
    Ok(members(&admin.fleet.snapshot().names))
}

async fn add(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let change = change(&admin, request, &Method::POST, "POST").await?;
    answer(&admin, admin.fleet.add(change)).await
}

async fn rm(State(admin): State<Admin>, request: Request) -> Result<Response, Refusal> {
    let change = change(&admin, request, &Method::DELETE, "DELETE").await?;
    answer(&admin, admin.fleet.remove(change)).await
}

/// What is asked for; the method is looked at before the body.
async fn change(
    admin: &Admin,
    request: Request,
    method: &Method,
    allowed: &'static str,
) -> Result<Change, Refusal> {
    if request.method() != method {
        return Err(Refusal::Method(allowed));
    }
    let Payload(body) = Payload::from_request(request, admin).await?;
    Ok(Change::parse(&body).map_err(ChangeError::from)?)
}

async fn answer(
    admin: &Admin,
    change: impl Future<Output = Result<Vec<String>, ChangeError>>,
) -> Result<Response, Refusal> {
    match tokio::time::timeout(admin.change_timeout, change).await {
        Ok(names) => Ok(members(&names?)),
        Err(_) => Err(Refusal::UnderWay),
    }
}

fn members(names: &[String]) -> Response {
    let message = json!({ "N": names.len(), "replicas": names });
    axum::Json(json!({ "message": message, "status": "successful" })).into_response()
}
