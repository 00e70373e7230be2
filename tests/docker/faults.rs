//! Replicas as containers, and what happens to them: killed, paused, removed behind the balancer's back, left
//! alone by a balancer that died.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{
    InspectNetworkOptions, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use serde_json::Value;
use slipring_tests::docker::{Fleet, engine_at_length};
use slipring_tests::{Balancer, Event, Events, Keys, Load, Replica, Setup, measured, wait_until};
use tokio::sync::Mutex;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// From a death, or from its detection where only heartbeats tell, to the successor's first heartbeat.
const HEALED: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

/// Times are measured here, and the engine does one thing at a time: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

fn setup(fleet: &Arc<Fleet>) -> Setup {
    Setup::docker(SLIPRING, fleet.clone()).set("proxy.key", "header:x-key,random")
}

fn container(replica: &Replica) -> &str {
    replica.container.as_deref().unwrap_or_else(|| panic!("{replica:?} is no container"))
}

async fn kill(docker: &Docker, replica: &Replica) {
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    docker.kill_container(container(replica), Some(options)).await.expect("it is killed");
}

async fn remove(docker: &Docker, replica: &Replica) {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(container(replica), Some(options)).await.expect("it is removed");
}

async fn pause(docker: &Docker, replica: &Replica) {
    docker.pause_container(container(replica)).await.expect("it is paused");
}

/// Waits for the death and the next life of `name`, both after the first `past` events.
async fn healed(events: &Events, past: usize, name: &str) -> (Event, Event) {
    let died = events.next(past, "flatlined", name, LONG).await;
    let after = events.seen().iter().position(|event| event.data == died.data).expect("it was heard");
    (died, events.next(after, "live", name, LONG).await)
}

/// The engine's event, or a request that was quicker than it.
const KILLED: [&str; 2] = ["exit code 137", "connection refused"];

/// What must hold when a replica is hurt by `fault` under a constant load. `detected`: how long heartbeats may take
/// to tell; zero if the container's end itself tells.
async fn check_healing(
    settings: &[(&str, &str)],
    fault: impl AsyncFn(&Docker, &Replica),
    why: &[&str],
    detected: Duration,
) {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    let setup = settings.iter().fold(setup(&fleet), |setup, (key, value)| setup.set(key, value));
    let balancer = setup.start_with(&names).await;
    let (victim, owners) = (balancer.replica(&names[1]).await, balancer.owners().await);
    let others = owners.iter().filter(|(_, owner)| **owner != victim.name).map(|(key, _)| key.clone());
    let others: Vec<_> = others.filter(|key| key.starts_with("user-")).take(20).collect();
    let events = balancer.events().await;
    let load = Load::start(balancer.main, "/home", 200);
    let sticky = Keys::start(balancer.main, others);
    load.more(100).await;

    let past = events.seen().len();
    let hurt = Instant::now();
    fault(&docker, &victim).await;
    let (died, live) = healed(&events, past, &victim.name).await;
    assert!(why.iter().any(|why| died.why().contains(why)), "seen for what it was: {}", died.data);
    let (detection, recovery) = (died.heard - hurt, live.heard - hurt);
    assert!(recovery <= detected + HEALED, "N again after {recovery:?}, detected after {detection:?}");
    assert!(detected.is_zero() || detection <= detected, "detected after {detection:?}");
    assert_eq!(balancer.admin.get("/readyz?all=true").await.status, 200, "N again");
    measured(&format!("detected after {detection:?}, N again after {recovery:?}"));

    load.more(100).await;
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
    let now = balancer.replica(&victim.name).await;
    assert_eq!((now.id, now.restarts), (victim.id, 1));
    assert_ne!(container(&now), container(&victim));
    assert_eq!(fleet.containers(&docker).await.len(), 3, "nothing is left of the dead container");
    balancer.stop().await;
    assert_eq!(fleet.containers(&docker).await.len(), 0, "a stop removes what was started");
    let network = docker.inspect_network(&fleet.network, None::<InspectNetworkOptions>).await;
    assert!(network.is_err(), "its network too: {network:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_is_replaced_within_three_seconds_and_no_request_fails() {
    check_healing(&[], kill, &KILLED, Duration::ZERO).await;
}

/// The engine is removing the container while the balancer wants its name again.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_removes_is_replaced_as_well() {
    check_healing(&[], remove, &KILLED, Duration::ZERO).await;
}

/// A paused container accepts connections and answers none: heartbeats alone tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_is_detected_by_heartbeat_and_no_request_fails() {
    let (interval, timeout, failures) = (Duration::from_secs(1), Duration::from_millis(500), 3);
    let settings =
        [("fleet.heartbeat_interval", "1s"), ("fleet.heartbeat_timeout", "500ms"), ("fleet.failures", "3")];
    check_healing(&settings, pause, &["3 heartbeats missed"], interval * failures + timeout).await;
}

