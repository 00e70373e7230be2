//! gRPC when something is wrong with one side: nobody else's calls suffer, no replica is blamed for what callers do, and
//! nothing is left behind.

#[path = "grpc_faults/blame.rs"]
mod blame;
#[path = "grpc_faults/pieces.rs"]
mod pieces;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use slipring_tests::frames::{Frames, Served, flag, frame, headers, kind};
use slipring_tests::raw::{Raw, replica};
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Balancer, Setup, Streams, wait_until};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(20);
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
/// The head of an answer of which more comes.
const BEGUN: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];

/// A message in its frame.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("it is short").to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

fn good() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn frames(data: Vec<Bytes>, trailers: Option<HeaderMap>) -> Answering {
    let data = data.into_iter().map(|piece| Ok(Frame::data(piece)));
    let trailers = trailers.map(|trailers| Ok(Frame::trailers(trailers)));
    StreamBody::new(stream::iter(data.chain(trailers).collect::<Vec<_>>())).boxed_unsync()
}

/// A body that is sent in pieces, and ends when the other end is dropped.
fn channel() -> (mpsc::Sender<Bytes>, Answering) {
    let (pieces, queue) = mpsc::channel::<Bytes>(4);
    let body = stream::unfold(queue, async |mut queue| {
        let piece = queue.recv().await?;
        Some((Ok(Frame::data(piece)), queue))
    });
    (pieces, StreamBody::new(Box::pin(body)).boxed_unsync())
}

