//! What the page needs of the admin port: its files, its stream, and calls passed on to given members.

#[path = "../browser/tree.rs"]
mod tree;

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::{Event, Events, Setup, measured, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tree::Tree;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

fn setup() -> Setup {
    Setup::new(SLIPRING)
}

/// The last state of a pool's members that was told.
fn members<'a>(told: &'a [Event], pool: &str) -> Option<&'a Vec<Value>> {
    let fleet = told.iter().rev().find(|event| event.data["pools"].is_array())?;
    let pools = fleet.data["pools"].as_array()?;
    pools.iter().find(|one| one["name"] == pool)?["members"].as_array()
}

fn live(members: &[Value]) -> usize {
    members.iter().filter(|member| member["state"] == "live").count()
}

async fn until_live(stream: &Events, count: usize) -> Vec<Value> {
    let look = |told: &[Event]| members(told, "default").filter(|all| live(all) == count).cloned();
    stream.until("members live on the stream", LONG, look).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_the_page_and_what_it_shows_is_for_those_who_may_administer() {
    let balancer = setup().set("admin.token", "0123456789abcdef").start().await;
    let proxied = [("x-forwarded-for", "192.0.2.1")];
    for (path, kind) in [("/", "text/html"), ("/page/app.js", "text/javascript")] {
        let answer = balancer.admin.with_headers(Method::GET, path, &proxied, "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").is_some_and(|found| found.starts_with(kind)), "{answer:?}");
        let policy = answer.header("content-security-policy");
        assert_eq!(policy.is_some_and(|policy| policy.contains("'self'")), path == "/", "{policy:?}");
    }
    for path in ["/stream", "/relay/default/x"] {
        let answer = balancer.admin.with_headers(Method::GET, path, &proxied, "").await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
    }
    let wrong = balancer.admin.call(Method::POST, "/", "").await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, Some("GET,HEAD")), "{wrong:?}");
    assert_eq!(balancer.admin.get("/page/no.js").await.status, 404);
    assert_eq!(balancer.main.get("/page/app.js").await.status, 400, "the main port has no page");
}

