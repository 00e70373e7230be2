//! HTTP/2 towards clients: what it carries, and what it refuses.
//!
//! A generic conformance client (h2spec) is not at hand where these run: the cases of it that matter are written
//! here as raw frames, in a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Version};
use slipring_tests::frames::{Frames, PREFACE, flag, frame, hpack, kind};
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Answer, Balancer, Setup, Wire, measured, replica, wait_until};
use tokio::sync::Notify;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;

/// No test by itself: what the replicas of the tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

fn streamed(pieces: usize, piece: Vec<u8>, trailers: Option<HeaderMap>) -> Answering {
    let piece = Bytes::from(piece);
    let data = (0..pieces).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(stream::iter(data.chain(trailers.map(|trailers| Ok(Frame::trailers(trailers))))))
        .boxed_unsync()
}

/// Says what came; `/big?n` is n MiB, `/trailers` has some, `/upload` counts.
async fn answer(request: Request<Incoming>) -> Response<Answering> {
    let path = request.uri().path().to_owned();
    let mebibytes = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(1);
    match path.as_str() {
        "/big" => Response::new(streamed(mebibytes, vec![b'x'; MIB], None)),
        "/trailers" => {
            let body = request.into_body().collect().await.expect("the body is whole");
            let mut back = HeaderMap::new();
            if let Some(sum) = body.trailers().and_then(|trailers| trailers.get("x-sum")) {
                back.insert("x-sum-back", sum.clone());
            }
            let mut response = Response::new(streamed(1, b"with trailers".to_vec(), Some(back)));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum-back"));
            response
        }
        "/upload" => {
            let (mut body, mut count) = (request.into_body(), 0);
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(whole(count.to_string()))
        }
        "/headers" => {
            let lines = request.headers().iter().map(|(name, value)| format!("{name}: {value:?}\n"));
            Response::new(whole(lines.collect::<String>()))
        }
        path => Response::new(whole(path.to_owned())),
    }
}

async fn balancer(upstream: &Upstream) -> Balancer {
    Setup::new(SLIPRING).upstreams([upstream]).start().await
}