async fn serve(request: Request<Incoming>) -> Response<Answering> {
    let answer = match request.uri().path() {
        "/test.Kinds/Unary" => {
            let id = request.headers()["x-request-id"].to_str().expect("text").to_owned();
            let sent = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            frames(vec![message(&format!("{sent} bytes of {id}"))], Some(good()))
        }
        "/test.Kinds/Both" => {
            let echo = stream::unfold(Some(request.into_body()), async |body| {
                let mut body = body?;
                match body.frame().await {
                    Some(Ok(frame)) => Some((Ok(frame), Some(body))),
                    _ => Some((Ok(Frame::trailers(good())), None)),
                }
            });
            StreamBody::new(Box::pin(echo)).boxed_unsync()
        }
        "/plain" => whole("plain"),
        _ => std::future::pending().await,
    };
    let mut response = Response::new(answer);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn request(balancer: &Balancer, path: &str, body: Answering, deadline: &str) -> Request<Answering> {
    let mut request = balancer.main.stream(Method::POST, path).header("content-type", "application/grpc");
    if !deadline.is_empty() {
        request = request.header("grpc-timeout", deadline);
    }
    request.body(body).expect("valid")
}

/// The text of a call's messages, and its status.
async fn read(response: Response<Incoming>) -> (String, String) {
    assert_eq!(response.status(), 200);
    let head = response.headers().clone();
    let body = timeout(LONG, response.into_body().collect()).await.expect("it ends").expect("whole");
    let trailers = body.trailers().cloned().unwrap_or(head);
    let status = trailers.get("grpc-status").map_or("", |status| status.to_str().expect("a number"));
    (String::from_utf8_lossy(&body.to_bytes()).into_owned(), status.to_owned())
}

async fn send(streams: &mut Streams, request: Request<Answering>) -> (String, String) {
    let sent = timeout(LONG, streams.send_request(request)).await;
    read(sent.expect("in time").expect("an answer")).await
}

/// A unary call over a connection of its own.
async fn call(balancer: &Balancer, path: &str, deadline: &str) -> (String, String) {
    let mut streams = balancer.main.streams().await;
    send(&mut streams, request(balancer, path, frames(vec![message("hello")], None), deadline)).await
}

async fn is_free(balancer: &Balancer) {
    wait_until("no place is held", LONG, async || {
        let left = balancer.metric("slipring_requests_in_flight", "").await;
        if left == 0.0 { Ok(()) } else { Err(format!("{left} in flight")) }
    })
    .await;
}

/// The fields of a call.
fn fields(path: &str) -> Vec<(&'static str, &str)> {
    let own = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")];
    own.into_iter().chain([("content-type", "application/grpc")]).collect()
}

/// Sends so many calls in one piece.
async fn send_at_once(caller: &mut Frames, path: &str, streams: impl Iterator<Item = u32>) {
    let calls: Vec<u8> = streams.flat_map(|n| headers(n, flag::END_STREAM, &fields(path))).collect();
    assert!(caller.send(&calls).await);
}

/// Waits until so many of them have ended.
async fn ended(caller: &mut Frames, mut count: usize) {
    while count > 0 {
        let ended = caller.until(|frame| frame.kind <= kind::HEADERS && frame.flags & flag::END_STREAM != 0);
        ended.await.expect("they end");
        count -= 1;
    }
}

/// A replica of HTTP/2 that takes so many streams on a connection; its address, its connections now, and ever.
async fn takes(streams: u32) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (now, ever) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (open, opened) = (now.clone(), ever.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (open, opened) = (open.clone(), opened.clone());
            tokio::spawn(async move {
                let mut stream = stream;
                let mut beginning = [0; 3];
                if stream.peek(&mut beginning).await.is_ok() && &beginning == b"\r\n\r" {
                    let mut header = [0; 16]; // of the PROXY protocol
                    stream.read_exact(&mut header).await.expect("all of it");
                    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
                    stream.read_exact(&mut rest).await.expect("all of it");
                }
                if !stream.peek(&mut beginning).await.is_ok_and(|count| count > 0) {
                    return; // a heartbeat
                }
                open.fetch_add(1, Ordering::SeqCst);
                opened.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(|request| async { Ok::<_, std::io::Error>(serve(request).await) });
                let mut http = http2::Builder::new(TokioExecutor::new());
                let served =
                    http.max_concurrent_streams(streams).serve_connection(TokioIo::new(stream), service);
                drop(served.await); // how it ends is seen by the other side
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, now, ever)
}

fn before(address: SocketAddr) -> Setup {
    Setup::fixed(SLIPRING, &[address]).set("state", "").set("proxy.workers", 1)
}

/// What is spoken is the caller's choice, and the replica not to blame for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_http2_is_not_left_out() {
    let address = replica(async |mut connection: Raw, first| {
        if first.starts_with("PRI") {
            return connection.ended().await; // what it is asked in is nothing that it knows
        }
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let closes = replica(async |mut connection: Raw, first| {
        if first.starts_with("GET") {
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        } // and it ends
    })
    .await;
    let setup = Setup::fixed(SLIPRING, &[address, closes]).set("state", "").set("proxy.max_ejected", 1);
    let balancer = setup.set("proxy.connect_timeout", "100ms").start().await;
    for _ in 0..30 {
        assert_eq!(call(&balancer, "/home", "").await.1, "14");
    }
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    assert_eq!(balancer.main.get("/home").await.text(), "ok");
}

/// A deadline says how long a caller would wait, not how long it may hold a place for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_deadline_holds_a_place_on_which_nothing_moves() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.first_byte_timeout", "300ms");
    let balancer = setup.set("proxy.idle_timeout", "600ms").start().await;
    let began = Instant::now();
    let (_first, silent) = channel();
    let (_second, deaf) = channel();
    let mut streams = balancer.main.streams().await;
    let mut send = |path, body| streams.send_request(request(&balancer, path, body, "99999999H"));
    let (both, never) = (send("/test.Kinds/Both", silent), send("/test.Kinds/Never", deaf));
    for sent in [both, never] {
        let answer = timeout(LONG, sent).await.expect("it ends").expect("an answer");
        assert_eq!(read(answer).await.1, "4");
    }
    assert_eq!(call(&balancer, "/test.Kinds/Never", "99999999H").await.1, "4");
    assert!(began.elapsed() >= Duration::from_millis(1200), "each as long as nothing may move");
    is_free(&balancer).await;
}

/// Two calls of one client fill a connection of a replica that takes two streams on each; there is another one then.
#[tokio::test(flavor = "multi_thread")]
async fn one_clients_streams_do_not_stop_those_of_others() {
    let (address, now, ever) = takes(2).await;
    let setup = before(address).set("fleet.heartbeat_path", "").set("proxy.replica_idle_timeout", "1s");
    let balancer = setup.start().await;
    let mut streams = balancer.main.streams().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let (pieces, body) = channel();
        let sent = streams.send_request(request(&balancer, "/test.Kinds/Both", body, ""));
        held.push((pieces, timeout(LONG, sent).await.expect("in time").expect("its head")));
    }
    assert_eq!(ever.load(Ordering::SeqCst), 1);
    let others = join_all((0..20).map(|_| call(&balancer, "/test.Kinds/Unary", "5S"))).await;
    assert!(others.iter().all(|called| called.1 == "0"), "{others:?}");
    let opened = ever.load(Ordering::SeqCst);
    assert!((2..=21).contains(&opened), "{opened} connections for 22 calls at a time");
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    wait_until("idle ones are closed, and the full one is not", LONG, async || {
        let open = now.load(Ordering::SeqCst);
        if open == 1 { Ok(()) } else { Err(format!("{open} open")) }
    })
    .await;
    for (pieces, response) in held {
        pieces.send(message("still")).await.expect("it is read");
        drop(pieces);
        assert_eq!(read(response).await.1, "0");
    }
    wait_until("the last is closed", LONG, async || {
        let open = now.load(Ordering::SeqCst);
        if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
    })
    .await;
}

/// A client's own connections to replicas are idle like all others, however long it stays itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_connections_are_closed_when_they_are_idle() {
    let (address, now, ever) = takes(100).await;
    let setup = before(address).set("fleet.heartbeat_path", "").set("proxy.replica_idle_timeout", "1s");
    let balancer = setup.set("proxy.send_proxy_protocol", true).start().await;
    let mut streams = balancer.main.streams().await;
    for round in 1..=2 {
        let unary = request(&balancer, "/test.Kinds/Unary", frames(vec![message("hello")], None), "");
        assert_eq!(send(&mut streams, unary).await.1, "0");
        assert_eq!(ever.load(Ordering::SeqCst), round);
        wait_until("it is closed", LONG, async || {
            let open = now.load(Ordering::SeqCst);
            if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
        })
        .await;
    }
}

