//! What is to be seen: metrics, health, the ring, one key's way through it, the replicas, the events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_hashing::{Key, Placement, stats};
use tokio::sync::broadcast::error::RecvError;

use super::Admin;
use crate::fleet::events::FleetEvent;
use crate::fleet::state::State as ReplicaState;
use crate::proxy::error::failure;
use crate::proxy::key::KeySource;
use crate::snapshot::Snapshot;

pub(super) async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode(&admin.fleet.snapshot()) {
        Ok((content_type, text)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be encoded");
            failure(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded; the log says why")
                .into_response()
        }
    }
}

/// The process runs and answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// A replica is live, and the balancer is not on its way out: send requests here. `?all=true` asks for every member.
pub(super) async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let snapshot = admin.fleet.snapshot();
    let (live, members) = (snapshot.count(ReplicaState::Live), snapshot.len());
    let wanted = if query.as_deref() == Some("all=true") { members } else { 1 };
    let stopping = admin.stopping.is_cancelled();
    let ready = live > 0 && live >= wanted && !stopping;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "live": live, "members": members, "stopping": stopping })))
        .into_response()
}

pub(super) async fn replicas(State(admin): State<Admin>) -> Json<Value> {
    Json(json!({ "replicas": admin.fleet.snapshot().views }))
}

fn describe(placement: &Placement) -> Value {
    match placement {
        Placement::Slots { pair, slots, virtual_servers, probing } => json!({
            "name": placement.name(),
            "hash": pair.to_string(),
            "slots": slots,
            "virtual_servers": virtual_servers,
            "probing": format!("{probing:?}").to_lowercase(),
        }),
        _ => json!({ "name": placement.name() }),
    }
}

fn name(snapshot: &Snapshot, id: slipring_hashing::ReplicaId) -> Option<&str> {
    snapshot
        .views
        .iter()
        .find(|view| view.id == id && view.state != ReplicaState::Draining)
        .map(|view| view.name.as_str())
}

/// Slots, shares and their balance.
pub(super) async fn ring(State(admin): State<Admin>) -> Json<Value> {
    let snapshot = admin.fleet.snapshot();
    let table = &snapshot.table;
    let shares = table.shares();
    let loads: Vec<f64> = shares.iter().map(|(_, share)| *share).collect();
    let replicas: Vec<_> = shares
        .iter()
        .map(|(id, share)| json!({ "id": id.number(), "name": name(&snapshot, *id), "share": share }))
        .collect();
    let occupied: Vec<_> = table.occupied().iter().map(|(slot, id)| json!([slot, id.number()])).collect();
    Json(json!({
        "placement": describe(table.placement()),
        "slots": table.slots(),
        "replicas": replicas,
        "occupied": occupied,
        "balance": {
            "max_over_mean": stats::max_over_mean(&loads),
            "coefficient_of_variation": stats::coefficient_of_variation(&loads),
        },
    }))
}

#[derive(Deserialize)]
pub(super) struct RouteQuery {
    key: Option<String>,
    #[serde(rename = "as")]
    kind: Option<String>,
}

/// Which slot a key has, which replica, which next, and why.
///
/// `as` says what the key is: `id`, a request id, which is what is drawn when keys are random (then digits are
/// taken for one); `bytes`, which is what every other source yields.
pub(super) async fn route(
    State(admin): State<Admin>,
    query: Result<Query<RouteQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(RouteQuery { key: Some(text), kind })) = query else {
        return failure(StatusCode::BAD_REQUEST, "say which key, once: /route?key=123456").into_response();
    };
    let drawn = matches!(admin.key.first(), None | Some(KeySource::Random));
    let key = match (kind.as_deref(), text.parse::<u32>()) {
        (Some("id"), Ok(number)) => Key::Id(number),
        (None, Ok(number)) if drawn => Key::Id(number),
        (None | Some("bytes"), _) => Key::Bytes(text.as_bytes()),
        (Some("id"), Err(_)) => {
            return failure(StatusCode::BAD_REQUEST, "an id is a number from 0 to 4294967295")
                .into_response();
        }
        (Some(_), _) => return failure(StatusCode::BAD_REQUEST, "as is `id` or `bytes`").into_response(),
    };
    let snapshot = admin.fleet.snapshot();
    let slot = snapshot.table.slot_of(key);
    let chosen = snapshot.candidates(slot).next().map(|upstream| upstream.instance.id);
    let preference: Vec<_> = snapshot
        .table
        .preference(slot)
        .map(|id| {
            let state = snapshot.entry(id).map(|entry| entry.state.name());
            json!({ "id": id.number(), "name": name(&snapshot, id), "state": state, "chosen": Some(id) == chosen })
        })
        .collect();
    let owner = snapshot.table.owner(slot);
    let why = match (owner, chosen) {
        (None, _) => "there are no replicas",
        (_, None) => "no replica is live or suspect: clients get 503",
        (owner, chosen) if owner == chosen => "the slot's first replica is live",
        _ => "the slot's first replica is not live: the first living one of its preference answers",
    };
    let kind = if matches!(key, Key::Id(_)) { "id" } else { "bytes" };
    let body = json!({
        "key": text,
        "as": kind,
        "slot": slot,
        "replica": chosen.and_then(|id| name(&snapshot, id)),
        "preference": preference,
        "why": why,
        "key_sources": admin.key.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    Json(body).into_response()
}

/// Everything the fleet remembers, and everything that follows; `Last-Event-ID` leaves out what is known.
pub(super) async fn events(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let Ok(place) = admin.watching.clone().try_acquire_owned() else { return super::overloaded() };
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let (past, live) = admin.fleet.events().subscribe(known);
    let follow = stream::unfold((live, place), |(mut live, place)| async {
        let event = match live.recv().await {
            Ok(event) => line(&event),
            Err(RecvError::Lagged(missed)) => {
                Event::default().event("lagged").data(json!({ "missed": missed }).to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((event, (live, place)))
    });
    let past = stream::iter(past).map(|event| line(&event));
    Sse::new(past.chain(follow).map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response()
}

fn line(event: &Arc<FleetEvent>) -> Event {
    Event::default().id(event.sequence.to_string()).event(event.news.name()).data(json!(**event).to_string())
}
