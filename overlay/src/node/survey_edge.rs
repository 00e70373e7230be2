//! `GET /overlay/metrics`: what every process of the file says of itself, asked of any one of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::Semaphore;
use tonic::Request;

use super::{Node, client_edge};
use crate::survey::Survey;
use crate::topology::Process;
use crate::wire::overlay_node_server::OverlayNode as _;
use crate::wire::{MetricsRequest, MetricsResponse};

/// How long the others may take.
const WITHIN: Duration = Duration::from_secs(1);
/// How many may look at a time: each look asks everybody.
const MOST: usize = 8;

/// The others, and how many look at them.
#[derive(Clone, Debug)]
pub(super) struct Whole(Arc<(Survey, Semaphore)>);

impl Whole {
    pub(super) fn of(node: &Node) -> Self {
        let others = others(node).map(Process::authority);
        Self(Arc::new((Survey::of(others), Semaphore::new(MOST))))
    }
}

fn others(node: &Node) -> impl Iterator<Item = &Process> {
    node.topology.processes.values().filter(|process| process.id != node.process.id)
}

pub(super) async fn metrics(State(node): State<Arc<Node>>, whole: Whole) -> Response {
    let (survey, looking) = &*whole.0;
    let Ok(_looking) = looking.try_acquire() else {
        let refusal = Json(json!({"status": "rejected"}));
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], refusal).into_response();
    };
    let edge = client_edge::Edge(node.clone());
    let own = async {
        let said = edge.get_metrics(Request::new(MetricsRequest {})).await;
        said.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    };
    let (own, said) = tokio::join!(own, survey.look(WITHIN));
    let mut said: Vec<_> = std::iter::once((&node.process, own)).chain(others(&node).zip(said)).collect();
    said.sort_by(|one, other| one.0.id.cmp(&other.0.id));
    let processes: Vec<_> = said.iter().map(|(process, said)| shown(process, said)).collect();
    Json(json!({ "processes": processes })).into_response()
}

fn shown(process: &Process, said: &Result<MetricsResponse, String>) -> serde_json::Value {
    json!({
        "process": process.id.as_str(),
        "role": process.role.name(),
        "team": process.team,
        "metrics": said.as_ref().ok(),
        "why": said.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Options;
    use crate::topology::{Overrides, Topology};

    #[tokio::test]
    async fn who_comes_when_enough_look_is_asked_to_come_later() {
        let topology = Topology::parse(include_str!("../../topologies/baseline.json")).unwrap();
        let overrides = Overrides::default();
        let node = Node::new(Options {
            topology,
            id: "A".into(),
            overrides,
            dataset_root: None,
            threads: std::num::NonZeroUsize::MIN,
            cache: None,
        })
        .unwrap();
        let whole = Whole::of(&node);
        let held = whole.0.1.try_acquire_many(u32::try_from(MOST).unwrap()).unwrap();
        let refused = metrics(State(node.clone()), whole.clone()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        drop(held);
        assert!(whole.0.1.try_acquire().is_ok());
    }
}