/// Calls that come while a connection is being opened wait for that one.
#[tokio::test(flavor = "multi_thread")]
async fn first_calls_share_the_connection_that_is_being_opened() {
    let (address, _, ever) = takes(100).await;
    let balancer = before(address).set("fleet.heartbeat_path", "").start().await;
    let mut caller = Frames::to(balancer.main).await;
    send_at_once(&mut caller, "/test.Kinds/Unary", (0..50).map(|n| 2 * n + 1)).await;
    ended(&mut caller, 50).await;
    assert_eq!(balancer.metric("slipring_refusals_total", "").await, 0.0);
    assert_eq!(ever.load(Ordering::SeqCst), 1, "one carries them all");
}

/// A replica whose first connection takes one call, and loses later ones unread in this way; others are good.
async fn loses(how: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let connections = count.clone();
    let address = replica(move |raw, _| {
        let nth = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let mut first = None;
            while let Some(stream) = served.request().await {
                match first {
                    Some(first) if nth == 0 && how == "farewell" => {
                        served.go_away(first, 0).await;
                        return;
                    }
                    Some(_) if nth == 0 => served.reset(stream, REFUSED_STREAM).await,
                    _ => served.status(stream, "0").await,
                }
                first.get_or_insert(stream);
            }
        }
    })
    .await;
    (address, count)
}

