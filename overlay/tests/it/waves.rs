//! Waves through a whole overlay: everybody counts once, over any number of ways and with any number of waves at once;
//! whoever is dead is named in time; and what is no message of a wave changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::slipring::waves::v1::wave_message::Token;
use slipring_overlay::wire::slipring::waves::v1::waves_client::WavesClient;
use slipring_overlay::wire::slipring::waves::v1::{
    Explore, GivenUp, One, Outcome, Purpose, Report, WaveMessage, Why,
};
use slipring_overlay::wire::{MetricsResponse, ShutdownRequest};
use tonic::{Code, Status};

use crate::cluster::{Cluster, ring, six};

const SIX: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

/// What each process says of itself, once all have loaded what they hold.
fn survey(cluster: &Cluster) -> Value {
    let began = Instant::now();
    loop {
        let answer = cluster.block_on(cluster.get("A", "/overlay/metrics"));
        let survey: Value = serde_json::from_slice(&answer.body).expect("JSON");
        if list(&survey["processes"]).iter().all(|one| one["metrics"]["is_healthy"] == true) {
            return survey;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{survey}");
    }
}

fn echo(cluster: &Cluster, id: &str, query: &str) -> Value {
    cluster.block_on(wave(cluster, id, query))
}

async fn wave(cluster: &Cluster, id: &str, query: &str) -> Value {
    let answer = cluster.get(id, &format!("/overlay/echo{query}")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn names(nodes: &Value) -> Vec<&str> {
    nodes.as_object().expect("nodes").keys().map(String::as_str).collect()
}

/// Everybody once, each below its father, and two messages on each link.
fn is_whole(answer: &Value, initiator: &str, all: &[&str], messages: u64) {
    assert_eq!(answer["is_complete"], true, "{answer}");
    assert_eq!((&answer["missing"], &answer["mismatch"]), (&json!([]), &Value::Null), "{answer}");
    assert_eq!((&answer["messages"], &answer["expected"]), (&json!(messages), &json!(messages)), "{answer}");
    assert_eq!(names(&answer["nodes"]), all, "{answer}");
    for id in all {
        let node = &answer["nodes"][id];
        assert_eq!(node["metrics"]["process_id"], *id, "{answer}");
        assert_eq!(node["gave_up"], json!([]), "{answer}");
        // Over fathers everybody comes to the initiator.
        let mut way = vec![*id];
        while let Some(father) = answer["nodes"][way[way.len() - 1]]["father"].as_str() {
            assert!(!way.contains(&father), "{id}'s fathers go in a circle: {answer}");
            way.push(father);
        }
        assert_eq!(way.last(), Some(&initiator), "{answer}");
    }
}

/// Who gave up one that is missing and why, and whom it is behind.
type Reasons<'a> = (BTreeSet<(&'a str, &'a str)>, Vec<&'a str>);

/// Who is missing.
fn missing(answer: &Value) -> BTreeMap<&str, Reasons<'_>> {
    assert_eq!(answer["is_complete"], false, "{answer}");
    let mut all = BTreeMap::new();
    for missing in list(&answer["missing"]) {
        let by = list(&missing["given_up_by"]).iter().map(|by| (text(&by["process"]), text(&by["why"])));
        let behind = list(&missing["behind"]).iter().map(text);
        all.insert(text(&missing["process"]), (by.collect(), behind.collect()));
    }
    all
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[test]
fn whoever_begins_everybody_counts_once_and_each_link_carries_two_messages() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let mut seen = BTreeSet::new();
    for initiator in SIX {
        let answer = echo(&cluster, initiator, "?timeout=10");
        is_whole(&answer, initiator, &SIX, 12);
        assert!(seen.insert(answer["wave"].to_string()), "{answer}");
        let d = &answer["nodes"]["D"];
        assert_eq!(
            answer.to_string().matches(r#""process_id":"D""#).count(),
            1,
            "two parents, one D: {answer}"
        );
        let ways = if initiator == "D" { Value::Null } else { d["father"].clone() };
        assert!(ways.is_null() || ways == "B" || ways == "E", "{answer}");
    }
    let survey = survey(&cluster);
    let answer = echo(&cluster, "C", "?timeout=10");
    for one in list(&survey["processes"]) {
        let gathered = &answer["nodes"][text(&one["process"])]["metrics"];
        assert_eq!(gathered, &one["metrics"], "as the survey says it");
    }
}

#[test]
fn a_link_that_one_side_alone_knows_is_taken_both_ways() {
    let cluster = Cluster::start(ring(), Some(Profile::Parallel));
    // C, D, F and G below B and E, and A above both: F does not know B, nor G anybody but them.
    let all = ["A", "B", "C", "D", "E", "F", "G"];
    for initiator in all {
        is_whole(&echo(&cluster, initiator, "?timeout=10"), initiator, &all, 20);
    }
}

#[test]
fn whoever_is_dead_is_named_with_those_who_gave_it_up_and_what_is_behind_it_is_missing_too() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    is_whole(&echo(&cluster, "A", "?timeout=10"), "A", &SIX, 12);
    cluster.kill("D");
    let answer = echo(&cluster, "F", "?timeout=10");
    let gone = "it cannot be reached";
    let by = |names: &[&'static str]| names.iter().map(|name| (*name, gone)).collect::<BTreeSet<_>>();
    assert_eq!(missing(&answer), BTreeMap::from([("D", (by(&["B", "E"]), vec![]))]), "{answer}");
    assert_eq!(names(&answer["nodes"]), ["A", "B", "C", "E", "F"]);
    assert!(answer["took_ms"].as_f64() < Some(5000.0), "nobody waits for the dead: {answer}");
    cluster.respawn("D");
    cluster.kill("E");
    let began = Instant::now();
    let answer = loop {
        let answer = echo(&cluster, "A", "?timeout=10");
        if answer["nodes"]["D"].is_object() {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "D is back: {answer}");
    };
    let expected = BTreeMap::from([("E", (by(&["A", "D"]), vec![])), ("F", (BTreeSet::new(), vec!["E"]))]);
    assert_eq!(missing(&answer), expected, "{answer}");
    assert_eq!(answer["nodes"]["D"]["father"], "B", "the way that is left");
}

#[test]
fn one_that_accepts_and_never_answers_costs_a_deadline_and_all_others_are_there() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    is_whole(&echo(&cluster, "A", "?timeout=10"), "A", &SIX, 12);
    let _silent = cluster.silence("D");
    let began = Instant::now();
    let answer = echo(&cluster, "A", "?timeout=3");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}: {answer}", began.elapsed());
    assert_eq!(names(&answer["nodes"]), ["A", "B", "C", "E", "F"], "each hop left time for the one above it");
    let silent = "no word of it in time";
    let by = BTreeSet::from([("B", silent), ("E", silent)]);
    assert_eq!(missing(&answer), BTreeMap::from([("D", (by, vec![]))]), "{answer}");
}

