//! Every row of the contract on a live balancer: what succeeds, what is refused and in which order, and that a
//! refused call changes nothing.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use hyper::Method;
use serde_json::json;
use slipring_tests::{Answer, Balancer, Http, Setup, skipped};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const MORE_THAN_ADDED: &str = "<Error> Length of hostname list is more than newly added instances";
const MORE_THAN_REMOVED: &str = "<Error> Length of hostname list is more than removable instances";

fn setup() -> Setup {
    Setup::new(SLIPRING)
}

#[track_caller]
fn assert_json(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status.as_u16(), answer.text()), (status, body));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// The message of a refusal, which has the contract's shape.
#[track_caller]
fn refusal(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let message = body["message"].as_str().expect("a message").to_owned();
    assert_eq!(body, json!({ "message": message, "status": "failure" }));
    assert!(message.starts_with("<Error> "), "{message}");
    message
}

/// The members after a call that succeeded, with the contract's shape.
#[track_caller]
fn members(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    let names: Vec<String> = serde_json::from_value(body["message"]["replicas"].clone()).expect("names");
    assert_eq!(body, json!({ "message": { "N": names.len(), "replicas": names }, "status": "successful" }));
    names
}

/// `Server-XXX-YYY`.
#[track_caller]
fn assert_random_name(name: &str) {
    let digits: Vec<_> = name.strip_prefix("Server-").unwrap_or_default().split('-').collect();
    let three = |part: &&str| part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    assert!(digits.len() == 2 && digits.iter().all(three), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_are_listed_on_both_ports() {
    let balancer = setup().start().await;
    let rep = r#"{"message":{"N":3,"replicas":["Server-1","Server-2","Server-3"]},"status":"successful"}"#;
    for port in [balancer.main, balancer.admin] {
        assert_json(&port.get("/rep").await, 200, rep);
        let head = port.call(Method::HEAD, "/rep", "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(rep.len().to_string().as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_replicas_and_every_replica_has_its_own_number() {
    let balancer = setup().start().await;
    let mut answered = BTreeSet::new();
    for _ in 0..200 {
        let answer = balancer.main.get("/home").await;
        let number = answer.replica().strip_prefix("Server-").expect("the first replicas' names");
        let greeting = format!(r#"{{"message":"Hello from Server: {number}","status":"successful"}}"#);
        assert_json(&answer, 200, &greeting);
        answered.insert(answer.replica().to_owned());
    }
    assert_eq!(answered.len(), 3, "{answered:?}");
    let heartbeat = balancer.main.get("/heartbeat").await;
    assert_eq!((heartbeat.status.as_u16(), heartbeat.text()), (200, ""));
    assert!(answered.contains(heartbeat.replica()));
    let head = balancer.main.call(Method::HEAD, "/home", "").await;
    assert_eq!((head.status.as_u16(), head.text()), (200, ""));
    assert_eq!(balancer.main.get("/home?id=1").await.status, 200, "a query is no other path");
    let wrong = balancer.main.call(Method::POST, "/home", "").await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, Some("GET, HEAD")), "the replica's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_do_not_exist() {
    let balancer = setup().start().await;
    let before = balancer.names().await;
    for path in
        ["/other", "/", "/home/", "/Home", "/home/x", "/rep/", "/metrics", "/ring", "/replicas", "/events"]
    {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = balancer.main.call(method, path, r#"{"n":1}"#).await;
            let message = format!("<Error> '{path}' endpoint does not exist in server replicas");
            assert_json(&answer, 400, &json!({ "message": message, "status": "failure" }).to_string());
        }
    }
    let answer = balancer.main.get("/other?a=b").await;
    assert_eq!(refusal(&answer, 400), "<Error> '/other' endpoint does not exist in server replicas");
    assert_eq!(balancer.names().await, before);
    assert_eq!(balancer.metric("slipring_requests_total", "").await, 0.0, "no replica was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_may_be_configured() {
    let balancer = setup().set("proxy.paths", "/home,/api/*").start().await;
    for path in ["/api", "/api/", "/api/a/b?c=d"] {
        let answer = balancer.main.get(path).await;
        assert_eq!(answer.status, 404, "the replica's own answer to {path}");
        assert!(!answer.replica().is_empty());
    }
    for path in ["/apis", "/heartbeat"] {
        refusal(&balancer.main.get(path).await, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_takes_the_names_given_first_and_random_ones_for_the_rest() {
    let balancer = setup().start().await;
    let body = r#"{"n":4,"hostnames":["S5","S4"]}"#;
    let names = members(&balancer.main.call(Method::POST, "/add", body).await);
    assert_eq!(names[..5], ["Server-1", "Server-2", "Server-3", "S5", "S4"]);
    assert_eq!(names.len(), 7);
    names[5..].iter().for_each(|name| assert_random_name(name));
    assert_ne!(names[5], names[6]);
    assert_eq!(balancer.names().await, names);
    let replicas = balancer.replicas().await;
    assert!(
        replicas.iter().all(|replica| replica.state == "live"),
        "the call answers when all live: {replicas:?}"
    );
    let ids: Vec<_> = replicas.iter().map(|replica| replica.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7], "names given first also get the lower numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_takes_the_names_given_first_and_any_for_the_rest() {
    let balancer = setup().set("fleet.replicas", 6).start().await;
    let before = balancer.names().await;
    let names =
        members(&balancer.main.call(Method::DELETE, "/rm", r#"{"n":3,"hostnames":["Server-5"]}"#).await);
    assert_eq!(names.len(), 3);
    assert!(!names.contains(&"Server-5".to_owned()));
    let kept: Vec<_> = before.iter().filter(|name| names.contains(name)).cloned().collect();
    assert_eq!(names, kept, "the others stay, in their order");
    assert_eq!(balancer.names().await, names);
    for _ in 0..50 {
        let answer = balancer.main.get("/home").await;
        assert!(names.iter().any(|name| name == answer.replica()), "{} was removed", answer.replica());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_used_again_the_lowest_first() {
    let balancer = setup().set("fleet.replicas", 4).start().await;
    members(&balancer.remove(2, &["Server-2", "Server-3"]).await);
    let names = members(&balancer.add(3, &["new-a", "new-b", "new-c"]).await);
    assert_eq!(names, ["Server-1", "Server-4", "new-a", "new-b", "new-c"], "the order is that of joining");
    for (name, id) in [("new-a", 2), ("new-b", 3), ("new-c", 5), ("Server-4", 4)] {
        assert_eq!(balancer.replica(name).await.id, id, "{name}");
    }
    let greeted = async |name: &str| {
        for _ in 0..500 {
            let answer = balancer.main.get("/home").await;
            if answer.replica() == name {
                return answer.json()["message"].as_str().expect("a greeting").to_owned();
            }
        }
        panic!("{name} answered none of 500 requests")
    };
    assert_eq!(greeted("new-a").await, "Hello from Server: 2", "SERVER_ID is the number");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostnames_may_be_left_out() {
    let balancer = setup().start().await;
    for body in [r#"{"n":1}"#, r#"{"n":1,"hostnames":[]}"#, r#"{"n":1,"hostnames":null}"#] {
        let before = balancer.names().await.len();
        let names = members(&balancer.main.call(Method::POST, "/add", body).await);
        assert_eq!(names.len(), before + 1);
        assert_random_name(&names[before]);
        let names = members(&balancer.main.call(Method::DELETE, "/rm", body).await);
        assert_eq!(names.len(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_content_type_and_either_port_will_do() {
    let balancer = setup().start().await;
    let types: [&[(&str, &str)]; 4] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "nonsense")],
    ];
    for headers in types {
        for port in [balancer.main, balancer.admin] {
            let add = port.with_headers(Method::POST, "/add", headers, r#"{"n":1,"hostnames":["S9"]}"#).await;
            assert_eq!(members(&add).last().map(String::as_str), Some("S9"));
            let rm = port.with_headers(Method::DELETE, "/rm", headers, r#"{"n":1,"hostnames":["S9"]}"#).await;
            assert_eq!(members(&rm).len(), 3);
        }
    }
}

/// Each refused call of a table, and after each the same members.
async fn check_refusals(balancer: &Balancer, method: &Method, path: &str, table: &[(&str, &str)]) {
    let before = balancer.main.get("/rep").await;
    for (body, words) in table {
        let answer = balancer.main.call(method.clone(), path, body.to_string()).await;
        let message = refusal(&answer, 400);
        assert!(message.contains(words), "{path} {body}: {message:?} does not say {words:?}");
        assert_eq!(balancer.main.get("/rep").await.body, before.body, "{path} {body} changed something");
    }
    let replicas = balancer.replicas().await;
    assert_eq!(replicas.len(), 3, "nothing was started or stopped: {replicas:?}");
    assert!(replicas.iter().all(|replica| replica.state == "live" && replica.restarts == 0), "{replicas:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_added_is_refused_in_the_contracts_order() {
    let balancer = setup().set("ring.hash", "given").start().await;
    let long = format!(r#"{{"n":1,"hostnames":["{}"]}}"#, "x".repeat(64));
    let table: Vec<(&str, &str)> = vec![
        ("", "payload"),
        ("nonsense", "payload"),
        ("[1]", "payload"),
        ("3", "payload"),
        ("null", "payload"),
        (r#"{"n":1"#, "payload"),
        ("{}", "n must be"),
        (r#"{"hostnames":["a","a"]}"#, "n must be"),
        (r#"{"n":0}"#, "n must be"),
        (r#"{"n":-1,"hostnames":["a","a"]}"#, "n must be"),
        (r#"{"n":1.5}"#, "n must be"),
        (r#"{"n":"1"}"#, "n must be"),
        (r#"{"n":true}"#, "n must be"),
        (r#"{"n":null}"#, "n must be"),
        (r#"{"n":99999999999999999999999}"#, "n must be"),
        // More hostnames than n goes before duplicate, invalid, in use.
        (r#"{"n":1,"hostnames":["S5","S4"]}"#, MORE_THAN_ADDED),
        (r#"{"n":1,"hostnames":["-","-"]}"#, MORE_THAN_ADDED),
        (r#"{"n":1,"hostnames":["Server-1","Server-1"]}"#, MORE_THAN_ADDED),
        // Duplicate goes before invalid, full, in use.
        (r#"{"n":2,"hostnames":["S5","S5"]}"#, "twice"),
        (r#"{"n":99,"hostnames":["-","-"]}"#, "twice"),
        (r#"{"n":99,"hostnames":["Server-1","Server-1"]}"#, "twice"),
        // Invalid goes before full and in use.
        (r#"{"n":1,"hostnames":[""]}"#, "invalid"),
        (r#"{"n":1,"hostnames":["-a"]}"#, "invalid"),
        (r#"{"n":1,"hostnames":["a-"]}"#, "invalid"),
        (r#"{"n":1,"hostnames":["a_b"]}"#, "invalid"),
        (r#"{"n":1,"hostnames":["a.b"]}"#, "invalid"),
        (r#"{"n":1,"hostnames":["a/../b"]}"#, "invalid"),
        (r#"{"n":99,"hostnames":["Server-1","ä"]}"#, "invalid"),
        (&long, "invalid"),
        // Full goes before in use.
        (r#"{"n":54}"#, "53 more replicas fit"),
        (r#"{"n":54,"hostnames":["Server-1"]}"#, "53 more replicas fit"),
        (r#"{"n":1000000}"#, "53 more replicas fit"),
        (r#"{"n":1,"hostnames":["Server-1"]}"#, "already in use"),
        (r#"{"n":2,"hostnames":["S5","Server-3"]}"#, "already in use"),
        // Hostnames that are no list of texts.
        (r#"{"n":1,"hostnames":"S5"}"#, "hostnames"),
        (r#"{"n":1,"hostnames":[5]}"#, "hostnames"),
        (r#"{"n":1,"hostnames":{"S5":1}}"#, "hostnames"),
    ];
    check_refusals(&balancer, &Method::POST, "/add", &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_refused_in_the_contracts_order() {
    let balancer = setup().start().await;
    let table = [
        ("", "payload"),
        ("nonsense", "payload"),
        ("[]", "payload"),
        (r#"{"hostnames":["S9"]}"#, "n must be"),
        (r#"{"n":0}"#, "n must be"),
        (r#"{"n":"3"}"#, "n must be"),
        (r#"{"n":2.0001,"hostnames":["S9","S9","S9"]}"#, "n must be"),
        // Larger than the number of replicas goes before more hostnames, duplicate, unknown.
        (r#"{"n":4}"#, "larger than the number of replicas"),
        (r#"{"n":4,"hostnames":["S9","S9","S9","S9","S9"]}"#, "larger than the number of replicas"),
        // More hostnames goes before duplicate and unknown.
        (r#"{"n":1,"hostnames":["Server-1","Server-2"]}"#, MORE_THAN_REMOVED),
        (r#"{"n":1,"hostnames":["S9","S9"]}"#, MORE_THAN_REMOVED),
        // Duplicate goes before unknown.
        (r#"{"n":2,"hostnames":["Server-1","Server-1"]}"#, "twice"),
        (r#"{"n":2,"hostnames":["S9","S9"]}"#, "twice"),
        (r#"{"n":1,"hostnames":["S9"]}"#, "no replica 'S9'"),
        (r#"{"n":2,"hostnames":["Server-1","S9"]}"#, "no replica 'S9'"),
        (r#"{"n":1,"hostnames":["server-1"]}"#, "no replica 'server-1'"),
        (r#"{"n":1,"hostnames":7}"#, "hostnames"),
    ];
    check_refusals(&balancer, &Method::DELETE, "/rm", &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_payload_is_refused_and_changes_nothing() {
    let balancer = setup().start().await;
    let body = format!(r#"{{"n":1,"padding":"{}"}}"#, "x".repeat(1024 * 1024));
    for (port, method, path) in [
        (balancer.main, Method::POST, "/add"),
        (balancer.main, Method::DELETE, "/rm"),
        (balancer.admin, Method::POST, "/plan"),
    ] {
        let why = refusal(&port.call(method, path, body.clone()).await, 400);
        assert!(why.contains("larger than 65536 bytes"), "{path}: {why}");
    }
    assert_eq!(balancer.names().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_method_is_answered_with_the_right_one() {
    let balancer = setup().start().await;
    let before = balancer.names().await;
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    for (path, allowed) in [("/rep", "GET, HEAD"), ("/add", "POST"), ("/rm", "DELETE")] {
        for method in methods.iter().filter(|method| !allowed.split(", ").any(|one| one == method.as_str())) {
            for port in [balancer.main, balancer.admin] {
                let answer = port.call(method.clone(), path, r#"{"n":1}"#).await;
                assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
                if method != Method::HEAD {
                    refusal(&answer, 405);
                }
                assert_eq!(answer.status, 405, "{method} {path}");
            }
        }
    }
    assert_eq!(balancer.names().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_live_replica_clients_are_told_to_come_again() {
    let balancer = setup().start().await;
    assert_eq!(members(&balancer.remove(3, &[""; 0]).await), [""; 0]);
    for path in ["/home", "/heartbeat"] {
        let answer = balancer.main.get(path).await;
        refusal(&answer, 503);
        let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
        assert!((1..=60).contains(&seconds));
    }
    assert_json(
        &balancer.main.get("/rep").await,
        200,
        r#"{"message":{"N":0,"replicas":[]},"status":"successful"}"#,
    );
    assert_eq!(members(&balancer.add(1, &["S1"]).await), ["S1"]);
    assert_eq!(balancer.main.get("/home").await.replica(), "S1");
}

/// The occupied slots for `given` and N = 3, and where some requests go.
const GOLDEN: &str = "29:1 32:2 34:1 37:2 38:3 41:1 42:3 44:2 49:3 50:1 53:2 58:3 61:1 64:2 69:3 74:1 77:2 82:3 \
                      89:1 92:2 97:3 106:1 109:2 114:3 125:1 128:2 133:3";

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_of_the_given_hash_is_the_golden_one() {
    for setup in [setup().env("HASH_NUM", 0), setup().set("ring.hash", "given")] {
        let balancer = setup.start().await;
        let ring = balancer.admin.get("/ring").await.json();
        let occupied: Vec<_> = ring["occupied"].as_array().expect("a list").iter().collect();
        let occupied: Vec<_> = occupied.iter().map(|pair| format!("{}:{}", pair[0], pair[1])).collect();
        assert_eq!(occupied.join(" "), GOLDEN);
        let placement = json!({ "name": "slots", "hash": "given", "slots": 512, "virtual_servers": 9, "probing": "linear" });
        assert_eq!(ring["placement"], placement);
        for (key, slot, owner) in [(1012, 137, 1), (234_280, 161, 1), (234, 457, 1), (12, 185, 1)] {
            let route = balancer.admin.get(&format!("/route?key={key}")).await.json();
            assert_eq!(
                (&route["slot"], &route["preference"][0]["id"]),
                (&json!(slot), &json!(owner)),
                "{route}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hash_num_selects_a_pair_and_nothing_selects_the_best_balanced() {
    let placement = async |setup: Setup| {
        let balancer = setup.start().await;
        balancer.admin.get("/ring").await.json()["placement"].clone()
    };
    for (number, name) in [(0, "given"), (1, "modified"), (2, "sha256")] {
        let selected = placement(setup().env("HASH_NUM", number)).await;
        assert_eq!((&selected["hash"], &selected["name"]), (&json!(name), &json!("slots")));
    }
    assert_eq!(placement(setup()).await, json!({ "name": "rendezvous" }));
    let flag_first = placement(setup().env("HASH_NUM", 1).set("ring.hash", "sha256")).await;
    assert_eq!(flag_first["hash"], "sha256");
    let output = setup().env("HASH_NUM", 3).output().await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HASH_NUM"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_six_replicas_of_nine_fit_into_512_slots() {
    let balancer = setup().set("ring.hash", "given").set("fleet.task_batch", 56).start().await;
    assert_eq!(members(&balancer.add(53, &[""; 0]).await).len(), 56);
    let full = refusal(&balancer.add(1, &[""; 0]).await, 400);
    assert!(full.contains("0 more replicas fit"), "{full}");
    assert_eq!(balancer.names().await.iter().collect::<BTreeSet<_>>().len(), 56, "no two names alike");
    assert_eq!(balancer.replicas().await.iter().filter(|replica| replica.state == "live").count(), 56);
}

const TOKEN: &str = "0123456789abcdef";

/// The balancer's main port as the machine's other addresses see it.
async fn from_elsewhere(balancer: &Balancer) -> Option<Http> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing: asks which address would be used
    let own = socket.local_addr().ok()?.ip();
    Some(Http { address: (own, balancer.main.address.port()).into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_is_for_this_machine() {
    let balancer = setup().set("listen", "0.0.0.0:0").launch().await;
    let local = Http { address: ([127, 0, 0, 1], balancer.main.address.port()).into() };
    balancer.ready().await;
    assert_eq!(local.get("/rep").await.status, 200);
    // What came through a proxy, or from another site's page, only looks local.
    for (header, told) in [
        (("x-forwarded-for", "192.0.2.1"), "through a proxy"),
        (("via", "1.1 p"), "through a proxy"),
        (("origin", "https://evil.example"), "another site"),
    ] {
        for (method, path) in [(Method::GET, "/rep"), (Method::POST, "/add"), (Method::DELETE, "/rm")] {
            let answer = local.with_headers(method, path, &[header], r#"{"n":1}"#).await;
            let why = refusal(&answer, 403);
            assert!(why.contains(told) && why.contains("admin.token"), "{why}");
        }
    }
    assert_eq!(members(&local.get("/rep").await).len(), 3);
    let Some(elsewhere) = from_elsewhere(&balancer).await else {
        return skipped("network", "this machine has no address but its loopback");
    };
    assert_eq!(elsewhere.get("/home").await.status, 200, "requests are for everyone");
    for (method, path) in [(Method::GET, "/rep"), (Method::POST, "/add"), (Method::DELETE, "/rm")] {
        let why = refusal(&elsewhere.call(method, path, r#"{"n":1}"#).await, 403);
        assert!(why.contains(&elsewhere.address.ip().to_string()), "{why}");
    }
    assert_eq!(members(&local.get("/rep").await).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_callers_in_from_anywhere() {
    let balancer = setup().set("listen", "0.0.0.0:0").set("admin.token", TOKEN).launch().await;
    balancer.ready().await;
    let local = Http { address: ([127, 0, 0, 1], balancer.main.address.port()).into() };
    let right = ("authorization", "Bearer 0123456789abcdef");
    let through_a_proxy = [("x-forwarded-for", "192.0.2.1"), right];
    assert_eq!(local.get("/rep").await.status, 200, "this machine needs none");
    assert_eq!(local.with_headers(Method::GET, "/rep", &through_a_proxy, "").await.status, 200);
    let without = local.with_headers(Method::GET, "/rep", &through_a_proxy[..1], "").await;
    assert!(refusal(&without, 403).contains("Authorization: Bearer"));
    for wrong in ["Bearer 0123456789abcdeg", "Bearer ", "Basic 0123456789abcdef", "Bearer 0123456789abcdef0"]
    {
        for (method, path) in [(Method::POST, "/add"), (Method::DELETE, "/rm"), (Method::GET, "/rep")] {
            let answer = local.with_headers(method, path, &[("authorization", wrong)], r#"{"n":1}"#).await;
            let why = refusal(&answer, 403);
            assert!(why.contains("token is wrong") && !why.contains(TOKEN), "{why}");
        }
    }
    assert_eq!(members(&local.get("/rep").await).len(), 3);
    let Some(elsewhere) = from_elsewhere(&balancer).await else {
        return skipped("network", "this machine has no address but its loopback");
    };
    assert!(refusal(&elsewhere.get("/rep").await, 403).contains("Authorization: Bearer"));
    assert_eq!(members(&elsewhere.with_headers(Method::GET, "/rep", &[right], "").await).len(), 3);
    let added = elsewhere.with_headers(Method::POST, "/add", &[right], r#"{"n":1,"hostnames":["S4"]}"#).await;
    assert_eq!(members(&added).len(), 4);
    assert!(!balancer.log().contains(TOKEN), "the token is not logged");
}