/// Servers that let connections grow only so old say farewell while calls are on their way.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_replica_did_not_look_at_is_sent_again() {
    for how in ["farewell", "refusal"] {
        let (address, connections) = loses(how).await;
        let balancer = before(address).set("proxy.retry_budget", 0).start().await;
        assert_eq!(call(&balancer, "/a", "").await.1, "0");
        for _ in 0..50 {
            // More than what is always in the budget.
            assert_eq!(call(&balancer, "/a", "").await.1, "0", "{how}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 2, "{how}");
        assert_eq!(balancer.metric("slipring_retries_denied_total", "").await, 0.0);
        assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    }
}

/// The farewell is there before the calls are, and the balancer looks at both at once.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_meet_a_farewell_are_sent_over_another_connection() {
    let (leave, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let count = Arc::new(AtomicUsize::new(0));
    let (heard, told, connections) = (leave.clone(), left.clone(), count.clone());
    let address = replica(move |raw, _| {
        let (heard, told) = (heard.clone(), told.clone());
        let nth = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            while let Some(stream) = served.request().await {
                served.status(stream, "0").await;
                if nth == 0 {
                    heard.notified().await;
                    served.go_away(stream, 0).await;
                    drop(served);
                    return told.notify_one();
                }
            }
        }
    })
    .await;
    let balancer = before(address).set("fleet.heartbeat_interval", "1h").start().await;
    let mut caller = Frames::to(balancer.main).await;
    send_at_once(&mut caller, "/a", std::iter::once(1)).await;
    ended(&mut caller, 1).await;
    balancer.process.pause();
    leave.notify_one();
    timeout(LONG, left.notified()).await.expect("it leaves");
    send_at_once(&mut caller, "/a", (1..=15).map(|n| 2 * n + 1)).await;
    balancer.process.resume();
    ended(&mut caller, 15).await;
    assert_eq!(balancer.metric("slipring_refusals_total", "").await, 0.0);
    assert_eq!(count.load(Ordering::SeqCst), 2, "one other carries them all");
}

/// A call is a request: the limits of bodies are its limits.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_their_limits() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.max_body_bytes", 100);
    let setup = setup.set("proxy.min_body_rate", 10_000).set("proxy.body_grace", "300ms");
    let balancer = setup.set("proxy.idle_timeout", "10s").start().await;
    let mut streams = balancer.main.streams().await;
    let mut unary =
        async |body: Answering| send(&mut streams, request(&balancer, "/test.Kinds/Unary", body, "")).await.1;
    let fits = message(&"x".repeat(95));
    assert_eq!(unary(frames(vec![fits.clone()], None)).await, "0");
    assert_eq!(unary(frames(vec![message(&"x".repeat(96))], None)).await, "8");
    assert_eq!(unary(whole(vec![0; 100_000])).await, "8", "its length says it");
    assert_eq!(unary(frames(vec![message("hello"); 20], None)).await, "8", "all messages together");
    assert_eq!(balancer.metric("slipring_limits_hit_total", "body_bytes").await, 3.0);

    // A message that was begun is owed; between two a stream may be silent.
    let began = Instant::now();
    let (pieces, body) = channel();
    pieces.send(Bytes::from_static(&[0, 0, 0, 0, 90, 1])).await.expect("it is read");
    assert_eq!(unary(body).await, "8");
    assert!(began.elapsed() < Duration::from_secs(8), "before it is idle");
    assert_eq!(balancer.metric("slipring_limits_hit_total", "body_rate").await, 1.0);

    let (pieces, body) = channel();
    let mut streams = balancer.main.streams().await;
    let sent = streams.send_request(request(&balancer, "/test.Kinds/Both", body, ""));
    let mut echo = timeout(LONG, sent).await.expect("in time").expect("its head").into_body();
    let mut ticks = tokio::time::interval(Duration::from_millis(900)); // paced: longer than a client may be slow
    for _ in 0..3 {
        ticks.tick().await;
        pieces.send(message("ping")).await.expect("it is read");
        let back = timeout(LONG, echo.frame()).await.expect("at once").expect("a frame").expect("whole");
        assert_eq!(back.into_data().expect("data"), message("ping"));
    }
    // Also when the answer has begun.
    pieces.send(message(&"x".repeat(90))).await.expect("it is read");
    let rest = timeout(LONG, echo.collect()).await.expect("it ends").expect("in gRPC's words");
    assert_eq!(rest.trailers().expect("a status")["grpc-status"], "8");
    is_free(&balancer).await;
}

