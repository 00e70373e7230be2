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
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Balancer, Setup};
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
