//! gRPC: HTTP/2 on both sides, trailers and all, message frames passed as they come.
//!
//! A thread keeps one connection to each replica and multiplexes its calls over it. `grpc-timeout` is honoured
//! here as well: a call whose caller has given up is ended at the replica, and the caller is told
//! DEADLINE_EXCEEDED by whoever noticed first. What the balancer itself has to say it says in gRPC's words.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::pipe::BrokenOff;
use super::{AnswerBody, Local, as_head, cookies, fields};
use crate::proxy::error::{PANIC, REPLICA};
use crate::proxy::forward::{Candidate, Pool};
use crate::proxy::key;
use crate::proxy::upstream::{Flight, Upstream};
use crate::proxy::wire::Framing;
use crate::proxy::wire::emit::ClientName;
use crate::proxy::wire::fields::{Known, known};
use crate::proxy::worker::Worker;

/// Bytes in flight on one connection to a replica, and on one of its streams.
const WINDOW: u32 = 1024 * 1024;

const TOO_LATE: &str = "the deadline has passed";
const GIVEN_UP: &str = "the replica died before the end of the call";

/// A connection to a replica.
pub type Sender = http2::SendRequest<Incoming>;

/// The codes that the balancer itself answers with (grpc/status.h).
#[derive(Clone, Copy, Debug)]
enum Code {
    Cancelled = 1,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// What a replica's end of a call means (gRPC over HTTP/2, "HTTP2 Transport Mapping", errors). A connection that
/// broke is UNAVAILABLE: nobody knows whether the call ran, and it is not sent again from here.
fn meaning(error: &hyper::Error) -> Code {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return match reason {
                h2::Reason::REFUSED_STREAM | h2::Reason::NO_ERROR => Code::Unavailable,
                h2::Reason::CANCEL => Code::Cancelled,
                h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
                h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
                _ => Code::Internal,
            };
        }
        source = error.source();
    }
    Code::Unavailable
}

/// Whether a request is a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc")
            && matches!(value.get(b"application/grpc".len()), None | Some(b'+' | b';'))
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Forwards one call and its answer.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    pool: &Pool,
    request: Request<Incoming>,
    client: &ClientName,
    tls: bool,
) -> Response<AnswerBody> {
    let began = Instant::now();
    let ends = deadline(request.headers()).map(|within| tokio::time::Instant::now() + within);
    let call = carry(worker, pool, request, client, tls, began);
    let answered = match ends {
        None => Ok(call.await),
        Some(ends) => tokio::time::timeout_at(ends, call).await,
    };
    let refused = |http, code, words: &str| {
        worker.front.metrics.refused(http);
        failure(code, words)
    };
    match answered {
        Ok(Ok((response, flight))) => {
            let timer = ends.map(|ends| Box::pin(sleep_until(ends)));
            let replica = flight.0.header.clone();
            let mut response = response.map(|body| {
                let given_up = Box::pin(flight.0.given_up());
                let answering = Answering { body: Some(body), timer, given_up, flight };
                Either::Right(answering.boxed_unsync())
            });
            response.headers_mut().insert(REPLICA, replica);
            response
        }
        Ok(Err((code, words))) => refused(StatusCode::SERVICE_UNAVAILABLE, code, &words),
        Err(_) => refused(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, TOO_LATE),
    }
}

/// The answer to a call for which there is no route.
pub(super) fn unrouted(worker: &Worker, path: &str) -> Response<AnswerBody> {
    worker.front.metrics.refused(StatusCode::NOT_FOUND);
    failure(Code::Unimplemented, &format!("no route has {path}"))
}