/// Whoever waits how long for it: a replica that says nothing for as long as an answer may take has failed; one whose
/// callers had no patience has not.
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_hide_no_replica_that_hangs_and_blame_none_that_does_not() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.first_byte_timeout", "300ms");
    let balancer = setup.set("proxy.eject_failures", 3).set("proxy.max_ejected", 1).start().await;
    let ejections = async || balancer.metric("slipring_ejections_total", "").await;
    for _ in 0..30 {
        assert_eq!(call(&balancer, "/test.Kinds/Never", "1n").await.1, "4");
    }
    join_all((0..30).map(|_| call(&balancer, "/test.Kinds/Never", "50m"))).await;
    assert_eq!(ejections().await, 0.0);
    wait_until("it is left out", LONG, async || {
        join_all((0..10).map(|_| call(&balancer, "/test.Kinds/Never", "600m"))).await;
        if ejections().await > 0.0 { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
}

/// One line each, whoever ended it.
#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_told_of() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("log.access", "json");
    let setup = setup.set("log.file", "access.log");
    let balancer = setup.start().await;
    let (told, status) = call(&balancer, "/test.Kinds/Unary", "").await;
    assert_eq!(status, "0");
    assert_eq!(call(&balancer, "/test.Kinds/Never", "100m").await.1, "4");
    // One who leaves before the answer, and one who leaves within it.
    let mut caller = Frames::to(balancer.main).await;
    let cancel = |stream| frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    caller.send(&headers(1, flag::END_STREAM, &fields("/test.Kinds/Left"))).await;
    wait_until("it is under way", LONG, async || {
        let under_way = balancer.metric("slipring_requests_in_flight", "").await;
        if under_way == 1.0 { Ok(()) } else { Err(under_way.to_string()) }
    })
    .await;
    caller.send(&cancel(1)).await;
    is_free(&balancer).await;
    caller.send(&headers(3, 0, &fields("/test.Kinds/Both"))).await;
    caller.until(|frame| frame.kind == kind::HEADERS && frame.stream == 3).await.expect("its head");
    caller.send(&cancel(3)).await;
    is_free(&balancer).await;
    drop(caller);
    balancer.stop().await;
    let text = std::fs::read_to_string(setup.folder().join("access.log")).expect("it is there");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line["path"].as_str(), line["status"].as_u64(), line["grpc_status"].as_u64()))
        .collect();
    let expected = [
        (Some("/test.Kinds/Unary"), Some(200), Some(0)),
        (Some("/test.Kinds/Never"), Some(200), Some(4)),
        (Some("/test.Kinds/Left"), Some(0), Some(1)),
        (Some("/test.Kinds/Both"), Some(200), Some(1)),
    ];
    assert_eq!(seen, expected, "{text}");
    let id = lines[0]["request_id"].as_str().expect("text");
    assert!(!id.is_empty() && told.contains(id), "{told} and {id}");
    assert!(lines.iter().all(|line| line["replica"] == upstream.address.to_string()), "{text}");
}

