//! gRPC: HTTP/2 on both sides, trailers and all, message frames passed as they come.
//!
//! A thread keeps one connection to each replica and multiplexes its calls over it; each call has its place among
//! the replica's as any other request has, for as long as it lasts. `grpc-timeout` is honoured here as well: a call
//! whose caller has given up is ended at the replica, and the caller is told DEADLINE_EXCEEDED by whoever noticed
//! first. A call without one is waited for as patiently as other requests are. What the balancer itself has to say
//! it says in gRPC's words.

mod answer;
mod head;
mod traffic;
mod words;

use std::rc::Rc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::head::{as_head, cookies, fields};
use super::{AnswerBody, Local, boxed};
use crate::proxy::connection::ConnectError;
use crate::proxy::error::{PANIC, REPLICA};
use crate::proxy::forward::{Candidate, Pool};
use crate::proxy::key;
use crate::proxy::upstream::{Flight, Upstream};
use crate::proxy::wire::Framing;
use crate::proxy::wire::emit::Arrival;
use crate::proxy::worker::Worker;
use answer::Answering;
use traffic::{Asking, Traffic};
use words::{Code, failure, meaning};
pub use words::{deadline, is_grpc};

/// Bytes in flight on one connection to a replica, and on one of its streams.
const WINDOW: u32 = 1024 * 1024;

const TOO_LATE: &str = "the deadline has passed";
const GIVEN_UP: &str = "the replica died before the end of the call";

/// A connection to a replica.
pub type Sender = http2::SendRequest<Asking>;

/// Forwards one call and its answer.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    pool: &Pool,
    request: Request<Incoming>,
    arrival: &Arrival<'_>,
) -> Response<AnswerBody> {
    let began = Instant::now();
    let ends = deadline(request.headers()).map(|within| tokio::time::Instant::now() + within);
    let traffic = Traffic::new(worker.watch.ticket(), pool.patience, ends.is_none());
    let call = carry(worker, pool, request, arrival, &traffic, began);
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
            let replica = flight.upstream.header.clone();
            let mut response = response.map(|body| boxed(Answering::new(body, flight, traffic, ends)));
            response.headers_mut().insert(REPLICA, replica);
            response
        }
        Ok(Err((code @ Code::DeadlineExceeded, words))) => refused(StatusCode::GATEWAY_TIMEOUT, code, &words),
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
    arrival: &Arrival<'_>,
    traffic: &Rc<Traffic>,
    began: Instant,
) -> Result<(Response<Incoming>, Flight), (Code, String)> {
    let (head, body) = request.into_parts();
    let (key, head) = {
        let cookies = cookies(&head.headers);
        let fields = fields(&head.headers, cookies.as_deref());
        let request =
            as_head(&head, &fields, Framing::Chunked).map_err(|error| (Code::Internal, error.to_string()))?;
        (
            key::of(&pool.config.forward.key, &request, arrival.client),
            head::prepared(&head, &request, arrival),
        )
    };
    let mut request = Request::from_parts(head, Asking::new(body, traffic.clone()));
    let mut tried = Vec::new();
    let mut last = "no replica is live".to_owned();
    pool.budget.came(worker.index);
    while let Some(Candidate { mut flight, panic }) = pool.candidate(key.key(), &tried).await {
        let upstream = flight.upstream.clone();
        tried.push(upstream.instance.incarnation);
        match timeout(pool.patience.first_byte, flight.place()).await {
            Ok(Ok(())) => {}
            // Its key stays its key: a crowd at one replica is not sent on to the next.
            Ok(Err(error @ ConnectError::Full)) => return Err((Code::ResourceExhausted, error.to_string())),
            Ok(Err(error)) => {
                last = error.to_string();
                continue;
            }
            Err(_) => return Err((Code::Unavailable, "no place at the replica in time".to_owned())),
        }
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
        traffic.moved();
        let sent = tokio::select! {
            sent = sender.try_send_request(request) => sent,
            () = upstream.given_up() => return Err((Code::Unavailable, GIVEN_UP.to_owned())),
            patience = traffic.silence(true) => {
                upstream.health.failed();
                return Err((Code::DeadlineExceeded, format!("the replica did not answer within {patience:?}")));
            }
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
