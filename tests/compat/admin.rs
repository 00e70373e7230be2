//! The admin port: what is to be seen, what a change would move, and who may look.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::{Balancer, Event, Http, Setup, Wire, replica, wait_until};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of some tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

fn setup() -> Setup {
    Setup::new(SLIPRING)
}

/// Asks until the answer is as wanted.
async fn until<T>(what: &str, admin: Http, path: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
    wait_until(what, LONG, async || {
        let answer = admin.get(path).await;
        wanted(answer.text()).ok_or_else(|| answer.text().to_owned())
    })
    .await
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
    // What is told is seen a moment later.
    let without = |metrics: &str| (!metrics.contains("Server-3")).then_some(());
    until("the names of the removed do not pile up", balancer.admin, "/metrics", without).await;
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

/// One live replica is enough for requests; whoever waits for the fleet to be complete asks for all.
#[tokio::test(flavor = "multi_thread")]
async fn ready_is_one_thing_and_complete_another() {
    let balancer = replica::program(setup(), "fail=3").launch().await;
    let live = |body: &str| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        (body["live"] == 2).then_some(())
    };
    until("two of three are live", balancer.admin, "/readyz", live).await;
    let (ready, complete) =
        (balancer.admin.get("/readyz").await, balancer.admin.get("/readyz?all=true").await);
    assert_eq!((ready.status.as_u16(), &ready.json()["ready"]), (200, &json!(true)), "{}", ready.text());
    assert_eq!((complete.status.as_u16(), &complete.json()["ready"]), (503, &json!(false)));
    assert_eq!((&complete.json()["live"], &complete.json()["members"]), (&json!(2), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_a_suspect_replica_does_not_call_it_live() {
    let setup = setup().set("fleet.replicas", 1).set("fleet.failures", 1000);
    let setup = setup.set("fleet.heartbeat_interval", "100ms").set("fleet.heartbeat_timeout", "100ms");
    let balancer = setup.start().await;
    balancer.replica("Server-1").await.process().pause();
    let suspect = |route: &str| {
        let route: Value = serde_json::from_str(route).expect("JSON");
        (route["preference"][0]["state"] == "suspect").then_some(route)
    };
    let route = until("it is suspect", balancer.admin, "/route?key=1", suspect).await;
    assert_eq!((&route["replica"], &route["preference"][0]["chosen"]), (&json!("Server-1"), &json!(true)));
    let why = route["why"].as_str().expect("a reason");
    assert!(why.contains("no replica is well") && why.contains("suspect"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_says_nothing_on_the_admin_port_is_let_go() {
    let balancer = setup().set("proxy.idle_timeout", "300ms").start().await;
    for sent in ["", "GET /healthz HTTP/1.1\r\nHo"] {
        Wire::sending(balancer.admin, sent).await.end().await;
    }
    let mut kept = Wire::sending(balancer.admin, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.answer().await.expect("an answer").status, 200);
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_admin_port_are_bounded() {
    let setup = setup().set("proxy.idle_timeout", "1s").set("admin.max_connections", 2);
    let balancer = setup.start().await;
    let mut idle = Vec::new();
    for _ in 0..6 {
        idle.push(Wire::to(balancer.admin).await);
    }
    // It waits behind them all, and is served when their time is over.
    let there = balancer.metric("slipring_admin_connections", "").await;
    assert!((1.0..=2.0).contains(&there), "{there} at a time");
    assert_eq!(balancer.metric("slipring_limit", "of=\"admin_connections\"").await, 2.0);
    assert_eq!(balancer.main.get("/home").await.status, 200, "the data plane has places of its own");
}

/// A place was taken for a caller that had not come yet: the last one who found room was counted as one who had not.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_finds_no_place_on_the_admin_port_is_counted() {
    let balancer = setup().set("admin.max_connections", 2).launch().await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = Wire::sending(balancer.admin, ask).await;
    assert_eq!(first.answer().await.expect("an answer").status, 200);
    let hit = "limit=\"admin_connections\"";
    assert_eq!(balancer.metric("slipring_limits_hit_total", hit).await, 0.0, "both have a place");
    let mut second = Wire::sending(balancer.admin, ask).await;
    assert_eq!(second.answer().await.expect("an answer").status, 200);
    let mut third = Wire::sending(balancer.admin, ask).await;
    let early = timeout(Duration::from_millis(200), third.head()).await;
    assert!(early.is_err(), "it has a place: {early:?}");
    drop((first, second));
    assert_eq!(third.answer().await.expect("an answer").status, 200);
    assert!(balancer.metric("slipring_limits_hit_total", hit).await >= 1.0);
}

/// One who asks nothing has a place for as long as a client has for its head; one who has asked may be idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_head_on_the_admin_port_is_due_in_time() {
    let balancer = setup().set("proxy.header_timeout", "500ms").launch().await;
    let mut kept = Wire::sending(balancer.admin, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.answer().await.expect("an answer").status, 200);
    for beginning in ["", "GET /healthz HTTP/1.1\r\nHo"] {
        timeout(LONG, Wire::sending(balancer.admin, beginning).await.end()).await.expect("it is ended");
    }
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"header_time\"").await, 2.0);
    kept.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(kept.answer().await.expect("it is still there").status, 200);
}

/// Those who begin something and end nothing are in their own way, not in everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn one_caller_has_a_share_of_the_admin_ports_places() {
    let balancer = setup().set("admin.max_connections", 16).start().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127.0.0.0/8 is this machine");
        held.push(socket.connect(balancer.admin.address).await.expect("it listens"));
    }
    let labels = "limit=\"admin_connections_per_client\"";
    assert_eq!(balancer.metric("slipring_limits_hit_total", labels).await, 0.0);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("all of 127.0.0.0/8 is this machine");
    let mut ninth = socket.connect(balancer.admin.address).await.expect("it listens");
    let mut told = String::new();
    timeout(LONG, ninth.read_to_string(&mut told)).await.expect("it is told").expect("and not reset");
    let (head, body) = told.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{told}");
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON")["status"], "failure");
    assert_eq!(balancer.metric("slipring_limits_hit_total", labels).await, 1.0);
    assert_eq!(balancer.admin.get("/healthz").await.status, 200, "others have places");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_body_does_not_come_is_refused() {
    let balancer = setup().set("proxy.idle_timeout", "300ms").start().await;
    for (port, call) in [
        (balancer.main, "POST /add"),
        (balancer.main, "DELETE /rm"),
        (balancer.admin, "POST /add"),
        (balancer.admin, "POST /plan"),
    ] {
        let request = format!("{call} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{{");
        let answer = Wire::sending(port, request).await.answer().await.expect("an answer");
        assert_eq!(answer.status, 408, "{call}: {}", answer.head);
        assert!(answer.text().contains("did not come within 300ms"), "{}", answer.text());
    }
    assert_eq!(balancer.names().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_are_counted() {
    let balancer = setup().start().await;
    let refused = async |code: &str| {
        balancer.metric("slipring_admin_refusals_total", &format!("code=\"{code}\"")).await
    };
    let elsewhere = [("x-forwarded-for", "192.0.2.1")];
    for port in [balancer.main, balancer.admin] {
        assert_eq!(port.with_headers(Method::GET, "/rep", &elsewhere, "").await.status, 403);
        assert_eq!(port.call(Method::PUT, "/add", "").await.status, 405);
        assert_eq!(port.call(Method::POST, "/add", "").await.status, 400);
    }
    let wrong = balancer.admin.call(Method::POST, "/metrics", "").await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET")), "{wrong:?}");
    assert_eq!((refused("403").await, refused("405").await, refused("400").await), (2.0, 3.0, 2.0));
    assert_eq!(balancer.metric("slipring_refusals_total", "").await, 0.0, "that counts clients' requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_and_the_process_are_measured() {
    let balancer = setup().start().await;
    assert_eq!(balancer.metric("slipring_event_watchers", "").await, 0.0);
    let events = balancer.events().await;
    assert_eq!(balancer.metric("slipring_event_watchers", "").await, 1.0);
    assert_eq!(balancer.metric("slipring_limit", "of=\"event_watchers\"").await, 64.0);
    assert_eq!(balancer.metric("slipring_limit", "of=\"admin_calls\"").await, 64.0);
    assert_eq!(balancer.metric("slipring_admin_calls", "").await, 1.0, "this one");
    assert!(balancer.metric("process_resident_memory_bytes", "").await > 0.0);
    drop(events);
    let none = |metrics: &str| metrics.contains("slipring_event_watchers 0\n").then_some(());
    until("the place is free again", balancer.admin, "/metrics", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_comes_again_is_told_only_what_is_new() {
    let balancer = setup().start().await;
    let events = balancer.events().await;
    let known = events.next(0, "live", "Server-3", LONG).await;
    balancer.ready().await;
    let known = events.seen().last().unwrap_or(&known).data["sequence"].as_u64().expect("a number");
    let request = balancer.admin.request(Method::GET, "/events").header("last-event-id", known.to_string());
    let mut connection = balancer.admin.connect().await.expect("a connection");
    let request = request.body(Full::<Bytes>::default()).expect("valid");
    let mut told = connection.send_request(request).await.expect("an answer").into_body();
    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    let first = tokio::time::timeout(LONG, told.frame()).await.expect("an event").expect("a frame");
    let first = first.expect("it is whole").into_data().expect("data");
    let first = String::from_utf8_lossy(&first).into_owned();
    assert!(first.contains(&format!("id: {}\n", known + 1)), "after {known}: {first}");
}

/// Whoever watches sees the last replica stop, and then the stream's orderly end.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_to_the_end() {
    let balancer = setup().start().await;
    let events = balancer.events().await;
    balancer.stop().await;
    for name in ["Server-1", "Server-2", "Server-3"] {
        events.next(0, "stopped", name, LONG).await;
    }
}

/// A page whose name was made to point here reads its "own" site: the browser sends no `Origin` with that.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reads_only_by_address() {
    let balancer = setup().start().await;
    for (port, path) in [(balancer.main, "/rep"), (balancer.admin, "/replicas"), (balancer.admin, "/metrics")]
    {
        // What a browser sends to a site without TLS: nothing says where the page comes from.
        let rebound = "Host: evil.example:5001\r\nUser-Agent: Mozilla/5.0 (X11)\r\n\r\n";
        let mut page = Wire::sending(port, format!("GET {path} HTTP/1.1\r\n{rebound}")).await;
        assert_eq!(page.answer().await.expect("an answer").status, 403, "{path}");
        let own = [("sec-fetch-site", "none")];
        assert_eq!(port.with_headers(Method::GET, path, &own, "").await.status, 200, "{path}");
    }
}
