//! The main port: accepts, counts and limits connections, and hands each request to replicas or administration.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::error::{ProxyError, Refusal};
use super::forward::{AnswerBody, Proxy};
use super::headers::names_its_host;
use crate::socket;

/// How long `accept` waits after an error that time alone can mend (no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An answer of a replica, of the administration, or of the proxy itself.
type Answer = Response<Either<AnswerBody, Either<axum::body::Body, Full<Bytes>>>>;

/// The main port's two halves.
#[derive(Clone, Debug)]
pub struct Front {
    /// Requests for replicas.
    pub proxy: Arc<Proxy>,
    /// Requests for `/rep`, `/add`, `/rm`.
    pub contract: axum::Router,
}

impl Front {
    /// Serves `listener` until `shutdown` resolves, then finishes what is in flight, for at most `drain`.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>, drain: Duration) {
        let places = Arc::new(Semaphore::new(self.proxy.config.max_connections));
        let connections = GracefulShutdown::new();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.proxy.config.idle_timeout);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            let (stream, peer, place) = tokio::select! {
                (accepted, place) = accepted => match accepted {
                    Ok((stream, peer)) => (stream, peer, place),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = &mut shutdown => break,
            };
            let Some(service) = self.connection(&stream, peer) else { continue };
            let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
            let gauge = self.proxy.metrics.connection();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, %peer, "a client's connection ended early");
                }
                drop((gauge, place));
            });
        }
        drop(listener);
        if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
            tracing::warn!(?drain, "requests were still in flight at the end of the drain");
        }
    }

    fn connection(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
    ) -> Option<
        impl hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible, Future: Send>
        + use<>,
    > {
        if let Err(error) = socket::prepare(stream, self.proxy.config.idle_timeout) {
            tracing::debug!(%error, %peer, "a client was gone before its first request");
            return None;
        }
        let front = self.clone();
        let service = service_fn(move |request| {
            let front = front.clone();
            async move { Ok(front.handle(request, peer).await) }
        });
        Some(service)
    }

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if request.method() == Method::CONNECT {
            return self.refuse(ProxyError::Tunnel.into(), peer.ip());
        }
        if !names_its_host(request.headers(), request.version()) {
            return self.refuse(ProxyError::Host.into(), peer.ip());
        }
        let path = request.uri().path();
        if matches!(path, "/rep" | "/add" | "/rm") {
            return self.administer(request, peer).await;
        }
        if !self.proxy.routes(path) {
            return self.refuse(ProxyError::NoRoute(path.to_owned()).into(), peer.ip());
        }
        match self.proxy.forward(request, peer.ip()).await {
            Ok(answer) => answer.map(Either::Left),
            Err(refusal) => self.refuse(refusal, peer.ip()),
        }
    }

    async fn administer(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
        let request = request.map(|body| axum::body::Body::new(body.map_err(axum::Error::new)));
        let answered: Result<_, Infallible> = self.contract.clone().oneshot(request).await;
        match answered {
            Ok(answer) => answer.map(|body| Either::Right(Either::Left(body))),
            Err(never) => match never {},
        }
    }

    fn refuse(&self, refusal: Refusal, client: IpAddr) -> Answer {
        let error = &refusal.error;
        self.proxy.metrics.refused(error.status());
        if error.status().is_server_error()
            && let Some(silent) = self.proxy.complaints.pass(Instant::now())
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, %client, silent, "a request failed");
        }
        refusal.response().map(|body| Either::Right(Either::Right(body)))
    }
}