/// What a replica may do to a call, and the status that the caller gets.
const TABLE: [(&str, &str); 17] = [
    ("fine", "0"),
    ("reset-internal", "13"),
    ("reset-cancel", "1"),
    ("reset-calm", "8"),
    ("refuse", "14"),
    ("stall", "4"),
    ("stall-in-answer", "4"),
    ("reset-in-answer", "13"),
    ("close-in-answer", "14"),
    ("answer-early", "5"),
    ("answer-early-reset", "5"),
    ("answer-early-reset-in-answer", "5"),
    ("long-head", "13"),
    ("close", "14"),
    ("reset-connection", "14"),
    ("garbage", "13"),
    ("go-away-at-once", "14"),
];

async fn behave(mut served: Served, doing: Arc<Mutex<&'static str>>) {
    let begun =
        |name: &str| [(":status", "200"), ("content-type", name)].map(|(a, b)| (a.to_owned(), b.to_owned()));
    loop {
        let doing = |_: &Served| *doing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = served.next().await else { return };
        if first.kind != kind::HEADERS {
            continue; // what came after the end of an earlier one
        }
        let stream = first.stream;
        let mut ended = first.flags & flag::END_STREAM != 0;
        while !ended && !doing(&served).starts_with("answer-early") {
            let Some(frame) = served.next().await else { return };
            ended = frame.stream == stream && frame.flags & flag::END_STREAM != 0;
        }
        let name = doing(&served);
        if name.ends_with("-in-answer") {
            let fields = begun("application/grpc");
            let fields = fields.each_ref().map(|(a, b)| (&**a, &**b));
            served.raw.say(headers(stream, 0, &fields)).await;
            served.raw.say(frame(kind::DATA, 0, stream, &message("first"))).await;
        }
        match name {
            "fine" => served.status(stream, "0").await,
            "answer-early" => served.status(stream, "5").await,
            "answer-early-reset" => {
                served.status(stream, "5").await;
                served.reset(stream, NO_ERROR).await;
            }
            "answer-early-reset-in-answer" => {
                served.raw.say(headers(stream, flag::END_STREAM, &[("grpc-status", "5")])).await;
                served.reset(stream, NO_ERROR).await;
            }
            "reset-internal" | "reset-in-answer" => served.reset(stream, 2).await,
            "reset-cancel" => served.reset(stream, 8).await,
            "reset-calm" => served.reset(stream, 11).await,
            "refuse" => served.reset(stream, REFUSED_STREAM).await,
            "stall" | "stall-in-answer" => {}
            "long-head" => {
                let long = "a".repeat(16_000);
                let fields = [(":status", "200"), ("content-type", "application/grpc"), ("x-long", &long)];
                served
                    .raw
                    .say(frame(kind::HEADERS, 0, stream, &slipring_tests::frames::hpack(&fields)))
                    .await;
                for n in 1..64 {
                    let piece = slipring_tests::frames::hpack(&[("x-long", &long)]);
                    let last = if n == 63 { flag::END_HEADERS } else { 0 };
                    if !served.raw.say(frame(kind::CONTINUATION, last, stream, &piece)).await {
                        return;
                    }
                }
            }
            "garbage" => {
                served.raw.say([0xff; 100]).await;
            }
            "reset-connection" => return served.raw.reset(),
            "go-away-at-once" => return served.go_away(0, 0).await,
            _ => return,
        }
    }
}