/// All that goes over the wire until the page is there, as a browser that has nothing of it asks: each file once, nothing
/// compressed, and the heads of the answers counted with them.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_page_is_below_100_kb_on_the_wire() {
    let balancer = setup().start().await;
    let (mut total, mut asked, mut open) = (0, std::collections::BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(path) = open.pop() {
        let stream = tokio::net::TcpStream::connect(balancer.admin.address).await.expect("it listens");
        let (mut from, mut to) = stream.into_split();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: gzip, br\r\nConnection: close\r\n\r\n",
            balancer.admin.address
        );
        to.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        tokio::time::timeout(LONG, from.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
        let text = String::from_utf8(answer).expect("it is text");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {text}");
        total += text.len();
        asked.insert(path);
        let names = text.split(['"', '\'']).filter_map(|word| match word.strip_prefix("./") {
            Some(module) => Some(format!("/page/{module}")),
            None => word.starts_with("/page/").then(|| word.to_owned()),
        });
        open.extend(names);
        open.sort();
        open.dedup();
        open.retain(|path| !asked.contains(path));
    }
    assert!(asked.len() > 10, "{asked:?}");
    measured(&format!("the page: {total} bytes on the wire in {} answers", asked.len()));
    assert!(total < 100_000, "{total} bytes in {} answers", asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_tells_how_everything_is_and_then_whatever_changes() {
    let balancer = setup().start().await;
    let stream = Events::follow_at(balancer.admin, "/stream").await;
    let all = until_live(&stream, 3).await;
    let shares: f64 = all.iter().filter_map(|member| member["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-3, "{all:?}");
    for (member, id) in all.iter().zip(1..) {
        assert_eq!((&member["id"], &member["last"]["event"]), (&json!(id), &json!("live")), "{member}");
        assert!((member["ideal"].as_f64().unwrap_or_default() - 1.0 / 3.0).abs() < 1e-3, "{member}");
    }
    let cells = |told: &[Event]| {
        let ring = told.iter().rev().find(|event| event.data["cells"].is_array())?;
        Some(
            ring.data["cells"]
                .as_array()?
                .iter()
                .map(Value::to_string)
                .collect::<std::collections::BTreeSet<_>>(),
        )
    };
    let three = stream.until("the ring", LONG, cells).await;
    assert_eq!(three.into_iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    let logged = |told: &[Event], name: &str, replica: &str| {
        let lists = told.iter().filter_map(|event| event.data.as_array());
        lists.flatten().any(|event| event["event"] == name && event["replica"] == replica).then_some(())
    };
    stream.until("the past in the log", LONG, |told| logged(told, "live", "Server-3")).await;

    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    let all = until_live(&stream, 4).await;
    assert_eq!(all[3]["name"], "S4");
    let four = |told: &[Event]| cells(told).filter(|owners| owners.len() == 4);
    stream.until("another ring", LONG, four).await;

    balancer.replica("S4").await.process().kill();
    let killed = |told: &[Event]| logged(told, "flatlined", "S4");
    stream.until("the death in the log", LONG, killed).await;
    let again = |told: &[Event]| members(told, "default")?.iter().find(|one| one["restarts"] == 1).cloned();
    assert_eq!(stream.until("the restart", LONG, again).await["name"], "S4");

    // Requests are counted once a second.
    let rate = async || {
        for _ in 0..20 {
            assert_eq!(balancer.main.get("/home").await.status, 200);
        }
        let seen = stream.seen();
        let rates = seen.iter().filter_map(|event| event.data["pools"][0]["members"].as_array()).flatten();
        let most = rates.filter_map(|member| member["per_second"].as_f64()).fold(0.0, f64::max);
        if most > 0.0 { Ok(()) } else { Err(format!("{most} a second")) }
    };
    wait_until("requests a second", LONG, rate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_gone_is_not_worked_for_and_one_too_many_is_told_so() {
    let balancer = setup().set("admin.max_watchers", 1).start().await;
    let watchers = async |count: f64| {
        wait_until("pages that are fed", LONG, async || {
            let now = balancer.metric("slipring_page_watchers", "").await;
            if now == count { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
    };
    let first = Events::follow_at(balancer.admin, "/stream").await;
    until_live(&first, 3).await;
    watchers(1.0).await;
    let refused = balancer.admin.get("/stream").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("5")), "{refused:?}");
    assert!(refused.text().contains("admin.max_watchers"), "{}", refused.text());
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"page_watchers\"").await, 1.0);
    assert_eq!(balancer.metric("slipring_limit", "of=\"page_watchers\"").await, 1.0);
    drop(first);
    watchers(0.0).await;
    let second = Events::follow_at(balancer.admin, "/stream").await;
    until_live(&second, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_with_the_balancer_and_does_not_hold_it_up() {
    let balancer = setup().start().await;
    let stream = Events::follow_at(balancer.admin, "/stream").await;
    until_live(&stream, 3).await;
    balancer.stop().await;
    stream.ended(LONG).await;
    let seen = stream.seen();
    assert_eq!(members(&seen, "default").map(Vec::len), Some(0), "told to the end: nobody is left");
    assert!(seen.iter().any(|event| event.data["stopping"] == true), "that it stops was told");
}

/// What a pool of given members told.
fn told<'a>(seen: &'a [Event], kind: &str) -> Option<&'a Value> {
    let said =
        seen.iter().rev().filter(|event| event.data["pool"] == "tree").map(|event| &event.data["data"]);
    said.into_iter().find(|data| data["kind"] == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_given_members_tell_of_themselves_is_passed_on_while_somebody_watches() {
    let tree = Tree::start(&[]).await;
    assert_eq!(tree.tells.receiver_count(), 0, "nobody watches");
    let stream = Events::follow_at(tree.admin, "/stream").await;
    let of = async |kind: &str| stream.until(kind, LONG, |seen| told(seen, kind).cloned()).await;
    assert_eq!((of("units").await, of("wave").await), (tree::units(), tree::waves().remove(0)));
    let metric = async |outcome: &str| {
        let text = tree.admin.get("/metrics").await;
        let name = format!("slipring_watched_objects_total{{outcome=\"{outcome}\"}} ");
        text.text().lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
    };
    assert_eq!((metric("passed").await, metric("refused").await), (Some(2.0), Some(1.0)));

    // What is too long is left out, and the stream goes on behind it.
    let mut long = tree::waves().remove(2);
    long["purpose"] = "x".repeat(1 << 20).into();
    for told in [long.to_string(), long.to_string(), tree::waves()[1].to_string()] {
        tree.tells.send(told).expect("the balancer listens");
    }
    let finn = |seen: &[Event]| told(seen, "wave").filter(|wave| wave["algorithm"] == "finn").cloned();
    assert_eq!(stream.until("the Finn wave", LONG, finn).await, tree::waves()[1]);
    assert_eq!((metric("passed").await, metric("too_long").await), (Some(3.0), Some(2.0)));
    let notes = |seen: &[Event]| {
        seen.iter().filter_map(|event| event.data["note"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(
        notes(&stream.seen()),
        ["1 of its records had more than 1048576 bytes and are left out"],
        "said once"
    );
    assert!(stream.seen().iter().all(|event| event.data["why"].is_null()), "the stream did not end for it");

    // What is told once more of a wave takes its place.
    let mut moved = tree::waves().remove(1);
    moved["moves"] = json!([{ "from": 8000, "to": 8001, "count": 1, "moved": 1 }]);
    tree.tells.send(moved.to_string()).expect("the balancer listens");
    let again = |seen: &[Event]| told(seen, "wave").filter(|wave| **wave == moved).cloned();
    stream.until("what was moved", LONG, again).await;

    // Who comes later learns how it is and what was done, from what was told before.
    let second = Events::follow_at(tree.admin, "/stream").await;
    second.until("the wave again", LONG, again).await;
    let finns = second.seen().iter().filter(|event| event.data["data"]["algorithm"] == "finn").count();
    assert_eq!(finns, 1, "as it is, and not as it was");
    assert_eq!(tree.tells.receiver_count(), 1, "one subscription for all");

    drop((stream, second));
    wait_until("nobody listens to the unit", LONG, async || match tree.tells.receiver_count() {
        0 => Ok(()),
        count => Err(format!("{count} do")),
    })
    .await;
    tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_nothing_is_heard_of_a_pool_is_told() {
    let tree = Tree::start(&[]).await;
    let stream = Events::follow_at(tree.admin, "/stream").await;
    stream.until("the units", LONG, |seen| told(seen, "units").map(drop)).await;
    tree.unit.kill();
    let why = |seen: &[Event]| {
        let said = seen.iter().filter(|event| event.data["pool"] == "tree");
        said.filter_map(|event| event.data["why"].as_str())
            .find(|why| why.contains("live"))
            .map(str::to_owned)
    };
    let why = stream.until("why", LONG, why).await;
    assert!(why.contains("none of its members that take calls is live"), "{why}");
    let refused = tree.admin.get("/relay/tree/specs").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("/replicas?pool=tree"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_call_is_passed_on_and_its_answer_is_only_data() {
    let tree = Tree::start(&[]).await;
    let passed = tree
        .admin
        .with_headers(Method::POST, "/relay/tree/echo", &[("content-type", "text/html")], "<b>")
        .await;
    assert_eq!((passed.status.as_u16(), passed.text()), (418, "<b>"));
    assert_eq!(passed.header("content-type"), Some("text/html"));
    assert!(
        passed.header("content-security-policy").is_some_and(|policy| policy.contains("sandbox")),
        "{passed:?}"
    );
    assert_eq!(passed.header("x-other"), None, "nothing else of its headers");

    let largest = vec![b'x'; 1 << 20];
    let echoed = tree.admin.call(Method::POST, "/relay/tree/echo", largest.clone()).await;
    assert_eq!(echoed.body, largest);
    let too_large = tree.admin.call(Method::POST, "/relay/tree/echo", [&largest[..], b"x"].concat()).await;
    assert!(too_large.status == 400 && too_large.text().contains("1048576"), "{}", too_large.text());

    for (path, status, words) in [
        ("/relay/tree/large", 502, "more than 1048576 bytes"),
        ("/relay/tree/never", 504, "did not answer within 5s"),
        ("/relay/tree/nowhere?a=b", 404, "/nowhere is not here"),
        ("/relay/default/x", 404, "main port"),
        ("/relay/other/x", 404, "no pool 'other'"),
        ("/relay/tree", 404, "there is no '/relay/tree'"),
    ] {
        let answer = tree.admin.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
    }
    let strange = [("origin", "http://evil.example")];
    let refused = tree.admin.with_headers(Method::POST, "/relay/tree/echo", &strange, "").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let deleted = tree.admin.call(Method::DELETE, "/relay/tree/echo", "").await;
    assert_eq!(deleted.status, 405, "{}", deleted.text());
    let metrics = tree.admin.get("/metrics").await;
    for line in
        ["slipring_relayed_calls_total{code=\"418\"} 2", "slipring_relayed_calls_total{code=\"504\"} 1"]
    {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
}
