//! Routes: hosts and paths to pools, whatever protocol a request comes in, and what a pool does with it in its own way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response};
use slipring_tests::raw::{Raw, replica};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Answer, Balancer, Http, Setup, skipped, wait_until};
use tokio::net::TcpListener;
use tokio::process::Command;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// A replica that says who it is, and what it was asked for.
async fn called(name: &'static str) -> Upstream {
    Upstream::serve(move |request: Request<Incoming>| async move {
        let mut response = Response::new(whole(format!("{name} {}", request.uri().path())));
        if request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc") {
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        response
    })
    .await
}

/// `[pool.NAME]` for this replica.
fn pool(name: &str, routes: &str, address: SocketAddr) -> String {
    format!("[pool.{name}]\nroutes = [{routes}]\nfleet.upstreams = [\"{address}\"]\n")
}

async fn ask(to: Http, host: &str, path: &str) -> Answer {
    to.with_headers(Method::GET, path, &[("host", host)], "").await
}

/// Each in its own pool: which routes they have.
const ROUTES: [(&str, &str); 5] = [
    ("api", "\"api.test/*\""),
    ("wild", "\"*.test/*\""),
    ("v2", "\"api.test/v2/*\""),
    ("images", "\"/img/*\", \"/home/img\""),
    ("logo", "\"/img/logo\""),
];

struct Routed {
    balancer: Balancer,
    /// They live as long as the balancer.
    _replicas: Vec<Upstream>,
}

async fn routed() -> Routed {
    let (mut file, mut replicas) = (String::new(), Vec::new());
    for (name, routes) in ROUTES {
        let replica = called(name).await;
        file += &pool(name, routes, replica.address);
        replicas.push(replica);
    }
    Routed { balancer: Setup::new(SLIPRING).file(&file).start().await, _replicas: replicas }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_route_wins_and_what_no_route_has_is_as_without_any() {
    let Routed { balancer, _replicas } = routed().await;
    for (host, path, expected) in [
        ("api.test", "/x", "api /x"),
        ("API.Test:8080", "/x?y", "api /x"),
        ("api.test", "/v2", "v2 /v2"),
        ("api.test", "/v2/y", "v2 /v2/y"),
        ("api.test", "/v22", "api /v22"),
        ("api.test", "/img/logo", "api /img/logo"),
        ("a.b.test", "/img/logo", "wild /img/logo"),
        ("test", "/img/logo", "logo /img/logo"),
        ("other", "/img", "images /img"),
        ("other", "/img/logo/", "images /img/logo/"),
        ("other", "/home/img", "images /home/img"),
        // A host of their own takes the balancer's calls, too.
        ("api.test", "/rep", "api /rep"),
    ] {
        let answer = ask(balancer.main, host, path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, expected), "{host} {path}");
    }
    let absolute = "GET http://api.test/v2 HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n";
    let answer = Raw::connect(balancer.main.address).await.ask(absolute).await;
    assert_eq!(answer.text(), "v2 /v2", "the target's host goes before the field");

    let home = ask(balancer.main, "other", "/home").await;
    assert!(home.text().contains("Hello from Server: ") && home.replica().starts_with("Server-"), "{home:?}");
    let other = ask(balancer.main, "other", "/other").await;
    let expected = "<Error> '/other' endpoint does not exist in server replicas";
    assert_eq!((other.status.as_u16(), &other.json()["message"]), (400, &expected.into()));
    assert_eq!(balancer.names().await, ["Server-1", "Server-2", "Server-3"], "/rep is the contract's");
}

