//! The admin-only port: accepts, limits and counts connections as the main port does, apart from it.
//!
//! A port of its own must not be the way around the limits: a caller that says nothing, or reads nothing, loses its
//! connection, and more callers than there are places wait in the kernel's queue.

use std::convert::Infallible;
use std::net::SocketAddr;
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
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::refusal::Refusal;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::proxy::pools::Shared;
use crate::socket;

/// How long `accept` waits after an error that time alone can mend (no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At the end, for answers that are being written.
const LEAVE: Duration = Duration::from_secs(1);

/// Serves `listener` until `stop`, then finishes the answers that are being written. A connection may be idle for as
/// long as `pools` say of clients when it comes.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    pools: Shared,
    places: Places,
    stop: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    loop {
        let accepted = async {
            let place =
                places.semaphore().clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (stream, peer, place) = tokio::select! {
            (accepted, place) = accepted => match accepted {
                Ok((stream, peer)) => (stream, peer, place),
                Err(error) => {
                    tracing::warn!(%error, "an administrator's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let idle_timeout = pools.load().config.idle_timeout;
        http.header_read_timeout(idle_timeout);
        if let Err(error) = socket::prepare(&stream, idle_timeout) {
            tracing::debug!(%error, %peer, "an administrator was gone before the first call");
            continue;
        }
        let (router, refusals) = (router.clone(), metrics.clone());
        let service = service_fn(move |request| answer(router.clone(), refusals.clone(), peer, request));
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        let gauge = metrics.admin_connection();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "an administrator's connection ended early");
            }
            drop((gauge, place));
        });
    }
    drop(listener);
    if tokio::time::timeout(LEAVE, connections.shutdown()).await.is_err() {
        tracing::debug!("administrators were still connected at the end");
    }
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
