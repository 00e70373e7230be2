//! HTTP/1 as clients and replicas speak it, byte by byte: what passes, what waits, what ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::Method;
use slipring_tests::raw::{Message, Odd, Raw, Sent, replica};
use slipring_tests::upstream::whole;
use slipring_tests::{Balancer, Setup, wait_until};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(20);

async fn balancer(address: SocketAddr) -> Balancer {
    Setup::fixed(SLIPRING, &[address]).start().await
}

async fn client(balancer: &Balancer) -> Raw {
    Raw::connect(balancer.main.address).await
}

/// Answers each request with its own first line, unless `script` has something else for its target.
async fn echo(script: &'static [(&'static str, &'static str)]) -> SocketAddr {
    replica(async move |mut connection: Raw, _| {
        while let Ok(request) = connection.message(Sent::Request).await {
            let scripted = script.iter().find(|(target, _)| *target == request.target());
            let fallback = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                request.start.len(),
                request.start
            );
            connection.say(scripted.map_or(fallback.as_str(), |(_, answer)| answer)).await;
            if request.target() == "/open" {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn http_10_ends_after_an_answer_unless_it_asks_to_stay() {
    let script = &[
        ("/open", "HTTP/1.1 200 OK\r\n\r\nopen"),
        ("/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ];
    let balancer = balancer(echo(script).await).await;
    let mut plain = client(&balancer).await;
    let answer = plain.ask("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "GET /a HTTP/1.1"));
    assert_eq!(plain.rest().await, b"", "it ends");

    let mut staying = client(&balancer).await;
    for _ in 0..3 {
        let answer = staying.ask("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("keep-alive")));
    }
    // Without a length the end of the connection is the end of the body, whatever was asked for.
    for target in ["/open", "/chunks"] {
        let mut client = client(&balancer).await;
        let answer = client.ask(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")).await;
        assert_eq!(answer.field("transfer-encoding"), None);
        assert_eq!(answer.text(), if target == "/open" { "open" } else { "ok" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let balancer = balancer(echo(&[]).await).await;
    let mut client = client(&balancer).await;
    let request = |n| match n % 3 {
        0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        _ => {
            format!("PUT /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        }
    };
    let all: String = (0..60).map(request).collect();
    client.say(all).await;
    for n in 0..60 {
        assert_eq!(client.answer().await.text(), format!("{} /{n} HTTP/1.1", ["GET", "POST", "PUT"][n % 3]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let (tell, mut told) = mpsc::channel::<Message>(1);
    let address = replica(move |mut connection, _| {
        let tell = tell.clone();
        async move {
            while let Ok(request) = connection.message(Sent::Request).await {
                let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Sum: 2\r\nContent-Length: 9\r\n\r\n";
                tell.send(request).await.expect("the test listens");
                connection.say(answer).await;
            }
        }
    })
    .await;
    let balancer = balancer(address).await;
    let mut client = client(&balancer).await;
    for _ in 0..2 {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5;c=d\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n";
        let answer = client.ask(request).await;
        let got = told.recv().await.expect("it came");
        assert_eq!((got.text().as_str(), got.trailers.as_str()), ("hello", "X-Sum: 1\r\n\r\n"));
        assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("ok", "X-Sum: 2\r\n\r\n"));
        assert_eq!((got.field("trailer"), answer.field("trailer")), (Some("X-Sum"), Some("X-Sum")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_is_told_by_its_replica() {
    let address = replica(async |mut connection: Raw, _| {
        while let Ok(head) = connection.head().await {
            if head.target() == "/no" {
                connection.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
                return;
            }
            assert_eq!(head.field("expect"), Some("100-continue"));
            connection.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            let body = connection.take(5).await;
            connection
                .say(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
                    String::from_utf8_lossy(&body)
                ))
                .await;
        }
    })
    .await;
    let balancer = balancer(address).await;
    let head = |target| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut client = client(&balancer).await;
    for _ in 0..2 {
        assert_eq!(client.ask(head("/yes")).await.status(), 100);
        let answer = client.ask("hello").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }
    let answer = client.ask(head("/no")).await;
    assert_eq!((answer.status(), answer.field("connection")), (417, Some("close")));
    assert_eq!(client.rest().await, b"", "nobody knows whether the body will come");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_end_with_their_head() {
    let script = &[
        ("/head", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("/204", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 1000\r\n\r\n"),
        ("/200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("/named", "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n"),
    ];
    let balancer = balancer(echo(script).await).await;
    let mut client = client(&balancer).await;
    for (method, target, status, length) in [
        ("HEAD", "/head", 200, Some("1000")),
        ("HEAD", "/chunks", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("1000")),
        ("GET", "/200", 200, Some("0")),
        ("HEAD", "/200", 200, Some("0")),
        ("GET", "/named", 200, Some("0")),
    ] {
        client.say(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let sent = if method == "HEAD" { Sent::AnswerToHead } else { Sent::Answer };
        let answer = timeout(Duration::from_secs(5), client.message(sent)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} {target} has no end")).expect("an answer");
        assert_eq!((answer.status(), answer.field("content-length")), (status, length), "{method} {target}");
    }
    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "GET /a HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_come_before_their_answer_and_only_to_who_knows_them() {
    let script = &[(
        "/hints",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )];
    let balancer = balancer(echo(script).await).await;
    let mut client = client(&balancer).await;
    for _ in 0..2 {
        let hint = client.ask("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(
            (hint.status(), hint.fields.as_slice()),
            (103, &[("link".to_owned(), "</a>".to_owned())][..])
        );
        assert_eq!(client.answer().await.status(), 102);
        assert_eq!(client.answer().await.text(), "ok");
    }
    let answer = client.ask("GET /hints HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_while_the_body_still_does() {
    let address = replica(async |mut connection: Raw, _| {
        connection.head().await.expect("a head");
        connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        // Each piece back as it comes, to the last.
        while let Some(line) = connection.take_until(b"\r\n").await {
            connection.say(&line).await;
        }
    })
    .await;
    let balancer = balancer(address).await;
    let mut client = client(&balancer).await;
    client.say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head before the body").status(), 200);
    for piece in ["3\r\none\r\n", "5\r\nthree\r\n", "0\r\n\r\n"] {
        client.say(piece).await;
        assert_eq!(String::from_utf8_lossy(&client.take(piece.len()).await), piece);
    }
}

/// A replica that takes upgrades and gives back what comes, in capitals.
async fn shouting() -> SocketAddr {
    replica(async |mut connection: Raw, _| {
        let request = connection.message(Sent::Request).await.expect("a request");
        assert_eq!((request.field("connection"), request.field("upgrade")), (Some("upgrade"), Some("shout")));
        connection
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nhello ")
            .await;
        loop {
            let bytes = connection.take(1).await;
            if bytes.is_empty() {
                break;
            }
            connection.say(bytes.to_ascii_uppercase()).await;
        }
        connection.say(" bye").await;
    })
    .await
}

const UPGRADE: &str = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";

async fn upgraded(balancer: &Balancer) -> Raw {
    let mut client = client(balancer).await;
    // What is for the other protocol may come at once.
    client.say(format!("{UPGRADE}early")).await;
    let answer = client.head().await.expect("an answer");
    assert_eq!(
        (answer.status(), answer.field("upgrade"), answer.field("connection")),
        (101, Some("shout"), Some("upgrade"))
    );
    assert_eq!(client.take(11).await, b"hello EARLY");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_passes_bytes_until_both_sides_have_ended() {
    let balancer = balancer(shouting().await).await;
    let mut client = upgraded(&balancer).await;
    for word in ["GET / HTTP/1.1\r\n\r\n", "\0\u{1}", "more"] {
        client.say(word).await;
        assert_eq!(client.take(word.len()).await, word.to_ascii_uppercase().as_bytes());
    }
    client.say("last").await;
    client.finish().await;
    assert_eq!(client.rest().await, b"LAST bye", "the other direction stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_outlives_others_and_is_waited_for() {
    let addresses = [shouting().await, shouting().await];
    let setup = Setup::fixed(SLIPRING, &addresses).set("fleet.stop_timeout", "60s").set("proxy.key", "path");
    let balancer = setup.start().await;
    let own = balancer.owner("/up").await;
    let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let other = names.iter().find(|name| **name != own).expect("two");
    let mut client = upgraded(&balancer).await;
    let mut passes = async |word: &str| {
        client.say(word).await;
        assert_eq!(client.take(word.len()).await, word.to_ascii_uppercase().as_bytes());
    };
    let removed = balancer.remove(1, &[other]).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    passes("another has gone").await;
    let removed = balancer.remove(1, &[&own]).await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    passes("it has to go").await;
    assert!(balancer.replicas().await.iter().any(|replica| replica.name == own), "it is waited for");
    client.finish().await;
    assert_eq!(client.rest().await, b" bye");
    wait_until("its replica is gone", LONG, async || {
        let left = balancer.replicas().await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// A switch before the request has ended would hand the rest of the request to another protocol.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_switches_protocols_within_a_request() {
    let address = replica(async |mut connection: Raw, _| {
        connection.head().await.expect("a head");
        connection
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n")
            .await;
        connection.ended().await;
    })
    .await;
    let balancer = balancer(address).await;
    let mut client = client(&balancer).await;
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\nContent-Length: 5\r\n\r\nhe";
    assert_eq!(client.ask(head).await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_one_by_one() {
    let (go, going) = mpsc::channel::<()>(1);
    let going = std::sync::Arc::new(tokio::sync::Mutex::new(going));
    let address = replica(move |mut connection, _| {
        let going = going.clone();
        async move {
            connection.message(Sent::Request).await.expect("a request");
            connection.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
            for n in 0.. {
                connection.say(format!("data: {n}\n\n")).await;
                if going.lock().await.recv().await.is_none() {
                    return;
                }
            }
        }
    })
    .await;
    let balancer = balancer(address).await;
    let mut client = client(&balancer).await;
    client.say("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status(), 200);
    for n in 0..5 {
        let event = String::from_utf8(client.take_until(b"\n\n\r\n").await.expect("an event")).expect("text");
        assert!(event.ends_with(&format!("\r\ndata: {n}\n\n\r\n")), "{event:?}");
        go.send(()).await.expect("the replica waits");
    }
}

/// Wherever its request stands, a replica learns that nobody waits for its answer any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_replica() {
    let (tell, mut told) = mpsc::channel::<&str>(8);
    let address = replica(move |mut connection, _| {
        let tell = tell.clone();
        async move {
            let request = connection.head().await.expect("a head");
            if request.target() == "/events" {
                connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            }
            tell.send("began").await.expect("the test listens");
            connection.ended().await;
            tell.send("ended").await.expect("the test listens");
        }
    })
    .await;
    let balancer = balancer(address).await;
    for request in [
        "GET /silence HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello",
        "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n",
    ] {
        let mut client = client(&balancer).await;
        client.say(request).await;
        assert_eq!(told.recv().await, Some("began"));
        if request.contains("/events") {
            assert!(client.take_until(b"first").await.is_some());
        }
        drop(client);
        let ended = timeout(Duration::from_secs(5), told.recv()).await;
        assert_eq!(ended.unwrap_or_else(|_| panic!("its replica works on: {request}")), Some("ended"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_ask_in_time_is_let_go() {
    let setup = Setup::fixed(SLIPRING, &[echo(&[]).await]).set("proxy.header_timeout", "300ms");
    let balancer = setup.set("proxy.idle_timeout", "600ms").start().await;
    let began = Instant::now();
    let mut silent = client(&balancer).await;
    assert_eq!(silent.answer().await.status(), 408);
    assert_eq!(silent.rest().await, b"");

    // One that drips is not let off for its diligence.
    let mut dripping = client(&balancer).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20)); // paced: it is the pace that is refused
    for byte in "GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes() {
        ticks.tick().await;
        if !dripping.say([byte]).await {
            break;
        }
    }
    assert_eq!(dripping.message(Sent::Answer).await.map(|answer| answer.status()), Ok(408));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // Between two requests there is nothing to say about it.
    let mut idle = client(&balancer).await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
    let began = Instant::now();
    assert_eq!(idle.message(Sent::Answer).await, Err(Odd::Ended));
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
    // But for one that has begun.
    let mut second = client(&balancer).await;
    assert_eq!(second.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
    assert_eq!(second.ask("GET / HT").await.status(), 408);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_said_to_be() {
    let setup = Setup::fixed(SLIPRING, &[echo(&[]).await]).set("proxy.max_header_bytes", 4096);
    let balancer = setup.set("proxy.max_body_bytes", 1000).start().await;
    let field = |length| format!("X: {}\r\n", "a".repeat(length));
    let get = |fields: String| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let post = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    let chunks = |count: usize| {
        let chunks = "64\r\n".to_owned() + &"x".repeat(100) + "\r\n";
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunks.repeat(count)
        )
    };
    for (what, request, status) in [
        ("a head", get(field(4000)), 200),
        ("a long head", get(field(4096)), 431),
        ("a very long head", get(field(100_000)), 431),
        ("fields", get("X: a\r\n".repeat(127)), 200),
        ("many fields", get("X: a\r\n".repeat(128)), 431),
        ("a body", post(1000), 200),
        ("a long body", post(1001), 413),
        ("chunks", chunks(10), 200),
        ("many chunks", chunks(11), 413),
    ] {
        let mut client = client(&balancer).await;
        let answer = client.ask(request).await;
        assert_eq!(answer.status(), status, "{what}: {}", answer.text());
        if status != 200 {
            assert_eq!(answer.field("connection"), Some("close"), "{what}");
            assert_eq!(client.rest().await, b"", "{what}");
        }
    }
}

/// RFC 9110 section 7.8: from HTTP/1.0 there is no upgrade; who asks for one all the same is answered without.
#[tokio::test(flavor = "multi_thread")]
async fn http_10_is_not_upgraded() {
    let address = replica(async |mut connection: Raw, _| {
        let request = connection.message(Sent::Request).await.expect("a request");
        connection
            .say(match request.field("upgrade") {
                None => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Some(_) => {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n"
                }
            })
            .await;
        connection.ended().await;
    })
    .await;
    let balancer = balancer(address).await;
    let answer = client(&balancer).await.ask(UPGRADE.replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
}

/// What went through a prefix by its dots would be somewhere else for a replica that resolves them.
#[tokio::test(flavor = "multi_thread")]
async fn dot_segments_are_below_no_prefix() {
    let address = echo(&[]).await;
    let narrow = Setup::fixed(SLIPRING, &[address]).set("proxy.paths", "/api/*").start().await;
    for (path, status) in [
        ("/api/x", 200),
        ("/api/x.y/..z", 200),
        ("/api/../x", 400),
        ("/api/%2e%2E/x", 400),
        ("/api/.%2e", 400),
        ("/api/..;a/x", 400),
        ("/api%2f../x", 400),
    ] {
        let answer = client(&narrow).await.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.status(), status, "{path}");
        let request = narrow.main.stream(Method::GET, path).body(whole("")).expect("valid");
        let answer = narrow.main.streams().await.send_request(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{path} over HTTP/2");
    }
    // Where every path leads to the replicas there is nothing to slip past: they get what was asked for.
    let wide = balancer(address).await;
    let answer = client(&wide).await.ask("GET /api/../%2e/x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "GET /api/../%2e/x HTTP/1.1"));
}

/// What passes after a 101 belongs to the request, and so does its time.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_told_of_at_its_end() {
    let address = replica(async move |mut connection: Raw, _| {
        connection.head().await.expect("a request");
        connection
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            .await;
        connection.take(4).await;
        connection.say("goodbye").await;
    })
    .await;
    let setup = Setup::fixed(SLIPRING, &[address]).set("log.access", "json").set("log.file", "access.log");
    let balancer = setup.start().await;
    let mut client = client(&balancer).await;
    client.say("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(client.head().await.expect("an answer").status(), 101);
    client.say("ping").await;
    assert_eq!(client.take(12).await, b"hellogoodbye");
    drop(client);
    balancer.stop().await;
    let text = std::fs::read_to_string(setup.folder().join("access.log")).expect("it is there");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\"bytes\":12,") && text.contains("\"status\":101,"), "{text}");
}

/// RFC 9110 section 15.2: a client that speaks HTTP/1.0 would take it for its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_http_10_is_told_nothing_before_its_answer() {
    let balancer = balancer(echo(&[]).await).await;
    for (version, expected) in [("1.0", &[400][..]), ("1.1", &[100, 400])] {
        for call in ["POST /add", "DELETE /rm"] {
            let mut client = client(&balancer).await;
            let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n";
            client.say(format!("{call} HTTP/{version}\r\n{fields}\r\n{{}}")).await;
            for status in expected {
                let answer = client.message(Sent::Answer).await.expect("an answer");
                assert_eq!(answer.status(), *status, "{call} HTTP/{version}: {answer:?}");
            }
            assert_eq!(client.rest().await, b"");
        }
    }
}
