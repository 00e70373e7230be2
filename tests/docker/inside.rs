//! The balancer as a container among its replicas: found by its name, and wary of the gateway if asked.

use std::net::IpAddr;
use std::time::Duration;

use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptionsBuilder};
use hyper::Method;
use serde_json::json;
use slipring_tests::docker::{Fleet, engine_at_length};
use slipring_tests::{Http, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);
const TOKEN: [(&str, &str); 1] = [("authorization", "Bearer 0123456789abcdef")];

/// Runs the balancer in a container named after the fleet; returns its id, its address, and its two ports.
async fn balancer_in_container(
    docker: &bollard::Docker,
    fleet: &Fleet,
    more: &[String],
) -> (String, IpAddr, [Http; 2]) {
    let settings = [
        format!("docker.network={}", fleet.network),
        format!("docker.image={}", fleet.image()),
        "fleet.runtime=docker".into(),
        "fleet.replicas=0".into(),
        "admin.listen=0.0.0.0:5001".into(),
        "admin.token=0123456789abcdef".into(),
    ];
    let mut command = vec!["balancer"];
    command.extend(settings.iter().chain(more).flat_map(|setting| ["--set", setting]));
    let container = fleet.run(docker, &format!("{}-balancer", fleet.label), &command, true).await;
    let ip = fleet.address(docker, &container).await;
    let ports = [5000, 5001].map(|port| Http { address: (ip, port).into() });
    wait_until("the balancer answers", LONG, async || {
        let request = ports[1].request(Method::GET, "/healthz").body(Default::default()).expect("valid");
        ports[1].send(request).await.map(|_| ())
    })
    .await;
    (container, ip, ports)
}

/// Nothing of it is on a volume: its name alone says whose the containers are.
#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_whose_container_is_replaced_finds_its_replicas() {
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(2);
    fleet.build_image(&docker, SLIPRING).await;
    fleet.create_network(&docker).await;
    let (container, _, [main, admin]) = balancer_in_container(&docker, &fleet, &[]).await;
    let added = main.call(Method::POST, "/add", json!({ "n": 2, "hostnames": names }).to_string()).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let handles = |replicas: serde_json::Value| -> Vec<String> {
        let replicas = replicas["replicas"].as_array().expect("a list").clone();
        let container = |replica: &serde_json::Value| replica["container"].as_str().map(str::to_owned);
        replicas.iter().map(|replica| container(replica).expect("a container")).collect()
    };
    let before = handles(admin.get("/replicas").await.json());

    let gone = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&container, Some(gone)).await.expect("it is killed and removed");
    let (container, _, [main, admin]) = balancer_in_container(&docker, &fleet, &[]).await;
    wait_until("both live again", LONG, async || {
        let ready = admin.get("/readyz?all=true").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.text().to_owned()) }
    })
    .await;
    assert_eq!(main.get("/rep").await.json()["message"]["replicas"], json!(names));
    assert_eq!(handles(admin.get("/replicas").await.json()), before, "the very same containers");

    let gone = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&container, Some(gone)).await.expect("it is killed and removed");
    let wary = "admin.trust_gateway=false".to_owned();
    let (container, _, [main, _]) = balancer_in_container(&docker, &fleet, &[wary]).await;
    assert_eq!(main.get("/rep").await.status, 403, "the gateway may be anybody");
    assert_eq!(main.with_headers(Method::GET, "/rep", &TOKEN, "").await.status, 200);

    docker.stop_container(&container, None).await.expect("it is stopped");
    for replica in before {
        let left = docker.inspect_container(&replica, None::<InspectContainerOptions>).await;
        assert!(left.is_err(), "an orderly stop removes what it adopted: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_may_be_a_container_beside_its_replicas() {
    let Some(docker) = engine_at_length().await else { return };
    let fleet = Fleet::new();
    let names = fleet.names(3);
    fleet.build_image(&docker, SLIPRING).await;
    fleet.create_network(&docker).await;
    let own = format!("docker.fleet={}", fleet.label);
    let (container, ip, [main, admin]) = balancer_in_container(&docker, &fleet, &[own]).await;

    // From the host, which is the gateway of its network.
    let body = json!({ "n": 3, "hostnames": names }).to_string();
    let added = main.call(Method::POST, "/add", body).await;
    assert_eq!(added.status, 200, "{}", added.text());
    assert_eq!(admin.get("/readyz?all=true").await.status, 200);
    let home = main.get("/home").await;
    assert!(home.status == 200 && names.iter().any(|name| name == home.replica()), "{home:?}");
    assert_eq!(fleet.containers(&docker).await.len(), 3);

    // From beside it, where the replicas are.
    for (port, path, code, words) in [
        (5000, "/rep", 1, "Authorization: Bearer"),
        (5001, "/rep", 1, "Authorization: Bearer"),
        (5001, "/replicas", 1, "Authorization: Bearer"),
        (5000, "/home", 0, "Hello from Server: "),
    ] {
        let url = format!("http://{ip}:{port}");
        let name = format!("{}-client-{port}{}", fleet.label, path.replace('/', "-"));
        let client =
            fleet.run(&docker, &name, &["client", "--url", &url, "--json", "get", path], false).await;
        let (exit, output) = fleet.output(&docker, &client).await;
        assert!(exit == code && output.contains(words), "{path} on {port}: {exit} {output}");
        assert!(code == 0 || output.contains("\"status\":403"), "{output}");
    }
    let url = format!("http://{ip}:5000");
    let with_token = ["client", "--url", &url, "--token", "0123456789abcdef", "rep"];
    let client = fleet.run(&docker, &format!("{}-client-token", fleet.label), &with_token, false).await;
    let (exit, output) = fleet.output(&docker, &client).await;
    assert!(exit == 0 && output.contains(&names[2]), "the token opens from anywhere: {exit} {output}");

    docker.stop_container(&container, None).await.expect("it is stopped");
    assert_eq!(fleet.output(&docker, &container).await.0, 0, "an orderly stop");
    assert_eq!(fleet.containers(&docker).await.len(), 0, "which removes what was started");
}

/// The gateway of a network is whoever comes from outside: a balancer that is not to trust it learns of its first
/// network by a reload, and still does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_brings_containers_leaves_a_wary_balancer_wary() {
    let Some(docker) = engine_at_length().await else { return };
    for trusts in [true, false] {
        let fleet = Fleet::new();
        fleet.build_image(&docker, SLIPRING).await;
        fleet.create_network(&docker).await;
        let first = ["fleet.runtime=process".into(), format!("admin.trust_gateway={trusts}")];
        let (container, _, [main, admin]) = balancer_in_container(&docker, &fleet, &first).await;
        let status = if trusts { 200 } else { 403 };
        assert_eq!(main.get("/rep").await.status, status, "admin.trust_gateway = {trusts}");

        let more = "[pool.more]\nroutes = [\"/more/*\"]\nfleet.runtime = \"docker\"\nfleet.replicas = 0\n";
        fleet.put(&docker, &container, "slipring.toml", more).await;
        let reloaded = admin.with_headers(Method::POST, "/reload", &TOKEN, "").await;
        assert_eq!(reloaded.status, 200, "{}", reloaded.text());
        assert_eq!(main.get("/rep").await.status, status, "as before: {trusts}");
        docker.stop_container(&container, None).await.expect("it is stopped");
    }
}
