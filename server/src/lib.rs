//! One replica behind the balancer: it greets, it has a heartbeat, it stops politely.
//!
//! The demonstration service is deliberately as small as the contract allows, so that what a user
//! measures through the balancer is the balancer. Services of later systems are hosted the same way.

mod leash;
mod respond;

pub use leash::{LeashError, die_with_parent};
pub use respond::{ServerId, respond};

use std::future::Future;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

/// How long a client may take over one request's header block, and a kept-alive connection may be idle: longer than
/// the balancer keeps one (its `proxy.replica_idle_timeout`), so that it is the balancer who lets go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long `accept` waits after an error that time alone can mend (no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `id` on `listener` until `shutdown` resolves, then finishes the requests in flight, for at most
/// `drain`.
pub async fn serve(listener: TcpListener, id: ServerId, shutdown: impl Future<Output = ()>, drain: Duration) {
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "the peer was gone before its first request");
            continue;
        }
        let id = id.clone();
        let service = service_fn(move |request| std::future::ready(respond(&id, &request)));
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!(?drain, "requests were still in flight at the end of the drain");
    }
}

#[cfg(test)]
mod tests;
