//! Units as containers: each finds the others by their containers' names, and its tasks outlive it.

use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::KillContainerOptionsBuilder;
use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::docker::{Fleet, engine};
use slipring_tests::units::Units;
use slipring_tests::{Http, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);

/// A unit, or their balancer, at the address that its container has now.
async fn at(docker: &Docker, fleet: &Fleet, units: &Units, port: u16) -> Http {
    let name = if port == units.balancer { "balancer".to_owned() } else { format!("unit-{port}") };
    let ip = fleet.address(docker, &format!("{}-{name}", fleet.label)).await;
    Http { address: (ip, port).into() }
}

/// Until each unit hangs on its parent and the balancer knows all of them.
async fn linked(docker: &Docker, fleet: &Fleet, units: &Units) {
    let balancer = at(docker, fleet, units, units.balancer).await;
    wait_until("all units linked", LONG, async || {
        let request = balancer.request(Method::GET, "/units").body(Default::default()).expect("valid");
        let now = balancer.send(request).await?.json();
        let all = now["units"].as_array().cloned().unwrap_or_default();
        let hangs = |unit: &Value| unit["is_live"] == json!(true) && unit["link"] == unit["parent"];
        if all.len() == 8 && all.iter().all(hangs) { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let tree = balancer.get("/echo").await.json();
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)), "{tree}");
}

#[tokio::test(flavor = "multi_thread")]
async fn units_are_containers_that_find_each_other_and_a_killed_one_has_its_tasks_again() {
    let Some(docker) = engine().await else { return };
    let (fleet, units) = (Fleet::new(), Units::new(&json!({"task_time": 600, "rebalance_interval": 0})));
    // The pool is called as the fleet's label, and so its containers begin with what no others do.
    let setup = Setup::docker(SLIPRING, fleet.clone()).file(&units.pool(&fleet.label));
    let appliance = setup.set("fleet.start_timeout", "60s").start().await;
    linked(&docker, &fleet, &units).await;

    let (leaf, root) = (units.ports[6], units.ports[0]);
    let balancer = at(&docker, &fleet, &units, units.balancer).await;
    let added = balancer.call(Method::POST, &format!("/tasks?unit={leaf}&n=9"), "").await;
    assert_eq!(added.json()["added"], json!(9), "{}", added.text());

    let name = format!("unit-{leaf}");
    let now = async || {
        let all = appliance.replicas_of(&fleet.label).await;
        all.iter().find(|one| one.name == name).cloned().unwrap_or_else(|| panic!("no {name} in {all:?}"))
    };
    let before = now().await;
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    let container = before.container.clone().expect("a container");
    docker.kill_container(&container, Some(options)).await.expect("it runs");
    wait_until("the unit is back", LONG, async || {
        let unit = now().await;
        let is_back = unit.state == "live" && unit.restarts == before.restarts + 1;
        if is_back { Ok(()) } else { Err(format!("{unit:?}")) }
    })
    .await;
    linked(&docker, &fleet, &units).await;
    let unit = at(&docker, &fleet, &units, leaf).await;
    assert_eq!(unit.get("/specs").await.json()["load"], json!(9), "written down outside of the container");
    assert!(units.state().join(format!("{leaf}.journal")).exists());

    let moved = unit.call(Method::POST, &format!("/rebalance?target={root}&count=4"), "").await;
    assert_eq!(moved.json()["moved"], json!(4), "{}", moved.text());
    let root = at(&docker, &fleet, &units, root).await;
    assert_eq!(root.get("/specs").await.json()["load"], json!(4));
    appliance.stop().await;
    let left = docker.list_containers(None).await.expect("the engine lists containers");
    let named = |names: &Vec<String>| names.iter().any(|name| name.contains(&fleet.label));
    assert!(!left.iter().any(|one| one.names.as_ref().is_some_and(named)), "{left:?}");
}
