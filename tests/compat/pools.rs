//! Pools: fleets of their own beside the contract's, administered by name, remembered and healed apart.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Answer, Balancer, Events, Load, Replica, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

const TWO: &str = "
[pool.api]
routes = [\"api.test/*\"]
fleet.replicas = 2
ring.placement = \"maglev\"
proxy.key = \"header:x-user\"
[pool.jobs]
routes = [\"jobs.test/*\", \"*.jobs.test/*\"]
fleet.replicas = 1
";

fn setup() -> Setup {
    Setup::new(SLIPRING).file(TWO)
}

async fn home_of(balancer: &Balancer, host: &str, user: &str) -> Answer {
    balancer.main.with_headers(Method::GET, "/home", &[("host", host), ("x-user", user)], "").await
}

fn names(rep: &Value) -> Vec<&str> {
    rep["message"]["replicas"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

async fn change(balancer: &Balancer, method: Method, path: &str, body: Value) -> Answer {
    balancer.main.call(method, path, body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_has_its_own_members_placement_and_keys() {
    let balancer = setup().start().await;
    assert_eq!(balancer.names().await, ["Server-1", "Server-2", "Server-3"]);
    for (query, expected) in [
        ("?pool=api", &["api-1", "api-2"][..]),
        ("?pool=jobs", &["jobs-1"]),
        ("?pool=default", &["Server-1", "Server-2", "Server-3"]),
    ] {
        for port in [balancer.main, balancer.admin] {
            let rep = port.get(&format!("/rep{query}")).await.json();
            assert_eq!((names(&rep), &rep["message"]["N"]), (expected.to_vec(), &expected.len().into()));
        }
    }
    let pools = balancer.admin.get("/pools").await.json();
    let list = pools["pools"].as_array().expect("a list");
    let seen: Vec<_> = list
        .iter()
        .map(|pool| [&pool["name"], &pool["placement"]["name"], &pool["N"], &pool["live"]])
        .collect();
    let expected = [
        json!(["default", "rendezvous", 3, 3]),
        json!(["api", "maglev", 2, 2]),
        json!(["jobs", "rendezvous", 1, 1]),
    ];
    assert_eq!(json!(seen), json!(expected));
    assert_eq!(list[0]["routes"], json!(["/home", "/heartbeat"]));
    assert_eq!(list[2]["routes"], json!(["jobs.test/*", "*.jobs.test/*"]));
    assert_eq!((&list[1]["key"], &list[0]["key"]), (&json!(["header:x-user"]), &json!(["random"])));

    let mut answered = std::collections::BTreeSet::new();
    for n in 0..20 {
        let user = format!("user-{n}");
        let route = balancer.admin.get(&format!("/route?pool=api&key={user}")).await.json();
        let owner = route["replica"].as_str().expect("somebody has it").to_owned();
        for _ in 0..3 {
            assert_eq!(home_of(&balancer, "api.test", &user).await.replica(), owner);
        }
        answered.insert(owner);
    }
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), ["api-1", "api-2"]);
    let ring = balancer.admin.get("/ring?pool=api").await.json();
    assert_eq!(
        (&ring["placement"]["name"], ring["replicas"].as_array().map(Vec::len)),
        (&"maglev".into(), Some(2))
    );
    let plan = balancer.admin.call(Method::POST, "/plan?pool=jobs", r#"{"add":1}"#).await.json();
    assert!((plan["moved"].as_f64().expect("a share") - 0.5).abs() < 0.01, "one of two: {plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_pools_and_a_pool_that_is_not_there_is_named() {
    let balancer = setup().start().await;
    let added =
        change(&balancer, Method::POST, "/add?pool=api", json!({ "n": 2, "hostnames": ["Server-1"] })).await;
    let (added, status) = (added.json(), added.status);
    assert_eq!(status, 200, "a name of another pool is free: {added}");
    assert_eq!(names(&added)[..3], ["api-1", "api-2", "Server-1"]);
    assert!(names(&added)[3].starts_with("api-"), "drawn names are the pool's: {added}");
    let removed =
        change(&balancer, Method::DELETE, "/rm?pool=api", json!({ "n": 1, "hostnames": ["api-1"] })).await;
    assert_eq!(names(&removed.json()).len(), 3);
    assert_eq!(balancer.names().await, ["Server-1", "Server-2", "Server-3"]);
    assert_eq!(balancer.metric("slipring_replicas", "pool=\"api\",state=\"live\"").await, 3.0);
    assert_eq!(home_of(&balancer, "jobs.test", "x").await.replica(), "jobs-1");
    assert_eq!(balancer.metric("slipring_requests_total", "replica=\"jobs/jobs-1\",code=\"2xx\"").await, 0.0);
    assert_eq!(balancer.metric("slipring_requests_total", "code=\"2xx\",replica=\"jobs/jobs-1\"").await, 1.0);

    let body = json!({ "n": 1 });
    for (method, path) in [
        (Method::GET, "/rep"),
        (Method::POST, "/add"),
        (Method::DELETE, "/rm"),
        (Method::GET, "/replicas"),
        (Method::GET, "/events"),
        (Method::GET, "/ring"),
        (Method::GET, "/route"),
        (Method::POST, "/plan"),
    ] {
        let payload = if method == Method::GET { String::new() } else { body.to_string() };
        let answer =
            balancer.admin.call(method.clone(), &format!("{path}?pool=apo&key=1"), payload.clone()).await;
        let message = answer.json()["message"].as_str().expect("words").to_owned();
        assert_eq!(answer.status, 404, "{path}: {message}");
        assert_eq!(message, "<Error> there is no pool 'apo'; there are default, api, jobs", "{path}");
        let twice = balancer.admin.call(method, &format!("{path}?pool=api&key=1&pool=jobs"), payload).await;
        assert_eq!(twice.status, 400, "{path}: {}", twice.text());
    }
    assert_eq!(balancer.main.get("/rep?pool=apo").await.status, 404, "on the main port as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pools_stand_beside_managed_ones() {
    let answering = async |name: &'static str| {
        Upstream::serve(move |_| async move { hyper::Response::new(whole(name)) }).await
    };
    let (one, two) = (answering("one").await, answering("two").await);
    let file = format!(
        "[pool.fixed]\nroutes = \"/fixed/*\"\nproxy.key = \"path\"\nfleet.upstreams = [\"{} weight=3\", \"{}\"]\n",
        one.address, two.address
    );
    let balancer = Setup::new(SLIPRING).set("fleet.respawn_name", "new").file(&file).start().await;
    let ring = balancer.admin.get("/ring?pool=fixed").await.json();
    let share = ring["replicas"][0]["share"].as_f64().expect("a share");
    assert!((share - 0.75).abs() < 0.01, "three of four: {ring}");
    let mut ones = 0;
    for n in 0..200 {
        let answer = balancer.main.get(&format!("/fixed/{n}")).await;
        let (address, text) = (answer.replica().to_owned(), answer.text());
        assert_eq!(address, if text == "one" { &one } else { &two }.address.to_string());
        ones += u32::from(text == "one");
    }
    assert!((110..190).contains(&ones), "{ones} of 200 with three quarters of the weight");
    let add = async |body: Value| change(&balancer, Method::POST, "/add?pool=fixed", body).await;
    let refused = add(json!({ "n": 1 })).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("fleet.upstreams"), "{}", refused.text());
    let plan = balancer.admin.call(Method::POST, "/plan?pool=fixed", r#"{"add":1}"#).await;
    assert_eq!(plan.status, 400, "{}", plan.text());

    // It dies, and comes back under its name, whatever names are drawn for others.
    one.kill();
    wait_until("the other has everything", LONG, async || {
        let answer = balancer.main.get("/fixed/1").await;
        if answer.text() == "two" { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    wait_until("it is given up", LONG, async || {
        let state = balancer.replicas_of("fixed").await[0].state.clone();
        if state != "live" && state != "suspect" { Ok(()) } else { Err(state) }
    })
    .await;
    let names: Vec<_> = balancer.replicas_of("fixed").await.into_iter().map(|replica| replica.name).collect();
    assert_eq!(names, [one.address.to_string(), two.address.to_string()]);
    assert_eq!(balancer.main.get("/home").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_pool_remembers_survives_a_restart() {
    let setup = setup();
    let balancer = setup.start().await;
    assert_eq!(
        change(&balancer, Method::POST, "/add?pool=api", json!({ "n": 1, "hostnames": ["third"] }))
            .await
            .status,
        200
    );
    assert_eq!(
        change(&balancer, Method::DELETE, "/rm?pool=api", json!({ "n": 1, "hostnames": ["api-1"] }))
            .await
            .status,
        200
    );
    assert_eq!(balancer.remove(1, &["Server-2"]).await.status, 200);
    let owners = async |balancer: &Balancer| {
        let mut owners = Vec::new();
        for n in 0..40 {
            let route = balancer.admin.get(&format!("/route?pool=api&key=user-{n}")).await.json();
            owners.push(route["preference"][0]["name"].clone());
        }
        owners
    };
    let before = owners(&balancer).await;
    balancer.stop().await;
    for file in ["state.json", "state-api.json", "state-jobs.json"] {
        assert!(setup.folder().join(".slipring").join(file).exists(), "{file}");
    }
    let balancer = setup.start().await;
    assert_eq!(balancer.names().await, ["Server-1", "Server-3"]);
    assert_eq!(names(&balancer.main.get("/rep?pool=api").await.json()), ["api-2", "third"]);
    assert_eq!(names(&balancer.main.get("/rep?pool=jobs").await.json()), ["jobs-1"]);
    assert_eq!(owners(&balancer).await, before, "no key has moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_one_pool_touches_no_other() {
    let balancer = setup().set("fleet.heartbeat_interval", "200ms").start().await;
    let (events, before) = (balancer.events().await, balancer.replicas().await);
    let others = balancer.replicas_of("api").await;
    let load = Load::start(balancer.main, "/home", 100);
    let victim = balancer.replicas_of("jobs").await.remove(0);
    let past = events.seen().len();
    victim.process().kill();
    let killed = Instant::now();
    let live = events.next(past, "live", "jobs-1", LONG).await;
    assert_eq!(live.data["pool"], "jobs");
    let flatlined = events.next(past, "flatlined", "jobs-1", LONG).await;
    assert!(flatlined.heard.duration_since(killed) < Duration::from_secs(5));
    wait_until("it answers again", LONG, async || {
        let answer = home_of(&balancer, "jobs.test", "x").await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    let report = load.stop().await;
    report.assert_no_failure();
    assert!(report.answered > 0);
    assert_eq!(balancer.replicas().await, before, "the pool without a name is untouched");
    assert_eq!(balancer.replicas_of("api").await, others, "and so is the other one");
    let elsewhere: Vec<_> =
        events.seen().into_iter().skip(past).filter(|event| event.data["pool"] != "jobs").collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pool_counts_for_readiness_and_ends_with_the_balancer() {
    let balancer = setup().start().await;
    let ready = balancer.admin.get("/readyz?all=true").await.json();
    assert_eq!((&ready["live"], &ready["members"]), (&6.into(), &6.into()));
    let mut pids = Vec::new();
    for pool in ["default", "api", "jobs"] {
        pids.extend(balancer.replicas_of(pool).await.iter().map(Replica::process));
    }
    assert_eq!(pids.len(), 6);
    balancer.stop().await;
    for process in pids {
        assert!(!process.is_running(), "{process:?} is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_cannot_begin_is_named_and_leaves_nothing_running() {
    let file = "[pool.good]\nroutes = \"/a\"\n[pool.bad]\nroutes = \"/b\"\nprocess.command = [\"no-such-program\"]\n";
    let setup = Setup::new(SLIPRING).file(file);
    let output = setup.output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("pool bad could not begin") && said.contains("no program no-such-program"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_with_their_lines_and_nothing_starts() {
    let file = "[pool.a]\nroutes = [\"a.test/*\"]\nfleet.failures = 0\n\n[pool.b]\nroutes = [\"/b\", \"A.test/*\"]\nfleet.replics = 3\n";
    let output = Setup::new(SLIPRING).file(file).output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for piece in [
        "slipring.toml:3:",
        "`pool.a.fleet.failures`",
        "slipring.toml:6:",
        "pool a has `a.test/*` already",
        "slipring.toml:7:",
        "the key is called `pool.b.fleet.replicas`",
        "3 mistakes in the configuration; nothing was started",
    ] {
        assert!(said.contains(piece), "{piece:?} is missing from:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_watches_a_pool_is_told_of_no_other() {
    let balancer = setup().start().await;
    let jobs = Events::follow_at(balancer.admin, "/events?pool=jobs").await;
    assert_eq!(balancer.add(1, &["S4"]).await.status, 200);
    let answer =
        change(&balancer, Method::POST, "/add?pool=jobs", json!({"n": 1, "hostnames": ["J2"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    jobs.next(0, "live", "J2", LONG).await;
    let seen = jobs.seen();
    assert!(seen.iter().all(|event| event.data["pool"] == "jobs"), "{seen:?}");
    assert!(seen.iter().any(|event| event.data["replica"] == "jobs-1"), "also of what was before: {seen:?}");
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_whose_a_request_is() {
    let setup = setup().set("log.access", "json").set("log.file", "access.log");
    let balancer = setup.start().await;
    assert_eq!(home_of(&balancer, "api.test", "ann").await.status, 200);
    assert_eq!(home_of(&balancer, "other.test", "ann").await.status, 200);
    let mut streams = balancer.main.streams().await;
    for path in ["http://jobs.test/home", "http://other.test/nowhere"] {
        let request = hyper::Request::get(path).body(whole("")).expect("valid");
        streams.send_request(request).await.expect("an answer");
    }
    drop(streams);
    balancer.stop().await;
    let text = std::fs::read_to_string(setup.folder().join("access.log")).expect("it is there");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    // Each thread of the data plane writes on its own: the lines' order between connections is free.
    let mut pools: Vec<_> = lines.map(|line| line["pool"].as_str().map(str::to_owned)).collect();
    pools.sort();
    assert_eq!(pools, [None, Some("api".into()), Some("default".into()), Some("jobs".into())], "{text}");
}
