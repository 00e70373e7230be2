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
use slipring_tests::docker::{Fleet, engine};
use slipring_tests::{Balancer, Event, Events, Keys, Load, Replica, Setup, measured, wait_until};
use tokio::sync::Mutex;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// From a death, or from its detection where only heartbeats tell, to the successor's first heartbeat.
const HEALED: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);
/// What a loaded machine adds to a bound that is made of timers.
const SLACK: Duration = Duration::from_millis(300);

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
async fn check_healing(fault: impl AsyncFn(&Docker, &Replica), why: &[&str], detected: Duration) {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    let balancer = setup(&fleet).start_with(&names).await;
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
    assert_eq!(balancer.admin.get("/readyz").await.status, 200, "N again");
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
    check_healing(kill, &KILLED, Duration::ZERO).await;
}

/// The engine is removing the container while the balancer wants its name again.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_somebody_removes_is_replaced_as_well() {
    check_healing(remove, &KILLED, Duration::ZERO).await;
}

/// A paused container accepts connections and answers none: heartbeats alone tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_container_is_detected_by_heartbeat_and_no_request_fails() {
    let (interval, timeout, failures) = (Duration::from_secs(1), Duration::from_secs(1), 3);
    check_healing(pause, &["3 heartbeats missed"], interval * failures + timeout + SLACK).await;
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
    let Some(docker) = engine().await else { return };
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
    let Some(docker) = engine().await else { return };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_exits_on_start_waits_ever_longer_and_leaves_nothing_behind() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine().await else { return };
    let fleet = Fleet::new();
    fleet.build_image(&docker, SLIPRING).await;
    // A replica that cannot listen where it is to.
    let balancer = setup(&fleet).set("docker.image", fleet.image()).start_with(&fleet.names(2)).await;
    let events = balancer.events().await;
    let name = &fleet.names(1)[0];
    for expected in [0, 100, 200] {
        let (past, victim) = (events.seen().len(), balancer.replica(name).await);
        kill(&docker, &victim).await;
        let again = events.next(past, "respawning", name, LONG).await;
        let wait = again.data["backoff_ms"].as_u64().expect("milliseconds");
        // What was left of the wait when the corpse was gone.
        assert!(wait <= expected, "{wait} ms where {expected} were expected");
        healed(&events, past, name).await;
    }
    assert_eq!(fleet.containers(&docker).await.len(), 2);
    let other = &balancer.replicas().await[1];
    assert_eq!((other.restarts, other.state.as_str()), (0, "live"), "the other is unaffected");
    balancer.stop().await;
}
