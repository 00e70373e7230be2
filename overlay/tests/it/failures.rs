//! Whoever dies: an answer is complete, or names what is missing, and is never wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::QueryResponse;

use crate::cluster::{Cluster, ring, six};

/// Asks until the answer is as it should be.
fn until(cluster: &Cluster, asked: &Value, good: impl Fn(&QueryResponse) -> bool) -> QueryResponse {
    let began = Instant::now();
    loop {
        let answer = cluster.query("A", asked);
        if good(&answer) {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{answer:?}");
    }
}

#[test]
fn without_a_worker_its_dates_are_missing_by_name_and_after_its_return_they_are_back() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let all = cluster.query("A", &json!({}));
    assert_eq!(all.status, "ready");
    cluster.kill("D");
    let without = cluster.query("A", &json!({"min_value": -100}));
    assert!(
        without.status.starts_with("incomplete:20200821 (D: it cannot be reached)"),
        "{}",
        without.status
    );
    assert!(without.uid.is_empty() && without.total_chunks == 0);
    let missing: Vec<_> = without.coverage.unwrap().missing.into_iter().map(|missing| missing.name).collect();
    assert_eq!(missing, ["20200821", "20200822", "20200823"]);

    let partial = cluster.query("A", &json!({"mode": "partial", "min_value": -100}));
    assert_eq!(partial.status, "partial");
    let there = cluster.expected(|row| !missing.contains(&row.date.to_string()) && row.value.is_some());
    assert_eq!(cluster.records("A", &partial).len(), there.len());

    let green = cluster.query("A", &json!({"team": "green"}));
    assert_eq!(green.status, "ready", "it is not concerned");
    cluster.respawn("D");
    let again = until(&cluster, &json!({"min_value": -100}), |answer| answer.status == "ready");
    assert_eq!(again.matched as usize, cluster.expected(|row| row.value.is_some()).len());
}

#[test]
fn without_a_team_leader_the_worker_with_two_parents_is_reached_through_the_other() {
    let mut cluster = Cluster::start(six(), Some(Profile::Balanced));
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    cluster.kill("E");
    let without = cluster.query("A", &json!({"min_value": -99}));
    let missing: Vec<_> = without.coverage.unwrap().missing.into_iter().map(|missing| missing.name).collect();
    assert_eq!(missing, ["20200824", "20200825", "20200826"], "F's alone: {}", without.status);
}

#[test]
fn with_each_date_on_two_workers_any_one_may_die() {
    for victim in ["C", "D", "F", "G", "B", "E"] {
        let mut cluster = Cluster::start(ring(), Some(Profile::Parallel));
        let all = cluster.query("A", &json!({}));
        assert_eq!((all.status.as_str(), all.matched), ("ready", cluster.rows.len() as i64));
        cluster.kill(victim);
        let without = cluster.query("A", &json!({"lat_min": -90}));
        assert_eq!(
            (without.status.as_str(), without.matched),
            ("ready", cluster.rows.len() as i64),
            "{victim}"
        );
        assert_eq!(cluster.records("A", &without), cluster.records("A", &all), "{victim}");
    }
}

#[test]
fn a_day_that_cannot_be_read_is_missing_and_not_smaller() {
    let mut cluster = Cluster::start(six(), None);
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    cluster.kill("C");
    std::fs::write(cluster.data().join("20200814/20200814-99.csv"), b"\x00\x01binary").unwrap();
    cluster.respawn("C");
    let answer = until(&cluster, &json!({"team": "green"}), |answer| answer.status.contains("is no text"));
    assert!(answer.status.starts_with("incomplete:20200814 (C: "), "{}", answer.status);
    let other_day = cluster.query("A", &json!({"date_end": "20200810"}));
    assert_eq!(other_day.status, "ready");
}

#[test]
fn a_neighbor_that_accepts_and_never_answers_costs_a_deadline() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    let port = cluster.url("D").rsplit(':').next().unwrap().parse::<u16>().unwrap();
    cluster.kill("D");
    let silent = {
        let began = Instant::now();
        loop {
            match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
        }
    };
    let answer = cluster.block_on(async {
        let mut request = tonic::Request::new(slipring_overlay::wire::QueryRequest {
            query_type: "filter".into(),
            query_params: "{\"lat_min\": -89}".into(),
            ..Default::default()
        });
        request.set_timeout(Duration::from_secs(3));
        cluster.client("A").await.query(request).await.expect("an answer, before the deadline").into_inner()
    });
    drop(silent);
    assert!(answer.status.starts_with("incomplete:20200821 (D"), "{}", answer.status);
    assert_eq!(cluster.ids().len(), 6);
}
