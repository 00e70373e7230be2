//! What an engine may be in the way of: no socket, no image, a name that is taken.

mod fake_engine;

use std::sync::Arc;
use std::time::Duration;

use crate::fake_engine::{Disk, FakeEngine};
use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions, RemoveImageOptionsBuilder};
use hyper::Method;
use rustix::process::Signal;
use serde_json::json;
use slipring_tests::docker::{Fleet, SOCKET, engine, engine_at_length};
use slipring_tests::{Setup, run, wait_until};
use tokio::sync::Mutex;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const OWN_IMAGE: &str = concat!("slipring:", env!("CARGO_PKG_VERSION"));
const LONG: Duration = Duration::from_secs(60);

/// One of the tests removes the image that all use.
static ALONE: Mutex<()> = Mutex::const_new(());

fn setup(fleet: &Arc<Fleet>) -> Setup {
    Setup::docker(SLIPRING, fleet.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_containers_as_the_contract_describes_them() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    let balancer = setup(&fleet).start_with(&names).await;
    for (name, id) in names.iter().zip(1..) {
        let found =
            docker.inspect_container(name, None::<InspectContainerOptions>).await.expect("it has its name");
        let config = found.config.expect("a configuration");
        assert_eq!(config.hostname.as_deref(), Some(name.as_str()), "hostname = container name");
        assert!(config.env.expect("an environment").contains(&format!("SERVER_ID={id}")));
        assert_eq!(config.image.as_deref(), Some(OWN_IMAGE));
        let networks = found.network_settings.and_then(|settings| settings.networks).expect("networks");
        let endpoint = networks.get(&fleet.network).expect("the network is the configured one");
        assert!(
            endpoint.aliases.as_ref().is_some_and(|aliases| aliases.contains(name)),
            "network alias = name"
        );
    }
    let mut greetings = std::collections::BTreeSet::new();
    for _ in 0..100 {
        greetings.insert(balancer.main.get("/home").await.json()["message"].as_str().map(str::to_owned));
    }
    let expected = [1, 2].map(|id| Some(format!("Hello from Server: {id}")));
    assert_eq!(greetings, expected.into());
    let events = balancer.events().await;
    assert_eq!(balancer.remove(1, &names[..1]).await.status, 200);
    events.next(0, "stopped", &names[0], LONG).await;
    assert_eq!(fleet.containers(&docker).await.len(), 1, "a removed replica's container is removed");
    balancer.stop().await;
    assert_eq!(fleet.containers(&docker).await.len(), 0, "a stop removes what was started");
}

/// Each pool has a label of its own: what one finds, the other does not take for nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn the_containers_of_two_pools_are_adopted_by_their_own() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    let file = "[pool.api]\nroutes = \"api.test/*\"\nfleet.replicas = 0\n";
    let setup = setup(&fleet).set("fleet.reconcile_interval", "200ms").file(file);
    let mut balancer = setup.start_with(&names[..2]).await;
    let body = json!({ "n": 1, "hostnames": [names[2]] }).to_string();
    let added = balancer.main.call(Method::POST, "/add?pool=api", body).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let taken = json!({ "n": 1, "hostnames": [names[0]] }).to_string();
    let refused = balancer.main.call(Method::POST, "/add?pool=api", taken).await;
    assert_eq!(refused.status, 400, "one name on one engine: {}", refused.text());
    let found =
        docker.inspect_container(&names[2], None::<InspectContainerOptions>).await.expect("it is there");
    let labels = found.config.and_then(|config| config.labels).expect("labels");
    assert_eq!(labels["slipring.fleet"], format!("{}/api", fleet.label));
    let handles = async |balancer: &slipring_tests::Balancer| {
        let all = balancer.replicas().await.into_iter().chain(balancer.replicas_of("api").await);
        all.map(|replica| (replica.name, replica.container)).collect::<Vec<_>>()
    };
    let before = handles(&balancer).await;
    balancer.kill().await;
    let balancer = setup.start().await;
    let events = balancer.events().await;
    for name in &names {
        events.next(0, "adopted", name, LONG).await;
    }
    assert_eq!(handles(&balancer).await, before, "the same containers");
    let answer = balancer.main.with_headers(Method::GET, "/home", &[("host", "api.test")], "").await;
    assert_eq!(answer.replica(), names[2]);
    assert!(!events.seen().iter().any(|event| event.name == "orphan"), "{:?}", events.seen());
    balancer.stop().await;
    for name in &names {
        assert!(
            docker.inspect_container(name, None::<InspectContainerOptions>).await.is_err(),
            "{name} is left"
        );
    }
    let network = docker.inspect_network(&fleet.network, None::<InspectNetworkOptions>).await;
    assert!(network.is_err(), "whoever left last removed the network");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_somebody_elses_is_refused_and_nothing_changes() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    let balancer = setup(&fleet).start_with(&names).await;
    fleet.build_image(&docker, SLIPRING).await;
    let taken = format!("{}-stranger", fleet.label);
    let stranger = fleet.run(&docker, &taken, &["server"], false).await;
    let before = balancer.replicas().await;

    let free = format!("{}-free", fleet.label);
    let answer = balancer.add(3, &[&free, &taken]).await;
    let message = answer.json()["message"].as_str().expect("a message").to_owned();
    assert!(!answer.status.is_success(), "{message}");
    assert!(message.starts_with("<Error> "), "{message}");
    for words in [taken.as_str(), "not this balancer's", "docker rm -f", "another name"] {
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    assert_eq!(balancer.names().await, names);
    assert_eq!(balancer.replicas().await, before, "the fleet is as it was");
    assert_eq!(fleet.containers(&docker).await.len(), 2, "nothing is left of the others of the call");
    let found = docker.inspect_container(&taken, None::<InspectContainerOptions>).await.expect("it is there");
    assert_eq!(found.id, Some(stranger), "the stranger's container is untouched");
    assert_eq!(found.state.and_then(|state| state.running), Some(true));
    assert_eq!(balancer.add(1, &[&free]).await.status, 200, "a free name is still free");
    balancer.stop().await;
    let found = docker.inspect_container(&taken, None::<InspectContainerOptions>).await;
    assert!(found.is_ok(), "a stop removes only what was started");
}

/// The engine takes the beginning of an id for a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_the_beginning_of_a_strangers_id_is_free() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let balancer = setup(&fleet).start_with(&fleet.names(1)).await;
    fleet.build_image(&docker, SLIPRING).await;
    let stranger = fleet.run(&docker, &format!("{}-stranger", fleet.label), &["server"], false).await;
    let name = &stranger[..20];
    let by_name = docker.inspect_container(name, None::<InspectContainerOptions>).await;
    assert_eq!(by_name.expect("the engine finds it").id.as_ref(), Some(&stranger), "there is a danger");
    let answer = balancer.add(1, &[name]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fleet.containers(&docker).await.len(), 2);
    assert_eq!(balancer.remove(1, &[name]).await.status, 200);
    let events = balancer.events().await;
    events.next(0, "stopped", name, LONG).await;
    let found =
        docker.inspect_container(&stranger, None::<InspectContainerOptions>).await.expect("it is there");
    assert_eq!(found.state.and_then(|state| state.running), Some(true), "the stranger is untouched");
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_named_and_nothing_runs() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine().await else { return };
    let fleet = Fleet::new();
    let output = setup(&fleet).set("docker.image", "slipring-test-no-such-image:1").set("fleet.replicas", 1);
    let output = output.output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("there is no image slipring-test-no-such-image:1"), "{words}");
    assert!(words.contains("docker.image"), "what to do: {words}");
    assert_eq!(fleet.containers(&docker).await.len(), 0);
}

