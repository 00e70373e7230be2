//! Accepts connections: as many as there are places, each heard for only so long until it has said what it wants.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;

/// What one hears for whom there is no place; who speaks gRPC takes it for a server that is not there, and asks later.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// How long a connection of HTTP/2 may be silent until its peer is asked whether it is there, and how long that may take.
const PING: Duration = Duration::from_secs(20);
/// Streams of one connection: a leader's questions all come over one.
const STREAMS: u32 = 1024;

/// Serves until `stopping`, and then what is under way.
pub(super) async fn serve(listener: TcpListener, app: Router, limits: Limits, stopping: CancellationToken) {
    let (places, connections) = (Arc::new(Semaphore::new(limits.connections)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No file is left, or somebody was gone at once: others may come.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                connections.spawn(one(stream, from, app.clone(), limits, stopping.clone(), place));
            }
            Err(_) => {
                tracing::debug!(%from, "there is no place for another connection");
                // What its socket does not take at once it does not hear.
                drop(stream.try_write(FULL));
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn one(
    stream: TcpStream,
    from: SocketAddr,
    app: Router,
    limits: Limits,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // Whoever reads nothing for long would keep its place: what is to be written waits below all that knows of time.
    let unread = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stalled));
    if let Err(error) = unread.and_then(|()| stream.set_nodelay(true)) {
        tracing::debug!(%error, "a client was gone before its first request");
        return;
    }
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = has_asked.clone();
    let service = tower::service_fn(move |request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(from));
        tower::ServiceExt::oneshot(app.clone(), request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    builder.http2().keep_alive_interval(PING).keep_alive_timeout(PING);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    // Until its first words say which protocol it speaks, no protocol's timeout holds.
    let mut first = pin!(tokio::time::sleep(limits.header_timeout));
    let (mut is_stopping, mut is_watched) = (false, true);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%from, error = error.to_string(), "a connection has broken");
                }
                return;
            }
            () = first.as_mut(), if is_watched => {
                if !has_asked.load(Ordering::Relaxed) {
                    tracing::debug!(%from, "a connection has asked for nothing: it is ended");
                    return;
                }
                is_watched = false;
            }
            () = stopping.cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