#[test]
fn a_link_that_fails_while_everybody_is_reached_is_told() {
    // B and D believe each other to be elsewhere.
    let cluster = Cluster::start_with(six(), Some(Profile::Parallel), |id, options| {
        let other = if id == "B" { "D" } else { "B" };
        if ["B", "D"].contains(&id) {
            options.topology.processes.get_mut(other).expect("it is one of the six").port = 1;
        }
    });
    let answer = echo(&cluster, "A", "?timeout=10");
    assert_eq!(names(&answer["nodes"]), SIX, "{answer}");
    assert_eq!(answer["is_complete"], true, "{answer}");
    assert_eq!((&answer["messages"], &answer["expected"]), (&json!(10), &json!(12)), "{answer}");
    let told = "B gave up D: it cannot be reached; D gave up B: it cannot be reached";
    assert_eq!(answer["mismatch"], told, "{answer}");
}

#[test]
fn a_thousand_waves_that_overlap_from_all_processes_never_mix() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let many = SIX.iter().flat_map(|id| (0..30).map(move |_| *id));
        let asking = many.map(async |initiator| (initiator, wave(&cluster, initiator, "?timeout=10").await));
        let began = Instant::now();
        for (initiator, answer) in cluster.block_on(join_all(asking)) {
            is_whole(&answer, initiator, &SIX, 12);
            assert!(seen.insert(answer["wave"].to_string()), "{answer}");
        }
        eprintln!("180 waves at once: {:?}", began.elapsed());
    }
    assert_eq!(seen.len(), 1080);
    let said = metrics(&cluster, "A");
    assert_eq!(said["slipring_overlay_waves_total complete"], 180.0, "{said:?}");
    assert_eq!((said["slipring_overlay_waves"], said["slipring_overlay_wave_seconds_count"]), (0.0, 180.0));
    for outcome in ["repeated", "over", "unknown", "refused", "overloaded"] {
        assert_eq!(said[&format!("slipring_overlay_wave_messages_total {outcome}")], 0.0, "{said:?}");
    }
}