/// What must be the same for the next balancer: names, numbers, containers, ring, keys.
async fn identity(balancer: &Balancer) -> (Vec<(String, u64, String)>, Value, Vec<(String, String)>) {
    let replicas = balancer.replicas().await;
    let members =
        replicas.iter().map(|replica| (replica.name.clone(), replica.id, container(replica).to_owned()));
    let ring = balancer.admin.get("/ring").await.json()["occupied"].clone();
    (members.collect(), ring, balancer.owners().await.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_of_a_killed_balancer_are_adopted_by_the_next() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(5);
    // A crowded ring with a history.
    let setup = setup(&fleet).set("ring.hash", "given").set("ring.slots", 72);
    let mut balancer = setup.start_with(&names[..4]).await;
    let events = balancer.events().await;
    assert_eq!(balancer.remove(1, &names[..1]).await.status, 200);
    events.next(0, "stopped", &names[0], LONG).await;
    assert_eq!(balancer.add(1, &names[4..]).await.status, 200);
    let before = identity(&balancer).await;
    assert_eq!(before.0.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), [2, 3, 4, 1]);
    balancer.kill().await;
    let running = fleet.containers(&docker).await;
    let up = running
        .iter()
        .filter(|container| container.state.is_some_and(|state| state.to_string() == "running"));
    assert_eq!(up.count(), 4, "containers outlive their balancer");

    let began = Instant::now();
    let mut balancer = setup.start().await;
    measured(&format!("4 adopted and live {:?} after the start", began.elapsed()));
    assert_eq!(identity(&balancer).await, before);
    assert_eq!(fleet.containers(&docker).await.len(), 4, "none is doubled, none orphaned");
    let seen = balancer.events().await;
    for (name, _, _) in &before.0 {
        seen.next(0, "adopted", name, LONG).await;
    }
    for _ in 0..30 {
        assert_eq!(balancer.main.get("/home").await.status, 200);
    }

    // Without the memory the labels alone tell who is who; the ring's history is lost with it.
    balancer.kill().await;
    std::fs::remove_file(setup.state_file()).expect("it was remembered");
    let balancer = setup.start().await;
    let members: BTreeSet<_> = identity(&balancer).await.0.into_iter().collect();
    assert_eq!(members, before.0.into_iter().collect());
    assert_eq!(fleet.containers(&docker).await.len(), 4);
    balancer.stop().await;
    assert_eq!(fleet.containers(&docker).await.len(), 0);
}

/// While nobody watched one died, one was removed, and one appeared that belongs to no member.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopting_balancer_mends_what_happened_meanwhile() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(4);
    let setup = setup(&fleet);
    let mut balancer = setup.start_with(&names).await;
    let (replicas, owners) = (balancer.replicas().await, balancer.owners().await);
    balancer.kill().await;
    kill(&docker, &replicas[0]).await;
    remove(&docker, &replicas[1]).await;
    // Forget the last: its container is nobody's now.
    let mut state: Value =
        serde_json::from_slice(&std::fs::read(setup.state_file()).expect("remembered")).expect("JSON");
    state["replicas"].as_array_mut().expect("a list").retain(|replica| replica["name"] != names[3]);
    std::fs::write(setup.state_file(), state.to_string()).expect("the folder is ours");

    let balancer = setup.start().await;
    assert_eq!(balancer.names().await, names[..3]);
    let events = balancer.events().await;
    events.next(0, "orphan", &names[3], LONG).await;
    wait_until("the orphan is removed", LONG, async || {
        let containers = fleet.containers(&docker).await;
        if containers.len() == 3 { Ok(()) } else { Err(format!("{} containers", containers.len())) }
    })
    .await;
    let now = balancer.replicas().await;
    assert_eq!(container(&now[2]), container(&replicas[2]), "the survivor was adopted");
    assert!(container(&now[0]) != container(&replicas[0]) && container(&now[1]) != container(&replicas[1]));
    for (key, owner) in balancer.owners().await {
        assert!(owner == owners[&key] || owners[&key] == names[3], "{key} moved needlessly");
    }
    balancer.stop().await;
}

