//! Whoever dies: an answer is complete, or names what is missing, and is never wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::{CancelRequest, MetricsRequest, QueryRequest, QueryResponse};

use crate::cluster::{Cluster, question, ring, six};

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
    let _silent = cluster.silence("D");
    let answer = cluster.block_on(cluster.ask("A", &json!({"lat_min": -89}), Duration::from_secs(6)));
    assert!(answer.status.starts_with("incomplete:20200821 (D"), "{}", answer.status);
}

#[test]
fn one_that_never_answers_leaves_time_for_those_that_are_asked_after_it() {
    let mut cluster = Cluster::start(six(), Some(Profile::Baseline));
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    let _silent = cluster.silence("B");
    // Whoever is first in turn: C alone can only be reached through B.
    for bound in [-89, -88] {
        let asked = json!({"lat_min": bound, "mode": "partial"});
        let answer = cluster.block_on(cluster.ask("A", &asked, Duration::from_secs(4)));
        let missing: Vec<_> =
            answer.coverage.unwrap().missing.into_iter().map(|missing| missing.name).collect();
        assert_eq!(missing, ["20200810", "20200814", "20200815"], "{}", answer.status);
    }
}

#[test]
fn a_partial_answer_with_a_limit_has_the_records_of_all_who_answer() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    assert_eq!(cluster.query("E", &json!({})).status, "ready");
    let _silent = cluster.silence("F");
    // More than D's first day has: the records of its others are asked for when F was waited for.
    let asked = json!({"mode": "partial", "limit": 100_000, "lat_min": -88});
    let answer = cluster.block_on(cluster.ask("E", &asked, Duration::from_secs(3)));
    let missing: Vec<_> =
        answer.coverage.clone().unwrap().missing.into_iter().map(|missing| missing.name).collect();
    assert_eq!(missing, ["20200824", "20200825", "20200826"], "F's alone: {}", answer.status);
    let there = cluster.expected(|row| (20_200_821..20_200_824).contains(&row.date));
    assert_eq!(cluster.records("E", &answer).len(), there.len());
}

#[test]
fn a_worker_that_one_team_leader_cannot_reach_is_reached_through_the_other() {
    // B alone believes D to be elsewhere.
    let cluster = Cluster::start_with(six(), Some(Profile::Parallel), |id, options| {
        if id == "B" {
            options.topology.processes.get_mut("D").expect("it is one of the six").port = 1;
        }
    });
    let answer = cluster.query("A", &json!({}));
    assert_eq!((answer.status.as_str(), answer.matched), ("ready", cluster.rows.len() as i64));
    let visited: Vec<_> = answer.coverage.unwrap().visited.into_iter().map(|visit| visit.process).collect();
    for process in ["A", "C", "D", "F"] {
        assert!(visited.iter().any(|visited| visited == process), "each says how long it took: {visited:?}");
    }
}

#[test]
fn a_partial_answer_is_not_taken_for_the_whole_one_when_all_are_back() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let asked = json!({"mode": "partial"});
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    cluster.kill("D");
    let without = cluster.query("A", &asked);
    assert_eq!(without.status, "partial");
    let some = cluster.chunks("A", &without);
    cluster.respawn("D");
    let all = until(&cluster, &asked, |answer| answer.status == "ready");
    assert_ne!(all.uid, without.uid);
    assert_eq!(all.matched, cluster.rows.len() as i64);
    assert_eq!(cluster.chunks("A", &without), some, "it is still what it was");
}

#[test]
fn what_is_cancelled_and_whoever_goes_away_frees_every_process() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    assert_eq!(cluster.query("A", &json!({})).status, "ready");
    let _silent = cluster.silence("C");
    let clients = cluster.block_on(async {
        let mut clients = Vec::new();
        for id in ["A", "B", "D", "E", "F"] {
            clients.push(cluster.client(id).await);
        }
        clients
    });
    let until_busy = async |least: i32, most: i32| {
        let began = Instant::now();
        loop {
            let mut now = 0;
            for client in &clients {
                let metrics = client.clone().get_metrics(MetricsRequest {}).await.unwrap();
                now += metrics.into_inner().active_requests;
            }
            if (least..=most).contains(&now) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{now} requests are in hand");
        }
    };
    cluster.block_on(async {
        let named = QueryRequest { query_id: "mine".into(), ..question(&json!({"lat_min": -86})) };
        let (mut asking, mut ending) = (cluster.client("A").await, cluster.client("A").await);
        let cancel = || CancelRequest { query_id: "mine".into() };
        let (answer, ()) = tokio::join!(asking.query(named.clone()), async {
            until_busy(2, i32::MAX).await;
            assert_eq!(ending.cancel(cancel()).await.unwrap().into_inner().status, "cancelled");
        });
        assert_eq!(answer.unwrap().into_inner().status, "cancelled");
        let freed = until_busy(0, 0).await;
        // 100 ms is the aim; a shared machine is allowed some more.
        assert!(freed < Duration::from_millis(500), "{freed:?}");
        assert_eq!(ending.cancel(cancel()).await.unwrap().into_inner().status, "not_found");
        {
            let gone = asking.query(named);
            tokio::pin!(gone);
            tokio::select! {
                answer = &mut gone => panic!("{answer:?}"),
                _ = until_busy(2, i32::MAX) => {}
            }
        }
        let freed = until_busy(0, 0).await;
        assert!(freed < Duration::from_millis(500), "{freed:?}");
    });
}

#[test]
fn a_slow_way_is_not_waited_for_when_another_leads_there() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    // What is usual has to be known.
    for bound in 0..30 {
        assert_eq!(cluster.query("A", &json!({"lat_min": -80 - bound})).status, "ready");
    }
    let _silent = cluster.silence("B");
    let began = Instant::now();
    let answer = cluster.query("A", &json!({"team": "pink", "lat_min": -79}));
    assert_eq!(answer.status, "ready", "D is E's as well");
    // B would be given up after four seconds, when it has not answered a ping.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