/// What a process counts of waves, by name and, of several, what tells them apart.
fn metrics(cluster: &Cluster, id: &str) -> BTreeMap<String, f64> {
    let answer = cluster.block_on(cluster.get(id, "/metrics"));
    let text = String::from_utf8(answer.body.to_vec()).expect("text");
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let label =
            ["outcome=\"", "why=\""].iter().find_map(|label| labels.split_once(*label)?.1.split('"').next());
        let name = label.map_or_else(|| name.to_owned(), |label| format!("{name} {label}"));
        Some((name, value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// A process that is started again begins waves of other names than before: those who remember the old ones take part.
#[test]
fn waves_of_a_later_life_are_not_taken_for_those_of_an_earlier_one() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let began = Instant::now();
        loop {
            let answer = echo(&cluster, "A", "?timeout=10");
            assert!(seen.insert(answer["wave"].to_string()), "{answer}");
            if answer["is_complete"] == true {
                break is_whole(&answer, "A", &SIX, 12);
            }
            assert!(began.elapsed() < Duration::from_secs(30), "A is back: {answer}");
        }
        cluster.kill("A");
        cluster.respawn("A");
    }
}

fn message(wave: &str, from: &str, token: Token) -> WaveMessage {
    WaveMessage {
        wave: wave.into(),
        from: from.into(),
        purpose: Purpose::Metrics.into(),
        remaining_ms: 300,
        token: Some(token),
    }
}

fn told(process: &str) -> One {
    let metrics = MetricsResponse { process_id: process.into(), ..MetricsResponse::default() };
    One { process: process.into(), father: "A".into(), messages: 3, given_up: vec![], metrics: Some(metrics) }
}

#[test]
fn what_is_no_message_of_a_wave_is_refused_with_a_reason_or_changes_nothing_and_is_counted() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let url = cluster.url("A");
    let send = |message: WaveMessage| {
        cluster.block_on(async {
            let mut client = WavesClient::connect(url.clone()).await.expect("it listens");
            Ok::<_, Status>(client.deliver(message).await?.into_inner().outcome())
        })
    };
    let report = |told: Vec<One>| Token::Report(Report { told });
    let refused: Vec<(WaveMessage, &str)> = vec![
        (WaveMessage::default(), "purpose"),
        (WaveMessage { purpose: 77, ..message("1-1", "B", Token::Explore(Explore {})) }, "purpose"),
        (WaveMessage { token: None, ..message("1-1", "B", Token::Explore(Explore {})) }, "neither"),
        (message("", "B", Token::Explore(Explore {})), "no name"),
        (message("1-99999999999999999999999", "B", Token::Explore(Explore {})), "no name"),
        (message(&"1".repeat(1 << 20), "B", Token::Explore(Explore {})), "no name"),
        (message("6-1", "B", Token::Explore(Explore {})), "of a node that is there"),
        (message("1-1", "", Token::Explore(Explore {})), "no neighbor of A"),
        (message("1-1", "A", Token::Explore(Explore {})), "no neighbor of A"),
        (message("1-1", "C", Token::Explore(Explore {})), "no neighbor of A"),
        (message("1-1", "B\0", Token::Explore(Explore {})), "no neighbor of A"),
        (message("1-1", "B", report(vec![])), "does not tell of B"),
        (message("1-1", "B", report(vec![told("C")])), "does not tell of B"),
        (message("1-1", "B", report(vec![told("B"), told("Z")])), "'Z', which is no process"),
        (message("1-1", "B", report(vec![told("B"), told("B")])), "B twice"),
        (message("1-1", "B", report(vec![One { metrics: None, ..told("B") }])), "the metrics of B"),
        (message("1-1", "B", report(vec![One { father: "Z".into(), ..told("B") }])), "'Z'"),
        (
            message("1-1", "B", {
                let given_up = vec![GivenUp { process: "A".into(), why: Why::Unspecified.into() }];
                report(vec![One { given_up, ..told("B") }])
            }),
            "why A was given up",
        ),
        (
            message("1-1", "B", {
                let mut long = told("B");
                long.metrics.as_mut().expect("it has some").recent_logs = vec!["x".repeat(20 << 10)];
                report(vec![long])
            }),
            "more than 16384 bytes of B",
        ),
    ];
    let count = refused.len() as f64;
    for (message, reason) in refused {
        let status = send(message).expect_err(reason);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(reason), "{status}");
    }
    // Longer than any message may be.
    let mut endless = told("B");
    endless.metrics.as_mut().expect("it has some").recent_logs = vec!["x".repeat(5 << 20)];
    let status = send(message("1-1", "B", report(vec![endless]))).expect_err("too long");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    // What could be one, and is not known: it changes nothing.
    assert_eq!(send(message("1-1", "B", report(vec![told("B")]))).expect("an answer"), Outcome::Unknown);
    let forged = message("0-1", "B", Token::Explore(Explore {}));
    assert_eq!(send(forged).expect("an answer"), Outcome::Over, "its own waves are begun here alone");
    is_whole(&echo(&cluster, "A", "?timeout=10"), "A", &SIX, 12);

    // One that nobody has begun: it ends by its deadline, and others pass it by.
    let explore = || message("1-1", "B", Token::Explore(Explore {}));
    assert_eq!(send(explore()).expect("an answer"), Outcome::Heard);
    is_whole(&echo(&cluster, "A", "?timeout=10"), "A", &SIX, 12);
    let began = Instant::now();
    loop {
        let said = metrics(&cluster, "A");
        if said["slipring_overlay_waves"] == 0.0 {
            assert_eq!(said["slipring_overlay_wave_messages_total refused"], count, "{said:?}");
            assert!(said["slipring_overlay_wave_messages_total unknown"] >= 1.0, "{said:?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{said:?}");
    }
    assert_eq!(send(explore()).expect("an answer"), Outcome::Over, "it is remembered");
    is_whole(&echo(&cluster, "B", "?timeout=10"), "B", &SIX, 12);
}