/// The engine gives the address of a container that is gone to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopting_balancer_sends_no_request_to_a_stranger_at_a_members_old_address() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    fleet.build_image(&docker, SLIPRING).await;
    let setup = setup(&fleet);
    let mut balancer = setup.start_with(&names).await;
    let seen = balancer.admin.get("/replicas").await.json();
    let address = seen["replicas"][1]["address"].as_str().expect("it runs").to_owned();
    let victim = balancer.replica(&names[1]).await;
    balancer.kill().await;
    remove(&docker, &victim).await;
    let stranger = fleet.run(&docker, &format!("{}-stranger", fleet.label), &["server"], false).await;
    let strangers = fleet.address(&docker, &stranger).await;
    assert!(address.starts_with(&format!("{strangers}:")), "there is a danger: {address}, {strangers}");

    let balancer = setup.launch().await;
    let ask = async |times: usize| {
        for _ in 0..times {
            let answer = balancer.main.get("/home").await;
            assert_eq!(answer.status, 200);
            // A stranger has the number 0.
            assert!(!answer.text().contains("Server: 0"), "a stranger answered: {}", answer.text());
        }
    };
    ask(100).await;
    balancer.ready().await;
    ask(300).await;
    assert_eq!(balancer.names().await, names);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_six_containers_killed_at_once_are_replaced_in_batches() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(6);
    let balancer = setup(&fleet).set("fleet.task_batch", 2).start_with(&names).await;
    let (events, owners) = (balancer.events().await, balancer.owners().await);
    let replicas = balancer.replicas().await;
    let load = Load::start(balancer.main, "/home", 100);
    load.more(50).await;
    let past = events.seen().len();
    let hurt = Instant::now();
    let (docker, victims) = (&docker, &replicas[..3]);
    futures_util::future::join_all(victims.iter().map(|victim| kill(docker, victim))).await;
    for victim in victims {
        healed(&events, past, &victim.name).await;
    }
    measured(&format!("6 again {:?} after 3 were killed, two at a time", hurt.elapsed()));
    assert_eq!(balancer.admin.get("/readyz?all=true").await.status, 200, "N again");
    load.more(50).await;
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
    let now = balancer.replicas().await;
    assert!(now[3..].iter().zip(&replicas[3..]).all(|(now, before)| now == before), "the others live on");
    assert_eq!(balancer.owners().await, owners, "no key moved");
    assert_eq!(fleet.containers(docker).await.len(), 6);
    balancer.stop().await;
}

/// Two replicas run when their image is replaced by one whose command ends at once; then one of them dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_exits_on_start_waits_ever_longer_and_leaves_nothing_behind() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    fleet.build_image(&docker, SLIPRING).await;
    let balancer = setup(&fleet).set("docker.image", fleet.image()).start_with(&names).await;
    let (events, replicas) = (balancer.events().await, balancer.replicas().await);
    fleet.build_image_that_runs(&docker, SLIPRING, "no-such-role").await;
    let load = Load::start(balancer.main, "/home", 50);
    let past = events.seen().len();
    kill(&docker, &replicas[0]).await;
    // Each wait from a death, or a start that failed, to the next start: in milliseconds.
    let waits = |seen: &[Event]| {
        let mine = seen.iter().skip(past).filter(|event| event.replica == names[0]);
        let (mut waits, mut died) = (Vec::new(), None);
        for event in mine {
            match event.name.as_str() {
                "flatlined" | "spawn_failed" => died = died.or(Some(event.unix_ms())),
                "spawning" => waits.extend(died.take().map(|at| event.unix_ms() - at)),
                _ => {}
            }
        }
        waits
    };
    let after = async |times: usize| {
        let enough = |seen: &[Event]| Some(waits(seen)).filter(|waits| waits.len() >= times);
        events.until(&format!("{times} starts"), LONG, enough).await
    };
    let measured_waits = after(6).await;
    for (wait, least) in measured_waits.iter().zip([0, 100, 200, 400, 800, 1600]) {
        // News are told a moment after what they tell of.
        assert!(wait + 10 >= least, "{measured_waits:?}");
    }
    measured(&format!("waits of {measured_waits:?} ms"));
    let (cpu, began) = (balancer.process.cpu(), Instant::now());
    after(7).await;
    let (used, watched) = (balancer.process.cpu() - cpu, began.elapsed());
    assert!(watched > Duration::from_secs(3), "there was something to watch: {watched:?}");
    assert!(used < watched / 20, "the balancer used {used:?} of {watched:?}");
    measured(&format!("{used:?} of processor time in {watched:?}"));

    load.stop().await.assert_no_failure();
    // Of each death the first word counts; a reconciliation that is quicker than the engine's event knows no reason.
    let told = |event: &Event| event.replica == names[0] && event.why().contains("no-such-role");
    assert!(events.seen().iter().any(told), "what the container said is told: {:?}", events.seen());
    assert_eq!(balancer.replicas().await[1], replicas[1], "the other lives as it did");
    assert!(fleet.containers(&docker).await.len() <= 2, "corpses are removed");
    balancer.stop().await;
    assert_eq!(fleet.containers(&docker).await.len(), 0);
}
