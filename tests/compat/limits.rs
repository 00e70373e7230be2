//! Nothing and nobody holds a place for ever: timeouts, limits, and who is slowed down by whom.
//!
//! All of it in bytes and by configuration, so that it holds for whatever data plane is behind the port.

use std::time::{Duration, Instant};

use slipring_tests::bare::{self, Bare};
use slipring_tests::{Balancer, Setup, Wire, measured, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;
const HIT: &str = "slipring_limits_hit_total";
/// More than all sockets on the way take.
const LARGE: usize = 64 * MIB;

/// No test by itself: what the replicas of the tests here run.
#[test]
fn bare_program() {
    bare::serve_if_asked();
}

fn setup() -> Setup {
    bare::program(Setup::new(SLIPRING)).set("fleet.replicas", 1)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

async fn until_metric(balancer: &Balancer, name: &str, labels: &str, wanted: f64) {
    wait_until(&format!("{name} is {wanted}"), LONG, async || {
        let is = balancer.metric(name, labels).await;
        if is == wanted { Ok(()) } else { Err(is.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_replica_never_reads_ends_and_frees_its_place() {
    let setup = setup().set("proxy.idle_timeout", "1s").set("proxy.max_connections_per_replica", 1);
    let balancer = setup.start().await;
    let stream = TcpStream::connect(balancer.main.address).await.expect("it listens");
    let (mut answer, mut upload) = stream.into_split();
    let sender = tokio::spawn(async move {
        let head = format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
        upload.write_all(head.as_bytes()).await?;
        for _ in 0..LARGE / MIB {
            upload.write_all(&[b'x'; MIB]).await?;
        }
        Ok::<_, std::io::Error>(upload)
    });
    let mut read = Vec::new();
    let end = timeout(LONG, answer.read_to_end(&mut read)).await.expect("the request ends");
    let read = String::from_utf8_lossy(&read);
    assert!(read.starts_with("HTTP/1.1 504") || (read.is_empty() && end.is_err()), "{end:?} {read}");
    sender.abort();
    let next = balancer.main.get("/next").await;
    assert_eq!(next.status, 200, "the place is free: {}", next.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_client_never_reads_ends_and_frees_both_connections() {
    let balancer = setup().set("proxy.idle_timeout", "1s").start().await;
    let bare = Bare::only(&balancer).await;
    let mut client = Wire::sending(balancer.main, get(&format!("/flood?bytes={LARGE}"))).await;
    bare.until("the replica's connection is freed", "/flood", |seen| seen.ended == 1).await;
    until_metric(&balancer, "slipring_connections", "", 0.0).await;
    let answer = client.answer().await.expect("a head");
    assert!(!answer.complete && answer.body.len() < LARGE, "{} bytes", answer.body.len());
}

/// The replica's sending is slowed to the client's reading; nothing in between keeps what nobody takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_stops_the_sender() {
    let balancer = setup().start().await;
    let bare = Bare::only(&balancer).await;
    assert_eq!(balancer.main.get("/flood?bytes=65536").await.body.len(), 65536);
    let before = balancer.process.peak_memory();
    let mut client = Wire::sending(balancer.main, get(&format!("/flood?bytes={LARGE}"))).await;
    let seen = bare.until("the replica finds no reader", "/flood", |seen| seen.blocked).await;
    assert!(seen.sent < LARGE as u64, "{seen:?}");
    let grown = (balancer.process.peak_memory() - before) as usize;
    assert!(grown < 32 * MIB, "the balancer keeps {grown} bytes");
    measured(&format!(
        "{} KiB left the replica, the balancer grew by {} KiB",
        seen.sent / 1024,
        grown / 1024
    ));
    let answer = client.answer().await.expect("a head");
    assert!(answer.complete && answer.body.len() == LARGE, "{} bytes", answer.body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_read_stops_the_client() {
    let balancer = setup().start().await;
    let before = balancer.process.peak_memory();
    let head = format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    let mut client = Wire::sending(balancer.main, head).await;
    let mut taken = 0;
    while taken < LARGE
        && let Ok(written) = timeout(Duration::from_secs(1), client.stream.write(&[b'x'; 64 * 1024])).await
    {
        taken += written.expect("the connection is there");
    }
    assert!(taken < LARGE, "all of it was taken, by nobody");
    let grown = (balancer.process.peak_memory() - before) as usize;
    assert!(grown < 32 * MIB, "the balancer keeps {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stalls_ends_is_counted_and_told() {
    let balancer = setup().set("proxy.idle_timeout", "300ms").start().await;
    let bare = Bare::only(&balancer).await;
    let answer = Wire::sending(balancer.main, get("/half")).await.answer().await.expect("a head");
    assert_eq!((answer.status, answer.complete, answer.text().as_str()), (200, false, "beginning"));
    bare.until("the replica's connection is freed", "/half", |seen| seen.ended == 1).await;
    let broken = "replica=\"Server-1\"";
    until_metric(&balancer, "slipring_answers_broken_total", broken, 1.0).await;
    wait_until("a word in the log", LONG, async || {
        let log = balancer.log();
        let told = log.lines().any(|line| line.contains("WARN") && line.contains("Server-1"));
        if told { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_is_let_go() {
    let setup = setup().set("proxy.idle_timeout", "300ms").set("proxy.header_timeout", "1s");
    let balancer = setup.start().await;
    for sent in ["", "GET /half-a-head HTTP/1.1\r\nHo"] {
        Wire::sending(balancer.main, sent).await.end().await;
    }
    let mut kept = Wire::sending(balancer.main, get("/a")).await;
    assert_eq!(kept.answer().await.expect("an answer").status, 200);
    kept.end().await;
    until_metric(&balancer, "slipring_connections", "", 0.0).await;
    until_metric(&balancer, HIT, "limit=\"idle_time\"", 1.0).await;
    until_metric(&balancer, HIT, "limit=\"header_time\"", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_limit_wait_for_a_place() {
    let balancer = setup().set("proxy.max_connections", 2).start().await;
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::sending(balancer.main, get("/a")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        served.push(client);
    }
    let bare = Bare::only(&balancer).await;
    let mut waiting = Wire::sending(balancer.main, get("/third")).await;
    assert_eq!(balancer.metric("slipring_limit", "of=\"connections\"").await, 2.0);
    assert_eq!(balancer.metric("slipring_connections", "").await, 2.0);
    until_metric(&balancer, HIT, "limit=\"connections\"", 1.0).await;
    assert_eq!(bare.seen("/third").await.came, 0, "there is no place yet");
    drop(served.pop());
    assert_eq!(waiting.answer().await.expect("an answer").status, 200);
}

/// It was accepted, and then dropped without a word.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_waits_for_a_place_when_the_balancer_ends_is_told() {
    let balancer = setup().set("proxy.max_connections", 1).set("drain_timeout", "2s").start().await;
    let mut served = Wire::sending(balancer.main, get("/half")).await;
    served.head().await.expect("an answer has begun");
    let mut waiting = Wire::sending(balancer.main, get("/b")).await;
    until_metric(&balancer, HIT, "limit=\"connections\"", 1.0).await;
    let stopping = tokio::spawn(balancer.stop());
    let answer = waiting.answer().await.expect("an answer");
    let told = (answer.status, answer.headers("connection"), answer.headers("retry-after"));
    assert_eq!(told, (503, vec!["close"], vec!["1"]), "{}", answer.head);
    assert!(answer.text().contains("proxy.max_connections"), "{}", answer.text());
    stopping.await.expect("an orderly end");
}

/// A crowd was taken for the replica's failure: five who waited in vain, and it was left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_not_the_replicas_fault() {
    let setup = setup().set("proxy.max_connections_per_replica", 1).set("proxy.max_ejected", 1);
    let balancer = setup.set("proxy.first_byte_timeout", "200ms").start().await;
    let mut held = Wire::sending(balancer.main, get("/half")).await;
    held.head().await.expect("an answer has begun");
    let mut client = Wire::to(balancer.main).await;
    for _ in 0..6 {
        client.send(get("/a")).await;
        let answer = client.answer().await.expect("an answer");
        let told = (answer.status, answer.headers("retry-after"), answer.headers("x-slipring-panic"));
        assert_eq!(told, (503, vec!["1"], vec![]), "{}", answer.head);
        assert!(answer.text().contains("proxy.max_connections_per_replica"), "{}", answer.text());
    }
    assert_eq!(balancer.metric(HIT, "limit=\"connections_per_replica\"").await, 6.0);
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0, "{}", balancer.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_finds_no_room_among_those_who_wait_is_told() {
    let setup = setup().set("proxy.max_connections_per_replica", 1).set("proxy.max_waiting_per_replica", 0);
    let balancer = setup.start().await;
    let mut held = Wire::sending(balancer.main, get("/half")).await;
    held.head().await.expect("an answer has begun");
    let answer = Wire::sending(balancer.main, get("/a")).await.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.headers("retry-after")), (503, vec!["1"]), "{}", answer.head);
    assert!(answer.text().contains("proxy.max_waiting_per_replica"), "{}", answer.text());
    assert_eq!(balancer.metric(HIT, "limit=\"waiting_per_replica\"").await, 1.0);
}

/// The client did as it should: it is the replica that says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_waits_for_a_mute_replicas_100_is_not_blamed() {
    let setup = setup().set("proxy.first_byte_timeout", "300ms").set("proxy.body_grace", "100ms");
    let balancer = setup.start().await;
    let head = "POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let answer = Wire::sending(balancer.main, head).await.answer().await.expect("an answer");
    assert_eq!(answer.status, 504, "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_has_no_more_requests_at_a_time_than_the_limit() {
    let balancer = setup().set("proxy.max_connections_per_replica", 2).start().await;
    let path = format!("/flood?bytes={MIB}");
    let answers = (0..12).map(|_| balancer.main.get(&path));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, MIB));
    }
    let seen = Bare::only(&balancer).await.seen("/flood").await;
    assert!(seen.came == 12 && seen.most <= 2, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_so_many_replicas_and_no_more() {
    let balancer = setup().set("fleet.replicas", 4).set("proxy.max_attempts", 2).start().await;
    let answer = balancer.main.get("/die").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let mut came = 0;
    for bare in Bare::all(&balancer).await {
        came += bare.seen("/die").await.came;
    }
    assert_eq!(came, 2);
}

/// However many replicas are busy, a request waits for all of them together no longer than for one.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_place_has_one_deadline() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let setup = setup().set("fleet.replicas", 3).set("proxy.key", "header:x-key");
    let setup = setup.set("proxy.max_connections_per_replica", 1).set("proxy.first_byte_timeout", "2s");
    let balancer = setup.start().await;
    let mut held = Vec::new();
    for (index, bare) in Bare::all(&balancer).await.into_iter().enumerate() {
        let name = format!("Server-{}", index + 1);
        let mut n = 0;
        while balancer.owner(&format!("k{n}")).await != name {
            n += 1;
        }
        let request = format!("GET /half HTTP/1.1\r\nHost: a\r\nx-key: k{n}\r\n\r\n");
        held.push(Wire::sending(balancer.main, request).await);
        bare.until("its only place is taken", "/half", |seen| seen.open == 1).await;
    }
    let began = Instant::now();
    let answer = balancer.main.get("/late").await;
    let took = began.elapsed();
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{} {}", answer.status, answer.text());
    assert!(took >= PATIENCE / 2 && took < PATIENCE * 2, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_accepts_nothing_costs_the_connect_timeout() {
    const CONNECT: Duration = Duration::from_secs(4);
    let setup = setup()
        .set("proxy.half_closed_timeout", "1ms")
        .set("proxy.connect_timeout", "4s")
        .set("fleet.failures", 1000);
    let balancer = setup.start().await;
    let bare = Bare::only(&balancer).await;
    assert_eq!(bare.http.get("/full").await.text(), "full");
    wait_until("nobody can connect to it", LONG, async || {
        match timeout(Duration::from_millis(200), TcpStream::connect(bare.http.address)).await {
            Ok(connected) => Err(format!("{connected:?}")),
            Err(_) => Ok(()),
        }
    })
    .await;
    // One that leaves meanwhile is not waited for.
    let client = Wire::sending(balancer.main, get("/a")).await;
    until_metric(&balancer, "slipring_requests_in_flight", "", 1.0).await;
    let began = Instant::now();
    drop(client);
    until_metric(&balancer, "slipring_requests_in_flight", "", 0.0).await;
    assert!(began.elapsed() < CONNECT / 2, "{:?}", began.elapsed());
    let began = Instant::now();
    let answer = balancer.main.get("/a").await;
    let took = began.elapsed();
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{} {}", answer.status, answer.text());
    assert!(took >= CONNECT && took < CONNECT * 5, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_to_a_replica_is_closed_in_time() {
    let balancer = setup().set("proxy.replica_idle_timeout", "300ms").start().await;
    let bare = Bare::only(&balancer).await;
    let first = balancer.main.get("/a").await.json();
    bare.until("the balancer lets go", "/a", |seen| seen.closed == 1).await;
    let second = balancer.main.get("/a").await.json();
    assert_ne!(first["connection"], second["connection"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_the_replica() {
    let balancer = setup().start().await;
    let bare = Bare::only(&balancer).await;
    let post = "POST /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for (n, (path, request)) in
        [("/silent", get("/silent")), ("/silent", post.to_owned()), ("/half", get("/half"))]
            .into_iter()
            .enumerate()
    {
        let client = Wire::sending(balancer.main, request).await;
        bare.until("the replica has the request", path, |seen| seen.open == 1).await;
        drop(client);
        let seen = bare.until("the replica is free", path, |seen| seen.open == 0).await;
        assert_eq!(seen.ended, seen.came, "request {n}: {seen:?}");
    }
    until_metric(&balancer, "slipring_requests_in_flight", "replica=\"Server-1\"", 0.0).await;
    assert_eq!(
        balancer.metric("slipring_answers_broken_total", "").await,
        0.0,
        "that is no fault of the replica"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_show_what_is_in_flight_and_how_much_may_be() {
    let balancer = setup().set("proxy.max_connections_per_replica", 7).start().await;
    let bare = Bare::only(&balancer).await;
    let _client = Wire::sending(balancer.main, get("/silent")).await;
    bare.until("the replica has the request", "/silent", |seen| seen.open == 1).await;
    assert_eq!(balancer.metric("slipring_requests_in_flight", "replica=\"Server-1\"").await, 1.0);
    assert_eq!(balancer.metric("slipring_limit", "of=\"connections_per_replica\"").await, 7.0);
}

/// A connection that has nothing to ask holds little: no buffer, nothing of what serving takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_costs_little_memory() {
    const CLIENTS: usize = 2000;
    let balancer = setup().start().await;
    let ask = async || {
        let mut client = Wire::sending(balancer.main, get("/plain")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        client
    };
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(ask().await);
    }
    let before = balancer.process.peak_memory();
    for _ in 0..CLIENTS {
        clients.push(ask().await);
    }
    let each = (balancer.process.peak_memory() - before) as usize / CLIENTS;
    measured(&format!("an idle connection takes {each} bytes"));
    assert!(each < 2500, "{each} bytes for each of {CLIENTS} idle connections");
}
