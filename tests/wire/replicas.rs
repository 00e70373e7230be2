//! Replicas that do what no replica should: the client gets the right status, the right counter counts, and nothing
//! of it is left behind: no connection, no file descriptor, no answer that belongs to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slipring_tests::raw::{Message, Odd, Raw, Sent, replica};
use slipring_tests::{Balancer, Setup, wait_until};
use tokio::sync::Notify;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(20);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";

/// In front of one replica, impatient.
fn setup(address: std::net::SocketAddr) -> Setup {
    let setup = Setup::fixed(SLIPRING, &[address]).set("proxy.first_byte_timeout", "300ms");
    setup.set("proxy.idle_timeout", "500ms").set("proxy.replica_idle_timeout", "1s")
}

/// A replica that does to a request for `/name` what [`behave`] knows under this name.
async fn odd_replica(seen: Arc<AtomicUsize>) -> std::net::SocketAddr {
    replica(move |mut connection, first| {
        let seen = seen.clone();
        async move {
            let mut first = first;
            loop {
                seen.fetch_add(usize::from(!first.contains("/fine")), Ordering::SeqCst);
                let Some(on) = behave(connection, &first).await else { return };
                connection = on;
                first = String::from_utf8_lossy(&connection.peek().await).into_owned();
                if first.is_empty() {
                    return;
                }
            }
        }
    })
    .await
}

/// Does what the first line asks for; the connection, if it goes on.
async fn behave(mut connection: Raw, first: &str) -> Option<Raw> {
    let name = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    if name == "reset-unread" {
        connection.reset();
        return None;
    }
    if connection.message(Sent::Request).await.is_err() {
        return None;
    }
    match name.as_str() {
        "reset" => {
            connection.reset();
            return None;
        }
        "close" => return None,
        "close-in-head" => {
            connection.say("HTTP/1.1 200 OK\r\nContent-Le").await;
            return None;
        }
        "reset-in-body" => {
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
            connection.reset();
            return None;
        }
        "stall" => {
            connection.ended().await;
            return None;
        }
        "stall-in-head" => {
            connection.say("HTTP/1.1 200 OK\r\nX-A: ").await;
            connection.ended().await;
            return None;
        }
        "stall-in-body" => {
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
            connection.ended().await;
            return None;
        }
        "too-short" | "chunks-cut-off" => {
            let chunked = name == "chunks-cut-off";
            let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 9" };
            let body = if chunked { "2\r\nok\r\n" } else { "ok" };
            connection.say(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await;
            return None;
        }
        "long-head" => {
            connection.say(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(1 << 20))).await;
        }
        "flood" => {
            while connection.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100)).await {}
        }
        "until-close" => {
            connection.say("HTTP/1.1 200 OK\r\n\r\nok").await;
            return None;
        }
        _ => {
            let said = SAID.iter().find(|(own, _)| *own == name).map_or(OK, |(_, said)| said);
            connection.say(said).await;
        }
    }
    Some(connection)
}

