//! The admin port: what is to be seen, what a change would move, and who may look.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::{Balancer, Event, Setup};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

fn setup() -> Setup {
    Setup::new(SLIPRING)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness() {
    let balancer = setup().start().await;
    let health = balancer.admin.get("/healthz").await;
    assert_eq!((health.status.as_u16(), health.json()), (200, json!({ "status": "ok" })));
    let expect_ready = async |status: u16, ready: bool, members: u64| {
        let answer = balancer.admin.get("/readyz").await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["ready"]), (status, &json!(ready)), "{body}");
        assert_eq!((&body["live"], &body["members"]), (&json!(members), &json!(members)), "{body}");
    };
    expect_ready(200, true, 3).await;
    assert_eq!(balancer.remove(3, &[""; 0]).await.status, 200);
    expect_ready(503, false, 0).await;
    assert_eq!(balancer.admin.get("/healthz").await.status, 200, "healthy though not ready");
}

fn shares(list: &Value) -> BTreeMap<u64, f64> {
    let pair =
        |entry: &Value| (entry["id"].as_u64().expect("a number"), entry["share"].as_f64().expect("a share"));
    list.as_array().expect("a list").iter().map(pair).collect()
}

async fn ring(balancer: &Balancer) -> BTreeMap<u64, f64> {
    shares(&balancer.admin.get("/ring").await.json()["replicas"])
}