#[test]
fn a_timeout_that_is_none_is_refused() {
    let cluster = Cluster::start(six(), None);
    for query in ["?timeout=0", "?timeout=60", "?timeout=long", "?deadline=1", "?timeout=1&timeout=2"] {
        let answer = cluster.block_on(cluster.get("A", &format!("/overlay/echo{query}")));
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer.status, 400, "{query}: {said}");
        assert!(said["status"].as_str().is_some_and(|why| why.starts_with("invalid_timeout:")), "{said}");
    }
}

#[test]
fn who_watches_is_told_what_the_survey_says_and_the_stream_ends_with_the_process() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let survey = survey(&cluster);
    cluster.block_on(async {
        let mut watchers = Vec::new();
        for _ in 0..64 {
            let (status, mut watcher) = cluster.watch(&cluster.url("A")).await;
            assert_eq!(status, 200);
            assert_eq!(watcher.event().await, Some(survey.clone()), "the first one at once");
            watchers.push(watcher);
        }
        let (status, _) = cluster.watch(&cluster.url("A")).await;
        assert_eq!(status, 503, "there are places for so many");
        drop(watchers.split_off(3));
        let began = Instant::now();
        while cluster.watch(&cluster.url("A")).await.0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(10), "who has gone leaves a place");
        }
        for watcher in &mut watchers {
            assert_eq!(watcher.event().await, Some(survey.clone()), "and another one");
        }
        let end = cluster.client("A").await.shutdown(ShutdownRequest { graceful: true }).await;
        end.expect("an answer");
        for watcher in &mut watchers {
            while watcher.event().await.is_some() {}
        }
    });
}
