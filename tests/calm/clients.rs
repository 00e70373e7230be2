//! Clients that take more than they may: each limit has its answer and its metric, and the log its line.

use std::time::{Duration, Instant};

use serde_json::Value;
use slipring_tests::bare;
use slipring_tests::upstream::whole;
use slipring_tests::{Balancer, RawAnswer, Setup, Wire, wait_until};
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of the tests here run.
#[test]
fn bare_program() {
    bare::serve_if_asked();
}

fn setup() -> Setup {
    bare::program(Setup::new(SLIPRING)).set("fleet.replicas", 1)
}

/// Nobody is believed, not even from this machine: its clients are counted.
fn strangers() -> Setup {
    setup().set("proxy.trusted", "192.0.2.0/24")
}

async fn ask(balancer: &Balancer, request: &str) -> RawAnswer {
    let mut wire = Wire::sending(balancer.main, request).await;
    wire.answer().await.unwrap_or_else(|| panic!("no answer to {request:?}"))
}

async fn hit(balancer: &Balancer, limit: &str) -> f64 {
    balancer.metric("slipring_limits_hit_total", &format!("limit=\"{limit}\"")).await
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let setup = strangers().set("proxy.max_requests_per_second_per_client", 1);
    let balancer = setup.set("proxy.burst_per_client", 3).start().await;
    let mut client = Wire::to(balancer.main).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        client.send(GET).await;
        let answer = client.answer().await.expect("the connection stays");
        if answer.status == 429 {
            assert_eq!(answer.headers("retry-after"), ["1"], "{}", answer.head);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(hit(&balancer, "requests_per_second_per_client").await >= 1.0);
    client.send(GET).await;
    wait_until("there is a token again", LONG, async || {
        let answer = client.answer().await.expect("the connection stays");
        client.send(GET).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
}

/// All who came through a trusted proxy had one bucket, the proxy's.
#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_that_of_the_client_whom_a_trusted_proxy_names() {
    let setup = setup().set("proxy.max_requests_per_second_per_client", 1).set("proxy.burst_per_client", 2);
    let balancer = setup.start().await;
    let mut proxy = Wire::to(balancer.main).await;
    let mut ask = async |fields: &str| {
        proxy.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        proxy.answer().await.expect("the connection stays").status
    };
    for nobody in ["", "X-Forwarded-For: unknown\r\n", "X-Forwarded-For: 127.0.0.1, ::1\r\n"] {
        for _ in 0..8 {
            assert_eq!(ask(nobody).await, 200, "{nobody:?}");
        }
    }
    // What its clients have written themselves stands before what the proxy has.
    let own =
        |n: u8, who: &str| format!("X-Forwarded-For: 6.6.6.{n}\r\nX-Forwarded-For: 7.7.7.{n}, {who}\r\n");
    for who in ["10.9.9.1", "10.9.9.2, 127.0.0.1", "10.9.9.3:4660", "2001:db8::1", "[2001:db8:1::1]:80"] {
        let mut statuses = Vec::new();
        for n in 0..8 {
            statuses.push(ask(&own(n, who)).await);
        }
        assert_eq!(statuses[..2], [200; 2], "{who}: others have not used up what is its own");
        assert!(statuses.contains(&429), "{who}: {statuses:?}");
    }
    let mut streams = balancer.main.streams().await;
    let mut statuses = Vec::new();
    for n in 0..16_u8 {
        let request = balancer.main.stream(hyper::Method::GET, "/x");
        let named = if n < 8 { "unknown".to_owned() } else { format!("7.7.7.{n}, 10.9.9.4") };
        let request = request.header("x-forwarded-for", named).body(whole("")).expect("valid");
        statuses.push(streams.send_request(request).await.expect("an answer").status().as_u16());
    }
    assert_eq!(statuses[..10], [200; 10], "over HTTP/2 as well");
    assert!(statuses[10..].contains(&429), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_too_many_connections_gets_no_more() {
    let setup = strangers().set("proxy.max_connections_per_client", 2);
    let balancer = setup.start().await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::sending(balancer.main, GET).await;
        assert_eq!(wire.answer().await.expect("an answer").status, 200);
        kept.push(wire);
    }
    let mut third = Wire::to(balancer.main).await;
    let answer = third.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.headers("connection")), (429, vec!["close"]), "{}", answer.head);
    assert_eq!(hit(&balancer, "connections_per_client").await, 1.0);
    kept.pop();
    wait_until("its place is free again", LONG, async || {
        let answer = ask(&balancer, GET).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.head) }
    })
    .await;
}