async fn carry(
    worker: &Rc<Worker>,
    pool: &Pool,
    request: Request<Incoming>,
    client: &ClientName,
    tls: bool,
    began: Instant,
) -> Result<(Response<Incoming>, Flight), (Code, String)> {
    let (mut head, body) = request.into_parts();
    let key = {
        let cookies = cookies(&head.headers);
        let fields = fields(&head.headers, cookies.as_deref());
        let seen =
            as_head(&head, &fields, Framing::Chunked).map_err(|error| (Code::Internal, error.to_string()))?;
        key::of(&pool.config.forward.key, &seen, client)
    };
    prepare(&mut head, client, tls, worker);
    let mut request = Request::from_parts(head, body);
    let mut tried = Vec::new();
    let mut last = "no replica is live".to_owned();
    pool.budget.came(worker.index);
    while let Some(Candidate { flight, panic }) = pool.candidate(key.key(), &tried).await {
        let upstream = flight.0.clone();
        tried.push(upstream.instance.incarnation);
        let mut sender = match sender(worker, pool, &upstream).await {
            Ok(sender) => sender,
            Err(Some(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                pool.fleet.report_refused(&upstream.instance);
                last = "connection refused".to_owned();
                continue;
            }
            Err(error) => {
                last = error.map_or_else(|| "no connection in time".to_owned(), |error| error.to_string());
                if tried.len() >= pool.config.forward.max_attempts {
                    break;
                }
                continue;
            }
        };
        let sent = tokio::select! {
            sent = sender.try_send_request(request) => sent,
            () = upstream.given_up() => return Err((Code::Unavailable, GIVEN_UP.to_owned())),
        };
        match sent {
            Ok(mut response) => {
                upstream.health.answered(response.status().as_u16());
                if panic {
                    response.headers_mut().insert(PANIC, HeaderValue::from_static("1"));
                }
                upstream.metrics.answered(response.status().as_u16(), began.elapsed());
                return Ok((response, flight));
            }
            Err(mut failed) => {
                if sender.is_closed() {
                    worker.calls.borrow_mut().remove(&upstream.serial);
                }
                match failed.take_message() {
                    Some(same) => request = same, // it was never sent
                    None => {
                        upstream.health.failed();
                        let error = failed.into_error();
                        return Err((meaning(&error), error.to_string()));
                    }
                }
                pool.metrics.retries.inc();
            }
        }
    }
    Err((Code::Unavailable, last))
}

fn prepare(head: &mut http::request::Parts, client: &ClientName, tls: bool, worker: &Worker) {
    let hop: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| {
            let known = known(name.as_str());
            matches!(known, Some(Known::Connection | Known::Hop | Known::TransferEncoding | Known::Upgrade))
        })
        .cloned()
        .collect();
    for name in hop {
        head.headers.remove(name);
    }
    if let Some(cookies) = cookies(&head.headers).and_then(|joined| HeaderValue::from_bytes(&joined).ok()) {
        head.headers.insert(COOKIE, cookies);
    }
    head.extensions.clear();
    head.version = Version::HTTP_2;
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    head.headers.remove(HOST);
    let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
    head.headers.insert(HeaderName::from_static("x-forwarded-proto"), proto);
    if let Ok(address) = HeaderValue::from_str(client.address()) {
        head.headers.append(HeaderName::from_static("x-forwarded-for"), address);
    }
    let id = HeaderName::from_static("x-request-id");
    if !head.headers.contains_key(&id)
        && let Ok(made) = HeaderValue::from_bytes(&worker.request_id())
    {
        head.headers.insert(id, made);
    }
    head.headers.append(http::header::VIA, HeaderValue::from_static("2 slipring"));
    // Towards a replica in the clear, whatever the client came over.
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    if parts.authority.is_none() {
        parts.authority = Some(http::uri::Authority::from_static("slipring"));
    }
    head.uri = http::Uri::from_parts(parts).unwrap_or_default();
}

async fn sender(
    worker: &Rc<Worker>,
    pool: &Pool,
    upstream: &Upstream,
) -> Result<Sender, Option<std::io::Error>> {
    let serial = upstream.serial;
    if let Some(sender) = worker.calls.borrow().get(&serial).filter(|sender| !sender.is_closed()) {
        return Ok(sender.clone());
    }
    let within = pool.config.forward.connect_timeout;
    let connecting = async {
        let stream = TcpStream::connect(upstream.address).await?;
        stream.set_nodelay(true)?;
        let mut http = http2::Builder::new(Local);
        http.timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .keep_alive_interval(super::PING);
        http.handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)
    };
    let (sender, connection) = timeout(within, connecting).await.map_err(|_| None)?.map_err(Some)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a replica's HTTP/2 connection ended early");
        }
    });
    let mut calls = worker.calls.borrow_mut();
    calls.retain(|_, sender| !sender.is_closed());
    calls.insert(serial, sender.clone());
    Ok(sender)
}

/// An answer's body: it ends with its deadline or its replica, in words that a caller of gRPC understands, and its
/// replica counts it as in flight as long.
#[derive(Debug)]
struct Answering {
    /// Dropped as soon as nothing more of it is wanted: the replica learns of that.
    body: Option<Incoming>,
    timer: Option<Pin<Box<Sleep>>>,
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
    flight: Flight,
}

impl Answering {
    fn end(&mut self, code: Code, words: &str) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(status(code, words)))))
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // Looked at first: a replica that never pauses has a deadline too.
        if this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            return this.end(Code::DeadlineExceeded, TOO_LATE);
        }
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                this.flight.0.metrics.broke_off();
                this.end(meaning(&error), "the replica ended the call before its status")
            }
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|_| BrokenOff))),
            Poll::Pending if this.given_up.as_mut().poll(cx).is_ready() => {
                this.end(Code::Unavailable, GIVEN_UP)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// An answer of the balancer's own, in gRPC's words: HTTP's 200 and a status of its own.
fn failure(code: Code, words: &str) -> Response<AnswerBody> {
    let body = Either::Right(Empty::new().map_err(|never| match never {}).boxed_unsync());
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = status(code, words);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn status(code: Code, words: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(code as u16));
    if let Ok(words) = HeaderValue::from_str(&words.replace('%', "%25")) {
        headers.insert(HeaderName::from_static("grpc-message"), words);
    }
    headers
}