async fn get(balancer: &Balancer, path: &str) -> Answer {
    let mut streams = balancer.main.streams().await;
    let request = balancer.main.stream(Method::GET, path).body(whole("")).expect("valid");
    Answer::read(streams.send_request(request).await.expect("an answer")).await.expect("a body")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection_by_prior_knowledge() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let streams = balancer.main.streams().await;
    let asked = (0..500).map(|n| {
        let (mut streams, main) = (streams.clone(), balancer.main);
        tokio::spawn(async move {
            let request = main.stream(Method::GET, &format!("/item/{n}")).body(whole("")).expect("valid");
            let response = streams.send_request(request).await.expect("an answer");
            assert_eq!(response.version(), Version::HTTP_2);
            let answer = Answer::read(response).await.expect("a body");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("/item/{n}").as_str()));
            assert_eq!(answer.header("via"), Some("1.1 slipring"));
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        asked.await.expect("it is answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_take_no_memory_either_way() {
    const SIZE: usize = 128;
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    assert_eq!(get(&balancer, "/big?1").await.body.len(), MIB);
    let before = balancer.process.peak_memory();
    let mut streams = balancer.main.streams().await;

    let request = balancer.main.stream(Method::GET, &format!("/big?{SIZE}")).body(whole("")).expect("valid");
    let mut body = streams.send_request(request).await.expect("an answer").into_body();
    let first = body.frame().await.expect("a frame").expect("whole");
    let mut received = first.data_ref().map_or(0, Bytes::len);
    // Nobody reads for a while: what the replica sends must wait there.
    for _ in 0..20 {
        get(&balancer, "/small").await;
    }
    while let Some(frame) = timeout(LONG, body.frame()).await.expect("it flows") {
        received += frame.expect("it is whole").data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, SIZE * MIB);

    let request = balancer.main.stream(Method::POST, "/upload");
    let request = request.body(streamed(SIZE, vec![b'y'; MIB], None)).expect("valid");
    let answer = Answer::read(streams.send_request(request).await.expect("an answer")).await.expect("a body");
    assert_eq!(answer.text(), (SIZE * MIB).to_string());
    let grown = (balancer.process.peak_memory() - before) as usize;
    assert!(grown < 24 * MIB, "the balancer grew by {grown} bytes");
    measured(&format!("two bodies of {SIZE} MiB over HTTP/2 took {} KiB of memory", grown / 1024));
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let request = balancer.main.stream(Method::POST, "/trailers").header("te", "trailers");
    let request = request.body(streamed(2, b"piece".to_vec(), Some(trailers))).expect("valid");
    let response = balancer.main.streams().await.send_request(request).await.expect("an answer");
    let body = response.into_body().collect().await.expect("it is whole");
    assert_eq!(body.trailers().and_then(|trailers| trailers.get("x-sum-back")).expect("trailers"), "42");
    assert_eq!(body.to_bytes(), "with trailers");
}

/// The authority is the host, cookies are one field, and what belongs to a connection of HTTP/1 is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_reads_one_host_and_one_cookie_field() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let request = balancer.main.stream(Method::GET, "/headers").header("host", "other.example");
    let request = request.header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
    let request = request.body(whole("")).expect("valid");
    let mut streams = balancer.main.streams().await;
    let answer = Answer::read(streams.send_request(request).await.expect("an answer")).await.expect("a body");
    let text = answer.text();
    assert_eq!(text.matches("host: ").count() - text.matches("x-forwarded-host: ").count(), 1, "{text}");
    assert!(text.contains(&format!("host: \"{}\"", balancer.main.address)), "{text}");
    assert!(text.contains("cookie: \"a=1; b=2\"") && text.contains("te: \"trailers\""), "{text}");
    assert!(text.contains("via: \"2.0 slipring\"") || text.contains("via: \"2 slipring\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_frees_the_replica() {
    let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (begun.clone(), ended.clone());
    let upstream = Upstream::serve(move |_| {
        let (begun, ended) = told.clone();
        async move {
            struct Ends(Arc<Notify>);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.notify_one();
                }
            }
            let _ends = Ends(ended);
            begun.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let balancer = balancer(&upstream).await;
    let mut frames = Frames::to(balancer.main).await;
    frames.send(&headers(1, flag::END_STREAM, &good("/slow"))).await;
    timeout(LONG, begun.notified()).await.expect("the replica has it");
    frames.send(&frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    timeout(LONG, ended.notified()).await.expect("the replica is let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (begun.clone(), go.clone());
    let upstream = Upstream::serve(move |_| {
        let (begun, go) = told.clone();
        async move {
            begun.notify_one();
            go.notified().await;
            Response::new(whole("finished"))
        }
    })
    .await;
    let mut balancer = balancer(&upstream).await;
    let mut frames = Frames::to(balancer.main).await;
    frames.send(&headers(1, flag::END_STREAM, &good("/slow"))).await;
    timeout(LONG, begun.notified()).await.expect("the replica has it");
    balancer.signal(rustix::process::Signal::TERM);
    let goaway = frames.until(|frame| frame.kind == kind::GOAWAY).await.expect("it says so");
    assert_eq!(goaway.error(), Some(0), "in order");
    go.notify_one();
    let mut body = None;
    while let Some(next) = frames.next().await {
        match next.kind {
            kind::DATA if !next.payload.is_empty() => body = Some(next.payload),
            kind::PING if next.flags == 0 => {
                frames.send(&frame(kind::PING, flag::ACK, 0, &next.payload)).await;
            }
            _ => {}
        }
    }
    assert_eq!(body.as_deref(), Some(&b"finished"[..]));
    assert_eq!(balancer.ended(LONG).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_sent_away() {
    let upstream = Upstream::serve(answer).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]);
    let balancer =
        setup.set("proxy.header_timeout", "300ms").set("proxy.idle_timeout", "600ms").start().await;
    let mut silent = Frames::silent(balancer.main).await;
    silent.send(PREFACE).await; // not even its settings
    while silent.next().await.is_some() {}
    let mut frames = Frames::to(balancer.main).await;
    frames.send(&headers(1, flag::END_STREAM, &good("/a"))).await;
    let goaway = frames.until(|frame| frame.kind == kind::GOAWAY).await.expect("it says so");
    assert_eq!(goaway.error(), Some(0), "in order");
    while frames.next().await.is_some() {}
}

/// A client that opens its window for nothing holds nothing for longer than its patience.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut() {
    let upstream = Upstream::serve(answer).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]);
    let balancer =
        setup.set("proxy.header_timeout", "300ms").set("proxy.idle_timeout", "600ms").start().await;
    let mut frames = Frames::silent(balancer.main).await;
    let no_window = [0, 4, 0, 0, 0, 0];
    frames.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &no_window)].concat()).await;
    for n in 0..10 {
        frames.send(&headers(1 + 2 * n, flag::END_STREAM, &good("/big?8"))).await;
    }
    while frames.next().await.is_some() {}
    wait_until("its streams are gone", LONG, async || {
        let left = balancer.metric("slipring_requests_in_flight", "").await;
        if left == 0.0 { Ok(()) } else { Err(format!("{left} in flight")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_long_a_head_is_431() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let mut streams = balancer.main.streams().await;
    let request = balancer.main.stream(Method::GET, "/a").header("x-long", "x".repeat(20_000));
    match streams.send_request(request.body(whole("")).expect("valid")).await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => panic!("no answer: {error:?}"),
    }
    let request = balancer.main.stream(Method::GET, "/a").body(whole("")).expect("valid");
    assert_eq!(streams.send_request(request).await.expect("the connection stays").status(), 200);
}

/// CVE-2023-44487: streams that are taken back as soon as they are opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_the_connection() {
    let upstream = Upstream::serve(|_| std::future::pending()).await;
    let balancer = balancer(&upstream).await;
    for waits in [false, true] {
        let mut frames = Frames::to(balancer.main).await;
        let mut sent = 0;
        for n in 0..5000_u32 {
            let stream = 1 + 2 * n;
            let opened = headers(stream, flag::END_STREAM, &good("/slow"));
            let reset = frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            let taken = if waits {
                // Each was begun before it is taken back: a PING's answer says so.
                let mut taken = frames.send(&opened).await;
                taken &= frames.send(&frame(kind::PING, 0, 0, &[0; 8])).await;
                taken &= frames.until(|frame| frame.kind == kind::PING && frame.flags == 1).await.is_some();
                taken && frames.send(&reset).await
            } else {
                frames.send(&[opened, reset].concat()).await
            };
            if !taken {
                break;
            }
            sent += 1;
        }
        while frames.next().await.is_some() {}
        assert!(sent < 5000 || !waits, "the connection goes on");
    }
    assert_eq!(balancer.main.get("/rep").await.status, 200);
}

/// CVE-2024-27316 and its like: a head without an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_continuations_ends_the_connection() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let before = balancer.process.peak_memory();
    let mut frames = Frames::to(balancer.main).await;
    frames.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &hpack(&good("/a")))).await;
    let piece = frame(kind::CONTINUATION, 0, 1, &hpack(&[("x-more", &"y".repeat(1000))]));
    let mut sent = 0;
    while sent < 100_000 && frames.send(&piece).await {
        sent += 1;
    }
    assert!(sent < 100_000, "they are read for ever");
    let grown = (balancer.process.peak_memory() - before) as usize;
    assert!(grown < 16 * MIB, "the balancer grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_preface_is_no_http2() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    for bytes in [
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "INVALID CONNECTION PREFACE\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n",
    ] {
        let mut wire = Wire::sending(balancer.main, bytes).await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("no answer to {bytes:?}"));
        assert!((400..600).contains(&answer.status), "{bytes:?}: {}", answer.head);
        wire.end().await;
    }
}