/// Not every place of a replica is one client's for the asking. Proxies that are trusted bring many clients.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_a_client_has_so_many_connections_and_a_proxy_any_number() {
    for (setup, expected) in [(strangers(), 429), (setup(), 200)] {
        let balancer = setup.start().await;
        let mut kept = Vec::new();
        for _ in 0..512 {
            kept.push(Wire::to(balancer.main).await);
        }
        wait_until("they are all accepted", LONG, async || {
            let there = balancer.metric("slipring_connections", "").await;
            if there == 512.0 { Ok(()) } else { Err(there.to_string()) }
        })
        .await;
        let answer = ask(&balancer, GET).await;
        assert_eq!(answer.status, expected, "{}", answer.head);
        balancer.stop().await;
    }
}

/// Thirty who trickle on twenty places: every GET was answered 503, without a setting of anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_those_who_trickle_take_nobodys_place_for_long() {
    let setup = setup().set("proxy.max_connections_per_replica", 4).set("proxy.body_grace", "300ms");
    let balancer = setup.start().await;
    let mut trickling = Vec::new();
    for _ in 0..6 {
        let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx";
        trickling.push(Wire::sending(balancer.main, head).await);
    }
    wait_until("all places are theirs", LONG, async || {
        let there = balancer.metric("slipring_requests_in_flight", "").await;
        if there == 6.0 { Ok(()) } else { Err(there.to_string()) }
    })
    .await;
    let began = Instant::now();
    assert_eq!(ask(&balancer, GET).await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for wire in &mut trickling {
        assert_eq!(wire.answer().await.expect("an answer").status, 408);
    }
    assert_eq!(hit(&balancer, "body_rate").await, 6.0);
}

