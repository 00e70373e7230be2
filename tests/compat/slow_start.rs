//! Slow start on a live balancer: a replica that is back gets a part of its keys, and nobody else's keys move.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use slipring_tests::{Balancer, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const KEYS: usize = 300;

/// Who answers for each of many keys.
async fn answered(balancer: &Balancer) -> BTreeMap<String, String> {
    let mut replicas = BTreeMap::new();
    for n in 0..KEYS {
        let key = format!("user-{n}");
        let answer = balancer.main.with_headers(Method::GET, "/home", &[("x-key", &key)], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        replicas.insert(key, answer.replica().to_owned());
    }
    replicas
}

fn of<'a>(replica: &'a str, answered: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a String> {
    answered.iter().filter(move |(_, by)| *by == replica).map(|(key, _)| key)
}

async fn share(balancer: &Balancer, replica: &str) -> f64 {
    let ring = balancer.admin.get("/ring").await.json();
    let all = ring["replicas"].as_array().expect("a list");
    let one = all.iter().find(|one| one["name"] == replica).unwrap_or_else(|| panic!("no {replica}: {ring}"));
    one["share"].as_f64().expect("a share")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_back_gets_its_keys_by_and_by_and_no_other_key_moves() {
    let file = |slow_start: &str| format!("[fleet]\nslow_start = \"{slow_start}\"\n");
    // A step of a minute: the first one is what is seen.
    let setup = Setup::new(SLIPRING).set("proxy.key", "header:x-key").file(&file("10m"));
    let balancer = setup.start().await;
    let whole = answered(&balancer).await;
    let its_own = of("Server-2", &whole).count();
    assert!((70..=130).contains(&its_own), "the first ones begin with everything: {its_own} of {KEYS}");
    let events = balancer.events().await;
    let past = events.seen().len();
    balancer.replica("Server-2").await.process().kill();
    events
        .until("it lives again", LONG, |seen| {
            let died = seen.iter().skip(past).position(|event| event.is("flatlined", "Server-2"))?;
            seen.iter().skip(past + died).any(|event| event.is("live", "Server-2")).then_some(())
        })
        .await;

    let slow = answered(&balancer).await;
    let back = of("Server-2", &slow).count();
    // 0.1 of 2.1 in the place of 1 of 3: 14 of 300, whose standard deviation is 4.
    assert!((1..=45).contains(&back), "{back} of {KEYS}");
    assert!((0.03..0.07).contains(&share(&balancer, "Server-2").await));
    for (key, by) in &whole {
        assert!(by == "Server-2" || slow[key] == *by, "{key} moved from {by} to {}", slow[key]);
    }

    // A hundredth of the time for the next nine steps.
    drop(setup.clone().file(&file("2s")));
    assert_eq!(balancer.admin.call(Method::POST, "/reload", "").await.status, 200);
    let mut last = 0.0;
    wait_until("it has its whole share", LONG, async || {
        let share = share(&balancer, "Server-2").await;
        assert!(share >= last, "it only grows: {last}, {share}");
        last = share;
        if share > 0.32 { Ok(()) } else { Err(share.to_string()) }
    })
    .await;
    assert_eq!(answered(&balancer).await, whole, "everything is as it was");
}
