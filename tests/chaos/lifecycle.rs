//! Beginnings and ends: of a removed replica, of the balancer, and what a new balancer finds of an old one.

use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use slipring_tests::replica::{self, Held};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Balancer, Process, Setup, measured, skipped, wait_until};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// Times are measured here: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// No test by itself: what the replicas of some tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

fn setup() -> Setup {
    Setup::new(SLIPRING).set("proxy.key", "header:x-key,random")
}

async fn gone(process: Process, within: Duration) {
    wait_until("the process ends", within, async || {
        process.state().map_or(Ok(()), |state| Err(state.into()))
    })
    .await;
}

async fn processes(balancer: &Balancer) -> Vec<Process> {
    balancer.replicas().await.iter().map(|replica| replica.process()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_replica_finishes_what_it_has_and_gets_nothing_new() {
    let _alone = ALONE.lock().await;
    let balancer = replica::program(setup(), "").start().await;
    let (events, owner) = (balancer.events().await, balancer.owner("ann").await);
    let process = balancer.replica(&owner).await.process();
    let held = Held::send(&balancer, Method::GET).await;
    let answer = balancer.remove(1, &[&owner]).await;
    assert_eq!(answer.status, 200, "answered when it is out of the ring, not when it is gone");
    assert!(!balancer.names().await.contains(&owner) && balancer.names().await.len() == 2);
    assert_eq!(balancer.replica(&owner).await.state, "draining");
    assert!(process.is_running() && !held.is_answered());
    for _ in 0..50 {
        let answer = balancer.main.with_headers(Method::GET, "/home", &[("x-key", "ann")], "").await;
        assert!(answer.status == 200 && answer.replica() != owner, "no new request reaches it");
    }
    events.next(0, "draining", &owner, LONG).await;
    held.let_go();
    let answer = held.answer().await.expect("the request in flight is answered");
    assert_eq!((answer.status.as_u16(), answer.text(), answer.replica()), (200, "let go", owner.as_str()));
    events.next(0, "stopped", &owner, LONG).await;
    assert!(!process.is_running());
    assert!(!events.seen().iter().any(|event| event.name == "flatlined"), "it was no death");
    balancer.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_timeout_ends_what_does_not_finish() {
    let _alone = ALONE.lock().await;
    let setup = replica::program(setup(), "stubborn").set("fleet.stop_timeout", "400ms");
    let balancer = setup.start().await;
    let (events, owner) = (balancer.events().await, balancer.owner("ann").await);
    let process = balancer.replica(&owner).await.process();
    // It had a body: nobody knows whether it may be repeated elsewhere.
    let held = Held::send(&balancer, Method::POST).await;
    let began = Instant::now();
    assert_eq!(balancer.remove(1, &[&owner]).await.status, 200);
    let answer = held.answer().await.expect("the client is told");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let drained = began.elapsed();
    assert!(drained >= Duration::from_millis(400), "the drain had its time: {drained:?}");
    // Then the polite signal, which this replica does not obey, and after as long again the kill.
    events.next(0, "stopped", &owner, LONG).await;
    let stopped = began.elapsed();
    assert!(stopped >= Duration::from_millis(800), "so had the polite signal: {stopped:?}");
    assert!(stopped <= Duration::from_millis(2300), "{stopped:?}");
    assert!(!process.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_replica_is_stopped_politely_and_at_once() {
    let _alone = ALONE.lock().await;
    let balancer = setup().set("fleet.stop_timeout", "20s").start().await;
    let events = balancer.events().await;
    let began = Instant::now();
    assert_eq!(balancer.remove(1, &["Server-2"]).await.status, 200);
    events.next(0, "stopped", "Server-2", LONG).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Its name is free again.
    assert_eq!(balancer.add(1, &["Server-2"]).await.status, 200);
    assert_eq!(balancer.names().await, ["Server-1", "Server-3", "Server-2"]);
    balancer.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_requests_in_flight_and_ends_the_replicas() {
    let _alone = ALONE.lock().await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut balancer = replica::program(setup(), "").start().await;
        let replicas = processes(&balancer).await;
        let held = Held::send(&balancer, Method::POST).await;
        balancer.signal(signal);
        wait_until("no new connection", LONG, async || {
            match TcpStream::connect(balancer.main.address).await {
                Err(_) => Ok(()),
                Ok(_) => Err("a connection".to_owned()),
            }
        })
        .await;
        assert!(balancer.process.is_running() && !held.is_answered());
        held.let_go();
        let answer = held.answer().await.expect("the request in flight is answered");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "let go"));
        assert_eq!(balancer.ended(LONG).await.code(), Some(0));
        assert!(replicas.iter().all(|process| !process.is_running()), "it waits for its replicas' end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_timeout_bounds_a_stop() {
    let _alone = ALONE.lock().await;
    let setup = replica::program(setup(), "stubborn");
    let setup = setup.set("drain_timeout", "300ms").set("fleet.stop_timeout", "300ms");
    let mut balancer = setup.start().await;
    let replicas = processes(&balancer).await;
    let held = Held::send(&balancer, Method::POST).await;
    let began = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended(LONG).await.code(), Some(0));
    // The drain of the requests, that of the replicas, and the polite signal.
    assert!(began.elapsed() < Duration::from_millis(2600), "{:?}", began.elapsed());
    assert!(replicas.iter().all(|process| !process.is_running()));
    assert!(held.answer().await.is_ok_and(|answer| answer.status == 502), "the client is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let _alone = ALONE.lock().await;
    let mut balancer = replica::program(setup(), "stubborn").start().await;
    let replicas = processes(&balancer).await;
    let held = Held::send(&balancer, Method::GET).await;
    balancer.signal(Signal::TERM);
    wait_until("the first signal is heard", LONG, async || {
        if balancer.log().contains("a second signal") { Ok(()) } else { Err(balancer.log()) }
    })
    .await;
    let began = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended(LONG).await.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for process in replicas {
        gone(process, Duration::from_secs(1)).await;
    }
    drop(held);
}

/// Everything that must be the same after a restart.
async fn identity(balancer: &Balancer) -> (Vec<String>, Vec<(String, u64)>, Value, Vec<(String, String)>) {
    let (names, ring) = (balancer.names().await, balancer.admin.get("/ring").await.json());
    let members = balancer.replicas().await.into_iter().filter(|replica| names.contains(&replica.name));
    let ids = members.map(|replica| (replica.name, replica.id)).collect();
    (names, ids, ring, balancer.owners().await.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_members_numbers_and_keys_also_on_a_ring_with_a_history() {
    let _alone = ALONE.lock().await;
    for placement in
        ["ring.hash=given", "ring.hash=sha256", "ring.placement=rendezvous", "ring.placement=maglev"]
    {
        let (key, value) = placement.split_once('=').expect("a setting");
        // On so few slots nearly every virtual server finds its place taken.
        let setup = setup().set(key, value).set("ring.slots", 72).set("fleet.replicas", 6);
        let mut balancer = setup.start().await;
        // The probing of the slot ring depends on who came first.
        assert_eq!(balancer.remove(2, &["Server-1", "Server-3"]).await.status, 200);
        assert_eq!(balancer.add(3, &["c", "a", "b"]).await.status, 200);
        assert_eq!(balancer.remove(1, &["a"]).await.status, 200);
        let before = identity(&balancer).await;
        assert_eq!(before.0, ["Server-2", "Server-4", "Server-5", "Server-6", "c", "b"], "{placement}");

        balancer.kill().await;
        let balancer = setup.start().await;
        assert_eq!(identity(&balancer).await, before, "{placement}: after a kill");
        balancer.stop().await;
        let balancer = setup.clone().set("fleet.replicas", 2).start().await;
        assert_eq!(identity(&balancer).await, before, "{placement}: after a stop");
        balancer.stop().await;
    }
}

/// With the same members, but not the same history, the ring is another: remembering slots is not in vain.
#[tokio::test(flavor = "multi_thread")]
async fn the_ring_has_a_history() {
    let _alone = ALONE.lock().await;
    let setup = setup().set("ring.hash", "given").set("ring.slots", 72).set("fleet.replicas", 6);
    let balancer = setup.start().await;
    assert_eq!(balancer.remove(2, &["Server-1", "Server-3"]).await.status, 200);
    let remembered = balancer.admin.get("/ring").await.json()["occupied"].clone();
    balancer.stop().await;
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(setup.state_file()).expect("it is remembered")).expect("JSON");
    for replica in state["replicas"].as_array_mut().expect("a list") {
        assert!(replica.as_object_mut().expect("an entry").remove("slots").is_some(), "slots are remembered");
    }
    std::fs::write(setup.state_file(), state.to_string()).expect("the folder is ours");
    let balancer = setup.start().await;
    assert_ne!(balancer.admin.get("/ring").await.json()["occupied"], remembered);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_fleet_is_remembered_too() {
    let _alone = ALONE.lock().await;
    let setup = setup();
    let balancer = setup.start().await;
    assert_eq!(balancer.remove(3, &[""; 0]).await.status, 200);
    balancer.stop().await;
    let balancer = setup.launch().await;
    assert_eq!(balancer.names().await, [""; 0]);
    balancer.stop().await;
}

/// In the balancer's folder.
const ASIDE: &str = ".slipring/state.json.corrupt-1";

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_memory_is_set_aside_with_a_message() {
    let _alone = ALONE.lock().await;
    let member = json!({ "id": 1, "name": "../../etc" });
    let hostile = json!({ "version": 1, "placement": "Rendezvous", "replicas": [member] }).to_string();
    for text in ["", "{\"version\":1,\"placement\":\"Rende", "\0\0\0\0", &hostile] {
        let setup = setup();
        std::fs::create_dir_all(setup.state_file().parent().expect("a folder")).expect("the folder is ours");
        std::fs::write(setup.state_file(), text).expect("the folder is ours");
        let balancer = setup.start().await;
        assert_eq!(balancer.names().await, ["Server-1", "Server-2", "Server-3"], "never fatal, never obeyed");
        let aside = setup.folder().join(ASIDE);
        assert_eq!(std::fs::read_to_string(&aside).expect("it is kept"), text);
        let events = balancer.events().await;
        let warned =
            |seen: &[slipring_tests::Event]| seen.iter().find(|event| event.name == "warning").cloned();
        let warning = events.until("a warning", LONG, warned).await;
        let words = warning.why();
        assert!(words.contains("corrupt") && words.contains(ASIDE), "{words}");
        balancer.said(&["corrupt", ASIDE]).await;
        balancer.stop().await;
        let members = std::fs::read_to_string(setup.state_file()).expect("a new one was written");
        assert!(members.contains("Server-3"), "{members}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_says_why() {
    let _alone = ALONE.lock().await;
    let balancer = setup().start().await;
    let address = balancer.main.address.to_string();
    let output = setup().set("listen", &address).output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains(&address) && words.contains("is another program there?"), "{words}");

    let output = setup().set("fleet.replicas", "many").set("fleet.hearbeat_interval", "1s").output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let both = words.contains("fleet.replicas") && words.contains("fleet.heartbeat_interval");
    assert!(both, "every mistake at once, and what would be right: {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_an_error_of_the_start() {
    let output = setup().set("process.command", "/nonexistent/program").output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("process.command") && words.contains("/nonexistent/program"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_goes_away_is_named_and_tried_ever_more_seldom() {
    let _alone = ALONE.lock().await;
    let setup = setup();
    let program = setup.folder().join("program");
    std::os::unix::fs::symlink(std::env::current_exe().expect("tests are files"), &program).expect("a link");
    let command = format!("{},{},--exact,--nocapture", program.display(), replica::PROGRAM);
    let setup = replica::program(setup, "").set("process.command", command).set("fleet.replicas", 1);
    let balancer = setup.start().await;
    let events = balancer.events().await;
    std::fs::remove_file(&program).expect("it was there");
    balancer.replica("Server-1").await.process().kill();
    let waits = |seen: &[slipring_tests::Event]| {
        let respawning: Vec<_> = seen.iter().filter(|event| event.name == "respawning").collect();
        (respawning.len() >= 4).then(|| respawning[3].data["backoff_ms"].as_u64())
    };
    let fourth = events.until("four respawns", LONG, waits).await;
    assert!((300..=400).contains(&fourth.expect("milliseconds")), "{fourth:?}");
    wait_until("the reason", LONG, async || {
        let log = balancer.log();
        if log.contains(&*program.display().to_string()) { Ok(()) } else { Err(log) }
    })
    .await;
    let began = Instant::now();
    balancer.stop().await;
    measured(&format!("stopped after {:?}", began.elapsed()));
}

/// Checks a configuration file with the real executable.
async fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("slipring.toml");
    std::fs::write(&file, text).expect("the folder is ours");
    let file = file.to_str().expect("a path in ASCII");
    let output = slipring_tests::run(SLIPRING, &["balancer", "--check", "--config", file], &[], "").await;
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(words).expect("words"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_with_lines_and_an_exit_code() {
    let (code, words) = check("[fleet]\nreplicas = 4\n").await;
    assert_eq!((code, words.trim()), (Some(0), "the configuration is valid"));
    let (code, words) = check(include_str!("../../slipring.example.toml")).await;
    assert_eq!(code, Some(0), "{words}");
    let faulty = "listen = \"nowhere\"\n\n[fleet]\nreplicas = -1\nfailure = 3\nbackoff_max = \"1ms\"\n";
    let (code, words) = check(faulty).await;
    assert_eq!(code, Some(2), "{words}");
    for part in ["toml:1:1", "toml:4:1", "toml:5:1", "`fleet.failures`", "toml:6:1", "4 mistakes"] {
        assert!(words.contains(part), "{part:?} is missing:\n{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_certificates_are_checked_as_everything_else_is() {
    let faulty = "[tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"/nowhere/a.pem\"\nkey = \"/nowhere/a.key\"\n\
        [admin]\ntls_certificate = \"/nowhere/b.pem\"\ntls_key = \"/nowhere/b.key\"\nmax_connections = 0\n";
    let (code, words) = check(faulty).await;
    assert_eq!(code, Some(2), "{words}");
    for part in ["toml:3:1", "/nowhere/a.pem", "toml:6:1", "/nowhere/b.pem", "toml:8:1", "3 mistakes"] {
        assert!(words.contains(part), "{part:?} is missing:\n{words}");
    }
}

/// What the membership file may hold after the configuration changed: more than is wanted now.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_beyond_the_limits_is_kept_or_refused_and_never_taken_for_corrupt() {
    let _alone = ALONE.lock().await;
    let setup = setup().set("fleet.replicas", 5);
    let balancer = setup.start().await;
    let names = balancer.names().await;
    balancer.stop().await;
    let remembered = std::fs::read_to_string(setup.state_file()).expect("it is remembered");

    let few = setup.clone().set("fleet.max_replicas", 2).set("fleet.replicas", 2);
    let balancer = few.start().await;
    assert_eq!(balancer.names().await, names, "a lower limit costs nobody");
    let answer = balancer.add(1, &["x"]).await;
    assert!(answer.status == 400 && answer.text().contains("not enough slots: 0 more"), "{}", answer.text());
    balancer.stop().await;

    let small = setup.clone().set("ring.hash", "given").set("ring.slots", 36).set("fleet.replicas", 2);
    let output = small.output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in ["5 replicas are remembered", "holds 4", "ring.slots", "remove 1 replicas"] {
        assert!(words.contains(part), "{words:?} does not say {part:?}");
    }
    assert_eq!(std::fs::read_to_string(setup.state_file()).expect("it is where it was"), remembered);
    let balancer = setup.start().await;
    assert_eq!(balancer.names().await, names, "nobody is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_written_says_so_and_is_written_when_it_can_be() {
    let _alone = ALONE.lock().await;
    let setup = setup();
    let balancer = setup.start().await;
    let answer = balancer.add(1, &["written"]).await;
    assert_eq!((answer.status.as_u16(), answer.header("warning")), (200, None));
    let (folder, away) = (setup.folder().join(".slipring"), setup.folder().join("away"));
    std::fs::rename(&folder, &away).expect("the folder is ours");
    std::fs::write(&folder, "in the way").expect("the folder is ours");
    let answer = balancer.add(1, &["unwritten"]).await;
    assert_eq!(answer.status, 200, "it is in effect: {}", answer.text());
    let warning = answer.header("warning").expect("the answer says that it is not on disk").to_owned();
    for part in ["199 slipring", "not remembered yet", "membership file"] {
        assert!(warning.contains(part), "{warning:?} does not say {part:?}");
    }
    let answer = balancer.remove(1, &["written"]).await;
    assert!(answer.status == 200 && answer.header("warning").is_some(), "{answer:?}");
    let events = balancer.events().await;
    let warned = |seen: &[slipring_tests::Event]| seen.iter().find(|event| event.name == "warning").cloned();
    assert!(events.until("a warning", LONG, warned).await.why().contains("state.json"));

    std::fs::remove_file(&folder).expect("it was there");
    std::fs::rename(&away, &folder).expect("the folder is ours");
    wait_until("the change is written", LONG, async || {
        let text = std::fs::read_to_string(setup.state_file()).map_err(|error| error.to_string())?;
        if text.contains("\"unwritten\"") && !text.contains("\"written\"") { Ok(()) } else { Err(text) }
    })
    .await;
    balancer.stop().await;
}

/// In a container without an init the balancer is process 1, and everybody's orphans are its children.
#[tokio::test(flavor = "multi_thread")]
async fn as_process_1_it_leaves_no_zombies_of_its_replicas_children() {
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let allowed = std::process::Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        return skipped("namespaces", "this user may not make a process namespace (unshare)");
    }
    // Each life ends at once and leaves a process behind, which is ended with its group.
    let setup =
        Setup::new(SLIPRING).set("process.command", "sh,-c,sleep 1000 & exit 7").set("fleet.replicas", 1);
    let mut balancer = setup.under(&wrapper).launch().await;
    let events = balancer.events().await;
    let lives = |seen: &[slipring_tests::Event]| {
        Some(seen.iter().filter(|event| event.name == "respawning").count()).filter(|&lives| lives >= 4)
    };
    events.until("four lives", LONG, lives).await;
    let below = balancer.process;
    wait_until("no zombies", LONG, async || match below.zombies_below() {
        0 => Ok(()),
        zombies => Err(format!("{zombies} zombies")),
    })
    .await;
    // The signal is for process 1, which is the wrapper's child.
    below.only_child().signal(Signal::TERM);
    assert_eq!(balancer.ended(LONG).await.code(), Some(0), "passed on, and its exit code passed back");
}

/// While no descriptor is left there is always something to accept, and the order to end is heard all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_without_open_files_ends_when_it_is_asked_to() {
    let _alone = ALONE.lock().await;
    let upstream = Upstream::serve(|_| async { hyper::Response::new(whole("hello")) }).await;
    let mut balancer = Setup::fixed(SLIPRING, &[upstream.address]).start().await;
    balancer.allow_open_files(1);
    let waiting = TcpStream::connect(balancer.main.address).await.expect("the kernel takes it");
    wait_until("it cannot accept", LONG, async || {
        let log = balancer.log();
        if log.contains("a connection could not be accepted") { Ok(()) } else { Err(log) }
    })
    .await;
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended(LONG).await.code(), Some(0), "an orderly end: {}", balancer.log());
    drop(waiting);
}
