//! HTTP/2 towards clients: what it carries, and how much of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Version};
use slipring_tests::frames::{Frames, PREFACE, flag, frame, good, headers, hpack, kind};
use slipring_tests::raw::{self, Raw, Sent};
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
    let request =
        balancer.main.stream(Method::GET, "/headers").header("host", balancer.main.address.to_string());
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
    assert_eq!((reset.stream, reset.error()), (17, Some(7)), "REFUSED_STREAM");
}

/// It is one request, though two protocols have seen it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_counts_once_against_a_clients_rate() {
    let upstream = Upstream::serve(answer).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.burst_per_client", 1);
    let setup = setup.set("proxy.trusted", "192.0.2.0/24"); // or nobody would be counted here
    let balancer = setup.set("proxy.max_requests_per_second_per_client", 1).start().await;
    let mut frames = Frames::silent(balancer.main).await;
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n";
    frames.send(format!("GET /headers HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n").as_bytes()).await;
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(frames.bytes(switched.len()).await.as_deref(), Some(&switched[..]));
    frames.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await;
    let head = frames.until(|frame| frame.kind == kind::HEADERS).await.expect("an answer");
    assert_eq!((head.stream, head.payload[0]), (1, 0x88), ":status 200 (RFC 7541 appendix A)");
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

/// RFC 9110 section 8.6.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_has_no_length_unless_that_is_news() {
    let script = async |mut connection: Raw, _| {
        while let Ok(request) = connection.message(Sent::Request).await {
            let status = request.target().trim_start_matches('/');
            connection.say(format!("HTTP/1.1 {status} So\r\nContent-Length: 5\r\n\r\n")).await;
            if status == "204" {
                return;
            }
        }
    };
    let balancer = Setup::fixed(SLIPRING, &[raw::replica(script).await]).start().await;
    for (method, path, length) in
        [(Method::GET, "/204", None), (Method::GET, "/304", Some("5")), (Method::HEAD, "/200", Some("5"))]
    {
        let request = balancer.main.stream(method, path).body(whole("")).expect("valid");
        let response = balancer.main.streams().await.send_request(request).await.expect("an answer");
        assert_eq!(response.status().as_str(), &path[1..]);
        let found = response.headers().get("content-length").map(|length| length.to_str().expect("text"));
        assert_eq!(found, length, "{path}");
        assert_eq!(response.into_body().collect().await.expect("whole").to_bytes(), "");
    }
}

/// What a connection may send ahead, and so what is held for it, is as configured and does not grow by itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_ahead_than_was_allowed() {
    const CONNECTION: usize = 200_000;
    let upstream = Upstream::serve(|_| std::future::pending()).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]).set("proxy.connection_window", CONNECTION);
    let balancer = setup.set("proxy.stream_window", 100_000).start().await;
    let mut frames = Frames::to(balancer.main).await;
    let settings =
        frames.until(|frame| frame.kind == kind::SETTINGS && frame.flags == 0).await.expect("its own");
    assert!(settings.payload.chunks(6).any(|setting| setting == [0, 4, 0, 1, 0x86, 0xa0]), "{settings:?}");
    let wider = frames.until(|frame| frame.kind == kind::WINDOW_UPDATE && frame.stream == 0).await;
    let by = u32::from_be_bytes(wider.expect("an update").payload.try_into().expect("four bytes"));
    assert_eq!(65_535 + by as usize, CONNECTION);
}

/// RFC 9110 section 9.3.2: an answer to HEAD has no body, a refusal neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_head_has_no_body() {
    let ends =
        raw::replica(async |mut connection: Raw, _| drop(connection.message(Sent::Request).await)).await;
    let balancer = Setup::fixed(SLIPRING, &[ends]).start().await;
    let mut frames = Frames::to(balancer.main).await;
    let lost = [(":method", "HEAD"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
    let two_hosts = [&lost[..], &[("host", "b")]].concat();
    let no_path = [&lost[..2], &[(":path", "?x"), (":authority", "a")]].concat();
    for (stream, fields) in [(1, &lost[..]), (3, &two_hosts), (5, &no_path)] {
        frames.send(&headers(stream, flag::END_STREAM, fields)).await;
        let head = frames.until(|frame| frame.kind == kind::HEADERS).await.expect("an answer");
        assert_eq!((head.stream, head.flags & flag::END_STREAM), (stream, flag::END_STREAM), "{fields:?}");
    }
    let request = balancer.main.stream(Method::HEAD, "/x").body(whole("")).expect("valid");
    let response = balancer.main.streams().await.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 502);
    let length = response.headers()["content-length"].to_str().expect("text");
    assert!(length.parse::<u64>().expect("a number") > 0, "that of the body that a GET gets");
}

/// What a replica would read as no line of HTTP/1, or as another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_none_reaches_no_replica() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let saw = seen.clone();
    let address = raw::replica(move |mut connection: Raw, _| {
        let saw = saw.clone();
        async move {
            while let Some(head) = connection.take_until(b"\r\n\r\n").await {
                let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                saw.lock().expect("sound").push(line);
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let balancer = Setup::fixed(SLIPRING, &[address]).start().await;
    let mut frames = Frames::to(balancer.main).await;
    let mut stream = 1;
    for path in ["?x", "/\u{e9}", "*", "http://b/x"] {
        frames.send(&headers(stream, flag::END_STREAM, &good(path))).await;
        let answer = frames.until(|frame| frame.stream == stream).await.expect("the connection stays");
        let refused = match answer.kind {
            kind::HEADERS => answer.payload[0] == 0x8c, // :status 400 (RFC 7541 appendix A)
            kind => kind == kind::RST_STREAM,
        };
        assert!(refused, "{path}: {answer:?}");
        stream += 2;
    }
    frames.send(&headers(stream, flag::END_STREAM, &good("/fine"))).await;
    let head = frames.until(|frame| frame.stream == stream).await.expect("an answer");
    assert_eq!((head.kind, head.payload[0]), (kind::HEADERS, 0x88), ":status 200");
    assert_eq!(*seen.lock().expect("sound"), ["GET /fine HTTP/1.1"]);
}