/// Each behaviour has its status, costs nobody else anything, and leaves no place and no connection behind.
#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_has_its_status_and_leaves_nothing() {
    let doing = Arc::new(Mutex::new("fine"));
    let does = doing.clone();
    let address = replica(move |raw, _| {
        let does = does.clone();
        async move {
            if let Some(served) = Served::begin(raw, &[]).await {
                behave(served, does).await;
            }
        }
    })
    .await;
    let setup = before(address).set("proxy.first_byte_timeout", "300ms").set("proxy.idle_timeout", "500ms");
    let setup = setup.set("proxy.replica_idle_timeout", "1s").set("proxy.max_ejected", 0);
    let balancer = setup.start().await;
    assert_eq!(call(&balancer, "/a", "").await.1, "0");
    wait_until("nothing is open", LONG, async || {
        let open = balancer.metric("slipring_connections", "").await;
        if open <= 1.0 { Ok(()) } else { Err(format!("{open} open")) }
    })
    .await;
    let before = balancer.process.open_files();
    let mut bad = Vec::new();
    for (name, status) in TABLE {
        for deadline in ["", "5S"] {
            *doing.lock().unwrap_or_else(PoisonError::into_inner) = name;
            let called = if name.starts_with("answer-early") {
                let (_open, body) = channel();
                let mut streams = balancer.main.streams().await;
                send(&mut streams, request(&balancer, "/a", body, deadline)).await
            } else {
                call(&balancer, "/a", deadline).await
            };
            if called.1 != status {
                bad.push(format!("{name} {deadline:?}: {called:?} instead of {status}"));
            }
            *doing.lock().unwrap_or_else(PoisonError::into_inner) = "fine";
            let next = call(&balancer, "/a", deadline).await;
            if next.1 != "0" {
                bad.push(format!("after {name} {deadline:?}: {next:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    is_free(&balancer).await;
    wait_until("every connection is closed", LONG, async || {
        let files = balancer.process.open_files();
        if files <= before { Ok(()) } else { Err(format!("{files} open files, {before} before")) }
    })
    .await;
}

async fn under_way(balancer: &Balancer, count: f64) {
    wait_until("calls are under way", LONG, async || {
        let there = balancer.metric("slipring_requests_in_flight", "").await;
        if there == count { Ok(()) } else { Err(there.to_string()) }
    })
    .await;
}

/// A caller that takes back what it has begun is nobody's failure but its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_cancels_blames_nobody_and_is_counted() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.max_resets", 6);
    let setup = setup.set("proxy.eject_failures", 3).set("proxy.max_ejected", 1);
    let balancer = setup.start().await;
    let mut caller = Frames::to(balancer.main).await;
    for n in 0..7 {
        caller.send(&headers(2 * n + 1, 0, &fields("/test.Kinds/Never"))).await;
        under_way(&balancer, 1.0).await;
        caller.send(&frame(kind::RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())).await;
        is_free(&balancer).await;
    }
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"resets\"").await, 1.0);
    assert_eq!(balancer.metric("slipring_refusals_total", "").await, 0.0);
    for _ in 0..5 {
        assert_eq!(call(&balancer, "/test.Kinds/Unary", "").await.1, "0");
    }
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
}

/// So many failures in a row are as many for gRPC as for anything else, before the answer and within it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_fails_calls_is_left_out() {
    for begins in [false, true] {
        let address = replica(move |raw, _| async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            while let Some(stream) = served.request().await {
                if begins {
                    let head = [(":status", "200"), ("content-type", "application/grpc")];
                    served.raw.say(headers(stream, 0, &head)).await;
                }
                served.reset(stream, 2).await; // INTERNAL_ERROR
            }
        })
        .await;
        let setup = before(address).set("proxy.max_ejected", 1);
        let balancer = setup.set("proxy.eject_success_rate", 0).start().await;
        for failed in 0..7 {
            let ejections = balancer.metric("slipring_ejections_total", "").await;
            assert_eq!(ejections, if failed < 5 { 0.0 } else { 1.0 }, "begins: {begins}, after {failed}");
            assert_eq!(call(&balancer, "/a", "").await.1, "13");
        }
        balancer.stop().await;
        // By default its share of successes would do as well.
        let setup = before(address).set("proxy.max_ejected", 1).set("proxy.eject_failures", 0);
        let balancer = setup.start().await;
        wait_until("it is left out", LONG, async || {
            for _ in 0..10 {
                assert_eq!(call(&balancer, "/a", "").await.1, "13");
            }
            let ejections = balancer.metric("slipring_ejections_total", "").await;
            if ejections == 1.0 { Ok(()) } else { Err(ejections.to_string()) }
        })
        .await;
    }
}