async fn plan(balancer: &Balancer, plan: Value) -> Value {
    let answer = balancer.admin.call(Method::POST, "/plan", plan.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What was foretold is what comes to pass, and foretelling changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_change_would_move() {
    for setting in ["ring.placement=rendezvous", "ring.hash=sha256", "ring.placement=ketama"] {
        let (key, value) = setting.split_once('=').expect("a setting");
        let balancer = setup().set(key, value).start().await;
        let (before, owners) = (ring(&balancer).await, balancer.owners().await);
        let foretold = plan(&balancer, json!({ "add": 2 })).await;
        assert_eq!((balancer.names().await.len(), ring(&balancer).await), (3, before.clone()), "{setting}");
        assert_eq!(shares(&foretold["replicas_before"]), before);
        assert_eq!(balancer.add(2, &["S4", "S5"]).await.status, 200);
        let after = ring(&balancer).await;
        assert_eq!(shares(&foretold["replicas_after"]), after, "{setting}");
        assert_eq!(foretold["needless"], 0.0, "{setting}");
        let gained = after[&4] + after[&5];
        let moved = foretold["moved"].as_f64().expect("a share");
        assert!((moved - gained).abs() < 1e-9, "{setting}: {moved} moves, the newcomers have {gained}");
        for (key, owner) in balancer.owners().await {
            assert!(
                owner == owners[&key] || owner == "S4" || owner == "S5",
                "{setting}: {key} moved needlessly"
            );
        }

        let foretold = plan(&balancer, json!({ "remove": ["Server-2"] })).await;
        let owners = balancer.owners().await;
        assert_eq!(balancer.remove(1, &["Server-2"]).await.status, 200);
        assert_eq!(shares(&foretold["replicas_after"]), ring(&balancer).await, "{setting}");
        for (key, owner) in balancer.owners().await {
            assert!(owner == owners[&key] || owners[&key] == "Server-2", "{setting}: {key} moved needlessly");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_plan_is_refused() {
    let balancer = setup().set("ring.hash", "given").start().await;
    for (body, words) in [
        ("", "JSON"),
        ("[]", "JSON"),
        (r#"{"grow":1}"#, "grow"),
        (r#"{"remove":["S9"]}"#, "no replica 'S9'"),
        (r#"{"add":54}"#, "53 more replicas fit"),
        (r#"{"add":-1}"#, "JSON"),
    ] {
        let answer = balancer.admin.call(Method::POST, "/plan", body).await;
        assert!(answer.status == 400 && answer.text().contains(words), "{body}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_shows_slots_shares_and_balance() {
    let balancer = setup().start().await;
    let ring = balancer.admin.get("/ring").await.json();
    assert_eq!((&ring["placement"]["name"], &ring["slots"]), (&json!("rendezvous"), &json!(65_536)));
    let shares = shares(&ring["replicas"]);
    assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(ring["balance"]["max_over_mean"].as_f64().expect("a ratio") < 1.05, "{ring}");
    let names: Vec<_> =
        ring["replicas"].as_array().expect("a list").iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, ["Server-1", "Server-2", "Server-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_names_slot_replica_next_and_why() {
    let balancer = setup().start().await;
    let route = balancer.admin.get("/route?key=user-7").await.json();
    let preference = route["preference"].as_array().expect("a list");
    assert_eq!(preference.len(), 3, "{route}");
    assert_eq!(preference[0]["name"], route["replica"]);
    assert_eq!((&preference[0]["chosen"], &preference[1]["chosen"]), (&json!(true), &json!(false)));
    assert!(
        route["slot"].is_u64() && route["why"].as_str().is_some_and(|why| why.contains("live")),
        "{route}"
    );
    // Digits are a request id, unless they are to be bytes.
    let id = balancer.admin.get("/route?key=123456").await.json();
    let bytes = balancer.admin.get("/route?key=123456&as=bytes").await.json();
    assert_eq!((&id["as"], &bytes["as"]), (&json!("id"), &json!("bytes")));
    assert_ne!(id["slot"], bytes["slot"]);
    for mistake in ["/route", "/route?key=a&as=id", "/route?key=1&as=text"] {
        assert_eq!(balancer.admin.get(mistake).await.status, 400, "{mistake}");
    }
    assert_eq!(balancer.remove(3, &[""; 0]).await.status, 200);
    let nobody = balancer.admin.get("/route?key=1").await.json();
    assert_eq!((&nobody["replica"], &nobody["preference"]), (&Value::Null, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_replica_and_replicas_by_state() {
    let balancer = setup().start().await;
    let mut asked = BTreeMap::<String, f64>::new();
    for _ in 0..60 {
        *asked.entry(balancer.main.get("/home").await.replica().to_owned()).or_default() += 1.0;
    }
    for (replica, requests) in asked {
        let labels = format!("code=\"2xx\",replica=\"{replica}\"");
        assert_eq!(balancer.metric("slipring_requests_total", &labels).await, requests);
    }
    balancer.main.get("/other").await;
    assert_eq!(balancer.metric("slipring_refusals_total", "code=\"400\"").await, 1.0);
    assert_eq!(balancer.metric("slipring_replicas", "state=\"live\"").await, 3.0);
    assert_eq!(balancer.metric("slipring_fleet_events_total", "event=\"live\"").await, 3.0);
    assert_eq!(balancer.metric("slipring_request_seconds_count", "").await, 60.0);
    assert!(
        balancer
            .admin
            .get("/metrics")
            .await
            .header("content-type")
            .is_some_and(|kind| kind.contains("text/plain"))
    );
    assert_eq!(balancer.remove(1, &["Server-3"]).await.status, 200);
    let events = balancer.events().await;
    events.next(0, "stopped", "Server-3", LONG).await;
    let of_the_removed = balancer.admin.get("/metrics").await.text().contains("Server-3");
    assert!(!of_the_removed, "the names of the removed do not pile up");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_from_the_beginning() {
    let balancer = setup().start().await;
    let events = balancer.events().await;
    for name in ["Server-1", "Server-2", "Server-3"] {
        for what in ["added", "spawning", "started", "live"] {
            events.next(0, what, name, LONG).await;
        }
    }
    let sequence = |event: &Event| event.data["sequence"].as_u64().expect("a number");
    let first: Vec<_> = events.seen().iter().map(sequence).collect();
    assert!(first.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing: {first:?}");
    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    events.next(first.len(), "live", "S4", LONG).await;
    assert_eq!(balancer.remove(1, &["S4"]).await.status, 200);
    events.next(first.len(), "draining", "S4", LONG).await;
    let stopped = events.next(first.len(), "stopped", "S4", LONG).await;
    assert!(stopped.unix_ms() >= events.seen()[0].unix_ms());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_health_is_for_everyone() {
    let balancer = setup().start().await;
    let elsewhere = [("x-forwarded-for", "192.0.2.1")];
    for path in ["/rep", "/replicas", "/ring", "/route?key=1", "/metrics", "/events"] {
        let answer = balancer.admin.with_headers(Method::GET, path, &elsewhere, "").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (403, &json!("failure")), "{path}");
    }
    for (method, path) in [(Method::POST, "/plan"), (Method::POST, "/add"), (Method::DELETE, "/rm")] {
        let answer = balancer.admin.with_headers(method, path, &elsewhere, r#"{"n":1}"#).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            balancer.admin.with_headers(Method::GET, path, &elsewhere, "").await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(balancer.names().await.len(), 3);
    let unknown = balancer.admin.get("/nothing").await;
    assert!(unknown.status == 404 && unknown.text().contains("/metrics"), "{}", unknown.text());
}
