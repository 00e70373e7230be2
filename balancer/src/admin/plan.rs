//! What a change would move, without making it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_hashing::{PlacementError, ReplicaId, Table, stats};

use super::Admin;
use crate::fleet::core::ring_member;
use crate::proxy::error::failure;
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
enum PlanError {
    #[error("send a JSON object like {{\"add\":2}} or {{\"remove\":[\"Server-2\"]}}: {0}")]
    Payload(#[from] serde_json::Error),
    #[error("there is no replica '{0}'; GET /rep lists them")]
    Unknown(String),
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

pub(super) async fn plan(State(admin): State<Admin>, body: Bytes) -> Response {
    match consider(&admin.fleet.snapshot(), &body) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => failure(StatusCode::BAD_REQUEST, &error.to_string()).into_response(),
    }
}

fn consider(snapshot: &Snapshot, body: &[u8]) -> Result<Value, PlanError> {
    let plan: Plan = serde_json::from_slice(body)?;
    let before = &*snapshot.table;
    let mut after = Table::clone(before);
    for name in &plan.remove {
        let member = snapshot.views.iter().find(|view| view.name == *name && snapshot.names.contains(name));
        after = after.without(member.ok_or_else(|| PlanError::Unknown(name.clone()))?.id);
    }
    for _ in 0..plan.add {
        let taken: Vec<_> = after.members().iter().map(|member| member.id).collect();
        let id = (0..u16::MAX).map(ReplicaId).find(|id| !taken.contains(id)).unwrap_or(ReplicaId(u16::MAX));
        after = after.with(ring_member(id))?;
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