/// All who lose by the same farewell go on over the same other connection.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_lost_together_share_one_other_connection() {
    const CALLS: u32 = 12;
    let count = Arc::new(AtomicUsize::new(0));
    let connections = count.clone();
    let address = replica(move |raw, _| {
        let nth = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let mut came = 0;
            while let Some(stream) = served.request().await {
                came += 1;
                if nth > 0 {
                    served.status(stream, "0").await;
                } else if came == CALLS {
                    served.go_away(0, 0).await;
                }
            }
        }
    })
    .await;
    let balancer = before(address).start().await;
    let mut caller = Frames::to(balancer.main).await;
    send_at_once(&mut caller, "/a", (0..CALLS).map(|n| 2 * n + 1)).await;
    ended(&mut caller, CALLS as usize).await;
    assert_eq!(balancer.metric("slipring_refusals_total", "").await, 0.0);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// A replica that has refused one call takes as many as before when another one has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_narrow_a_connection_for_good() {
    let (tell, mut told) = mpsc::channel(8);
    let connections = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Notify::new());
    let going = go.clone();
    let address = replica(move |raw, _| {
        let (nth, tell) = (connections.fetch_add(1, Ordering::SeqCst), tell.clone());
        let going = going.clone();
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let mut first = None;
            let mut came = 0;
            while let Some(stream) = served.request().await {
                came += 1;
                match (nth, came) {
                    (0, 1) => first = Some(stream),
                    (0, 2) => {
                        served.reset(stream, REFUSED_STREAM).await;
                        going.notified().await;
                        served.status(first.expect("there was one"), "0").await;
                        continue;
                    }
                    (0, _) => {}
                    _ => served.status(stream, "0").await,
                }
                tell.send(nth).await.expect("the test listens");
            }
        }
    })
    .await;
    let balancer = before(address).start().await;
    let mut caller = Frames::to(balancer.main).await;
    let next = async |told: &mut mpsc::Receiver<usize>| timeout(LONG, told.recv()).await.expect("it comes");
    send_at_once(&mut caller, "/a", std::iter::once(1)).await;
    assert_eq!(next(&mut told).await, Some(0));
    send_at_once(&mut caller, "/a", std::iter::once(3)).await;
    assert_eq!(next(&mut told).await, Some(1), "the other is full");
    ended(&mut caller, 1).await;
    go.notify_one();
    ended(&mut caller, 1).await;
    send_at_once(&mut caller, "/a", [5, 7].into_iter()).await;
    assert_eq!((next(&mut told).await, next(&mut told).await), (Some(0), Some(0)), "it takes two again");
}

/// A caller of gRPC reads no JSON.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_unlooked_at_is_told_in_grpcs_words() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.max_header_fields", 8);
    let setup = setup.set("proxy.max_requests_per_second_per_client", 1).set("proxy.burst_per_client", 2);
    let balancer = setup.set("proxy.trusted", "192.0.2.0/24").start().await;
    let mut streams = balancer.main.streams().await;
    let unary = || request(&balancer, "/test.Kinds/Unary", frames(vec![message("hello")], None), "");
    let mut many = unary();
    for n in 0..10 {
        let name = hyper::header::HeaderName::try_from(format!("x-{n}")).expect("a name");
        many.headers_mut().insert(name, HeaderValue::from_static("a"));
    }
    assert_eq!(send(&mut streams, many).await.1, "8");
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(send(&mut streams, unary()).await.1);
    }
    assert!(codes[0] == "0" && codes.contains(&"8".to_owned()), "{codes:?}");
    let mut two_hosts = unary();
    two_hosts.headers_mut().insert("host", HeaderValue::from_static("other.example"));
    assert_eq!(send(&mut streams, two_hosts).await.1, "13");
    assert!(
        balancer.metric("slipring_limits_hit_total", "limit=\"requests_per_second_per_client\"").await > 0.0
    );
    assert_eq!(balancer.metric("slipring_refusals_total", "431").await, 1.0);
}
