//! The configuration, read again by a balancer that runs: obeyed whole or not at all, and connections stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::{Method, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use slipring_tests::replica::{self, Held, MASKED};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Answer, Balancer, Load, Replica, Setup, Wire, run, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of some tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

/// Writes the file anew, and asks for it to be read.
async fn reload(balancer: &Balancer, setup: &Setup, file: &str) -> Answer {
    drop(setup.clone().file(file));
    balancer.admin.call(Method::POST, "/reload", "").await
}

#[track_caller]
fn obeyed(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["status"], "successful");
    answer.json()["message"].clone()
}

/// The words of a refusal.
#[track_caller]
fn refused(answer: &Answer) -> String {
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["status"]),
        (400, &"failure".into()),
        "{}",
        answer.text()
    );
    answer.json()["message"].as_str().expect("words").to_owned()
}

async fn ask(wire: &mut Wire, path: &str) -> slipring_tests::RawAnswer {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    wire.answer().await.expect("the connection stays")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_applies_to_the_next_request_on_the_same_connection() {
    let setup = Setup::new(SLIPRING).file("fleet.failures = 3\n");
    let balancer = setup.start().await;
    let mut wire = Wire::to(balancer.main).await;
    assert_eq!(ask(&mut wire, "/home").await.status, 200);
    assert_eq!(ask(&mut wire, "/other").await.status, 400);
    let events = balancer.events().await;

    let file = "fleet.failures = 7\nproxy.paths = [\"/*\"]\nproxy.max_connections = 77\nproxy.max_header_fields = 2\n";
    let changed = obeyed(&reload(&balancer, &setup, file).await);
    let keys = json!([
        { "key": "fleet.failures", "was": "3", "is": "7" },
        { "key": "proxy.max_connections", "was": "20000", "is": "77" },
        { "key": "proxy.max_header_fields", "was": "128", "is": "2" },
        { "key": "proxy.paths", "was": "/home, /heartbeat", "is": "/*" },
    ]);
    assert_eq!(
        changed,
        json!({ "keys": keys, "pools": { "added": [], "removed": [], "changed": ["default"] } })
    );
    let other = ask(&mut wire, "/other").await;
    assert_eq!(other.headers("x-slipring-replica").len(), 1, "a replica answers: {other:?}");
    wire.send("GET /home HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect("an answer").status, 431);

    let told = events.next(0, "reloaded", "", LONG).await;
    assert_eq!(told.data["keys"].as_array().map(Vec::len), Some(4), "{}", told.data);
    assert_eq!(balancer.metric("slipring_reloads_total", "outcome=\"applied\"").await, 1.0);
    assert_eq!(balancer.metric("slipring_reloads_total", "outcome=\"refused\"").await, 0.0);
    assert_eq!(balancer.metric("slipring_limit", "of=\"connections\"").await, 77.0);
    let at = balancer.metric("slipring_last_reload_success_timestamp_seconds", "").await;
    assert!((at - told.unix_ms() as f64 / 1000.0).abs() <= 1.0, "{at} {}", told.data);

    assert_eq!(obeyed(&reload(&balancer, &setup, file).await)["keys"], json!([]), "nothing more");
    let wrong = balancer.admin.get("/reload").await;
    assert_eq!(wrong.status, 405, "{}", wrong.text());
    assert_eq!(balancer.main.call(Method::POST, "/reload", "").await.status, 404, "on the admin port alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_with_its_line_and_nothing_changes() {
    let setup = Setup::new(SLIPRING).file("proxy.max_attempts = 3\n");
    let balancer = setup.start().await;
    let events = balancer.events().await;
    let file = "proxy.paths = \"/*\"\nfleet.failures = 0\n[pool.a]\nroutes = \"/a\"\nfleet.replics = 3\n";
    let told = refused(&reload(&balancer, &setup, file).await);
    for piece in [
        "<Error> ",
        "slipring.toml:2:",
        "a whole number from 1 to 1000",
        "slipring.toml:5:",
        "the key is called `pool.a.fleet.replicas`",
        "2 mistakes in the configuration; nothing was changed",
    ] {
        assert!(told.contains(piece), "{piece:?} is missing from:\n{told}");
    }
    assert_eq!(balancer.main.get("/other").await.status, 400, "nothing was changed");
    let pools = balancer.admin.get("/pools").await.json();
    assert_eq!(pools["pools"].as_array().map(Vec::len), Some(1));
    assert!(events.next(0, "reload_refused", "", LONG).await.why().contains("slipring.toml:5:"));
    assert_eq!(balancer.metric("slipring_reloads_total", "outcome=\"refused\"").await, 1.0);

    std::fs::remove_file(setup.folder().join("slipring.toml")).expect("it is there");
    let told = refused(&balancer.admin.call(Method::POST, "/reload", "").await);
    assert!(told.contains("slipring.toml cannot be read") && told.contains("nothing was changed"), "{told}");

    let (url, main) =
        (format!("http://{}", balancer.admin.address), format!("http://{}", balancer.main.address));
    let client = async |file: &str| {
        drop(setup.clone().file(file));
        let output = run(SLIPRING, &["client", "--url", &main, "reload", "--admin-url", &url], &[], "").await;
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, told) = client(file).await;
    assert!(code == Some(1) && told.contains("\n --> slipring.toml:5:7\n"), "words of several lines: {told}");
    let (code, told) = client("proxy.max_attempts = 4\n").await;
    assert!(code == Some(0) && told.contains("proxy.max_attempts"), "{code:?} {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named_with_both_values_and_nothing_changes() {
    let file = "drain_timeout = \"7s\"\n[pool.api]\nroutes = \"/api\"\nfleet.replicas = 1\n";
    let setup = Setup::new(SLIPRING).file(file);
    let balancer = setup.start().await;
    let told = refused(
        &reload(
            &balancer,
            &setup,
            "state = \"elsewhere.json\"\nproxy.paths = \"/*\"\nadmin.token = \"0123456789abcdef\"\n[pool.api]\nroutes = \"/api\"\n\
             fleet.replicas = 1\nring.placement = \"maglev\"\n",
        )
        .await,
    );
    for piece in [
        "2 keys need a restart to change; nothing was changed",
        "state: \"elsewhere.json\", was \".slipring/state.json\"",
        "pool.api.ring.placement: \"maglev\", was \"rendezvous\"",
    ] {
        assert!(told.contains(piece), "{piece:?} is missing from:\n{told}");
    }
    assert!(!told.contains("0123456789"), "{told}");
    assert_eq!(balancer.main.get("/other").await.status, 400);

    // The token alone is obeyed, and told to nobody.
    let answer = reload(&balancer, &setup, &format!("admin.token = \"0123456789abcdef\"\n{file}")).await;
    let changed = json!([{ "key": "admin.token", "was": "…", "is": "…" }]);
    assert_eq!(obeyed(&answer)["keys"], changed);
    let with = async |token: &str| {
        let bearer = format!("Bearer {token}");
        balancer
            .admin
            .with_headers(Method::GET, "/pools", &[("authorization", bearer.as_str())], "")
            .await
            .status
    };
    assert_eq!(
        (with("0123456789abcdef").await.as_u16(), with("0123456789abcdeg").await.as_u16()),
        (200, 403)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_does_the_same() {
    let setup = Setup::new(SLIPRING).file("proxy.max_attempts = 3\n");
    let balancer = setup.start().await;
    let events = balancer.events().await;
    drop(setup.clone().file("proxy.paths = \"/*\"\n"));
    balancer.signal(Signal::HUP);
    let told = events.next(0, "reloaded", "", LONG).await;
    assert_eq!(told.data["keys"], json!(["proxy.paths"]), "{}", told.data);
    assert_eq!(balancer.main.get("/other").await.header("x-slipring-replica").map(|_| ()), Some(()));
    drop(setup.clone().file("proxy.paths = \"/*\"\ndrain_timeout = 3\nfleet.failures = -1\n"));
    balancer.signal(Signal::HUP);
    let told = events.next(0, "reload_refused", "", LONG).await;
    assert!(told.why().contains("slipring.toml:3:"), "{}", told.data);
    balancer.said(&["slipring.toml:3:"]).await;
    assert_eq!(balancer.main.get("/home").await.status, 200, "it runs on");
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_come_and_go_under_load_and_no_request_fails() {
    const WITHOUT: &str = "proxy.paths = \"/*\"\n";
    const WITH: &str = "proxy.paths = \"/*\"\n[pool.api]\nroutes = [\"/api/*\"]\nfleet.replicas = 2\n";
    let setup = replica::program(Setup::new(SLIPRING), "").set("proxy.paths", "/*").file(WITHOUT);
    let balancer = setup.start().await;
    let load = Load::start(balancer.main, "/api/x", 200);
    for round in 0..3 {
        load.more(50).await;
        assert_eq!(obeyed(&reload(&balancer, &setup, WITH).await)["pools"]["added"], json!(["api"]));
        balancer.ready().await;
        load.more(100).await;
        let own = balancer.main.get("/api/y").await;
        assert!(own.replica().starts_with("api-"), "round {round}: {own:?}");
        let processes: Vec<_> = balancer.replicas_of("api").await.iter().map(Replica::process).collect();
        assert_eq!(processes.len(), 2);
        assert_eq!(balancer.metric("slipring_limit", "of=\"api/replicas\"").await, 256.0);
        // Its last request comes before the change and is answered after it.
        let held = hold(&balancer, "/api/hold").await;
        assert_eq!(obeyed(&reload(&balancer, &setup, WITHOUT).await)["pools"]["removed"], json!(["api"]));
        assert!(balancer.main.get("/api/y").await.replica().starts_with("Server-"));
        assert!(processes.iter().all(|process| process.is_running()), "it has a request");
        held.let_go();
        assert_eq!(held.answer().await.expect("an answer").status, 200);
        wait_until("its processes end", LONG, async || {
            let running: Vec<_> = processes.iter().filter(|process| process.is_running()).collect();
            if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
        })
        .await;
    }
    let report = load.stop().await;
    report.assert_no_failure();
    assert!(report.replicas.keys().any(|name| name.starts_with("api-")), "{:?}", report.replicas);
}

/// A request that a replica holds.
async fn hold(balancer: &Balancer, path: &str) -> Held {
    Held::send_to(balancer, path, Method::GET).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_cannot_begin_takes_the_whole_change_back() {
    let setup = Setup::new(SLIPRING).file("proxy.max_attempts = 3\n");
    let balancer = setup.start().await;
    let file = "proxy.paths = \"/*\"\n[pool.bad]\nroutes = \"/b\"\nprocess.command = [\"no-such-program\"]\n[pool.a-good]\nroutes = \"/a\"\n";
    let told = refused(&reload(&balancer, &setup, file).await);
    assert!(told.contains("pool bad could not begin; nothing was changed"), "{told}");
    assert!(told.contains("no program no-such-program"), "{told}");
    assert_eq!(balancer.main.get("/other").await.status, 400);
    let events = balancer.events().await;
    events
        .until("the one that had begun was ended", LONG, |seen| {
            let of_pool =
                |name: &str| seen.iter().filter(|e| e.data["pool"] == "a-good" && e.name == name).count();
            (of_pool("added") == 3 && of_pool("stopped") == 3).then_some(())
        })
        .await;
    // What it left behind is in nobody's way.
    let file = "[pool.a-good]\nroutes = \"/a\"\nfleet.replicas = 1\nproxy.key = \"client\"\n";
    assert_eq!(obeyed(&reload(&balancer, &setup, file).await)["pools"]["added"], json!(["a-good"]));
}

/// Answers with its address and counts its requests.
async fn upstream() -> Upstream {
    Upstream::serve(|_| async { Response::new(whole("here")) }).await
}

/// Who has each of many keys.
async fn owners(balancer: &Balancer) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for n in 0..300 {
        let key = format!("user-{n}");
        let answer = balancer.main.with_headers(Method::GET, "/x", &[("x-key", &key)], "").await;
        owners.insert(key, answer.replica().to_owned());
    }
    owners
}

/// The keys that have another owner, each with both.
fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let other = before.iter().filter(|(key, owner)| after[*key] != **owner);
    other.map(|(key, owner)| (owner.clone(), after[key].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn static_upstreams_come_go_and_weigh_and_no_key_of_the_others_moves() {
    let servers = [upstream().await, upstream().await, upstream().await];
    let [a, b, c] = [0, 1, 2].map(|n: usize| servers[n].address.to_string());
    let file = |list: &[&str]| format!("fleet.upstreams = {list:?}\n");
    let setup = Setup::new(SLIPRING)
        .set("fleet.runtime", "static")
        .set("proxy.paths", "/*")
        .set("proxy.key", "header:x-key");
    let setup = setup.file(&file(&[&a, &b]));
    let balancer = setup.start().await;
    let load = Load::start(balancer.main, "/load", 100);
    let two = owners(&balancer).await;
    assert_eq!(two.values().collect::<BTreeSet<_>>(), BTreeSet::from([&a, &b]));

    obeyed(&reload(&balancer, &setup, &file(&[&a, &b, &c])).await);
    wait_until("it is live", LONG, async || match balancer.replicas().await {
        all if all.len() == 3 && all.iter().all(|replica| replica.state == "live") => Ok(()),
        all => Err(format!("{all:?}")),
    })
    .await;
    let three = owners(&balancer).await;
    let to_c = moved(&two, &three);
    assert!(
        to_c.iter().all(|(_, to)| *to == c) && (60..=140).contains(&to_c.len()),
        "a third moves to it: {to_c:?}"
    );

    obeyed(&reload(&balancer, &setup, &file(&[&a, &format!("{b} weight=3"), &c])).await);
    let heavier = owners(&balancer).await;
    let to_b = moved(&three, &heavier);
    assert!(
        to_b.iter().all(|(_, to)| *to == b) && (30..=130).contains(&to_b.len()),
        "from 1/3 to 3/5: {to_b:?}"
    );

    obeyed(&reload(&balancer, &setup, &file(&[&format!("{b} weight=3"), &c])).await);
    assert_eq!(balancer.names().await, [b.clone(), c]);
    let from_a = moved(&heavier, &owners(&balancer).await);
    assert!(from_a.iter().all(|(from, _)| *from == a) && !from_a.is_empty(), "{from_a:?}");
    load.stop().await.assert_no_failure();
    let fixed = refused(&reload(&balancer, &setup, "fleet.upstreams = []\n").await);
    assert!(fixed.contains("addresses, with fleet.runtime"), "{fixed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_stay() {
    let setup = replica::program(Setup::new(SLIPRING), "").file("");
    let balancer = setup.start().await;
    let mut socket = TcpStream::connect(balancer.main.address).await.expect("it listens");
    let upgrade = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).await.expect("it is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LONG, socket.read_u8()).await.expect("in time").expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let mut kept = Wire::to(balancer.main).await;
    assert_eq!(ask(&mut kept, "/x").await.status, 200);
    // More than all buffers on its way hold.
    const BYTES: usize = 64 * 1024 * 1024;
    let mut download = TcpStream::connect(balancer.main.address).await.expect("it listens");
    let request = format!("GET /download?bytes={BYTES} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).await.expect("it is taken");
    assert_eq!(timeout(LONG, download.read_u8()).await.expect("in time").expect("it begins"), b'H');

    for round in 0..10_u8 {
        let file = format!(
            "proxy.first_byte_timeout = \"{}s\"\nproxy.max_connections_per_replica = {}\nproxy.header_timeout = \"{}s\"\nfleet.failures = {}\n",
            round + 10,
            // Two may be taken, by what stays, at the replica that is asked for a third.
            u32::from(round) * 100 + 3,
            round + 5,
            round + 3
        );
        obeyed(&reload(&balancer, &setup, &file).await);
        let mut frame = [0; MASKED];
        frame[..2].copy_from_slice(&[0x82, 0x88]);
        frame[6..].fill(round);
        socket.write_all(&frame).await.expect("it is there");
        let mut echo = [0; MASKED - 4];
        timeout(LONG, socket.read_exact(&mut echo)).await.expect("in time").expect("it comes back");
        assert_eq!(echo[2..], [round; 8]);
        assert_eq!(ask(&mut kept, "/x").await.status, 200);
    }
    let mut rest = Vec::new();
    timeout(LONG, download.read_to_end(&mut rest)).await.expect("in time").expect("all of it");
    let pieces = rest.iter().filter(|byte| **byte == b'x').count();
    assert!(pieces >= BYTES, "{pieces} of {BYTES}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeat_settings_apply_to_replicas_that_run() {
    let slow = "[fleet]\nheartbeat_interval = \"1h\"\n";
    let setup = Setup::new(SLIPRING).file(slow);
    let balancer = setup.start().await;
    let (events, frozen) = (balancer.events().await, balancer.replica("Server-2").await);
    frozen.process().pause();
    let file = "[fleet]\nheartbeat_interval = \"100ms\"\nfailures = 2\n";
    obeyed(&reload(&balancer, &setup, file).await);
    let died = events.next(0, "flatlined", "Server-2", LONG).await;
    assert!(died.why().contains("2 heartbeats missed"), "{}", died.data);
    let after = events.seen().iter().position(|event| event.data == died.data).expect("it was heard");
    events.next(after, "live", "Server-2", LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_moves_and_a_log_that_cannot_be_begun_is_a_refusal() {
    let setup = Setup::new(SLIPRING).file("log.access = \"json\"\nlog.file = \"one.log\"\n");
    let balancer = setup.start().await;
    let lines = |name: &str| {
        let text = std::fs::read_to_string(setup.folder().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let wait_for = async |name: &str, count: usize| {
        wait_until("the lines are written", LONG, async || match lines(name) {
            lines if lines.len() == count => Ok(lines),
            lines => Err(format!("{lines:?}")),
        })
        .await
    };
    let mut wire = Wire::to(balancer.main).await;
    ask(&mut wire, "/home?1").await;
    obeyed(&reload(&balancer, &setup, "log.access = \"common\"\nlog.file = \"one.log\"\n").await);
    ask(&mut wire, "/home?2").await;
    let told = wait_for("one.log", 2).await;
    assert!(told[0].starts_with('{') && told[1].contains("\"GET /home?2 HTTP/1.1\" 200"), "{told:?}");
    obeyed(&reload(&balancer, &setup, "log.access = \"common\"\nlog.file = \"two.log\"\n").await);
    ask(&mut wire, "/home?3").await;
    assert!(wait_for("two.log", 1).await[0].contains("/home?3"));
    let file = "proxy.paths = \"/*\"\nlog.access = \"common\"\nlog.file = \"nowhere/three.log\"\n";
    let told = refused(&reload(&balancer, &setup, file).await);
    assert!(told.contains("the access log (log.file) cannot be opened; nothing was changed"), "{told}");
    assert_eq!(ask(&mut wire, "/other").await.status, 400);
    assert!(wait_for("two.log", 2).await[1].contains("/other"));
    obeyed(&reload(&balancer, &setup, "").await);
    ask(&mut wire, "/home?4").await;
    balancer.stop().await;
    assert_eq!((lines("one.log").len(), lines("two.log").len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_come_one_after_the_other_and_none_during_the_end() {
    let setup = replica::program(Setup::new(SLIPRING), "").file("");
    let mut balancer = setup.start().await;
    drop(setup.clone().file("[pool.a]\nroutes = \"/a\"\nfleet.replicas = 1\n"));
    let admin = balancer.admin;
    let both = futures_util::future::join_all((0..4).map(|_| admin.call(Method::POST, "/reload", ""))).await;
    let added = both.iter().filter(|answer| obeyed(answer)["pools"]["added"] == json!(["a"])).count();
    assert_eq!(added, 1, "the others found nothing to change");
    let held = Held::send(&balancer, Method::GET).await;
    balancer.signal(Signal::TERM);
    wait_until("it is stopping", LONG, async || {
        let answer = admin.get("/readyz").await;
        if answer.json()["stopping"] == true { Ok(()) } else { Err(answer.text().to_owned()) }
    })
    .await;
    let answer = admin.call(Method::POST, "/reload", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")), "{}", answer.text());
    held.let_go();
    assert_eq!(held.answer().await.expect("an answer").status, 200);
    assert_eq!(balancer.ended(LONG).await.code(), Some(0));
}
