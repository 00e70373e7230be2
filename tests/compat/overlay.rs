//! An overlay as a pool: its processes are started, watched, healed and listed, and clients reach its leaders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest, ShutdownRequest};
use slipring_tests::overlay_pool::Overlay;
use slipring_tests::{Answer, Balancer, Replica, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);
const IDS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

fn setup(overlay: &Overlay) -> Setup {
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 0).set("fleet.heartbeat_interval", "200ms");
    setup.set("fleet.start_timeout", "60s").file(&overlay.pool("overlay"))
}

async fn ask(balancer: &Balancer, question: &Value) -> Answer {
    balancer.main.call(Method::POST, "/overlay/query", question.to_string()).await
}

fn pm(least: u32) -> Value {
    json!({ "parameter": "PM2.5", "min_value": least })
}

async fn one(balancer: &Balancer, name: &str) -> Replica {
    let all = balancer.replicas_of("overlay").await;
    all.iter().find(|replica| replica.name == name).cloned().unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

/// Waits until every leader has answered a question with this many rows: one that has just begun may not have heard of
/// its workers yet.
async fn complete(balancer: &Balancer, leaders: &[&str], expected: usize) {
    let mut answered = BTreeSet::new();
    wait_until("complete answers", LONG, async || {
        let answer = ask(balancer, &pm(5)).await;
        if answer.status == 200 && answer.json()["matched"] == expected {
            answered.insert(answer.replica().to_owned());
        }
        let all = leaders.iter().all(|leader| answered.contains(*leader));
        if all { Ok(()) } else { Err(format!("{answered:?}, {} {}", answer.status, answer.text())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_processes_are_members_with_their_names_roles_and_places() {
    let overlay = Overlay::new();
    let balancer = setup(&overlay).start().await;
    let listed = balancer.admin.get("/replicas?pool=overlay").await.json();
    let listed = listed["replicas"].as_array().expect("a list");
    let seen: Vec<_> = listed.iter().map(|r| json!([r["name"], r["id"], r["role"], r["address"]])).collect();
    let expected = IDS.iter().zip(1..).map(|(id, number)| {
        let process = &overlay.file["processes"][id];
        let address = format!("{}:{}", process["host"].as_str().expect("a host"), process["port"]);
        json!([id, number, process["role"], address])
    });
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let rep = balancer.main.get("/rep?pool=overlay").await.json();
    assert_eq!(rep["message"]["replicas"], json!(IDS));
    let pools = balancer.admin.get("/pools").await.json();
    let pool = &pools["pools"][1];
    assert_eq!(
        [&pool["N"], &pool["live"], &pool["overlay"]["E"]],
        [&json!(6), &json!(6), &json!("team_leader")]
    );
    let ring = balancer.admin.get("/ring?pool=overlay").await.json();
    let on_ring: Vec<_> = ring["replicas"].as_array().expect("a list").iter().map(|r| &r["name"]).collect();
    assert_eq!(on_ring, ["A"], "only leaders are on the ring");
    let events = balancer.events().await;
    let live = events.next(0, "live", "D", LONG).await;
    assert_eq!((&live.data["role"], &live.data["pool"]), (&json!("worker"), &json!("overlay")));

    for (method, path) in [(Method::POST, "/add?pool=overlay"), (Method::DELETE, "/rm?pool=overlay")] {
        let refused = balancer.main.call(method, path, r#"{"n":1}"#).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let words = refused.text();
        assert!(words.contains("<Error> ") && words.contains("change overlay.topology"), "{words}");
    }
    let plan = balancer.admin.call(Method::POST, "/plan?pool=overlay", r#"{"add":1}"#).await;
    assert!(plan.status == 400 && plan.text().contains("overlay.topology"), "{}", plan.text());
    let rep = balancer.main.get("/rep?pool=overlay").await.json();
    assert_eq!(rep["message"]["replicas"], json!(IDS), "nothing was changed");
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_go_to_the_leader_and_are_answered_exactly() {
    let overlay = Overlay::new();
    let balancer = setup(&overlay).start().await;
    complete(&balancer, &["A"], overlay.matched("PM2.5", 5)).await;
    let answer = ask(&balancer, &pm(5)).await;
    assert_eq!((answer.status.as_u16(), answer.replica()), (200, "A"), "{}", answer.text());
    let told = answer.json();
    let matched = overlay.matched("PM2.5", 5);
    assert_eq!(
        (&told["status"], &told["matched"], &told["returned"]),
        (&json!("ready"), &json!(matched), &json!(matched))
    );
    let (uid, chunks) = (told["uid"].as_str().expect("a name"), told["chunks"].as_u64().expect("a number"));
    let mut records = 0;
    for chunk in 0..chunks {
        let answer = balancer.main.get(&format!("/overlay/query/{uid}/{chunk}")).await;
        assert_eq!((answer.status.as_u16(), answer.replica()), (200, "A"));
        records += answer.json().as_array().expect("records").len();
    }
    assert_eq!(records, matched);

    let mut client =
        OverlayNodeClient::connect(format!("http://{}", balancer.main.address)).await.expect("it listens");
    let question =
        QueryRequest { query_type: "filter".into(), query_params: pm(5).to_string(), ..Default::default() };
    let response = client.query(question).await.expect("an answer").into_inner();
    assert_eq!((&*response.status, &*response.uid, response.total_chunks as u64), ("ready", uid, chunks));
    let last = ChunkRequest { uid: uid.to_owned(), chunk_index: response.total_chunks - 1 };
    let chunk = client.get_chunk(last).await.expect("an answer").into_inner();
    assert_eq!((&*chunk.status, chunk.is_last), ("success", true));

    for id in &IDS[1..] {
        let asked = balancer.metric("slipring_requests_total", &format!("overlay/{id}")).await;
        assert_eq!(asked, 0.0, "clients' requests reach leaders only, not {id}");
    }
    assert!(balancer.metric("slipring_requests_total", "overlay/A").await >= 3.0 + chunks as f64);

    // The contract's `Shutdown` ends a process; the pool is to have it.
    client.shutdown(ShutdownRequest { graceful: true }).await.expect("an answer");
    wait_until("the leader is back", LONG, async || {
        let leader = one(&balancer, "A").await;
        if leader.restarts == 1 && leader.state == "live" { Ok(()) } else { Err(format!("{leader:?}")) }
    })
    .await;
    complete(&balancer, &["A"], matched).await;
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_comes_back_and_no_answer_is_wrong_meanwhile() {
    let overlay = Overlay::new();
    let balancer = setup(&overlay).start().await;
    let matched = overlay.matched("PM2.5", 5);
    complete(&balancer, &["A"], matched).await;
    let mut asked = 0;
    for id in IDS {
        let before = one(&balancer, id).await;
        before.process().kill();
        let mut failures = Vec::new();
        wait_until("it is back", LONG, async || {
            // Each question has a name of its own: what was kept answers none.
            asked += 1;
            let question = json!({ "parameter": "PM2.5", "min_value": asked % 40, "limit": 1000 + asked });
            let answer = ask(&balancer, &question).await;
            let told = answer.json();
            if answer.status == 200 {
                assert_eq!(told["matched"], overlay.matched("PM2.5", asked % 40), "{id} was killed");
            } else {
                failures.push(told.clone());
            }
            let now = one(&balancer, id).await;
            let back = now.restarts == before.restarts + 1 && now.state == "live" && answer.status == 200;
            if back { Ok(()) } else { Err(format!("{now:?}; {} {told}", answer.status)) }
        })
        .await;
        for told in &failures {
            let named = told["coverage"]["missing"].as_array().is_some_and(|missing| !missing.is_empty());
            assert!(named || id == "A", "{id} was killed, and an answer names nothing: {told}");
        }
        let now = one(&balancer, id).await;
        assert_eq!((now.id, &*now.name), (before.id, id), "the same identity");
        assert_ne!(now.pid, before.pid);
        complete(&balancer, &["A"], matched).await;
    }
    let events = balancer.events().await;
    for id in IDS {
        assert_eq!(events.next(0, "flatlined", id, LONG).await.data["pool"], "overlay");
    }
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_each_day_on_two_workers_one_may_die_and_every_answer_is_complete() {
    let overlay = Overlay::with(|file| {
        file["placement"] = "ring".into();
        file["replicas"] = 2.into();
        for parent in ["B", "E"] {
            file["processes"][parent]["neighbors"] = json!(["A", "C", "D", "F"]);
        }
    });
    let balancer = setup(&overlay).start().await;
    let mut asked = 0;
    // Each question has a name of its own: what was kept answers none.
    let mut ask_anew = async || {
        asked += 1;
        let question = json!({ "parameter": "PM2.5", "min_value": asked % 40, "limit": 1000 + asked });
        (ask(&balancer, &question).await, overlay.matched("PM2.5", asked % 40))
    };
    for id in ["C", "D", "F"] {
        // One death at a time: the others are known to the leader, and work.
        wait_until("all workers answer", LONG, async || {
            let told = ask_anew().await.0.json();
            let visited = told["coverage"]["visited"].as_array().cloned().unwrap_or_default();
            let works =
                |worker: &&str| visited.iter().any(|v| v["process"] == **worker && v["partitions"] != 0);
            if ["C", "D", "F"].iter().all(works) { Ok(()) } else { Err(told.to_string()) }
        })
        .await;
        let before = one(&balancer, id).await;
        before.process().kill();
        wait_until("it is back", LONG, async || {
            let (answer, matched) = ask_anew().await;
            assert_eq!(answer.status, 200, "{id} was killed: {}", answer.text());
            assert_eq!(answer.json()["matched"], matched, "{id} was killed");
            let now = one(&balancer, id).await;
            let back = now.restarts == before.restarts + 1 && now.state == "live";
            if back { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
    }
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_share_the_cursors_by_their_names() {
    let overlay = Overlay::with(|file| Overlay::second_leader(file, "G"));
    let balancer = setup(&overlay).start().await;
    complete(&balancer, &["A", "G"], overlay.matched("PM2.5", 5)).await;
    let mut texts = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for least in 0..30 {
        let told = ask(&balancer, &pm(least)).await.json();
        let next = told["next"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
        let first = balancer.main.get(&next).await;
        assert_eq!(first.status, 200, "{}", first.text());
        for _ in 0..3 {
            assert_eq!(balancer.main.get(&next).await.replica(), first.replica(), "one result, one leader");
        }
        owners.insert(next.clone(), first.replica().to_owned());
        texts.insert(next, first.text().to_owned());
    }
    let both: BTreeSet<_> = owners.values().map(String::as_str).collect();
    assert_eq!(both.into_iter().collect::<Vec<_>>(), ["A", "G"]);

    // What one of them began the other can go on with, to the byte.
    one(&balancer, "G").await.process().kill();
    for (next, text) in &texts {
        assert_eq!(balancer.main.get(next).await.text(), text, "{} had it", owners[next]);
    }
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_elsewhere_is_watched_and_not_started() {
    // Of the addresses for documentation: no machine's.
    let overlay = Overlay::with(|file| file["processes"]["F"]["host"] = "192.0.2.1".into());
    let file = format!("{}fleet.start_timeout = \"1s\"\nfleet.failures = 1000\n", overlay.pool("overlay"));
    let setup = setup(&overlay).file(&file);
    let balancer = setup.launch().await;
    wait_until("five are live", LONG, async || {
        let all = balancer.replicas_of("overlay").await;
        let live: Vec<_> = all.iter().filter(|r| r.state == "live").map(|r| &*r.name).collect();
        if live == IDS[..5] { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    let elsewhere = one(&balancer, "F").await;
    assert_eq!(elsewhere.pid, None, "nothing here is its process: {elsewhere:?}");
    let answer = ask(&balancer, &pm(5)).await;
    let told = answer.json();
    assert_eq!(answer.status, 503, "{told}");
    assert!(!told["coverage"]["missing"].as_array().expect("a list").is_empty(), "{told}");
    balancer.stop().await;
}

/// Whoever sends requests here looks at `/readyz`: workers that live are no use without a leader.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_leader_a_pool_is_not_ready() {
    let overlay = Overlay::with(|file| file["processes"]["A"]["host"] = "192.0.2.1".into());
    let file = format!("{}fleet.start_timeout = \"1s\"\n", overlay.pool("overlay"));
    let balancer = setup(&overlay).file(&file).launch().await;
    let told = wait_until("all but the leader are live", LONG, async || {
        let answer = balancer.admin.get("/readyz").await;
        if answer.json()["live"] == 5 { Ok(answer) } else { Err(answer.text().to_owned()) }
    })
    .await;
    assert_eq!((told.status.as_u16(), &told.json()["ready"]), (503, &json!(false)), "{}", told.text());
    let answer = ask(&balancer, &pm(5)).await;
    assert!(answer.status == 503 && answer.text().contains("no replica is live"), "{}", answer.text());
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_says_something_else_needs_a_restart() {
    let mut overlay = Overlay::new();
    let balancer = setup(&overlay).start().await;
    let before = balancer.replicas_of("overlay").await;
    let same = balancer.admin.call(Method::POST, "/reload", "").await;
    assert_eq!(same.status, 200, "{}", same.text());
    overlay.file["strategies"]["chunk_size"] = 7.into();
    overlay.write();
    let refused = balancer.admin.call(Method::POST, "/reload", "").await;
    let words = refused.text();
    assert_eq!(refused.status, 400, "{words}");
    assert!(words.contains("pool.overlay.overlay.topology") && words.contains("needs a restart"), "{words}");
    assert_eq!(balancer.replicas_of("overlay").await, before);
    // Also for a process that is started again: its neighbors look for it where it was.
    overlay.file["processes"]["F"]["port"] = 1.into();
    overlay.write();
    let matched = overlay.matched("PM2.5", 5);
    let killed = one(&balancer, "F").await;
    killed.process().kill();
    wait_until("it is back where it was", LONG, async || {
        let now = one(&balancer, "F").await;
        let answer = ask(&balancer, &pm(5)).await;
        let told = answer.json();
        let back = now.restarts == killed.restarts + 1 && now.state == "live" && told["matched"] == matched;
        if back { Ok(()) } else { Err(format!("{now:?}; {} {told}", answer.status)) }
    })
    .await;
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_overlays_file_are_told_beside_all_others_and_nothing_starts() {
    let mut overlay = Overlay::with(|file| {
        file["processes"]["B"]["neighbors"] = json!(["A", "C", "D", "Z"]);
        file["processes"]["E"]["role"] = "leader".into();
    });
    overlay.file["processes"]["F"]["port"] = overlay.file["processes"]["C"]["port"].clone();
    overlay.write();
    let pool = overlay.pool("overlay").replace("\"1\"", "\"none\"");
    let output = setup(&overlay).set("fleet.failures", 0).file(&pool).output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    for piece in [
        "`fleet.failures` cannot",
        "there is no process 'Z'",
        "2 leaders (A, E) instead of 1",
        "is C's already",
        "`pool.overlay.overlay.arguments` cannot",
        "--threads",
        "nothing was started",
    ] {
        assert!(words.contains(piece), "{piece:?} is missing from\n{words}");
    }
    for (setting, piece) in [
        ("pool.overlay.overlay.topology=/nonexistent", "/nonexistent cannot"),
        ("pool.overlay.overlay.dataset_root=", "C is a worker"),
        ("pool.overlay.overlay.dataset_root=/nonexistent", "a folder that is there"),
        ("pool.overlay.fleet.upstreams=10.0.0.1:80", "no addresses, and no runtime"),
        ("pool.overlay.process.command=server", "no program beside overlay.topology"),
        ("overlay.dataset_root=/", "overlay.topology beside it"),
    ] {
        let (key, value) = setting.split_once('=').expect("a setting");
        let output = setup(&Overlay::new()).set(key, value).output().await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && words.contains(piece), "{setting}:\n{words}");
    }
}
