//! An overlay as containers: each finds the others by their containers' names, whatever hosts its file says.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
};
use hyper::Method;
use serde_json::json;
use slipring_tests::docker::{Fleet, engine};
use slipring_tests::overlay_pool::Overlay;
use slipring_tests::{Balancer, Replica, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);
const IDS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

/// The pool is called as the fleet's label, and so its containers begin with what no others do.
fn setup(fleet: &Arc<Fleet>, overlay: &Overlay) -> Setup {
    let setup = Setup::docker(SLIPRING, fleet.clone()).file(&overlay.pool(&fleet.label));
    setup.set("fleet.start_timeout", "60s")
}

async fn containers(docker: &Docker, fleet: &Fleet) -> Vec<String> {
    let filters = [("label", vec![format!("slipring.fleet={0}/{0}", fleet.label)])].into();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = docker.list_containers(Some(options)).await.expect("the engine lists containers");
    let mut names: Vec<_> = found.into_iter().filter_map(|one| one.names?.into_iter().next()).collect();
    names.sort();
    names
}

async fn complete(balancer: &Balancer, expected: usize) {
    wait_until("complete answers", LONG, async || {
        let question = json!({ "parameter": "PM2.5", "min_value": 5 }).to_string();
        let answer = balancer.main.call(Method::POST, "/overlay/query", question).await;
        let whole = answer.status == 200 && answer.json()["matched"] == expected;
        if whole { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_processes_are_containers_that_find_each_other_and_are_adopted() {
    let Some(docker) = engine().await else { return };
    let (fleet, overlay) = (Fleet::new(), Overlay::new());
    let setup = setup(&fleet, &overlay);
    let mut balancer = setup.start().await;
    let names = IDS.map(|id| format!("/{}-{id}", fleet.label));
    assert_eq!(containers(&docker, &fleet).await, names);
    let matched = overlay.matched("PM2.5", 5);
    complete(&balancer, matched).await;

    let worker = docker.inspect_container(&names[2][1..], None::<InspectContainerOptions>).await;
    let mounts = worker.expect("it is there").mounts.expect("mounts");
    let mut inside: Vec<_> =
        mounts.iter().map(|mount| (mount.destination.as_deref().unwrap_or_default(), mount.rw)).collect();
    inside.sort_unstable();
    assert_eq!(inside, [("/data", Some(false))], "nothing can be written");

    let before = balancer.replicas_of(&fleet.label).await;
    balancer.kill().await;
    let balancer = setup.start().await;
    let adopted = balancer.replicas_of(&fleet.label).await;
    assert_eq!(handles(&adopted), handles(&before), "they outlive their balancer, and are its successor's");

    // Those that were given other work are not.
    let mut balancer = balancer;
    balancer.kill().await;
    let changed = format!("pool.{}.overlay.arguments", fleet.label);
    let balancer = setup.set(&changed, "--profile,parallel,--threads,1").start().await;
    let now = balancer.replicas_of(&fleet.label).await;
    let again = handles(&now);
    assert!(handles(&before).iter().all(|one| !again.contains(one)), "{again:?}");
    complete(&balancer, matched).await;

    let (restarts, killed) =
        (one(&now, "D").restarts, one(&now, "D").container.clone().expect("a container"));
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    docker.kill_container(&killed, Some(options)).await.expect("it runs");
    wait_until("D is back", LONG, async || {
        let all = balancer.replicas_of(&fleet.label).await;
        let d = one(&all, "D");
        if d.state == "live" && d.restarts == restarts + 1 { Ok(()) } else { Err(format!("{d:?}")) }
    })
    .await;
    complete(&balancer, matched).await;
    balancer.stop().await;
    assert!(containers(&docker, &fleet).await.is_empty(), "a stop removes what was started");
}

fn one<'a>(all: &'a [Replica], name: &str) -> &'a Replica {
    all.iter().find(|replica| replica.name == name).unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

fn handles(all: &[Replica]) -> Vec<(String, Option<String>)> {
    all.iter().map(|replica| (replica.name.clone(), replica.container.clone())).collect()
}

/// Needs no engine.
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_several_machines_are_refused_before_anything_starts() {
    let overlay = Overlay::with(|file| file["processes"]["F"]["host"] = "192.0.2.1".into());
    let setup = Setup::new(SLIPRING).set("fleet.runtime", "docker").file(&overlay.pool("overlay"));
    let output = setup.set("docker.fleet", "slipring-test-none").output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("cannot be reached from 192.0.2.1, where F is"), "{words}");
}
