//! The admin-only port: accepts, limits and counts connections as the main port does, apart from it.
//!
//! A port of its own must not be the way around the limits: a caller that says nothing, or reads nothing, loses its
//! connection, and more callers than there are places wait in the kernel's queue. With a certificate it speaks TLS and
//! nothing else; agreeing on it takes a place and has a deadline, as everything that a stranger can begin.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::IntoResponse;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::access::Certified;
use super::refusal::Refusal;
use crate::limit::Limit;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::proxy::clients::{ClientLimits, Clients};
use crate::proxy::pools::Shared;
use crate::proxy::tls::Tls;
use crate::socket;

/// How long `accept` waits after an error that time alone can mend (no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long one who is turned away may take to hear why.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// At the end, for answers that are being written.
const LEAVE: Duration = Duration::from_secs(1);

/// What connections of administrators are served with.
#[derive(Clone, Debug)]
pub struct Served {
    /// What answers.
    pub router: Router,
    /// With which certificate, if not in the clear.
    pub tls: Option<Tls>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// A connection may be idle, and its beginning may take, as long as these say of clients when it comes.
    pub pools: Shared,
}

/// The share of the places that one caller may have: half, but always as many as a user's tools take at a time.
fn most_of_one(places: usize) -> usize {
    (places / 2).max(8)
}

/// What a caller hears who has too many connections.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
    Content-Length: 78\r\nConnection: close\r\n\r\n\
    {\"message\":\"<Error> too many connections from this caller\",\"status\":\"failure\"}";

/// Serves `listener` until `stop`, then finishes the answers that are being written.
pub async fn serve(listener: TcpListener, served: Served, places: Places, stop: CancellationToken) {
    let connections = GracefulShutdown::new();
    let callers = Clients::new(ClientLimits::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an administrator's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // First a caller, then a place for it: who finds none is counted, and nobody else.
        let place = match places.try_take() {
            Some(place) => place,
            None => {
                served.metrics.limit_hit(Limit::AdminConnections);
                tokio::select! {
                    place = places.semaphore().clone().acquire_owned() => {
                        place.expect("the semaphore is never closed")
                    }
                    () = stop.cancelled() => break,
                }
            }
        };
        // One who begins many handshakes and ends none must not be in everybody's way.
        let Some(guest) = callers.enter_within(peer.ip(), most_of_one(places.most())) else {
            served.metrics.limit_hit(Limit::AdminConnectionsPerClient);
            tracing::debug!(%peer, "too many connections from this caller");
            if served.tls.is_none() {
                tell(&stream, TOO_MANY);
            }
            continue;
        };
        let (idle_timeout, header_timeout) = {
            let config = &served.pools.load().config;
            (config.idle_timeout, config.header_timeout.min(config.idle_timeout))
        };
        let deadline = Instant::now() + header_timeout;
        if let Err(error) = socket::prepare(&stream, idle_timeout) {
            tracing::debug!(%error, %peer, "an administrator was gone before the first call");
            continue;
        }
        let (served, watcher, stop) = (served.clone(), connections.watcher(), stop.clone());
        let gauge = served.metrics.admin_connection();
        tokio::spawn(async move {
            match served.tls.clone() {
                None => served.converse(stream, peer, (false, deadline), watcher).await,
                Some(tls) => {
                    let agreed = tokio::select! {
                        agreed = served.agree(stream, peer, &tls, deadline) => agreed,
                        () = stop.cancelled() => None, // nothing was asked yet
                    };
                    if let Some(stream) = agreed {
                        let certified = tls.asks_for_certificates();
                        served.converse(stream, peer, (certified, deadline), watcher).await;
                    }
                }
            }
            drop((gauge, guest, place));
        });
    }
    drop(listener);
    if tokio::time::timeout(LEAVE, connections.shutdown()).await.is_err() {
        tracing::debug!("administrators were still connected at the end");
    }
}

impl Served {
    /// Agrees on TLS, in the time that a client has for it and for the head behind it.
    async fn agree(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: &Tls,
        deadline: Instant,
    ) -> Option<TlsStream<TcpStream>> {
        let agreeing = TlsAcceptor::from(tls.config()).accept(stream).into_fallible();
        let failed = match timeout_at(deadline, agreeing).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(failed)) => Some(failed),
            Err(_) => None,
        };
        self.metrics.admin_handshakes_failed.inc();
        let Some((error, stream)) = failed else {
            tracing::debug!(%peer, "an administrator was too slow to agree on TLS");
            return None;
        };
        tracing::debug!(%error, %peer, "no TLS with an administrator");
        if tokio::time::timeout(LAST_WORDS, heard(stream)).await.is_err() {
            tracing::debug!(%peer, "it may not have heard why");
        }
        None
    }

    /// Serves a connection whose first head is due by `deadline`; from then on it may be idle.
    async fn converse<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        (certified, deadline): (bool, Instant),
        watcher: Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.pools.load().config.idle_timeout);
        let (router, refusals) = (self.router.clone(), self.metrics.clone());
        let asked = Arc::new(Notify::new());
        let asks = asked.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.notify_one();
            if certified {
                request.extensions_mut().insert(Certified);
            }
            answer(router.clone(), refusals.clone(), peer, request)
        });
        let mut connection = pin!(watcher.watch(http.serve_connection(TokioIo::new(stream), service)));
        let (ended, late) = tokio::select! {
            biased;
            ended = &mut connection => (ended, Limit::HeaderTime),
            came = timeout_at(deadline, asked.notified()) => {
                if came.is_err() {
                    self.metrics.limit_hit(Limit::HeaderTime);
                    return tracing::debug!(%peer, "an administrator was too slow to ask");
                }
                (connection.await, Limit::IdleTime)
            }
        };
        if let Err(error) = ended {
            if error.is_timeout() {
                self.metrics.limit_hit(late);
            }
            tracing::debug!(%error, %peer, "an administrator's connection ended early");
        }
    }
}

/// Ends a connection so that its last words, a TLS alert, are heard: one that is closed while its client still sends
/// (a request may follow a handshake at once) is reset, and what the client had not read is lost.
async fn heard(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unheard = [0; 1024];
    while stream.read(&mut unheard).await.is_ok_and(|count| count > 0) {}
}

/// Says something to somebody who is not waited for: what was asked up to now is read, that it is not reset.
fn tell(stream: &TcpStream, words: &[u8]) {
    let mut unheard = [0; 1024];
    if let Err(error) = stream.try_write(words) {
        tracing::debug!(%error, "somebody was gone before we could say why");
    }
    while stream.try_read(&mut unheard).is_ok_and(|count| count > 0) {}
}

async fn answer(
    router: Router,
    metrics: Arc<Metrics>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if !names_its_host(request.headers(), request.version()) {
        let refusal = Refusal::Host;
        metrics.admin_refused(refusal.status());
        return Ok(refusal.into_response());
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request.map(Body::new)).await
}

/// Whether a request says which host it means, as RFC 9112 section 3.2 wants it: once, and validly.
fn names_its_host(headers: &http::HeaderMap, version: http::Version) -> bool {
    let mut hosts = headers.get_all(http::header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < http::Version::HTTP_11,
        (Some(_), Some(_)) => false,
        (Some(host), None) => host.is_empty() || http::uri::Authority::try_from(host.as_bytes()).is_ok(),
    }
}