/// One connection, many hosts: each request goes its own way, keep-alive or not.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_are_routed_one_by_one() {
    let Routed { balancer, _replicas } = routed().await;
    let mut client = Raw::connect(balancer.main.address).await;
    for _ in 0..3 {
        for (host, path, expected) in
            [("api.test", "/a", "api /a"), ("x.test", "/b", "wild /b"), ("x", "/img/c", "images /img/c")]
        {
            let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(answer.text(), expected);
        }
    }
    let upgraded = "GET /v2/x HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    client.say(upgraded).await;
    assert_eq!(client.head().await.expect("an answer").status(), 101);
    client.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let body = client.take_until(b"v2 /v2/x").await;
    assert!(body.is_some(), "the upgraded request has its pool, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_calls_are_routed_by_their_authority() {
    let Routed { balancer, _replicas } = routed().await;
    let mut streams = balancer.main.streams().await;
    // Calls to every pool over the same threads: replicas of different pools count their lives alike.
    for _ in 0..5 {
        for (authority, path, expected) in [
            ("api.test", "/svc.A/Do", "api /svc.A/Do"),
            ("API.test:9000", "/v2/x", "v2 /v2/x"),
            ("b.test", "/svc.A/Do", "wild /svc.A/Do"),
            ("other", "/img/x", "images /img/x"),
        ] {
            for kind in ["text/plain", "application/grpc"] {
                let uri = format!("http://{authority}{path}");
                let request = Request::builder().method(Method::POST).uri(uri).header("content-type", kind);
                let response = streams.send_request(request.body(whole("x")).expect("valid")).await;
                let response = response.expect("an answer");
                assert_eq!(response.status(), 200);
                let body = response.into_body().collect().await.expect("whole").to_bytes();
                assert_eq!(body, Bytes::from(expected), "{kind} {authority}");
            }
        }
    }
    let request = balancer.main.stream(Method::POST, "/nowhere").header("content-type", "application/grpc");
    let response = streams.send_request(request.body(whole("x")).expect("valid")).await.expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "12", "no route is UNIMPLEMENTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_to_its_pool_and_has_its_patience() {
    let shouting = replica(async |mut connection: Raw, _| {
        connection.head().await.expect("a head");
        connection
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n")
            .await;
        loop {
            let bytes = connection.take(1).await;
            if bytes.is_empty() {
                return;
            }
            connection.say(bytes.to_ascii_uppercase()).await;
        }
    })
    .await;
    let file = pool("ws", "\"/ws/*\"", shouting) + "proxy.tunnel_timeout = \"300ms\"\n";
    let balancer = Setup::new(SLIPRING).file(&file).start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say("GET /ws/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhello").await;
    assert_eq!(client.head().await.expect("an answer").status(), 101);
    assert_eq!(client.take(5).await, b"HELLO");
    let silent = Instant::now();
    client.ended().await;
    assert!(silent.elapsed() < Duration::from_secs(10), "the balancer's own patience is an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pool_has_its_own_timeouts_limits_and_heartbeats() {
    let mute = replica(async |connection: Raw, _| connection.ended().await).await;
    // It takes connections and says nothing, not even to heartbeats.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let accepts_only = listener.local_addr().expect("it is bound");
    let echo = called("echo").await;
    let file = [
        pool("mute", "\"/mute/*\"", mute),
        "proxy.first_byte_timeout = \"200ms\"\nproxy.max_attempts = 1\n".into(),
        pool("tcp", "\"/tcp/*\"", accepts_only),
        "fleet.heartbeat_path = \"\"\nproxy.first_byte_timeout = \"200ms\"\n".into(),
        pool("small", "\"/small/*\"", echo.address),
        "proxy.max_body_bytes = 10\n".into(),
        pool("large", "\"/large/*\"", echo.address),
    ];
    let setup = Setup::new(SLIPRING).set("fleet.heartbeat_interval", "100ms").file(&file.concat());
    let balancer = setup.start().await;
    let began = Instant::now();
    let answer = balancer.main.get("/mute/x").await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "the balancer's own patience is thirty seconds");
    assert_eq!(balancer.main.get("/tcp/x").await.status, 504, "live, though it never said a word");
    assert_eq!(balancer.replicas_of("tcp").await[0].state, "live");
    for (path, status) in [("/small/a", 413), ("/large/a", 200)] {
        assert_eq!(balancer.main.call(Method::POST, path, "eleven char").await.status, status, "{path}");
    }
    assert_eq!(balancer.main.get("/home").await.status, 200);
    // Nobody listens any more: that, and only that, is an end there.
    drop(listener);
    wait_until("it is given up", LONG, async || {
        let state = balancer.replicas_of("tcp").await[0].state.clone();
        if state == "respawning" || state == "starting" { Ok(()) } else { Err(state) }
    })
    .await;
    assert_eq!(balancer.main.get("/tcp/x").await.status, 503);
    assert_eq!(balancer.metric("slipring_replicas", "pool=\"default\",state=\"live\"").await, 3.0);
}

type Pairs = Vec<(String, String)>;

