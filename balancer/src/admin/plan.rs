//! What a change would move, without making it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_hashing::{PlacementError, ReplicaId, Table, stats};

use super::Admin;
use super::payload::Payload;
use super::refusal::Refusal;
use crate::config::PoolConfig;
use crate::fleet::core::ring_member;
use crate::fleet::request::RequestError;
use crate::snapshot::Snapshot;

/// `{"add": 2}`, `{"remove": ["Server-2"]}`, or both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    #[serde(default)]
    add: u16,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("send a JSON object like {{\"add\":2}} or {{\"remove\":[\"Server-2\"]}}: {0}")]
    Payload(#[from] serde_json::Error),
    #[error("there is no replica '{0}'; GET /rep lists them")]
    Unknown(String),
    #[error("not enough slots: {0} more replicas fit")]
    Full(usize),
    #[error(
        "the members of this pool are listed in fleet.upstreams: only what their removal moves can be planned"
    )]
    Listed,
    #[error("{}", RequestError::Fixed)]
    Fixed,
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

/// Tables are built off the threads that serve, one plan at a time.
pub(super) async fn plan(
    State(admin): State<Admin>,
    uri: Uri,
    Payload(body): Payload,
) -> Result<Response, Refusal> {
    let pool = admin.pool(&uri)?;
    let place = admin.planning.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
    let considered = tokio::task::spawn_blocking(move || {
        let _place = place;
        consider(&pool.fleet.snapshot(), &body, &pool.config)
    });
    match considered.await {
        Ok(answer) => Ok(Json(answer?).into_response()),
        Err(error) => {
            tracing::error!(%error, "a plan could not be computed");
            Err(Refusal::Internal("the plan could not be computed"))
        }
    }
}

fn consider(snapshot: &Snapshot, body: &[u8], config: &PoolConfig) -> Result<Value, PlanError> {
    // By way of a map, because a struct would also be read from a list.
    let fields: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
    let plan: Plan = serde_json::from_value(fields.into())?;
    let before = &*snapshot.table;
    let mut after = Table::clone(before);
    for name in &plan.remove {
        let member = snapshot.views.iter().find(|view| view.name == *name && snapshot.names.contains(name));
        after = after.without(member.ok_or_else(|| PlanError::Unknown(name.clone()))?.id);
    }
    if plan.add > 0 && config.overlay.is_some() {
        return Err(PlanError::Fixed);
    }
    if plan.add > 0 && !config.fleet.upstreams.is_empty() {
        return Err(PlanError::Listed);
    }
    let room = config.room().saturating_sub(after.len());
    if usize::from(plan.add) > room {
        return Err(PlanError::Full(room));
    }
    for _ in 0..plan.add {
        let id = ReplicaId::lowest_free(after.members().iter().map(|member| member.id));
        after = after.with(ring_member(id.ok_or(PlanError::Full(room))?))?;
    }
    let moves = stats::moves(before, &after);
    let shares = |table: &Table| -> Vec<Value> {
        table.shares().iter().map(|(id, share)| json!({ "id": id.number(), "share": share })).collect()
    };
    Ok(json!({
        "moved": moves.moved,
        "ideal": moves.ideal,
        "needless": moves.needless,
        "replicas_before": shares(before),
        "replicas_after": shares(&after),
    }))
}
