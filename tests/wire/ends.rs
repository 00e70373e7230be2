//! Ends of clients' connections: theirs, ours, and what is still delivered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slipring_tests::raw::{Odd, Raw, Sent, replica};
use slipring_tests::{Balancer, Setup, wait_until};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(20);
/// Long before any timeout of the balancer's has passed.
const SOON: Duration = Duration::from_secs(8);

async fn until_metric(balancer: &Balancer, name: &str, wanted: f64) {
    wait_until(&format!("{name} is {wanted}"), SOON, async || {
        let is = balancer.metric(name, "").await;
        if is == wanted { Ok(()) } else { Err(is.to_string()) }
    })
    .await;
}

/// A replica that says which request it has, and answers when it is told to go on.
async fn holding() -> (SocketAddr, mpsc::Receiver<String>, Arc<Notify>) {
    let (tell, told) = mpsc::channel(8);
    let go = Arc::new(Notify::new());
    let going = go.clone();
    let address = replica(move |mut connection: Raw, _| {
        let (tell, going) = (tell.clone(), going.clone());
        async move {
            while let Ok(request) = connection.message(Sent::Request).await {
                tell.send(request.target().to_owned()).await.expect("the test listens");
                going.notified().await;
                let body = request.target();
                let length = body.len();
                connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")).await;
            }
        }
    })
    .await;
    (address, told, go)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// `printf 'GET …' | nc -N`: the end of what a client sends is not the end of its listening.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_its_side_gets_its_answer() {
    let (address, mut told, go) = holding().await;
    let setup = Setup::fixed(SLIPRING, &[address]).set("proxy.workers", 1);
    let balancer = setup.set("proxy.half_closed_timeout", "30s").start().await;
    for pipelined in [1, 2] {
        let mut client = Raw::connect(balancer.main.address).await;
        let requests: String = (0..pipelined).map(|n| get(&format!("/{n}"))).collect();
        client.say(requests).await;
        assert_eq!(told.recv().await.as_deref(), Some("/0"));
        client.finish().await;
        // The balancer has answered others since, so it has seen that end.
        until_metric(&balancer, "slipring_requests_in_flight", 1.0).await;
        assert_eq!(balancer.main.get("/rep").await.status, 200);
        for n in 0..pipelined {
            if n > 0 {
                assert_eq!(told.recv().await, Some(format!("/{n}")));
            }
            go.notify_one();
            let answer = timeout(LONG, client.answer()).await.expect("an answer");
            assert_eq!((answer.status(), answer.text()), (200, format!("/{n}")));
        }
        assert_eq!(client.message(Sent::Answer).await, Err(Odd::Ended));
    }
}

/// One that leaves looks the same: its place is not kept for longer than configured.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_not_waited_for() {
    let (address, mut told, _go) = holding().await;
    let balancer = Setup::fixed(SLIPRING, &[address]).start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say(get("/a")).await;
    assert_eq!(told.recv().await.as_deref(), Some("/a"));
    drop(client);
    until_metric(&balancer, "slipring_requests_in_flight", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_gives_its_place_up() {
    let (address, mut told, go) = holding().await;
    let setup = Setup::fixed(SLIPRING, &[address]).set("proxy.max_connections_per_replica", 1);
    let balancer = setup.set("proxy.max_waiting_per_replica", 1).start().await;
    let mut first = Raw::connect(balancer.main.address).await;
    first.say(get("/first")).await;
    assert_eq!(told.recv().await.as_deref(), Some("/first"));
    for (resets, request) in [
        (true, get("/waits")),
        (false, get("/waits")),
        (false, "POST /waits HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        (false, get("/waits") + &get("/waits-too")),
    ] {
        let mut waiting = Raw::connect(balancer.main.address).await;
        waiting.say(&request).await;
        until_metric(&balancer, "slipring_requests_in_flight", 2.0).await;
        match resets {
            true => waiting.reset(),
            false => drop(waiting),
        }
        until_metric(&balancer, "slipring_requests_in_flight", 1.0).await;
    }
    go.notify_one();
    assert_eq!(first.answer().await.text(), "/first");
}

/// A balancer whose replicas never come up has clients that wait for the first of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_there_are_replicas_is_let_go() {
    let setup = Setup::new(SLIPRING).set("process.command", "sleep,1000").set("fleet.start_timeout", "60s");
    let balancer = setup.set("fleet.stop_timeout", "1s").launch().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say(get("/home")).await;
    until_metric(&balancer, "slipring_connections", 1.0).await;
    drop(client);
    until_metric(&balancer, "slipring_connections", 0.0).await;
}

/// A client that is not told would send its next request into a connection that is about to end.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_a_drain_began_says_close() {
    let (address, mut told, go) = holding().await;
    let mut balancer = Setup::fixed(SLIPRING, &[address]).set("proxy.workers", 1).start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say(get("/a")).await;
    assert_eq!(told.recv().await.as_deref(), Some("/a"));
    let mut old = Raw::connect(balancer.main.address).await;
    old.say("POST /rep HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await;
    until_metric(&balancer, "slipring_connections", 2.0).await;
    balancer.signal(rustix::process::Signal::TERM);
    wait_until("it accepts no more", LONG, async || match TcpStream::connect(balancer.main.address).await {
        Ok(_) => Err("it does".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    go.notify_one();
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("/a", Some("close")));
    assert_eq!(client.message(Sent::Answer).await, Err(Odd::Ended));
    let refused = old.ask("{}").await;
    assert_eq!((refused.status(), refused.field("connection")), (405, Some("close")));
    drop((client, old));
    assert_eq!(balancer.ended(LONG).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_through_which_nothing_passes_ends_and_is_counted() {
    let address = replica(async |mut connection: Raw, _| {
        connection.message(Sent::Request).await.expect("a request");
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";
        connection.say(switch).await;
        connection.ended().await;
    })
    .await;
    let balancer = Setup::fixed(SLIPRING, &[address]).set("proxy.tunnel_timeout", "300ms").start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say("GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n").await;
    assert_eq!(client.head().await.expect("an answer").status(), 101);
    assert_eq!(timeout(LONG, client.rest()).await.expect("it ends"), b"");
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"tunnel_time\"").await, 1.0);
}

/// An upgraded connection is one of the replica's connections for as long as it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_has_a_place_to_its_end() {
    let address = replica(async |mut connection: Raw, _| {
        connection.message(Sent::Request).await.expect("a request");
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";
        connection.say(switch).await;
        connection.ended().await;
    })
    .await;
    let setup = Setup::fixed(SLIPRING, &[address]).set("proxy.max_connections_per_replica", 1);
    let balancer = setup.set("proxy.first_byte_timeout", "300ms").start().await;
    let upgrade = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
    for _ in 0..2 {
        let mut first = Raw::connect(balancer.main.address).await;
        first.say(upgrade).await;
        assert_eq!(first.head().await.expect("an answer").status(), 101);
        let mut second = Raw::connect(balancer.main.address).await;
        assert_eq!(second.ask(upgrade).await.status(), 503, "there is no place beside it");
        first.finish().await;
        assert_eq!(first.rest().await, b"");
        until_metric(&balancer, "slipring_requests_in_flight", 0.0).await;
    }
}