/// Behaviours that are one piece of text.
const SAID: [(&str, &str); 22] = [
    (
        "too-long",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    ),
    (
        "two-answers",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    ),
    ("body-of-204", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nEVIL"),
    ("body-of-304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nEVIL"),
    ("both", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    ("bad-length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
    ("gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
    ("garbage", "\x01\x02\x03 what?\r\n\r\n"),
    ("http-09", "<html>hello</html>\r\n\r\n"),
    ("http-2", "HTTP/2.0 200 OK\r\n\r\nok"),
    ("smtp", "220 mail.example ESMTP\r\n\r\n"),
    ("fold", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
    ("bare-lf", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    ("nul", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok"),
    ("status-0", "HTTP/1.1 000 None\r\nContent-Length: 2\r\n\r\nok"),
    ("unasked-101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ("bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nxyz\r\n"),
    ("bad-chunk-end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n"),
    ("bad-trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX : a\r\n\r\n"),
    ("trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    (
        "http-10-chunks",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
];

/// What a client gets: an answer of this status, or one that breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    Whole(u16, &'static str),
    Error(u16),
    Broken,
}

const TABLE: [(&str, Gets); 35] = [
    ("fine", Gets::Whole(200, "ok")),
    ("reset-unread", Gets::Error(502)),
    ("reset", Gets::Error(502)),
    ("close", Gets::Error(502)),
    ("close-in-head", Gets::Error(502)),
    ("stall", Gets::Error(504)),
    ("stall-in-head", Gets::Error(504)),
    ("stall-in-body", Gets::Broken),
    ("reset-in-body", Gets::Broken),
    ("too-short", Gets::Broken),
    ("chunks-cut-off", Gets::Broken),
    ("bad-chunk", Gets::Broken),
    ("bad-chunk-end", Gets::Broken),
    ("bad-trailers", Gets::Broken),
    ("too-long", Gets::Whole(200, "ok")),
    ("two-answers", Gets::Whole(200, "ok")),
    ("body-of-204", Gets::Whole(204, "")),
    ("body-of-304", Gets::Whole(304, "")),
    ("trailers", Gets::Whole(200, "ok")),
    ("until-close", Gets::Whole(200, "ok")),
    ("http-10-chunks", Gets::Whole(200, "ok")),
    ("both", Gets::Error(502)),
    ("two-lengths", Gets::Error(502)),
    ("bad-length", Gets::Error(502)),
    ("gzip", Gets::Error(502)),
    ("garbage", Gets::Error(502)),
    ("http-09", Gets::Error(502)),
    ("http-2", Gets::Error(502)),
    ("smtp", Gets::Error(502)),
    ("fold", Gets::Error(502)),
    ("bare-lf", Gets::Error(502)),
    ("nul", Gets::Error(502)),
    ("status-0", Gets::Error(502)),
    ("long-head", Gets::Error(502)),
    ("unasked-101", Gets::Error(502)),
];

async fn ask(balancer: &Balancer, method: &str, name: &str) -> Result<Message, Odd> {
    let mut client = Raw::connect(balancer.main.address).await;
    let length = if method == "POST" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
    client.say(format!("{method} /{name} HTTP/1.1\r\nHost: a\r\n{length}")).await;
    loop {
        match client.message(Sent::Answer).await {
            Ok(hint) if (100..200).contains(&hint.status()) => {}
            answer => return answer,
        }
    }
}

/// Waits until no more files are open than were.
async fn nothing_is_left(balancer: &Balancer, before: usize) {
    wait_until("every connection is closed", LONG, async || {
        let files = balancer.process.open_files();
        if files <= before { Ok(()) } else { Err(format!("{files} open files, {before} before")) }
    })
    .await;
    assert!(balancer.metric("slipring_connections", "").await <= 1.0);
}

/// Each behaviour, asked for by GET and by POST: the right answer, the right counter, and next to it nothing: what
/// comes over the same threads afterwards is fine.
#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_its_status_and_leaves_nothing() {
    let seen = Arc::new(AtomicUsize::new(0));
    let balancer = setup(odd_replica(seen.clone()).await).set("proxy.workers", 1).start().await;
    assert_eq!(ask(&balancer, "GET", "fine").await.expect("an answer").text(), "ok");
    let before = balancer.process.open_files();
    let mut bad = Vec::new();
    for (name, gets) in TABLE {
        for method in ["GET", "POST"] {
            let code = if let Gets::Error(code) = gets { format!("code=\"{code}\"") } else { String::new() };
            let counted = async || match gets {
                Gets::Error(_) => balancer.metric("slipring_refusals_total", &code).await,
                Gets::Broken => balancer.metric("slipring_answers_broken_total", "").await,
                Gets::Whole(..) => balancer.metric("slipring_requests_total", "").await,
            };
            let (asked, earlier) = (seen.load(Ordering::SeqCst), counted().await);
            let answer = ask(&balancer, method, name).await;
            let right = match (&answer, gets) {
                (Ok(answer), Gets::Whole(status, body)) => answer.status() == status && answer.text() == body,
                (Ok(answer), Gets::Error(status)) => answer.status() == status,
                (Err(Odd::CutOff(_)), Gets::Broken) => true,
                _ => false,
            };
            let counts = counted().await - earlier;
            let times = seen.load(Ordering::SeqCst) - asked;
            if !right || counts != 1.0 || method == "POST" && times > 1 {
                bad.push(format!("{method} {name}: {answer:?}, counted {counts}, sent {times} times"));
            }
            let next = ask(&balancer, "GET", "fine").await;
            if next.as_ref().map(Message::text) != Ok("ok".to_owned()) {
                bad.push(format!("after {method} {name}: {next:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    nothing_is_left(&balancer, before).await;
}

/// Hints without end: the balancer does not hold what its client does not read, and the answer stays due.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_hints_ends() {
    let balancer = setup(odd_replica(Arc::default()).await).set("proxy.workers", 1).start().await;
    assert_eq!(ask(&balancer, "GET", "fine").await.expect("an answer").text(), "ok");
    let before = (balancer.process.open_files(), balancer.process.peak_memory());
    assert_eq!(ask(&balancer, "GET", "flood").await.expect("an answer").status(), 504);
    let mut deaf = Raw::connect(balancer.main.address).await;
    deaf.say("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_until("it is refused", LONG, async || {
        let refused = balancer.metric("slipring_refusals_total", "code=\"504\"").await;
        if refused == 2.0 { Ok(()) } else { Err(format!("{refused} refusals")) }
    })
    .await;
    let grown = balancer.process.peak_memory() - before.1;
    assert!(grown < 8 << 20, "the balancer grew by {grown} bytes");
    drop(deaf);
    nothing_is_left(&balancer, before.0).await;
}

/// What a replica says after the end of its answer is not the next answer, at whatever moment it comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_an_answer_is_not_the_next_one() {
    let (go, said) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (heard, tell) = (go.clone(), said.clone());
    let address = replica(move |mut connection, _| {
        let (heard, tell) = (heard.clone(), tell.clone());
        async move {
            while let Ok(request) = connection.message(Sent::Request).await {
                connection.say(OK).await;
                if request.target() == "/late" {
                    heard.notified().await;
                    connection.say(EVIL).await;
                    tell.notify_one();
                }
            }
        }
    })
    .await;
    let balancer = setup(address).set("proxy.workers", 1).start().await;
    for method in ["GET", "POST"] {
        for _ in 0..50 {
            assert_eq!(ask(&balancer, method, "late").await.expect("an answer").text(), "ok");
            go.notify_one();
            timeout(LONG, said.notified()).await.expect("it is said");
            assert_eq!(ask(&balancer, method, "next").await.expect("an answer").text(), "ok");
        }
    }
}

/// Connections that the replica closes as soon as they are idle: no request is lost on them, upgrades and requests
/// with a body included.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_replica_has_closed_is_not_used() {
    let address = replica(async |mut connection: Raw, _| {
        if connection.message(Sent::Request).await.is_ok() {
            connection.say(OK).await;
        }
    })
    .await;
    let balancer = setup(address).set("proxy.workers", 1).start().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut lost = Vec::new();
    for (method, rest) in [
        ("GET", "\r\n"),
        ("POST", "Content-Length: 2\r\n\r\nhi"),
        ("PUT", "Content-Length: 2\r\n\r\nhi"),
        ("GET", upgrade),
    ] {
        let mut client = Raw::connect(balancer.main.address).await;
        for round in 0..300 {
            let answer = client.ask(format!("{method} / HTTP/1.1\r\nHost: a\r\n{rest}")).await;
            if answer.status() != 200 {
                lost.push(format!("{method} {rest:?} {round}: {} {}", answer.status(), answer.text()));
            }
        }
    }
    assert!(lost.is_empty(), "{} of 1200 were lost:\n{}", lost.len(), lost.join("\n"));
}

/// The client hears the refusal while it still sends 100 MB, and the rest goes nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_refusal_ends_an_upload() {
    let address = replica(async |mut connection: Raw, _| {
        if connection.head().await.is_ok() {
            connection
                .say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
                .await;
        }
    })
    .await;
    let balancer = setup(address).set("proxy.workers", 1).start().await;
    assert_eq!(ask(&balancer, "GET", "first").await.expect("an answer").status(), 413);
    let before = (balancer.process.open_files(), balancer.process.peak_memory());
    for framing in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
        let mut client = Raw::connect(balancer.main.address).await;
        client.say(format!("POST /big HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await;
        let piece = format!("{:x}\r\n{}\r\n", 65536, "x".repeat(65536));
        let mut sent = 0;
        // As a client that reads only when it can send no more.
        while sent < 100 << 20 && client.say(&piece).await {
            sent += piece.len();
        }
        let answer = client.message(Sent::Answer).await;
        let answer = answer.unwrap_or_else(|odd| panic!("{framing}: {odd:?} after {sent} bytes"));
        assert_eq!((answer.status(), answer.text().as_str()), (413, "big"), "{framing}");
        assert_eq!(answer.field("connection"), Some("close"));
    }
    assert!(balancer.process.peak_memory() - before.1 < 16 << 20);
    nothing_is_left(&balancer, before.0).await;
}
