//! Replicas that fail while they live: retries within a budget, ejection and return, and a panic that is seen.

use std::time::Duration;

use slipring_tests::bare::{self, Bare};
use slipring_tests::{Balancer, Setup, Wire, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of the tests here run.
#[test]
fn bare_program() {
    bare::serve_if_asked();
}

fn setup() -> Setup {
    bare::program(Setup::new(SLIPRING)).set("proxy.key", "query:key")
}

async fn came(balancer: &Balancer, path: &str) -> u64 {
    let mut sum = 0;
    for bare in Bare::all(balancer).await {
        sum += bare.seen(path).await.came;
    }
    sum
}

async fn until_metric(balancer: &Balancer, name: &str, labels: &str, wanted: f64) {
    wait_until(&format!("{name} is {wanted}"), LONG, async || {
        let is = balancer.metric(name, labels).await;
        if is == wanted { Ok(()) } else { Err(is.to_string()) }
    })
    .await;
}

/// Asks for an answer; whether it broke off.
async fn breaks(balancer: &Balancer, path: &str) -> bool {
    let request = format!("GET {path}?key=7 HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = Wire::sending(balancer.main, request).await.answer().await.expect("an answer");
    !answer.complete
}

/// Every replica loses every request: without a budget each would be asked for three times as many.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_not_multiplied() {
    let balancer = setup().start().await;
    let requests = 300;
    for n in 0..requests {
        assert_eq!(balancer.main.get(&format!("/die?key={n}")).await.status, 502);
    }
    let came = came(&balancer, "/die").await;
    let most = requests + requests / 5 + 31;
    assert!((requests..=most).contains(&came), "{came} attempts for {requests} requests");
    let retries = balancer.metric("slipring_retries_total", "").await;
    assert_eq!(retries, (came - requests) as f64);
    assert!(balancer.metric("slipring_retries_denied_total", "").await > 0.0);
    // Each member may fail, but not all may be left out for it.
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 1.0);
    assert_eq!(balancer.metric("slipring_panic", "").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fails_is_left_out_and_returns() {
    let balancer = setup().set("proxy.eject_time", "3s").set("proxy.retry_budget", "0").start().await;
    let owner = balancer.owner("7").await;
    assert_eq!(balancer.main.get("/x?key=7").await.replica(), owner);
    // Nothing that is not idempotent is sent again: all of these fail at the owner.
    // The first may meet a kept connection, whose end says nothing about its replica.
    let mut failed = 0;
    let label = format!("replica=\"{owner}\"");
    while balancer.metric("slipring_ejected", &label).await == 0.0 {
        failed += 1;
        assert!(failed <= 6, "it is left out after five failures");
        let answer = balancer.main.call(hyper::Method::POST, "/die?key=7", "").await;
        assert_eq!((answer.status.as_u16(), answer.replica()), (502, owner.as_str()));
    }
    assert_eq!(balancer.metric("slipring_ejections_total", &label).await, 1.0);
    let route = balancer.admin.get("/route?key=7").await.json();
    assert_eq!(
        (&route["preference"][0]["ejected"], &route["preference"][0]["chosen"]),
        (&true.into(), &false.into())
    );
    assert!(route["why"].as_str().is_some_and(|why| why.contains("left out")), "{route}");
    let seen = balancer.admin.get("/replicas").await.json();
    let ejected =
        seen["replicas"].as_array().expect("a list").iter().find(|replica| replica["ejected"] == true);
    assert_eq!(ejected.map(|replica| &replica["name"]), Some(&owner.clone().into()), "{seen}");
    let other = balancer.main.get("/x?key=7").await;
    assert_ne!(other.replica(), owner, "its keys go to the next");
    assert_eq!(other.header("x-slipring-panic"), None);
    wait_until("it is let in again", LONG, async || {
        let answer = balancer.main.get("/x?key=7").await;
        if answer.replica() == owner { Ok(()) } else { Err(answer.replica().to_owned()) }
    })
    .await;
    assert_eq!(balancer.metric("slipring_ejected", "").await, 0.0);
    balancer.said(&["a replica is left out"]).await;
}

/// Its heads are fine: each counted as an answer and ended the row that its broken body had begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_breaks_every_answer_is_left_out() {
    for path in ["/cut", "/cut-chunked"] {
        let balancer = setup().start().await;
        let owner = balancer.owner("7").await;
        let label = format!("replica=\"{owner}\"");
        for broken in 0..5 {
            assert_eq!(balancer.metric("slipring_ejected", &label).await, 0.0, "{path} after {broken}");
            assert!(breaks(&balancer, path).await);
        }
        assert_eq!(balancer.metric("slipring_ejections_total", &label).await, 1.0, "{path}");
        assert_ne!(balancer.main.get("/x?key=7").await.replica(), owner, "its keys go to the next");
        balancer.stop().await;
    }
}

/// Two of three break, never five in a row: they counted as three that were good, and two that were not.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_breaks_most_answers_is_left_out() {
    let balancer = setup().start().await;
    let label = format!("replica=\"{}\"", balancer.owner("7").await);
    wait_until("it is left out", LONG, async || {
        for _ in 0..10 {
            balancer.main.get("/x?key=7").await;
            breaks(&balancer, "/cut").await;
            breaks(&balancer, "/cut").await;
        }
        let ejections = balancer.metric("slipring_ejections_total", &label).await;
        if ejections > 0.0 { Ok(()) } else { Err(ejections.to_string()) }
    })
    .await;
    balancer.said(&["too few of its requests succeed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_is_well_requests_still_go_out_and_say_so() {
    let balancer = setup().set("fleet.replicas", 1).set("proxy.max_ejected", "1").start().await;
    assert_eq!(balancer.main.get("/x?key=7").await.header("x-slipring-panic"), None);
    for _ in 0..6 {
        assert_eq!(balancer.main.call(hyper::Method::POST, "/die?key=7", "").await.status, 502);
    }
    let answer = balancer.main.get("/x?key=7").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-slipring-panic")), (200, Some("1")));
    let failed = balancer.main.call(hyper::Method::POST, "/die?key=7", "").await;
    assert_eq!((failed.status.as_u16(), failed.header("x-slipring-panic")), (502, Some("1")));
    assert_eq!(balancer.metric("slipring_panic", "").await, 1.0);
    until_metric(&balancer, "slipring_panics_total", "", 1.0).await;
    balancer.said(&["panic"]).await;
}

/// A hot key goes over to the next replica before it takes one down.
#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_overflows() {
    let balancer = setup().set("proxy.bounded_load", "1.25").start().await;
    let mut waiting = Vec::new();
    for n in 1..=6 {
        let main = balancer.main;
        waiting.push(tokio::spawn(async move { main.get("/silent?key=7").await }));
        until_metric(&balancer, "slipring_requests_in_flight", "", f64::from(n)).await;
    }
    let mut most = Vec::new();
    for bare in Bare::all(&balancer).await {
        most.push(bare.seen("/silent").await.most);
    }
    // ⌈1.25 · 6 / 3⌉ = 3
    assert!(most.iter().all(|&most| most <= 3), "{most:?}");
    assert!(balancer.metric("slipring_overflows_total", "").await >= 3.0);
    waiting.into_iter().for_each(|request| request.abort());
}
