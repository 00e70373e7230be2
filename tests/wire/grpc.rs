//! gRPC through the balancer: its four kinds of calls, deadlines, and what a caller is told when there is no answer.
//!
//! The messages are frames of gRPC without a schema: the balancer knows none either.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Version};
use slipring_tests::frames::{Frames, flag, headers};
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Balancer, Setup, wait_until};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// A message in its frame.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("it is short").to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

fn body(messages: &[&str], trailers: Option<HeaderMap>) -> Answering {
    let data: Vec<_> = messages.iter().map(|text| Ok(Frame::data(message(text)))).collect();
    let trailers = trailers.map(|trailers| Ok(Frame::trailers(trailers)));
    StreamBody::new(stream::iter(data.into_iter().chain(trailers))).boxed_unsync()
}

fn good() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-trailing", HeaderValue::from_static("kept"));
    trailers
}

fn channel() -> (mpsc::Sender<Bytes>, Answering) {
    let (pieces, queue) = mpsc::channel::<Bytes>(4);
    let body = stream::unfold(queue, async |mut queue| {
        let piece = queue.recv().await?;
        Some((Ok(Frame::data(piece)), queue))
    });
    (pieces, StreamBody::new(Box::pin(body)).boxed_unsync())
}

async fn serve(request: Request<Incoming>) -> Response<Answering> {
    assert_eq!(request.version(), Version::HTTP_2, "gRPC is HTTP/2 all the way");
    let answer = match request.uri().path() {
        "/test.Kinds/Unary" | "/test.Kinds/Client" => {
            let sent = request.into_body().collect().await.expect("it is whole").to_bytes();
            body(&[&format!("{} bytes", sent.len())], Some(good()))
        }
        "/test.Kinds/Server" => body(&["one", "two", "three"], Some(good())),
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
        "/test.Kinds/Refusing" => {
            let mut response = Response::new(whole(""));
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            return response;
        }
        _ => std::future::pending().await,
    };
    let mut response = Response::new(answer);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// What came of a call.
struct Called {
    messages: Bytes,
    status: Option<String>,
    trailers: HeaderMap,
}

async fn call(balancer: &Balancer, path: &str, body: Answering, headers: &[(&str, &str)]) -> Called {
    let mut request = balancer.main.stream(Method::POST, path);
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = balancer.main.streams().await.send_request(request.body(body).expect("valid")).await;
    let response = sent.expect("an answer");
    assert_eq!(response.status(), 200);
    read(response).await
}

async fn read(response: Response<Incoming>) -> Called {
    let in_head = response.headers().clone();
    let body =
        timeout(LONG, response.into_body().collect()).await.expect("it ends").expect("in gRPC's words");
    let trailers = body.trailers().cloned().unwrap_or(in_head);
    let status = trailers.get("grpc-status").map(|status| status.to_str().expect("a number").to_owned());
    Called { messages: body.to_bytes(), status, trailers }
}

async fn balancer(upstreams: &[&Upstream]) -> Balancer {
    Setup::new(SLIPRING).upstreams(upstreams.iter().copied()).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_kinds_pass_with_their_trailers() {
    let upstream = Upstream::serve(serve).await;
    let balancer = balancer(&[&upstream]).await;
    let unary = call(&balancer, "/test.Kinds/Unary", body(&["hello"], None), &[]).await;
    assert_eq!(unary.messages, message("10 bytes"));
    assert_eq!(
        (unary.status.as_deref(), &unary.trailers["x-trailing"]),
        (Some("0"), &"kept".parse().expect("valid"))
    );

    let client = call(&balancer, "/test.Kinds/Client", body(&["a", "b", "c"], None), &[]).await;
    assert_eq!((client.messages, client.status.as_deref()), (message("18 bytes"), Some("0")));

    let server = call(&balancer, "/test.Kinds/Server", body(&["go"], None), &[]).await;
    let expected = ["one", "two", "three"].map(message).concat();
    assert_eq!((server.messages.to_vec(), server.status.as_deref()), (expected, Some("0")));

    let (pieces, sent) = channel();
    let request = balancer.main.stream(Method::POST, "/test.Kinds/Both");
    let request = request.header("content-type", "application/grpc+proto").body(sent).expect("valid");
    let mut streams = balancer.main.streams().await;
    let mut echo = streams.send_request(request).await.expect("an answer before the end").into_body();
    for text in ["ping", "pong"] {
        pieces.send(message(text)).await.expect("it is read");
        let back = timeout(LONG, echo.frame()).await.expect("at once").expect("a frame").expect("whole");
        assert_eq!(back.into_data().expect("data"), message(text));
    }
    drop(pieces);
    let rest = timeout(LONG, echo.collect()).await.expect("it ends").expect("whole");
    assert_eq!(rest.trailers().expect("a status")["grpc-status"], "0");

    let refusing = call(&balancer, "/test.Kinds/Refusing", body(&[], None), &[]).await;
    assert_eq!(refusing.status.as_deref(), Some("5"), "what a replica says stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_kept_before_and_within_an_answer() {
    let upstream = Upstream::serve(serve).await;
    let balancer = balancer(&[&upstream]).await;
    let began = Instant::now();
    let silent = call(&balancer, "/test.Kinds/Never", body(&["x"], None), &[("grpc-timeout", "300m")]).await;
    assert_eq!(silent.status.as_deref(), Some("4"));
    let (_open, sent) = channel();
    let within = call(&balancer, "/test.Kinds/Both", sent, &[("grpc-timeout", "300000u")]).await;
    assert_eq!(within.status.as_deref(), Some("4"));
    assert!(began.elapsed() >= Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_a_call_is_unavailable_and_without_a_route_unimplemented() {
    let upstream = Upstream::serve(serve).await;
    let balancer =
        Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.paths", "/test.Kinds/*").start().await;
    let unrouted = call(&balancer, "/other.Service/Call", body(&[], None), &[]).await;
    assert_eq!(unrouted.status.as_deref(), Some("12"));
    upstream.kill();
    let nobody = call(&balancer, "/test.Kinds/Unary", body(&["x"], None), &[]).await;
    assert_eq!(nobody.status.as_deref(), Some("14"));
}

/// A call that may have run is not sent again, and its caller is told so in gRPC's words.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_in_a_call_ends_it_with_a_status() {
    for answered in [false, true] {
        let (begun, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let told = (begun.clone(), count.clone());
        let answer = move |_: Request<Incoming>| {
            let (begun, count) = told.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                begun.notify_one();
                if !answered {
                    std::future::pending::<()>().await;
                }
                let first = stream::iter([Ok(Frame::data(message("first")))]);
                let body = futures_util::StreamExt::chain(first, stream::pending());
                Response::new(StreamBody::new(body).boxed_unsync())
            }
        };
        let upstreams = [Upstream::serve(answer.clone()).await, Upstream::serve(answer).await];
        let balancer = balancer(&[&upstreams[0], &upstreams[1]]).await;
        let request = balancer.main.stream(Method::POST, "/test.Kinds/Long");
        let request = request.header("content-type", "application/grpc").body(body(&["x"], None));
        let mut streams = balancer.main.streams().await;
        let sent = tokio::spawn(streams.send_request(request.expect("valid")));
        timeout(LONG, begun.notified()).await.expect("a replica has it");
        let called = if answered {
            let response = sent.await.expect("no panic").expect("its head");
            upstreams.iter().for_each(Upstream::kill);
            read(response).await
        } else {
            upstreams.iter().for_each(Upstream::kill);
            read(sent.await.expect("no panic").expect("an answer")).await
        };
        assert_eq!(called.status.as_deref(), Some("14"), "answered: {answered}, {:?}", called.trailers);
        assert_eq!(count.load(Ordering::SeqCst), 1, "it ran once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_routed_by_a_cookie_too() {
    let name = |name: &'static str| {
        move |_: Request<Incoming>| async move { Response::new(body(&[name], Some(good()))) }
    };
    let upstreams = [Upstream::serve(name("a")).await, Upstream::serve(name("b")).await];
    let setup = Setup::new(SLIPRING).upstreams(&upstreams).set("proxy.key", "cookie:session");
    let balancer = setup.start().await;
    for n in 0..20 {
        let cookie = format!("session=user-{n}");
        let first = call(&balancer, "/test.Kinds/Unary", body(&[], None), &[("cookie", &cookie)]).await;
        for _ in 0..3 {
            let again = call(&balancer, "/test.Kinds/Unary", body(&[], None), &[("cookie", &cookie)]).await;
            assert_eq!(again.messages, first.messages, "{cookie}");
        }
    }
}

/// A call is one of the requests that a replica may have, for as long as it lasts.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_a_place_to_its_end() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.max_connections_per_replica", 1);
    let balancer = setup.set("proxy.max_waiting_per_replica", 1).start().await;
    let (pieces, sent) = channel();
    let request = balancer.main.stream(Method::POST, "/test.Kinds/Both");
    let request = request.header("content-type", "application/grpc").body(sent).expect("valid");
    let mut streams = balancer.main.streams().await;
    let held = streams.send_request(request).await.expect("its head").into_body();
    let unary = async |timeout| {
        call(&balancer, "/test.Kinds/Unary", body(&["x"], None), &[("grpc-timeout", timeout)]).await
    };
    assert_eq!(unary("300m").await.status.as_deref(), Some("4"), "it waits for a place");
    let ((first, second), ()) = tokio::join!(async { tokio::join!(unary("20S"), unary("20S")) }, async {
        // One of them waits, the other is one too many.
        wait_until("both have come", LONG, async || {
            let refused = balancer.metric("slipring_refusals_total", "503").await;
            if refused == 1.0 { Ok(()) } else { Err(format!("{refused} refused")) }
        })
        .await;
        drop(pieces);
        let rest = timeout(LONG, held.collect()).await.expect("it ends").expect("whole");
        assert_eq!(rest.trailers().expect("a status")["grpc-status"], "0");
    });
    let mut codes = [first.status, second.status];
    codes.sort();
    assert_eq!(
        codes,
        [Some("0".to_owned()), Some("8".to_owned())],
        "RESOURCE_EXHAUSTED for the one too many"
    );
}

/// Says which fields came, in its only message.
async fn tells(request: Request<Incoming>) -> Response<Answering> {
    let fields = request.headers().iter();
    let text: String = fields.map(|(name, value)| format!("{name}: {value:?}\n")).collect();
    if request.version() != Version::HTTP_2 {
        return Response::new(whole(text));
    }
    Response::new(body(&[&text], Some(good())))
}

/// What a client may claim does not depend on the protocol in which it does.
#[tokio::test(flavor = "multi_thread")]
async fn forged_provenance_ends_here_as_it_does_for_other_requests() {
    let upstream = Upstream::serve(tells).await;
    let forged = [
        ("forwarded", "for=6.6.6.6;proto=https"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "forged.example"),
        ("x-forwarded-proto", "https"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-slipring-replica", "forged"),
        ("x-kept", "kept"),
        ("x-request-id", "named"),
        ("via", "1.1 earlier"),
    ];
    for trusted in ["127.0.0.0/8", "192.0.2.0/24"] {
        let balancer =
            Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.trusted", trusted).start().await;
        let lines = |text: &str| -> std::collections::BTreeSet<String> {
            let told =
                |line: &&str| line.contains("forwarded") || line.contains("forged") || line.contains('x');
            let own = |line: &&str| !line.starts_with("via") && !line.starts_with("te:");
            text.lines().filter(told).filter(own).map(str::to_owned).collect()
        };
        let plain = balancer.main.with_headers(Method::GET, "/a", &forged, "").await;
        let called = call(&balancer, "/test.Kinds/Tell", body(&[], None), &forged).await;
        let text = String::from_utf8_lossy(&called.messages[5..]).into_owned();
        assert_eq!(lines(&text), lines(plain.text()), "trusted: {trusted}");
        assert_eq!(text.contains("6.6.6.6"), trusted.starts_with("127"), "{text}");
        assert!(text.contains("x-kept") && text.contains("named"), "{text}");
        assert!(text.contains("via: \"1.1 earlier\"\nvia: \"2 slipring\""), "{text}");
    }
}

/// A call that names no deadline is waited for as patiently as any other request.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_deadline_is_not_waited_for_for_ever() {
    let upstream = Upstream::serve(serve).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.first_byte_timeout", "300ms");
    let balancer = setup.set("proxy.idle_timeout", "600ms").start().await;
    let silent = timeout(LONG, call(&balancer, "/test.Kinds/Never", body(&["x"], None), &[])).await;
    assert_eq!(silent.expect("it ends").status.as_deref(), Some("4"));
    let (_open, sent) = channel();
    let stalled = timeout(LONG, call(&balancer, "/test.Kinds/Both", sent, &[])).await;
    assert_eq!(stalled.expect("it ends").status.as_deref(), Some("4"));
    wait_until("their places are free", LONG, async || {
        let left = balancer.metric("slipring_requests_in_flight", "").await;
        if left == 0.0 { Ok(()) } else { Err(format!("{left} in flight")) }
    })
    .await;

    // One that moves may take as long as it likes, and so may, up to the idle limit, one whose deadline says so.
    let (pieces, sent) = channel();
    let request = balancer.main.stream(Method::POST, "/test.Kinds/Both");
    let request = request.header("content-type", "application/grpc").body(sent).expect("valid");
    let mut streams = balancer.main.streams().await;
    let mut echo = streams.send_request(request).await.expect("its head").into_body();
    let patient = async {
        let began = Instant::now();
        let called =
            call(&balancer, "/test.Kinds/Never", body(&["x"], None), &[("grpc-timeout", "500m")]).await;
        assert!(began.elapsed() >= Duration::from_millis(500), "longer than a first byte may take");
        called
    };
    let began = Instant::now();
    let moving = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100)); // paced: it has to last longer than it may stand still
        while began.elapsed() < Duration::from_millis(1500) {
            ticks.tick().await;
            pieces.send(message("ping")).await.expect("it is read");
            let back = timeout(LONG, echo.frame()).await.expect("at once").expect("a frame").expect("whole");
            assert_eq!(back.into_data().expect("data"), message("ping"));
        }
    };
    let (patient, ()) = tokio::join!(patient, moving);
    assert_eq!(patient.status.as_deref(), Some("4"));
    assert!(began.elapsed() >= Duration::from_millis(1500));
    drop(pieces);
    let rest = timeout(LONG, echo.collect()).await.expect("it ends").expect("whole");
    assert_eq!(rest.trailers().expect("a status")["grpc-status"], "0");
}

/// Callers that read nothing of their answers cost a bounded part of each, whatever their replica has to say; they
/// stop nobody else's calls, and end with their deadlines.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_read_nothing_hold_up_nobody_and_hold_little() {
    const STREAMS: u32 = 100;
    let (taken, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (taken.clone(), open.clone());
    let upstream = Upstream::serve(move |request: Request<Incoming>| {
        let (taken, open) = counters.clone();
        async move {
            if request.uri().path() != "/test.Kinds/Endless" {
                return serve(request).await;
            }
            let piece = Bytes::from(vec![0; 16 * 1024]);
            open.fetch_add(1, Ordering::SeqCst);
            let body = stream::unfold(Open(open), move |open| {
                taken.fetch_add(piece.len(), Ordering::SeqCst);
                let piece = piece.clone();
                async move { Some((Ok(Frame::data(piece)), open)) }
            });
            let mut response = Response::new(StreamBody::new(Box::pin(body)).boxed_unsync());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response
        }
    })
    .await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.workers", 1);
    let balancer = setup.start().await;
    let before = balancer.process.peak_memory();
    let mut deaf = Frames::to(balancer.main).await;
    for n in 0..STREAMS {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/test.Kinds/Endless"),
            (":authority", "slipring.example"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            // The first lasts, and ends with its caller.
            ("grpc-timeout", if n == 0 { "1H" } else { "10S" }),
        ];
        assert!(deaf.send(&headers(2 * n + 1, flag::END_STREAM, &fields)).await);
    }
    let state = || (open.load(Ordering::SeqCst), taken.load(Ordering::SeqCst));
    let mut last = state();
    let held = wait_until("all have come, and nothing more is taken of them", LONG, async || {
        // Another's call on the same thread, over the same connection to the replica, each time.
        let called =
            call(&balancer, "/test.Kinds/Unary", body(&["x"], None), &[("grpc-timeout", "3S")]).await;
        assert_eq!(called.status.as_deref(), Some("0"), "{:?}", state());
        let (before, now) = (std::mem::replace(&mut last, state()), state());
        if now.0 == STREAMS as usize && before == now { Ok(now.1) } else { Err(format!("{now:?}")) }
    })
    .await;
    let each = held / STREAMS as usize;
    assert!(each <= 1024 * 1024, "{each} bytes of each were taken");
    let grown = balancer.process.peak_memory() - before;
    assert!(grown <= 64 * 1024 * 1024, "{STREAMS} streams hold {grown} bytes");
    wait_until("those with a deadline have ended", LONG, async || {
        let left = state().0;
        if left == 1 { Ok(()) } else { Err(format!("{left} left")) }
    })
    .await;
    drop(deaf);
    wait_until("the last ended with its caller", LONG, async || {
        let left = state().0;
        let flying = balancer.metric("slipring_requests_in_flight", "").await;
        if (left, flying) == (0, 0.0) { Ok(()) } else { Err(format!("{left} left, {flying} in flight")) }
    })
    .await;
}

/// An answer that its replica has not ended.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