/// The fields of a request without fault.
fn good(path: &str) -> Vec<(&'static str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "slipring.example")]
}

fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, &hpack(fields))
}

/// What is expected of an abuse.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The connection ends, and if a code is said then one of these.
    Goaway(&'static [u32]),
    /// The stream ends, or the connection, and if a code is said then one of these.
    Reset(&'static [u32]),
    /// It is not minded: the next request is answered.
    Fine,
}

const PROTOCOL: u32 = 1;
const FLOW: u32 = 3;
const CLOSED: u32 = 5;
const SIZE: u32 = 6;
const REFUSED: u32 = 7;
const COMPRESSION: u32 = 9;

/// After h2spec, by sections of the RFC. The framing below says PROTOCOL_ERROR for some frames of a wrong size, where a
/// closer word exists, and ends the connection all the same; a pseudo-field in trailers it leaves out and goes on.
fn abuses() -> Vec<(&'static str, Vec<u8>, Expect)> {
    use Expect::{Fine, Goaway, Reset};
    let end = flag::END_STREAM;
    let open = |path| headers(1, 0, &good(path));
    let asked = headers(1, end, &good("/abused"));
    let setting = |id: u16, value: u32| {
        frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    let window = |stream, by: u32| frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let with =
        |field: (&'static str, &'static str)| headers(1, end, &[good("/abused"), vec![field]].concat());
    let without = |name: &str| {
        let fields: Vec<_> = good("/abused").into_iter().filter(|(field, _)| *field != name).collect();
        headers(1, end, &fields)
    };
    let then = |parts: &[&[u8]]| parts.concat();
    let raw = |flags, payload: &[u8]| frame(kind::HEADERS, flags, 1, payload);
    let block = hpack(&good("/abused"));
    let data = |flags, payload: &[u8]| frame(kind::DATA, flags, 1, payload);
    let mut table = vec![
        ("4.1 an unknown kind of frame", frame(0x16, 0, 0, b"whatever"), Fine),
        ("4.1 unknown flags", frame(kind::PING, 0x16, 0, &[0; 8]), Fine),
        ("4.1 the reserved bit of a stream", frame(kind::PING, 0, 0x8000_0000, &[0; 8]), Fine),
        (
            "4.2 DATA beyond the frame size",
            then(&[&open("/abused"), &data(0, &[0; 16_385])]),
            Reset(&[SIZE, PROTOCOL]),
        ),
        ("4.2 HEADERS beyond the frame size", raw(end, &[0; 16_385]), Goaway(&[SIZE, PROTOCOL])),
        (
            "4.3 a block that is no HPACK",
            raw(end | flag::END_HEADERS, &[0x3f, 0xff, 0xff, 0xff, 0x7f]),
            Goaway(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "4.3 an index beyond the table",
            raw(end | flag::END_HEADERS, &[0xff, 0xff, 0x7f]),
            Goaway(&[COMPRESSION, PROTOCOL]),
        ),
        (
            "4.3 PRIORITY within a block",
            then(&[&raw(end, &block), &frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])]),
            Goaway(&[PROTOCOL]),
        ),
        (
            "4.3 a block of another stream within a block",
            then(&[&raw(end, &block), &headers(3, end, &good("/abused"))]),
            Goaway(&[PROTOCOL]),
        ),
        ("5.1 DATA to an idle stream", data(end, b"x"), Goaway(&[PROTOCOL])),
        (
            "5.1 RST_STREAM to an idle stream",
            frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Goaway(&[PROTOCOL]),
        ),
        ("5.1 WINDOW_UPDATE to an idle stream", window(1, 100), Goaway(&[PROTOCOL])),
        ("5.1 CONTINUATION of nothing", frame(kind::CONTINUATION, 4, 1, &block), Goaway(&[PROTOCOL])),
        (
            "5.1 DATA after the end of the stream",
            then(&[&asked, &data(end, b"x")]),
            Reset(&[CLOSED, PROTOCOL]),
        ),
        ("5.1 HEADERS after the end of the stream", then(&[&asked, &asked]), Reset(&[CLOSED, PROTOCOL])),
        (
            "5.1 CONTINUATION after the end of the block",
            then(&[&asked, &frame(kind::CONTINUATION, 4, 1, &block)]),
            Goaway(&[CLOSED, PROTOCOL]),
        ),
        (
            "5.1 DATA after RST_STREAM",
            then(&[&open("/abused"), &frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]), &data(end, b"x")]),
            Reset(&[CLOSED, PROTOCOL]),
        ),
        ("5.1.1 a stream with an even number", headers(2, end, &good("/abused")), Goaway(&[PROTOCOL])),
        (
            "5.1.1 a stream with a lower number",
            then(&[&headers(5, end, &good("/a")), &headers(3, end, &good("/abused"))]),
            Goaway(&[PROTOCOL, CLOSED]),
        ),
        (
            "5.3.1 a stream that depends on itself",
            raw(end | flag::END_HEADERS | flag::PRIORITY, &then(&[&[0, 0, 0, 1, 16], &block])),
            Reset(&[PROTOCOL]),
        ),
        ("6.1 DATA to the connection", frame(kind::DATA, 0, 0, b"x"), Goaway(&[PROTOCOL])),
        (
            "6.1 DATA with more padding than payload",
            then(&[&open("/abused"), &data(end | flag::PADDED, &[9, 1, 2])]),
            Goaway(&[PROTOCOL]),
        ),
        ("6.2 HEADERS to the connection", headers(0, end, &good("/abused")), Goaway(&[PROTOCOL])),
        (
            "6.2 HEADERS with more padding than payload",
            raw(end | 4 | flag::PADDED, &[250, 1, 2]),
            Goaway(&[PROTOCOL]),
        ),
        (
            "6.3 PRIORITY of the connection",
            frame(kind::PRIORITY, 0, 0, &[0, 0, 0, 1, 1]),
            Goaway(&[PROTOCOL]),
        ),
        (
            "6.3 PRIORITY of another length",
            then(&[&open("/abused"), &frame(kind::PRIORITY, 0, 1, &[0; 4])]),
            Reset(&[SIZE, PROTOCOL]),
        ),
        ("6.4 RST_STREAM of the connection", frame(kind::RST_STREAM, 0, 0, &[0; 4]), Goaway(&[PROTOCOL])),
        (
            "6.4 RST_STREAM of another length",
            then(&[&open("/abused"), &frame(kind::RST_STREAM, 0, 1, &[0; 3])]),
            Goaway(&[SIZE, PROTOCOL]),
        ),
        (
            "6.5 an acknowledgement with settings",
            frame(kind::SETTINGS, flag::ACK, 0, &[0, 3, 0, 0, 0, 9]),
            Goaway(&[SIZE, PROTOCOL]),
        ),
        ("6.5 SETTINGS of a stream", frame(kind::SETTINGS, 0, 1, &[]), Goaway(&[PROTOCOL])),
        ("6.5 SETTINGS of another length", frame(kind::SETTINGS, 0, 0, &[0; 5]), Goaway(&[SIZE, PROTOCOL])),
        ("6.5.2 ENABLE_PUSH of 2", setting(2, 2), Goaway(&[PROTOCOL])),
        ("6.5.2 too large a window", setting(4, 0x8000_0000), Goaway(&[FLOW, PROTOCOL])),
        ("6.5.2 too small a frame size", setting(5, 16_383), Goaway(&[PROTOCOL])),
        ("6.5.2 too large a frame size", setting(5, 0x0100_0000), Goaway(&[PROTOCOL])),
        ("6.5.2 an unknown setting", setting(0xff, 1), Fine),
        ("6.7 PING of a stream", frame(kind::PING, 0, 1, &[0; 8]), Goaway(&[PROTOCOL])),
        ("6.7 PING of another length", frame(kind::PING, 0, 0, &[0; 6]), Goaway(&[SIZE, PROTOCOL])),
        ("6.7 an answer to no PING", frame(kind::PING, flag::ACK, 0, &[7; 8]), Fine),
        ("6.8 GOAWAY of a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Goaway(&[PROTOCOL])),
        ("6.9 a window of the connection wider by nothing", window(0, 0), Goaway(&[PROTOCOL])),
        (
            "6.9 a window of a stream wider by nothing",
            then(&[&open("/abused"), &window(1, 0)]),
            Reset(&[PROTOCOL]),
        ),
        (
            "6.9 WINDOW_UPDATE of another length",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
            Goaway(&[SIZE, PROTOCOL]),
        ),
        ("6.9.1 the connection's window overflows", window(0, 0x7fff_ffff), Goaway(&[FLOW])),
        (
            "6.9.1 a stream's window overflows",
            then(&[&open("/abused"), &window(1, 0x7fff_ffff)]),
            Reset(&[FLOW]),
        ),
        (
            "6.10 a block in three parts",
            then(&[&raw(end, &block[..9]), &frame(9, 0, 1, &block[9..20]), &frame(9, 4, 1, &block[20..])]),
            Fine,
        ),
        (
            "6.10 CONTINUATION of the connection",
            then(&[&raw(end, &block), &frame(9, 4, 0, &[])]),
            Goaway(&[PROTOCOL]),
        ),
        ("6.10 DATA within a block", then(&[&raw(0, &block), &data(end, b"x")]), Goaway(&[PROTOCOL])),
        (
            "8.1 trailers that do not end the stream",
            then(&[&open("/abused"), &data(0, b"x"), &headers(1, 0, &[("x-a", "b")])]),
            Reset(&[PROTOCOL]),
        ),
        (
            "8.4 PUSH_PROMISE of a client",
            frame(kind::PUSH_PROMISE, 4, 1, &then(&[&[0, 0, 0, 2], &block])),
            Goaway(&[PROTOCOL]),
        ),
    ];
    for field in [
        ("X-Upper", "a"),
        (":unknown", "a"),
        (":status", "200"),
        (":path", "/again"),
        (":method", "POST"),
        (":scheme", "http"),
        ("connection", "close"),
        ("proxy-connection", "close"),
        ("keep-alive", "timeout=1"),
        ("upgrade", "h2c"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x-newline", "a\r\nx-b: c"),
        ("x-null", "a\0b"),
        ("x name", "a"),
        ("", "a"),
        ("content-length", "7"),
    ] {
        table.push(("8.2 a field that may not be", with(field), Reset(&[PROTOCOL])));
    }
    for name in [":method", ":scheme", ":path"] {
        table.push(("8.3 a field that must be", without(name), Reset(&[PROTOCOL])));
    }
    for (name, value) in
        [(":path", ""), (":path", "no-slash"), (":path", "/a b"), (":method", "G T"), (":method", "")]
    {
        let fields = good("/abused").into_iter();
        let fields: Vec<_> =
            fields.map(|field| if field.0 == name { (name, value) } else { field }).collect();
        table.push(("8.3 a value that may not be", headers(1, end, &fields), Reset(&[PROTOCOL])));
    }
    let late: Vec<_> = [vec![("x-first", "a")], good("/abused")].concat();
    table.push(("8.3 the path after a field", headers(1, end, &late), Reset(&[PROTOCOL])));
    let length = |value| headers(1, 0, &[good("/abused"), vec![("content-length", value)]].concat());
    table.push(("8.1.1 less than was promised", then(&[&length("3"), &data(end, b"x")]), Reset(&[PROTOCOL])));
    table.push((
        "8.1.1 more than was promised",
        then(&[&length("1"), &data(end, b"xyz")]),
        Reset(&[PROTOCOL]),
    ));
    let pseudo = headers(1, end, &[(":path", "/trailing")]);
    table.push(("8: a path in trailers", then(&[&open("/abused"), &data(0, b"x"), &pseudo]), Fine)); // dropped
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn abuses_are_answered_as_the_rfc_says() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let upstream = Upstream::serve(move |request: Request<Incoming>| {
        let seen = counted.clone();
        async move {
            let abused = request.uri().path() == "/abused";
            // Only what is whole counts: what was begun is broken off.
            if request.into_body().collect().await.is_ok() && abused {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            Response::new(whole("ok"))
        }
    })
    .await;
    let balancer = balancer(&upstream).await;
    let mut wrong = Vec::new();
    for (name, bytes, expect) in abuses() {
        let before = seen.load(Ordering::SeqCst);
        let mut frames = Frames::to(balancer.main).await;
        frames.send(&bytes).await;
        // After whatever happened, another request: it tells a connection that goes on from one that does not.
        frames.send(&headers(101, flag::END_STREAM, &good("/after"))).await;
        let (mut goaway, mut reset, mut after, mut answered, mut ended) = (None, None, false, false, false);
        loop {
            let next = timeout(Duration::from_secs(5), frames.next()).await;
            let Ok(next) = next else { break };
            let Some(next) = next else {
                ended = true;
                break;
            };
            match (next.kind, next.stream) {
                (kind::GOAWAY, _) => goaway = next.error(),
                (kind::RST_STREAM, 1 | 3) => reset = next.error(),
                (kind::HEADERS, 1) => answered = true,
                (kind::HEADERS, 101) => after = true,
                _ => {}
            }
            if after && (reset.is_some() || answered || matches!(expect, Expect::Fine)) {
                break;
            }
        }
        let came = seen.load(Ordering::SeqCst) - before;
        let right = match expect {
            Expect::Goaway(codes) => ended && goaway.is_none_or(|code| codes.contains(&code)),
            Expect::Reset(codes) => {
                let said = reset.or(goaway);
                (said.is_some() || ended) && said.is_none_or(|code| codes.contains(&code))
            }
            Expect::Fine => after && goaway.is_none() && reset.is_none(),
        };
        // What is refused as malformed must not have reached a replica.
        let leaked = name.starts_with("8.") && came > 0;
        if !right || leaked {
            let bytes = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            wrong.push(format!("{name}: expected {expect:?}; goaway {goaway:?} reset {reset:?} after {after} answered {answered} ended {ended} came {came}: {bytes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// More streams than were allowed are refused, not queued.
#[tokio::test(flavor = "multi_thread")]
async fn streams_at_a_time_are_limited() {
    let upstream = Upstream::serve(|_| std::future::pending()).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.max_streams", 8);
    let balancer = setup.start().await;
    let mut frames = Frames::to(balancer.main).await;
    let settings =
        frames.until(|frame| frame.kind == kind::SETTINGS && frame.flags == 0).await.expect("its own");
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 8]), "{settings:?}");
    for n in 0..9 {
        frames.send(&headers(1 + 2 * n, flag::END_STREAM, &good("/slow"))).await;
    }
    let reset = frames.until(|frame| frame.kind == kind::RST_STREAM).await.expect("the ninth is refused");
    assert_eq!((reset.stream, reset.error()), (17, Some(REFUSED)));
}

/// RFC 7540 section 3.2: the request that asks becomes stream 1, and the settings it brought hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_upgrade_its_connection() {
    let upstream = Upstream::serve(answer).await;
    let balancer = balancer(&upstream).await;
    let ask = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nX-Kept: Yes\r\n{more}\r\n"
        )
    };
    // MAX_FRAME_SIZE 16384 and a window of 3 bytes.
    let settings = "HTTP2-Settings: AAUAAEAAAAQAAAAD\r\n";
    let mut frames = Frames::silent(balancer.main).await;
    frames.send(ask("/headers", settings).as_bytes()).await;
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(frames.bytes(switched.len()).await.as_deref(), Some(&switched[..]));
    // One byte after the other: whatever is replayed is put together from pieces.
    for byte in [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat() {
        frames.send(&[byte]).await;
    }
    let data = frames.until(|frame| frame.kind == kind::DATA).await.expect("an answer");
    assert_eq!((data.stream, data.payload.len()), (1, 3), "the window that was asked for");
    frames.send(&frame(kind::WINDOW_UPDATE, 0, 1, &10_000_u32.to_be_bytes())).await;
    let data = frames.until(|frame| frame.kind == kind::DATA).await.expect("the rest");
    let text = String::from_utf8_lossy(&data.payload).into_owned();
    assert!(text.contains("x-kept: \"Yes\"") && !text.contains("upgrade"), "{text}");
    frames.send(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).await;
    frames.send(&headers(3, flag::END_STREAM, &good("/next"))).await;
    let data = frames.until(|frame| frame.kind == kind::DATA && frame.stream == 3).await.expect("the next");
    assert_eq!(data.payload, b"/next");

    // Without settings, with wrong ones, or with a body it stays what it is; and no replica sees the offer.
    for more in [
        "",
        "HTTP2-Settings: AAU=\r\n",
        "HTTP2-Settings: AAU\r\n",
        "HTTP2-Settings: \r\nHTTP2-Settings: \r\n",
    ] {
        let mut wire = Wire::sending(balancer.main, ask("/headers", more)).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(answer.status, 200, "{more:?}");
        assert!(!answer.text().contains("h2c"), "{}", answer.text());
    }
    let with_body = ask("/headers", &format!("{settings}Content-Length: 4\r\n")).replace("GET", "POST");
    let answer = Wire::sending(balancer.main, with_body + "body").await.answer().await.expect("an answer");
    assert_eq!(answer.status, 200);
}