/// The time for a head ran anew after the header of the PROXY protocol.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_time_for_all_that_comes_before_a_request() {
    let setup = setup().set("proxy.accept_proxy_protocol", "true").set("proxy.header_timeout", "3s");
    let balancer = setup.start().await;
    let began = Instant::now();
    let mut client = Wire::to(balancer.main).await;
    let early = timeout(Duration::from_secs(2), client.head()).await;
    assert!(early.is_err(), "its time is not over: {early:?}");
    client.send("PROXY TCP4 10.1.2.3 10.0.0.1 4660 80\r\n").await;
    assert_eq!(client.answer().await.expect("an answer").status, 408);
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_millis(4500), "{took:?}");
    assert_eq!(hit(&balancer, "header_time").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_request_and_of_a_connection() {
    let setup = setup().set("proxy.max_header_fields", 4).set("proxy.max_requests_per_connection", 2);
    let balancer = setup.set("proxy.max_body_bytes", 10).start().await;
    let many = "GET /x HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n";
    assert_eq!(ask(&balancer, many).await.status, 431);
    assert_eq!(hit(&balancer, "header_fields").await, 1.0);
    let large = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n";
    assert_eq!(ask(&balancer, large).await.status, 413);
    assert_eq!(hit(&balancer, "body_bytes").await, 1.0);
    let mut wire = Wire::sending(balancer.main, GET).await;
    assert!(wire.answer().await.expect("an answer").headers("connection").is_empty());
    wire.send(GET).await;
    assert_eq!(wire.answer().await.expect("an answer").headers("connection"), ["close"]);
    wire.end().await;
    assert_eq!(hit(&balancer, "requests_per_connection").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trickles_a_body_is_told_so() {
    let setup = setup().set("proxy.min_body_rate", 1000).set("proxy.body_grace", "300ms");
    let balancer = setup.start().await;
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let answer = ask(&balancer, &format!("{head}beginning")).await;
    assert_eq!(answer.status, 408, "{}", answer.head);
    assert_eq!(hit(&balancer, "body_rate").await, 1.0);
    assert_eq!(ask(&balancer, &format!("{head}{}", "x".repeat(1000))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_is_cut_off() {
    let setup = setup().set("proxy.min_body_rate", 1_000_000_000).set("proxy.body_grace", "300ms");
    let balancer = setup.start().await;
    let _idle = Wire::sending(balancer.main, "GET /flood?bytes=100000000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_until("it is cut off", LONG, async || {
        let hit = hit(&balancer, "read_rate").await;
        let connections = balancer.metric("slipring_connections", "").await;
        if (hit, connections) == (1.0, 0.0) { Ok(()) } else { Err(format!("{hit} {connections}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_line() {
    let setup = setup().set("log.access", "json").set("log.file", "access.log");
    let balancer = setup.start().await;
    let file = setup.folder().join("access.log");
    let lines = async |wanted: usize| {
        wait_until("the lines are written", LONG, async || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            let lines = lines.map_err(|error| format!("{error}: {text}"))?;
            if lines.len() == wanted { Ok(lines) } else { Err(text) }
        })
        .await
    };
    let hostile =
        "GET /a\"b\\c%0a?q={} HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nConnection: close\r\n\r\n";
    // A line is written when its answer has gone: the next is asked for behind it.
    assert_eq!(ask(&balancer, hostile).await.status, 200);
    lines(1).await;
    assert_eq!(ask(&balancer, "GET /x HTTP/1.1\r\n\r\n").await.status, 400);
    lines(2).await;
    assert_eq!(balancer.main.call(hyper::Method::POST, "/die", "").await.status, 502);
    let first = lines(3).await;
    let line = &first[0];
    assert_eq!((&line["path"], &line["request_id"]), (&"/a\"b\\c%0a?q={}".into(), &"mine".into()));
    assert_eq!((&line["status"], &line["replica"]), (&200.into(), &"Server-1".into()));
    assert_eq!((&line["attempts"], &line["client"]), (&1.into(), &"127.0.0.1".into()));
    assert!(line["bytes"].as_u64() > Some(10), "{line}");
    assert_eq!(
        (&line["pool"], &first[1]["pool"]),
        (&"default".into(), &Value::Null),
        "what is no request is nobody's"
    );
    assert_eq!(first[1]["status"], 400, "{}", first[1]);
    assert_eq!((&first[2]["status"], &first[2]["method"]), (&502.into(), &"POST".into()));
    assert!(!ask(&balancer, "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n").await.complete);
    let cut = &lines(4).await[3];
    assert_eq!((&cut["status"], &cut["broken_off"]), (&200.into(), &true.into()), "{cut}");
    assert_eq!(line["broken_off"], Value::Null, "a whole one is none");
    // Rotation: what comes after the file was moved is in a new one.
    std::fs::rename(&file, setup.folder().join("access.log.1")).expect("it is there");
    wait_until("a new file is begun", LONG, async || if file.exists() { Ok(()) } else { Err("none".into()) })
        .await;
    assert_eq!(ask(&balancer, GET).await.status, 200);
    assert_eq!(lines(1).await[0]["path"], "/x");
    assert_eq!(balancer.metric("slipring_access_log_lost_total", "").await, 0.0);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_whose_connection_it_is() {
    let balancer = setup().set("proxy.accept_proxy_protocol", "true").start().await;
    let four = [10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let second = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &four].concat();
    for header in [b"PROXY TCP4 10.1.2.3 10.0.0.1 4660 80\r\n".to_vec(), second] {
        let (head, tail) = header.split_at(header.len() / 2);
        let mut wire = Wire::sending(balancer.main, head).await;
        wire.send([tail, b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"].concat()).await;
        let answer = wire.answer().await.expect("an answer");
        let seen: Value = serde_json::from_slice(&answer.body).expect("the replica's words");
        let head = seen["head"].as_str().expect("a head").to_lowercase();
        assert!(head.contains("\r\nx-forwarded-for: 10.1.2.3\r\n"), "{head}");
    }
    let mut silent = Wire::sending(balancer.main, GET).await;
    silent.end().await;
    assert_eq!(hit(&balancer, "proxy_protocol").await, 1.0);
}

/// A proxy that does not know whose connection it is says so; that makes nobody the proxy.
#[tokio::test(flavor = "multi_thread")]
async fn one_whom_a_proxy_does_not_know_has_no_rights_of_the_proxys() {
    let setup = setup().set("proxy.accept_proxy_protocol", "true").set("proxy.max_connections_per_client", 1);
    let balancer = setup.start().await;
    let second = |command: u8, family: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("it is short").to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &length, body].concat()
    };
    let remove = b"DELETE /rm HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let ask = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    let told = |answer: &RawAnswer| {
        let seen: Value = serde_json::from_slice(&answer.body).expect("the replica's words");
        seen["head"].as_str().expect("a head").to_lowercase()
    };
    for unknown in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        second(1, 0x31, &[b'/'; 216]),
        second(1, 0, &[]),
        second(1, 0x12, &[1; 12]),
    ] {
        let mut wire = Wire::sending(balancer.main, [&unknown[..], remove].concat()).await;
        let refused = wire.answer().await.expect("an answer");
        assert_eq!(refused.status, 403, "{}", refused.text());
        wire.send(ask).await;
        let head = told(&wire.answer().await.expect("an answer"));
        assert!(!head.contains("6.6.6.6"), "its word does not count: {head}");
        assert!(head.contains("\r\nx-forwarded-for: unknown\r\n"), "nor is it the proxy: {head}");
        assert!(head.contains("\r\nforwarded: for=unknown;"), "{head}");
        let mut second = Wire::sending(balancer.main, &unknown).await;
        assert_eq!(second.answer().await.expect("an answer").status, 429, "it is counted");
        drop((wire, second));
        wait_until("their places are free", LONG, async || {
            let held = balancer.metric("slipring_connections", "").await;
            if held == 0.0 { Ok(()) } else { Err(held.to_string()) }
        })
        .await;
    }
    // The proxy's own connection is its own.
    let local = second(0, 0, &[]);
    let mut wires = [Wire::to(balancer.main).await, Wire::to(balancer.main).await];
    for wire in &mut wires {
        wire.send([&local[..], remove].concat()).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.text());
        wire.send(ask).await;
        assert!(told(&wire.answer().await.expect("an answer")).contains("6.6.6.6"));
    }
}
