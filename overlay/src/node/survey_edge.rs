//! `GET /overlay/metrics`: what every process of the file says of itself, asked of any one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Node;
use crate::catalog::Catalog;
use crate::date::Date;
use crate::survey::Survey;
use crate::topology::{Process, ProcessId};
use crate::wire::MetricsResponse;

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

impl Whole {
    /// All of them, by name, those who do not answer with the reason.
    pub(super) async fn said(&self, node: &Node) -> Value {
        let said = self.0.0.look(WITHIN).await;
        let mut said: Vec<_> =
            std::iter::once((&node.process, Ok(node.said()))).chain(others(node).zip(said)).collect();
        said.sort_by(|one, other| one.0.id.cmp(&other.0.id));
        let catalog = node.outlook.catalog.load();
        let answer = |(process, said): &(&Process, Result<MetricsResponse, String>)| {
            // One that cannot read a day answers for its others.
            let has_days = |said: &MetricsResponse| said.is_healthy || said.data_files_loaded > 0;
            said.as_ref().is_ok_and(has_days).then(|| process.id.clone())
        };
        let coverage = covered(&catalog, &said.iter().filter_map(answer).collect());
        let shown = |(process, said): &(&Process, _)| {
            shown(process, said, catalog.workers.get(&process.id).map(BTreeMap::len))
        };
        json!({ "processes": said.iter().map(shown).collect::<Vec<_>>(), "coverage": coverage })
    }
}

/// How many partitions are known, and for how many of them somebody answers who holds them.
fn covered(catalog: &Catalog, answering: &BTreeSet<ProcessId>) -> Value {
    let nobodys = catalog.unheld.keys().chain(&catalog.unowned);
    let mut known: BTreeMap<Date, bool> = nobodys.map(|date| (*date, false)).collect();
    for (worker, held) in &catalog.workers {
        let answers = answering.contains(worker);
        for (date, day) in held {
            *known.entry(*date).or_default() |= answers && day.unreadable.is_empty();
        }
    }
    json!({ "partitions": known.len(), "answered": known.values().filter(|answered| **answered).count() })
}

impl Node {
    /// What this process says of itself.
    pub(super) fn said(&self) -> MetricsResponse {
        let strategies = self.asker.strategies;
        let (active, waiting) = self.load();
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let held = self.asker.holdings.now();
        let files = held.iter().flat_map(|held| held.values()).filter_map(|held| held.as_ref().ok());
        MetricsResponse {
            process_id: self.process.id.to_string(),
            role: self.process.role.name().into(),
            team: self.process.team.clone(),
            active_requests: number(active),
            max_capacity: number(crate::admission::MOST),
            is_healthy: held.as_ref().is_some_and(|held| held.values().all(Result::is_ok)),
            rows_malformed: held
                .iter()
                .flat_map(|held| held.values())
                .filter_map(|held| held.as_ref().ok())
                .map(|partition| i64::try_from(partition.malformed).unwrap_or(i64::MAX))
                .sum(),
            queue_size: number(waiting),
            avg_processing_time_ms: self.metrics.average_ms(),
            data_files_loaded: number(files.map(|partition| partition.files).sum()),
            forwarding_strategy: strategies.forwarding.name().into(),
            async_forwarding: strategies.async_forwarding,
            chunking_strategy: strategies.chunking.name().into(),
            fairness_strategy: strategies.fairness.name().into(),
            recent_logs: self.journal.lines(),
        }
    }
}

pub(super) async fn metrics(State(node): State<Arc<Node>>, whole: Whole) -> Response {
    let Ok(_looking) = whole.0.1.try_acquire() else {
        let refusal = Json(json!({"status": "rejected"}));
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], refusal).into_response();
    };
    Json(whole.said(&node).await).into_response()
}

fn shown(process: &Process, said: &Result<MetricsResponse, String>, partitions: Option<usize>) -> Value {
    json!({
        "process": process.id.as_str(),
        "role": process.role.name(),
        "team": process.team,
        "partitions": partitions,
        "metrics": said.as_ref().ok(),
        "why": said.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Day;

    #[test]
    fn a_partition_is_covered_while_one_of_those_who_hold_it_answers() {
        let date = |number| Date::from_number(number).unwrap();
        let day =
            |unreadable: &str| Day { rows: 1, fingerprint: 1, unreadable: unreadable.into(), malformed: 0 };
        let id = |name: &str| ProcessId::from(name);
        let mut catalog = Catalog::default();
        catalog.workers.insert(id("C"), [(date(20_200_810), day("")), (date(20_200_811), day(""))].into());
        catalog
            .workers
            .insert(id("D"), [(date(20_200_811), day("")), (date(20_200_812), day("torn"))].into());
        catalog.unheld.insert(date(20_200_813), id("F"));
        let covered = |names: &[&str]| covered(&catalog, &names.iter().map(|name| id(name)).collect());
        assert_eq!(covered(&["A", "C", "D"]), json!({"partitions": 4, "answered": 2}));
        assert_eq!(covered(&["D"]), json!({"partitions": 4, "answered": 1}), "the other copy");
        assert_eq!(covered(&["A"]), json!({"partitions": 4, "answered": 0}));
    }

    #[tokio::test]
    async fn who_comes_when_enough_look_is_asked_to_come_later() {
        let node = Node::leader();
        let whole = Whole::of(&node);
        let held = whole.0.1.try_acquire_many(u32::try_from(MOST).unwrap()).unwrap();
        let refused = metrics(State(node.clone()), whole.clone()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        drop(held);
        assert!(whole.0.1.try_acquire().is_ok());
    }
}
