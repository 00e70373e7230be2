//! Traces: what a collector gets to know of requests, what replicas are told, and that no request waits for either.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use slipring_tests::raw::{Odd, Raw, Sent};
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Setup, wait_until};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector was sent.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Recorded {
    fn spans(&self) -> Vec<Span> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let resources = all.into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

/// A collector that answers so.
async fn collector(status: u16) -> (Upstream, Recorded) {
    let recorded = Recorded::default();
    let record = recorded.clone();
    let collector = Upstream::serve(move |request: Request<Incoming>| {
        let record = record.clone();
        async move {
            assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/v1/traces"));
            assert_eq!(request.headers()["content-type"], "application/x-protobuf");
            let body = request.into_body().collect().await.expect("it is whole").to_bytes();
            let said = ExportTraceServiceRequest::decode(body).expect("OTLP");
            record.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
            Response::builder().status(status).body(whole("")).expect("valid")
        }
    })
    .await;
    (collector, recorded)
}

/// A replica that says under which `traceparent` and `tracestate` it was asked, and answers calls of gRPC.
async fn replica() -> Upstream {
    Upstream::serve(|request: Request<Incoming>| async move {
        let field =
            |name: &str| request.headers().get(name).map_or("none", |value| value.to_str().expect("text"));
        let told = format!("{} {}", field("traceparent"), field("tracestate"));
        if field("content-type") != "application/grpc" {
            return Response::new(whole(told));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
        trailers.insert("x-told", told.parse().expect("text"));
        let body = StreamBody::new(stream::iter([Ok(Frame::trailers(trailers))])).boxed_unsync();
        let mut response: Response<Answering> = Response::new(body);
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    })
    .await
}

fn traced(setup: Setup, collector: &Upstream) -> Setup {
    setup.set("otel.endpoint", format!("http://{}", collector.address))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text; empty if it is not there.
fn attribute(all: &[KeyValue], key: &str) -> String {
    let value =
        all.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone()?.value);
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => other.map_or_else(String::new, |other| format!("{other:?}")),
    }
}

fn check(span: &Span, wanted: &[(&str, &str)]) {
    for (key, value) in wanted {
        assert_eq!(attribute(&span.attributes, key), *value, "{key} of {span:?}");
    }
    assert_eq!(span.kind, 2, "a server's");
    assert!(
        span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0,
        "{span:?}"
    );
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_and_a_replica_learn_of_the_same_span_whatever_the_client_speaks() {
    let ((collector, recorded), replica) = (collector(200).await, replica().await);
    let setup = traced(Setup::new(SLIPRING).upstreams([&replica]), &collector).set("otel.service", "edge");
    let balancer = setup.start().await;
    let main = balancer.main;
    let from = parent("01");
    let fields = [
        ("traceparent", &*from),
        ("tracestate", "a=b"),
        ("user-agent", "test/1"),
        ("host", "Shop.example:81"),
    ];
    let first = main.with_headers(Method::GET, "/one/path?q=1", &fields, "").await.text().to_owned();

    let mut streams = main.streams().await;
    let request = main.stream(Method::PUT, "/two").header("traceparent", &*from).body(whole("body"));
    let second = streams.send_request(request.expect("valid")).await.expect("an answer");
    let second = second.into_body().collect().await.expect("it is whole").to_bytes();
    let second = String::from_utf8(second.to_vec()).expect("text");

    let request = main.stream(Method::POST, "/test.Kinds/Unary").header("traceparent", &*from);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let called = streams.send_request(request.body(whole("")).expect("valid")).await.expect("an answer");
    let called = called.into_body().collect().await.expect("it ends").trailers().cloned().expect("trailers");
    let third = called["x-told"].to_str().expect("text").to_owned();
    drop(streams);
    // A refusal has a span of its own; nobody was asked.
    assert_eq!(main.call(Method::POST, "/rm", "{").await.status, 405);
    balancer.stop().await;

    let spans = recorded.spans();
    assert_eq!(spans.len(), 4, "at the end nothing is left behind: {spans:?}");
    let span = |path: &str| {
        let found = spans.iter().find(|span| attribute(&span.attributes, "url.path") == path);
        found.unwrap_or_else(|| panic!("none of {path}: {spans:?}"))
    };
    for (told, path, state) in
        [(&first, "/one/path", "a=b"), (&second, "/two", "none"), (&third, "/test.Kinds/Unary", "none")]
    {
        let span = span(path);
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
        assert_eq!(
            *told,
            format!("00-{TRACE}-{}-01 {state}", hex(&span.span_id)),
            "what the replica was told"
        );
    }
    let replica = replica.address.to_string();
    check(
        span("/one/path"),
        &[
            ("http.request.method", "GET"),
            ("url.query", "q=1"),
            ("url.scheme", "http"),
            ("http.response.status_code", "200"),
            ("server.address", "Shop.example"),
            ("server.port", "81"),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "test/1"),
            ("slipring.replica", &replica),
            ("slipring.pool", "default"),
            ("slipring.retries", "0"),
            ("error.type", ""),
        ],
    );
    check(
        span("/two"),
        &[
            ("http.request.method", "PUT"),
            ("server.address", "127.0.0.1"),
            ("network.protocol.version", "2"),
            ("slipring.replica", &replica),
        ],
    );
    let call = span("/test.Kinds/Unary");
    check(
        call,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "2"),
            ("rpc.system", "grpc"),
            ("rpc.grpc.status_code", "13"),
            ("error.type", "13"),
            ("slipring.replica", &replica),
            ("slipring.retries", "0"),
        ],
    );
    assert_eq!((&*call.name, call.status.as_ref().map(|status| status.code)), ("test.Kinds/Unary", Some(2)));
    let refused = span("/rm");
    assert!(refused.parent_span_id.is_empty());
    check(refused, &[("http.response.status_code", "405"), ("slipring.replica", ""), ("slipring.pool", "")]);
    let service = recorded.0.lock().unwrap_or_else(PoisonError::into_inner)[0].resource_spans[0].clone();
    assert_eq!(attribute(&service.resource.expect("there is one").attributes, "service.name"), "edge");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_a_trace_decides_and_what_is_no_traceparent_begins_one() {
    let ((collector, recorded), replica) = (collector(200).await, replica().await);
    let setup = traced(Setup::new(SLIPRING).upstreams([&replica]), &collector);
    let ask = async |main: slipring_tests::Http, from: &str| {
        let fields = [("traceparent", from), ("tracestate", "a=b")];
        main.with_headers(Method::GET, "/", &fields, "").await.text().to_owned()
    };
    let balancer = setup.start().await;
    let unsampled = parent("00");
    assert_eq!(ask(balancer.main, &unsampled).await, format!("{unsampled} a=b"), "it passes as it came");
    let told = ask(balancer.main, "00-nonsense").await;
    balancer.stop().await;
    let spans = recorded.spans();
    assert_eq!(spans.len(), 1, "{spans:?}");
    let (trace, span) = (hex(&spans[0].trace_id), hex(&spans[0].span_id));
    assert_eq!(told, format!("00-{trace}-{span}-01 none"), "the state was of a trace that nobody can follow");
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!(spans[0].flags & 1, 1, "it says what its replica is told: sampled");

    let balancer = setup.set("otel.sample", 0).start().await;
    assert_eq!(balancer.main.get("/").await.text(), "none none");
    let told = ask(balancer.main, &parent("01")).await;
    assert!(told.starts_with(&format!("00-{TRACE}-")) && !told.contains(PARENT), "{told}");
    balancer.stop().await;
    assert_eq!(recorded.spans().len(), 2, "the share is of those that begin here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_repeated_says_how_often_and_who_answered() {
    let ((collector, recorded), replica) = (collector(200).await, replica().await);
    let breaking = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let broken = breaking.local_addr().expect("it is bound");
    let breaks = tokio::spawn(async move {
        while let Ok((mut stream, _)) = breaking.accept().await {
            drop(stream.read(&mut [0; 1024]).await); // and ends
        }
    });
    let setup = Setup::fixed(SLIPRING, &[broken, replica.address]).set("fleet.heartbeat_path", "");
    let balancer = traced(setup.set("proxy.eject_failures", 0), &collector).start().await;
    wait_until("a request is repeated", LONG, async || {
        assert_eq!(balancer.main.get("/again").await.status, 200);
        let retries = balancer.metric("slipring_retries_total", "").await;
        if retries > 0.0 { Ok(()) } else { Err(format!("{retries}")) }
    })
    .await;
    balancer.stop().await;
    breaks.abort();
    let spans = recorded.spans();
    let is_repeated = |span: &&Span| attribute(&span.attributes, "slipring.retries") == "1";
    let repeated: Vec<_> = spans.iter().filter(is_repeated).collect();
    assert_eq!(repeated.len(), 1, "{spans:?}");
    let replica = replica.address.to_string();
    check(repeated[0], &[("http.response.status_code", "200"), ("slipring.replica", &replica)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_or_says_nothing_costs_spans_and_no_request() {
    let replica = replica().await;
    let (refusing, recorded) = collector(503).await;
    let balancer = traced(Setup::new(SLIPRING).upstreams([&replica]), &refusing).start().await;
    assert_eq!(balancer.main.get("/").await.status, 200);
    wait_until("it is counted", LONG, async || {
        let failed = balancer.metric("slipring_spans_total", "failed").await;
        if failed == 1.0 { Ok(()) } else { Err(failed.to_string()) }
    })
    .await;
    assert_eq!(recorded.spans().len(), 1);
    balancer.stop().await;

    let silent = Upstream::serve(|_: Request<Incoming>| std::future::pending()).await;
    let setup = traced(Setup::new(SLIPRING).upstreams([&replica]), &silent).set("drain_timeout", "100ms");
    let balancer = setup.start().await;
    let mut streams = balancer.main.streams().await;
    wait_until("more wait than may", LONG, async || {
        for _ in 0..500 {
            let request = balancer.main.stream(Method::GET, "/").body(whole("")).expect("valid");
            let answer = streams.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("it is whole");
        }
        let dropped = balancer.metric("slipring_spans_total", "dropped").await;
        if dropped > 0.0 { Ok(()) } else { Err("none is dropped".to_owned()) }
    })
    .await;
    drop(streams);
    balancer.stop().await;
}

/// A 200 of which only the beginning came is no success.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_broke_off_is_an_error() {
    let (collector, recorded) = collector(200).await;
    let address = slipring_tests::raw::replica(async |mut connection: Raw, _| {
        connection.head().await.expect("a request");
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    let balancer = traced(Setup::fixed(SLIPRING, &[address]), &collector).start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    client.say("GET /half HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(matches!(client.message(Sent::Answer).await, Err(Odd::CutOff(_))));
    let mut streams = balancer.main.streams().await;
    let request = balancer.main.stream(Method::GET, "/half").body(whole("")).expect("valid");
    // Its stream is reset, perhaps before the head was read.
    let answered = async { streams.send_request(request).await?.into_body().collect().await };
    assert!(answered.await.is_err());
    drop(streams);
    balancer.stop().await;
    let spans = recorded.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    for span in &spans {
        check(span, &[("http.response.status_code", "200"), ("error.type", "broken_off")]);
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
    }
}
