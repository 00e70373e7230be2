//! The data plane on a live balancer: streams, headers, and where a request's key comes from.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use slipring_tests::{Answer, Balancer, Setup, measured, replica};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const MIB: usize = 1024 * 1024;

/// No test by itself: what the replicas of the tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

fn setup() -> Setup {
    replica::program(Setup::new(SLIPRING), "")
}

/// Each piece comes back before the next one is sent: nothing on the way waits for a body's end, either way.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let balancer = setup().start().await;
    let (pieces, body) = mpsc::channel::<Bytes>(1);
    let body = stream::unfold(body, async |mut body| {
        let piece = body.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), body))
    });
    let request = balancer.main.request(Method::POST, "/echo").body(StreamBody::new(Box::pin(body)));
    let mut connection = balancer.main.connect().await.expect("a connection");
    let answer =
        connection.send_request(request.expect("valid")).await.expect("an answer before the body's end");
    assert_eq!(answer.status(), 200);
    let mut echo = answer.into_body();
    for piece in ["one", "two", "three"] {
        pieces.send(Bytes::from(piece)).await.expect("the body is read");
        let back = timeout(LONG, echo.frame()).await.expect("it comes back at once").expect("a frame");
        assert_eq!(back.expect("no error").into_data().expect("data"), piece);
    }
    drop(pieces);
    let end = timeout(LONG, echo.frame()).await.expect("the end comes back as well");
    assert!(end.is_none(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_take_no_memory() {
    const SIZE: usize = 256 * MIB;
    let balancer = setup().start().await;
    assert_eq!(balancer.main.get("/download?bytes=65536").await.body.len(), 65536);
    let before = balancer.process.peak_memory();

    let piece = Bytes::from(vec![b'x'; MIB]);
    let body = stream::iter((0..SIZE / MIB).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone()))));
    let request = balancer.main.request(Method::POST, "/upload").body(StreamBody::new(body)).expect("valid");
    let mut connection = balancer.main.connect().await.expect("a connection");
    let answer =
        Answer::read(connection.send_request(request).await.expect("an answer")).await.expect("a body");
    assert_eq!((answer.status.as_u16(), answer.text()), (200, SIZE.to_string().as_str()));

    let request = balancer.main.request(Method::GET, &format!("/download?bytes={SIZE}"));
    let mut connection = balancer.main.connect().await.expect("a connection");
    let request = request.body(Full::<Bytes>::default()).expect("valid");
    let mut body = connection.send_request(request).await.expect("an answer").into_body();
    let mut received = 0;
    while let Some(frame) = timeout(LONG, body.frame()).await.expect("it flows") {
        received += frame.expect("it is whole").data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, SIZE);
    let grown = (balancer.process.peak_memory() - before) as usize;
    assert!(grown < 32 * MIB, "the balancer grew by {grown} bytes");
    measured(&format!("two bodies of {SIZE} bytes took {} KiB of memory", grown / 1024));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_one_connection_end_here_and_the_replica_learns_who_asked() {
    let balancer = setup().start().await;
    let sent = [
        ("connection", "x-secret, keep-alive"),
        ("x-secret", "hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("te", "trailers"),
        ("x-kept", "end to end"),
        ("x-forwarded-for", "192.0.2.1"),
        ("via", "1.1 earlier"),
        ("accept", "text/a"),
        ("accept", "text/b"),
    ];
    let answer = balancer.main.with_headers(Method::GET, "/headers?a=b%20c", &sent, "").await;
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["uri"]), (&"GET".into(), &"/headers?a=b%20c".into()));
    let headers = seen["headers"].as_object().expect("headers");
    for gone in ["connection", "x-secret", "keep-alive", "proxy-authorization", "te"] {
        assert!(!headers.contains_key(gone), "{gone} went through: {headers:?}");
    }
    let host = balancer.main.address.to_string();
    let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=http");
    for (name, value) in [
        ("x-kept", "end to end"),
        ("accept", "text/a, text/b"),
        ("host", &host),
        ("x-forwarded-for", "192.0.2.1, 127.0.0.1"),
        ("x-forwarded-host", &host),
        ("x-forwarded-proto", "http"),
        ("forwarded", &forwarded),
        ("via", "1.1 earlier, 1.1 slipring"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    for gone in ["connection", "x-private", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone} came back");
    }
    assert_eq!(answer.header("x-kept"), Some("from-the-replica"));
    assert_eq!(answer.header("via"), Some("1.1 slipring"));
    assert!(answer.replica().starts_with("Server-"));
}

/// Fifty keys, each asked for a few times: every key has one replica, the one that `/route` says.
async fn check_key(source: &str, send: impl AsyncFn(&Balancer, &str) -> Answer) {
    let balancer = setup().set("proxy.key", source).start().await;
    let mut answered = BTreeSet::new();
    for n in 0..50 {
        let key = format!("user-{n}");
        let owner = balancer.owner(&key).await;
        for _ in 0..3 {
            let answer = send(&balancer, &key).await;
            assert_eq!((answer.status.as_u16(), answer.replica()), (200, owner.as_str()), "{source}: {key}");
        }
        answered.insert(owner);
    }
    assert_eq!(answered.len(), 3, "the keys are spread: {answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_a_key() {
    check_key("header:X-User", async |balancer, key| {
        balancer.main.with_headers(Method::GET, "/a", &[("x-user", key)], "").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_a_key() {
    check_key("cookie:session", async |balancer, key| {
        let cookies = format!("theme=dark; session={key}; last=1");
        balancer.main.with_headers(Method::GET, "/a", &[("cookie", &cookies)], "").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_parameter_is_a_key() {
    check_key("query:user", async |balancer, key| balancer.main.get(&format!("/a?b=c&user={key}&d")).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_the_first_key_may_have_the_second() {
    check_key("cookie:session,header:x-user,query:user", async |balancer, key| {
        balancer.main.with_headers(Method::GET, "/a?user=someone-else", &[("x-user", key)], "").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_is_a_key_without_its_query() {
    let balancer = setup().set("proxy.key", "path").start().await;
    let mut answered = BTreeSet::new();
    for n in 0..30 {
        let owner = balancer.owner(&format!("/item/{n}")).await;
        for query in ["", "?a=1", "?a=2"] {
            assert_eq!(balancer.main.get(&format!("/item/{n}{query}")).await.replica(), owner);
        }
        answered.insert(owner);
    }
    assert_eq!(answered.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_a_key_whatever_its_port() {
    let balancer = setup().set("proxy.key", "client").start().await;
    let owner = balancer.owner("127.0.0.1").await;
    for n in 0..30 {
        assert_eq!(balancer.main.get(&format!("/{n}")).await.replica(), owner);
    }
}
