//! Replicas as processes, and what happens to them: killed, paused, never quite starting, refusing connections.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use hyper::Method;
use slipring_tests::replica::{self, Held};
use slipring_tests::{Balancer, Event, Events, Keys, Load, Process, Setup, measured, wait_until};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// From a death, or from its detection where only heartbeats tell, to the successor's first heartbeat.
const HEALED: Duration = Duration::from_secs(1);
/// For what has no bound of its own.
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

/// Waits for the death and the next life of `name`, both after the first `past` events.
async fn healed(events: &Events, past: usize, name: &str) -> (Event, Event) {
    let died = events.next(past, "flatlined", name, LONG).await;
    let after = events.seen().iter().position(|event| event.data == died.data).expect("it was heard");
    (died, events.next(after, "live", name, LONG).await)
}

/// What must hold when a replica is hurt by `fault` so many times, one after another, under a constant load.
/// `detected`: how long heartbeats may take to tell; zero if the process's end itself tells.
async fn check_healing(setup: Setup, fault: impl Fn(Process), times: u64, why: &str, detected: Duration) {
    let _alone = ALONE.lock().await;
    let balancer = setup.start().await;
    let (before, owners) = (balancer.replica("Server-2").await, balancer.owners().await);
    let others = owners.iter().filter(|(_, owner)| **owner != before.name).map(|(key, _)| key.clone());
    let others: Vec<_> = others.filter(|key| key.starts_with("user-")).take(20).collect();
    let events = balancer.events().await;
    let load = Load::start(balancer.main, "/home", 1000);
    let sticky = Keys::start(balancer.main, others);
    for time in 1..=times {
        load.more(200).await;
        let victim = balancer.replica("Server-2").await;
        let (process, past) = (victim.process(), events.seen().len());
        let hurt = Instant::now();
        fault(process);
        let (died, live) = healed(&events, past, &victim.name).await;
        // A request may find the port closed before the kernel has told of the process's end.
        let refused = detected.is_zero() && died.why() == "connection refused";
        assert!(refused || died.why().contains(why), "the fault was seen for what it was: {}", died.data);
        let (detection, recovery) = (died.heard - hurt, live.heard - hurt);
        assert!(recovery <= detected + HEALED, "N again after {recovery:?}, detected after {detection:?}");
        assert!(detected.is_zero() || detection <= detected, "detected after {detection:?}");
        assert_eq!(balancer.admin.get("/readyz?all=true").await.status, 200, "N again");
        measured(&format!(
            "fault {time} detected after {detection:?}, N again {:?} after it",
            live.heard - hurt
        ));

        let now = balancer.replica("Server-2").await;
        assert_eq!((now.id, now.restarts), (before.id, time));
        assert!(now.incarnation > victim.incarnation && now.pid != victim.pid, "{now:?}");
        assert!(!process.is_running() && !process.is_zombie(), "nothing is left of the dead process");
    }
    let answered = balancer.metric("slipring_requests_total", "Server-2").await;
    load.more(200).await;
    let again = balancer.metric("slipring_requests_total", "Server-2").await;
    assert!(again > answered, "the new one answers requests");
    let (sticky, report) = (sticky.stop().await, load.stop().await);
    report.assert_no_failure();
    assert_eq!(report.replicas.len(), 3, "{report:?}");
    measured(&format!("of {} requests none failed, the slowest took {:?}", report.answered, report.slowest));
    for (key, replicas) in sticky {
        assert_eq!(
            replicas,
            BTreeSet::from([owners[&key].clone()]),
            "{key} stayed where it was all the time"
        );
    }
    assert_eq!(balancer.owners().await, owners, "no key moved");
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_within_a_second_and_no_request_fails() {
    check_healing(setup(), Process::kill, 4, "signal: 9", Duration::ZERO).await;
}

/// A paused process accepts connections and answers none: heartbeats alone tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_replica_is_detected_by_heartbeat_and_no_request_fails() {
    let (interval, timeout, failures) = (Duration::from_secs(1), Duration::from_millis(500), 3);
    let setup = setup().set("fleet.heartbeat_interval", "1s").set("fleet.heartbeat_timeout", "500ms");
    let setup = setup.set("fleet.failures", failures);
    check_healing(setup, Process::pause, 1, "3 heartbeats missed", interval * failures + timeout).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_ten_killed_at_once_are_respawned_in_batches() {
    let _alone = ALONE.lock().await;
    let balancer = setup().set("fleet.replicas", 10).set("fleet.task_batch", 2).start().await;
    let (events, owners) = (balancer.events().await, balancer.owners().await);
    let load = Load::start(balancer.main, "/home", 200);
    let replicas = balancer.replicas().await;
    let victims: Vec<_> = replicas.iter().filter(|replica| replica.id % 2 == 0).collect();
    wait_until("every event so far", LONG, async || {
        let live = events.seen().iter().filter(|event| event.name == "live").count();
        if live == 10 { Ok(()) } else { Err(live.to_string()) }
    })
    .await;
    load.more(100).await;
    let past = events.seen().len();
    let hurt = Instant::now();
    victims.iter().for_each(|victim| victim.process().kill());
    for victim in &victims {
        healed(&events, past, &victim.name).await;
    }
    measured(&format!("10 again {:?} after 5 were killed, two at a time", hurt.elapsed()));
    balancer.ready().await;
    load.more(100).await;
    load.stop().await.assert_no_failure();
    let (mut spawning, mut most) = (0, 0);
    for event in &events.seen()[past..] {
        match event.name.as_str() {
            "spawning" => spawning += 1,
            "started" | "spawn_failed" => spawning -= 1,
            _ => {}
        }
        most = most.max(spawning);
    }
    assert_eq!((spawning, most), (0, 2), "as many as task_batch at a time, and never more");
    assert_eq!(balancer.owners().await, owners, "no key moved");
    balancer.stop().await;
}

/// The replicas of a balancer that is gone.
async fn all_gone(processes: &[Process], within: Duration) {
    wait_until("no replica outlives its balancer", within, async || {
        let left: Vec<_> = processes.iter().filter(|process| process.is_running()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

async fn processes(balancer: &Balancer) -> Vec<Process> {
    balancer.replicas().await.iter().map(|replica| replica.process()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_a_killed_balancer_are_gone_within_a_second() {
    let _alone = ALONE.lock().await;
    for setup in [setup(), replica::program(setup(), "stubborn")] {
        let mut balancer = setup.set("fleet.replicas", 5).start().await;
        let replicas = processes(&balancer).await;
        assert!(replicas.len() == 5 && replicas.iter().all(|process| process.is_running()));
        let killed = Instant::now();
        balancer.kill().await;
        all_gone(&replicas, Duration::from_secs(1)).await;
        measured(&format!("all gone {:?} after the balancer was killed", killed.elapsed()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_respawn_keeps_its_number_and_its_keys() {
    let _alone = ALONE.lock().await;
    let balancer = setup().set("fleet.respawn_name", "new").start().await;
    let (events, before) = (balancer.events().await, balancer.replica("Server-2").await);
    let owned: Vec<_> = balancer.owners().await.into_iter().collect();
    before.process().kill();
    let renamed = events
        .until("a new name", LONG, |seen| {
            let renamed = seen.iter().find(|event| event.name == "renamed")?;
            seen.iter().any(|event| event.is("live", &renamed.replica)).then(|| renamed.clone())
        })
        .await;
    assert_eq!(renamed.data["was"], "Server-2");
    assert_eq!(balancer.names().await, ["Server-1", &renamed.replica, "Server-3"]);
    assert_eq!(balancer.replica(&renamed.replica).await.id, before.id);
    for (key, owner) in owned {
        let now = balancer.owner(&key).await;
        assert_eq!(now, if owner == "Server-2" { renamed.replica.clone() } else { owner }, "{key}");
    }
}

/// Replica 4 ends whenever it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_exits_on_start_waits_ever_longer_and_disturbs_nobody() {
    let _alone = ALONE.lock().await;
    let balancer = replica::program(setup(), "fail=4").start().await;
    let (events, others) = (balancer.events().await, balancer.replicas().await);
    let load = Load::start(balancer.main, "/home", 200);
    let answer = balancer.add(1, &["broken"]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let backoffs = |seen: &[Event]| -> Vec<u64> {
        let respawning = seen.iter().filter(|event| event.is("respawning", "broken"));
        respawning.map(|event| event.data["backoff_ms"].as_u64().expect("milliseconds")).collect()
    };
    let after = async |times: usize| {
        let enough = |seen: &[Event]| Some(backoffs(seen)).filter(|backoffs| backoffs.len() >= times);
        events.until(&format!("{times} respawns"), LONG, enough).await
    };
    after(4).await;
    let view = balancer.replica("broken").await;
    assert!(view.restarts >= 3 && view.state != "live", "{view:?}");
    load.stop().await.assert_no_failure();

    let waits = after(6).await;
    // From the sixth death to the seventh, 1.6 seconds and a start later; and then to the eighth, 3.2 seconds.
    let (cpu, began) = (balancer.process.cpu(), Instant::now());
    after(8).await;
    let (used, watched) = (balancer.process.cpu() - cpu, began.elapsed());
    assert!(watched > Duration::from_secs(4), "there was something to watch: {watched:?}");
    assert!(used < watched / 20, "the balancer used {used:?} of {watched:?}");
    measured(&format!("{used:?} of processor time in {watched:?}"));
    for (wait, expected) in waits.iter().zip([0, 100, 200, 400, 800, 1600]) {
        // What was left of the wait when the corpse was gone.
        assert!((expected.max(100) - 100..=expected).contains(wait), "{waits:?}");
    }

    // Its waiting holds up nobody else's healing.
    let past = events.seen().len();
    let hurt = Instant::now();
    others[0].process().kill();
    let (_, live) = healed(&events, past, &others[0].name).await;
    assert!(live.heard - hurt <= HEALED, "{:?}", live.heard - hurt);
    for other in &others[1..] {
        assert_eq!(balancer.replica(&other.name).await, *other, "the others live as they did");
    }
    assert_eq!(balancer.remove(1, &["broken"]).await.status, 200);
    balancer.ready().await;
}

/// Waits until nobody listens where `name` did: its last answer is on its way before its port is closed.
async fn port_closed(balancer: &Balancer, name: &str) {
    let seen = balancer.admin.get("/replicas").await.json();
    let replicas = seen["replicas"].as_array().expect("a list");
    let replica = replicas.iter().find(|replica| replica["name"] == name).expect("it is a member");
    let address = replica["address"].as_str().expect("it runs");
    wait_until("a closed port", LONG, async || match TcpStream::connect(address).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// A replica that lives, answers its heartbeats for the time being, and takes no new connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_goes_to_the_next_replica_unseen() {
    let _alone = ALONE.lock().await;
    let setup = replica::program(setup(), "")
        .set("fleet.heartbeat_interval", "60s")
        .set("fleet.reconcile_interval", "60s");
    let balancer = setup.start().await;
    let events = balancer.events().await;
    for body in ["", "a body of which nothing was consumed"] {
        let owner = balancer.owner("ann").await;
        let key = [("x-key", "ann")];
        let closed = balancer.main.with_headers(Method::GET, "/close", &key, "").await;
        assert_eq!((closed.replica(), closed.text()), (owner.as_str(), "closed"));
        port_closed(&balancer, &owner).await;
        let past = events.seen().len();
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let answer = balancer.main.with_headers(method, "/upload", &key, body).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, body.len().to_string().as_str()));
        assert_ne!(answer.replica(), owner, "another one answered");
        let (died, _) = healed(&events, past, &owner).await;
        assert_eq!(died.why(), "connection refused", "and the refusal was noted at once");
        balancer.ready().await;
        assert_eq!(balancer.owner("ann").await, owner, "the key stays");
    }
    assert!(balancer.metric("slipring_retries_total", "").await >= 2.0);
}

/// The replica dies with the request: what may be repeated is, what may not is owned up to.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_dies_with_its_replica_is_repeated_only_if_it_may_be() {
    let _alone = ALONE.lock().await;
    let balancer = replica::program(setup(), "").start().await;
    let events = balancer.events().await;
    let owner = balancer.owner("ann").await;

    let (held, past) = (Held::send(&balancer, Method::GET).await, events.seen().len());
    let first = held.is_held().await;
    held.forget();
    balancer.replica(&owner).await.process().kill();
    assert_ne!(held.is_held().await, first, "the next replica has it now");
    held.let_go();
    let answer = held.answer().await.expect("it is answered");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "let go"));
    assert_ne!(answer.replica(), owner);
    healed(&events, past, &owner).await;
    balancer.ready().await;

    let (held, past) = (Held::send(&balancer, Method::POST).await, events.seen().len());
    held.forget();
    balancer.replica(&owner).await.process().kill();
    let answer = held.answer().await.expect("the client is told");
    assert_eq!(answer.status, 502, "{}", answer.text());
    healed(&events, past, &owner).await;
}

/// A bound on patience: a replica that is alive but does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_answer_in_time_is_not_asked_twice() {
    let _alone = ALONE.lock().await;
    let balancer = replica::program(setup(), "").set("proxy.first_byte_timeout", "300ms").start().await;
    let held = Held::send(&balancer, Method::GET).await;
    held.forget();
    let began = Instant::now();
    let answer = held.answer().await.expect("the client is told");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(balancer.metric("slipring_retries_total", "").await, 0.0);
}
