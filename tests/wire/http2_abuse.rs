//! HTTP/2 as nobody should speak it, and what is answered.
//!
//! A generic conformance client (h2spec) is not at hand where these run: the cases of it that matter are written
//! here as raw frames, in a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use slipring_tests::frames::{Frames, flag, frame, good, headers, hpack, kind};
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Setup, wait_until};
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

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
    let balancer = Setup::new(SLIPRING).upstreams([&upstream]).start().await;
    let mut wrong = Vec::new();
    let whole_request = headers(1, flag::END_STREAM, &good("/abused"));
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
        wait_until("nothing of it is under way", LONG, async || {
            let there = balancer.metric("slipring_requests_in_flight", "").await;
            if there == 0.0 { Ok(()) } else { Err(format!("{name}: {there}")) }
        })
        .await;
        let came = seen.load(Ordering::SeqCst) - before;
        let right = match expect {
            Expect::Goaway(codes) => ended && goaway.is_none_or(|code| codes.contains(&code)),
            Expect::Reset(codes) => {
                let said = reset.or(goaway);
                (said.is_some() || ended) && said.is_none_or(|code| codes.contains(&code))
            }
            Expect::Fine => after && goaway.is_none() && reset.is_none(),
        };
        // What is refused must not have reached a replica as if it were whole.
        let is_whole = bytes.starts_with(&whole_request) || matches!(expect, Expect::Fine);
        let leaked = !is_whole && came > 0;
        if !right || leaked {
            let bytes = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            wrong.push(format!("{name}: expected {expect:?}; goaway {goaway:?} reset {reset:?} after {after} answered {answered} ended {ended} came {came}: {bytes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each of these limits was met without being counted.
#[tokio::test(flavor = "multi_thread")]
async fn floods_and_crowds_are_counted() {
    let upstream = Upstream::serve(|_| std::future::pending::<Response<Answering>>()).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]);
    let balancer = setup.set("proxy.max_streams", 2).set("proxy.max_resets", 5).start().await;
    let hit = async |limit: &str, wanted: f64| {
        wait_until(&format!("{limit} was hit"), LONG, async || {
            let hit = balancer.metric("slipring_limits_hit_total", &format!("limit=\"{limit}\"")).await;
            if hit == wanted { Ok(()) } else { Err(hit.to_string()) }
        })
        .await;
    };
    let open = |stream| headers(stream, flag::END_STREAM, &good("/held"));
    let mut crowd = Frames::to(balancer.main).await;
    crowd.send(&[open(1), open(3)].concat()).await;
    hit("streams", 1.0).await;

    // Taken back once the replica has them.
    let mut fickle = Frames::to(balancer.main).await;
    for stream in (1..12).step_by(2) {
        fickle.send(&open(stream)).await;
        wait_until("it is under way", LONG, async || {
            let there = balancer.metric("slipring_requests_in_flight", "").await;
            if there == 3.0 { Ok(()) } else { Err(there.to_string()) }
        })
        .await;
        fickle.send(&frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        wait_until("it was taken back", LONG, async || {
            let there = balancer.metric("slipring_requests_in_flight", "").await;
            if there == 2.0 { Ok(()) } else { Err(there.to_string()) }
        })
        .await;
    }
    hit("resets", 1.0).await;

    // Taken back before anybody has looked.
    let mut fast = Frames::to(balancer.main).await;
    let both = |stream| [open(stream), frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let flood: Vec<u8> = (1..2001).step_by(2).flat_map(both).collect();
    fast.send(&flood).await;
    hit("floods", 1.0).await;

    let mut endless = Frames::to(balancer.main).await;
    let block = hpack(&good("/endless"));
    let pieces = (0..100).flat_map(|_| frame(kind::CONTINUATION, 0, 1, &hpack(&[("x", "y")])));
    let flood: Vec<u8> =
        frame(kind::HEADERS, flag::END_STREAM, 1, &block).into_iter().chain(pieces).collect();
    endless.send(&flood).await;
    hit("floods", 2.0).await;
}

/// RFC 9113 section 8.3.1: one host, wherever it is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let upstream = Upstream::serve(|_| async { Response::new(whole("ok")) }).await;
    let balancer = Setup::new(SLIPRING).upstreams([&upstream]).start().await;
    // HPACK's static table has both.
    let (fine, refused) = (0x88, 0x8c);
    let mut wrong = Vec::new();
    for (authority, hosts, expected) in [
        (Some("a.example"), vec![], fine),
        (None, vec!["a.example"], fine),
        (Some("a.example"), vec!["a.example"], fine),
        (Some("A.example"), vec!["a.EXAMPLE"], fine),
        (Some("a.example:80"), vec!["a.example"], fine),
        (Some("a.example"), vec!["b.example"], refused),
        (Some("a.example"), vec!["a.example:81"], refused),
        (Some("a.example"), vec!["a.example", "a.example"], refused),
        (Some("a.example"), vec![""], refused),
        (None, vec!["a.example", "b.example"], refused),
        (None, vec!["a.example, b.example"], refused),
        (None, vec!["a.example/b"], refused),
        (None, vec!["u@a.example"], refused),
        (None, vec![], refused),
        (Some("u@a.example"), vec![], refused),
        (Some("a.example:b"), vec![], refused),
        (Some("a.example:80:80"), vec![], refused),
    ] {
        for path in ["/a", "/rep"] {
            let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", path)];
            fields.extend(authority.map(|authority| (":authority", authority)));
            fields.extend(hosts.iter().map(|host| ("host", *host)));
            let mut frames = Frames::to(balancer.main).await;
            frames.send(&headers(1, flag::END_STREAM, &fields)).await;
            let answer = frames.until(|frame| frame.stream == 1).await.expect("an answer");
            let right = match answer.kind {
                kind::HEADERS => answer.payload.first() == Some(&expected),
                kind::RST_STREAM => expected == refused && answer.error() == Some(PROTOCOL),
                _ => false,
            };
            if !right {
                wrong.push(format!("{path} {authority:?} {hosts:?}: {answer:x?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A stream that is reset with NO_ERROR has ended no more than one that is reset with any other code.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_never_whole() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::serve(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            let first = body.frame().await;
            tell.send(first.is_some_and(|frame| frame.is_ok())).expect("the test listens");
            tell.send(body.collect().await.is_ok()).expect("the test listens");
            Response::new(whole("ok"))
        }
    })
    .await;
    let balancer = Setup::new(SLIPRING).upstreams([&upstream]).start().await;
    for code in [0_u32, 8] {
        for kind_of_call in ["text/plain", "application/grpc"] {
            let fields =
                [(":method", "POST"), (":scheme", "http"), (":path", "/upload"), (":authority", "a")];
            let fields = [&fields[..], &[("content-type", kind_of_call)]].concat();
            let mut client = Frames::to(balancer.main).await;
            client.send(&[headers(1, 0, &fields), frame(kind::DATA, 0, 1, b"a beginning")].concat()).await;
            let begun = timeout(LONG, told.recv()).await.expect("it comes");
            assert_eq!(begun, Some(true), "{kind_of_call}");
            client.send(&frame(kind::RST_STREAM, 0, 1, &code.to_be_bytes())).await;
            let whole = timeout(LONG, told.recv()).await.expect("it ends");
            assert_eq!(whole, Some(false), "{kind_of_call}, {code}");
        }
    }
}