/// The balancer on an engine of the test's own. Needs no real one.
fn on_fake(engine: &FakeEngine) -> Setup {
    let setup = Setup::new(SLIPRING).set("fleet.runtime", "docker").set("fleet.replicas", 0);
    let setup = setup.set("docker.socket", engine.socket().display()).set("docker.port", engine.port());
    setup.set("docker.network", "fake-net").set("docker.image", "fake:1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_called_so_and_leaves_the_fleet_as_it_was() {
    let engine = FakeEngine::start().await;
    let balancer = on_fake(&engine).start_with(&["first".to_owned()]).await;
    let before = (balancer.names().await, balancer.replicas().await);
    for disk in [Disk::Create, Disk::Start] {
        engine.fill(disk);
        let answer = balancer.add(2, &["second"]).await;
        assert_eq!(answer.status, 503, "{disk:?}: {}", answer.text());
        for part in ["<Error> ", "disk is full", "no space left on device", "docker system prune"] {
            assert!(answer.text().contains(part), "{disk:?}: {} does not say {part:?}", answer.text());
        }
        wait_until("nothing is left of it", LONG, async || {
            let now = (balancer.names().await, balancer.replicas().await);
            if now == before && engine.containers() == 1 { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        assert_eq!(balancer.main.get("/home").await.text(), "a replica");
    }
    engine.fill(Disk::Nowhere);
    let answer = balancer.add(1, &["second"]).await;
    assert_eq!(answer.status, 200, "when there is space again: {}", answer.text());
    balancer.stop().await;
    assert_eq!(engine.containers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_too_full_for_the_image_is_called_so_at_the_start() {
    for disk in [Disk::Build, Disk::MidBuild] {
        let engine = FakeEngine::start().await;
        engine.fill(disk);
        let setup = on_fake(&engine).set("docker.image", "").set("fleet.replicas", 3);
        let output = setup.output().await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{disk:?}: {words}");
        for part in ["disk is full", "no space left on device", "docker system prune"] {
            assert!(words.contains(part), "{disk:?}: {words:?} does not say {part:?}");
        }
        assert_eq!(engine.containers(), 0);
        assert!(!setup.state_file().exists(), "nothing is remembered of a fleet that never began");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_name_that_is_taken_is_told_with_its_owner_and_a_way_out_that_harms_nobody() {
    let other = json!({ "slipring.fleet": "slipring-other" });
    for (labels, way) in [(json!({}), "fake:1"), (other, "docker.fleet = \"slipring-other\"")] {
        let engine = FakeEngine::start().await;
        engine.stranger("Server-2", labels);
        let output = on_fake(&engine).set("fleet.replicas", 3).output().await;
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        for part in ["'Server-2'", way, "fleet.replicas = 0", "other names"] {
            assert!(words.contains(part), "{words:?} does not say {part:?}");
        }
        assert!(!words.contains("docker rm"), "{words}");
        assert_eq!(engine.containers(), 1);
    }
}

/// Containers were left behind; whoever comes back with processes would leave them to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn auto_stays_with_containers_and_says_so_when_their_engine_is_away() {
    let engine = FakeEngine::start().await;
    let setup = on_fake(&engine).set("fleet.runtime", "auto");
    let mut balancer = setup.start_with(&["first".to_owned()]).await;
    let before = balancer.replicas().await;
    assert!(before[0].container.is_some(), "{before:?}");
    balancer.kill().await;
    let away = setup.clone().set("docker.socket", "/nonexistent/docker.sock");
    let output = away.set("fleet.start_timeout", "500ms").output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in ["are containers", "/nonexistent/docker.sock", "fleet.runtime = \"process\""] {
        assert!(words.contains(part), "{words:?} does not say {part:?}");
    }
    // The label was drawn by the first and remembered for the second.
    let balancer = setup.start().await;
    let now = balancer.replicas().await;
    assert_eq!((&now[0].container, engine.containers()), (&before[0].container, 1), "adopted");
    balancer.stop().await;

    let nothing = Setup::new(SLIPRING).set("fleet.runtime", "docker").set("state", "").output().await;
    let words = String::from_utf8_lossy(&nothing.stderr);
    assert!(nothing.status.code() == Some(2) && words.contains("docker.fleet"), "{words}");
}

/// Needs no engine: that is the point.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_socket_is_named_and_the_process_runtime_needs_none() {
    let nowhere = Setup::new(SLIPRING).set("docker.socket", "/nonexistent/docker.sock");
    let output = nowhere.clone().set("fleet.runtime", "docker").output().await;
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in ["/nonexistent/docker.sock", "docker.socket", "process"] {
        assert!(words.contains(part), "{words:?} does not say {part:?}");
    }
    let balancer = nowhere.set("fleet.runtime", "auto").start().await;
    assert!(balancer.replicas().await.iter().all(|replica| replica.pid.is_some()), "processes by default");
    balancer.stop().await;
}

async fn remove_own_image(docker: &bollard::Docker) {
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    if let Err(error) = docker.remove_image(OWN_IMAGE, Some(options), None).await {
        assert!(error.to_string().contains("No such image"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_is_built_when_it_is_missing() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    remove_own_image(&docker).await;
    let balancer = setup(&fleet).start_with(&names[..2]).await;
    assert!(docker.inspect_image(OWN_IMAGE).await.is_ok());
    balancer.said(&["building the image"]).await;
    // Also when somebody removes it while the balancer runs.
    remove_own_image(&docker).await;
    let answer = balancer.add(1, &names[2..]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    balancer.ready().await;
    assert!(docker.inspect_image(OWN_IMAGE).await.is_ok());
    balancer.stop().await;
}

/// `make image`.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_can_be_asked_for() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    remove_own_image(&docker).await;
    let built = run(SLIPRING, &["image"], &[], "").await;
    assert_eq!((built.status.code(), &*built.stdout), (Some(0), format!("{OWN_IMAGE}\n").as_bytes()));
    assert!(docker.inspect_image(OWN_IMAGE).await.is_ok());
    let nowhere = run(SLIPRING, &["image", "--socket", "/nowhere/docker.sock"], &[], "").await;
    let words = String::from_utf8_lossy(&nowhere.stderr);
    assert!(nowhere.status.code() == Some(1) && words.contains("/nowhere/docker.sock"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_for_a_while_costs_no_request() {
    let _alone = ALONE.lock().await;
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let socket = folder.path().join("docker.sock");
    let proxy = Proxy::listen(&socket);
    let balancer = setup(&fleet).set("docker.socket", socket.display()).start_with(&names).await;
    let events = balancer.events().await;

    drop(proxy);
    std::fs::remove_file(&socket).expect("it was there");
    let (past, victim) = (events.seen().len(), balancer.replica(&names[0]).await);
    let options = bollard::query_parameters::KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    docker.kill_container(&victim.name, Some(options)).await.expect("it is killed");
    // Nobody tells the balancer, but its heartbeats do, or a request that is refused.
    for _ in 0..50 {
        assert_eq!(balancer.main.get("/home").await.status, 200, "the other one answers");
    }
    events.next(past, "flatlined", &victim.name, LONG).await;
    let answer = balancer.add(1, &[format!("{}-x", fleet.label)]).await;
    assert!(
        !answer.status.is_success() && answer.text().contains("no Docker engine answers"),
        "{}",
        answer.text()
    );
    assert_eq!(balancer.names().await, names);

    let _proxy = Proxy::listen(&socket);
    events.next(past, "live", &victim.name, LONG).await;
    wait_until("only the members' containers", LONG, async || {
        let containers = fleet.containers(&docker).await;
        if containers.len() == 2 { Ok(()) } else { Err(format!("{} containers", containers.len())) }
    })
    .await;
    balancer.ready().await;
    balancer.stop().await;
    assert_eq!(fleet.containers(&docker).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stopped_is_named_and_the_exit_code_says_so() {
    let alone = ALONE.lock().await;
    let Some(_docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let socket = folder.path().join("docker.sock");
    let proxy = Proxy::listen(&socket);
    let setup = setup(&fleet).set("docker.socket", socket.display()).set("fleet.stop_timeout", "200ms");
    let mut balancer = setup.start_with(&names).await;
    drop((proxy, alone)); // it has no engine from here on, and tries for a while
    balancer.signal(Signal::TERM);
    let status = balancer.ended(LONG).await;
    assert_eq!(status.code(), Some(3), "{}", balancer.log());
    for name in names {
        balancer.said(&["these could not be stopped", &name]).await;
    }
}

/// Another way to the engine, which can be cut.
struct Proxy {
    accepting: tokio::task::JoinHandle<()>,
    cut: tokio::sync::watch::Sender<()>,
}

impl Proxy {
    fn listen(socket: &std::path::Path) -> Self {
        let listener = tokio::net::UnixListener::bind(socket).expect("the folder is ours");
        let (cut, end) = tokio::sync::watch::channel(());
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut end = end.clone();
                tokio::spawn(async move {
                    let Ok(mut engine) = tokio::net::UnixStream::connect(SOCKET).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut engine) => {}
                        _ = end.changed() => {} // the sender is gone
                    }
                });
            }
        });
        Self { accepting, cut }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut.send_replace(());
    }
}