/// nginx's answers of `hashing/tests/data/record-ketama.sh`: `(address, weight)`, and the server of each key.
fn recorded() -> (Pairs, Pairs) {
    let csv = include_str!("../../hashing/tests/data/ketama-nginx.csv");
    let pair = |line: &str| line.split_once(',').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a pair");
    let servers = csv.lines().filter_map(|line| line.strip_prefix("# server,")).map(pair).collect();
    (servers, csv.lines().filter(|line| !line.starts_with('#')).map(pair).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_addresses_have_the_keys_that_a_recorded_nginx_gave_them() {
    let (servers, answers) = recorded();
    assert!(servers.iter().any(|(_, weight)| weight != "1") && answers.len() == 1000);
    let list: Vec<_> =
        servers.iter().map(|(address, weight)| format!("\"{address} weight={weight}\"")).collect();
    let file = format!(
        "[pool.ring]\nroutes = \"/*\"\nring.placement = \"ketama\"\nfleet.upstreams = [{}]\n",
        list.join(", ")
    );
    // They need not be there: who has a key does not depend on it.
    let balancer = Setup::new(SLIPRING).set("fleet.replicas", 1).file(&file).launch().await;
    for (key, server) in answers.iter().step_by(4) {
        let route = balancer.admin.get(&format!("/route?pool=ring&as=bytes&key={key}")).await.json();
        assert_eq!(route["preference"][0]["name"], **server, "{key}");
    }
    let placement = balancer.admin.get("/ring").await.json()["placement"]["name"].clone();
    assert_eq!(placement, "rendezvous", "the pool without a name has its own");
}

/// A real nginx and the balancer in front of the same replicas, with weights, asked for the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_uri_goes_where_nginx_sends_it() {
    let nginx = std::env::var("NGINX").unwrap_or_else(|_| "nginx".into());
    let version = Command::new(&nginx).arg("-v").stderr(Stdio::null()).status().await;
    if !version.is_ok_and(|status| status.success()) {
        return skipped("nginx", "there is no nginx on PATH (or in NGINX)");
    }
    let weights = [1, 3, 1, 2];
    let mut replicas = Vec::new();
    for name in ["a", "b", "c", "d"] {
        replicas.push(called(name).await);
    }
    let lines = |form: fn(SocketAddr, u32) -> String| -> String {
        replicas.iter().zip(weights).map(|(replica, weight)| form(replica.address, weight)).collect()
    };
    let listed = lines(|address, weight| format!("\"{address} weight={weight}\","));
    let file = format!(
        "[pool.ring]\nroutes = \"/*\"\nring.placement = \"ketama\"\nproxy.key = \"uri\"\nfleet.upstreams = [{listed}]\n"
    );
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 1).file(&file);
    let folder = setup.folder().display().to_string();
    let socket = format!("{folder}/nginx.sock");
    let servers = lines(|address, weight| format!("server {address} weight={weight};"));
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .concat();
    let configuration = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; {paths}\n\
         upstream ring {{ hash $request_uri consistent; {servers} }}\n\
         server {{ listen unix:{socket}; location / {{ proxy_pass http://ring; }} }} }}\n"
    );
    std::fs::write(format!("{folder}/nginx.conf"), configuration).expect("the folder is ours");
    let mut command = Command::new(&nginx);
    command.args([
        "-p",
        &folder,
        "-e",
        &format!("{folder}/error.log"),
        "-c",
        &format!("{folder}/nginx.conf"),
    ]);
    let mut running = command.kill_on_drop(true).spawn().expect("nginx can be started");
    let balancer = setup.start().await;
    let mut answered = BTreeMap::new();
    for n in 0..300 {
        let uri = match n % 3 {
            0 => format!("/item/{n}"),
            1 => format!("/item?id={n}&user=ann%20b"),
            _ => format!("/a%2Fb/{n}/picture.jpg?x"),
        };
        let theirs = wait_until("nginx answers", LONG, async || through_socket(&socket, &uri).await).await;
        let ours = balancer.main.get(&uri).await;
        assert_eq!(theirs, ours.text(), "{uri}");
        *answered.entry(ours.replica().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(answered.len(), 4, "all of them have keys: {answered:?}");
    running.kill().await.expect("it was there");
}

/// The body of nginx's answer.
async fn through_socket(socket: &str, uri: &str) -> Result<String, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let request = format!("GET {uri} HTTP/1.0\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}
