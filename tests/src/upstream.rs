//! A replica inside the test itself, for the runtime `static`: it speaks HTTP/1 and HTTP/2 on one port.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::balancer::Setup;

/// The body of an answer.
pub type Answering = UnsyncBoxBody<Bytes, io::Error>;

/// See the module. Dropped, it is dead.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

/// A body that is all there.
pub fn whole(bytes: impl Into<Bytes>) -> Answering {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Upstream {
    /// Answers whatever comes, but for heartbeats, which are always good.
    pub async fn serve<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Response<Answering>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let connections = tasks.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let task = tokio::spawn(converse(stream, answer.clone()));
                connections.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
            }
        });
        tasks.lock().unwrap_or_else(PoisonError::into_inner).push(accepting.abort_handle());
        Self { address, tasks }
    }

    /// Ends at once, with everything under way.
    pub fn kill(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn converse<F, A>(stream: TcpStream, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Answering>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            if request.uri().path() == "/heartbeat" {
                return Ok::<_, io::Error>(Response::new(whole("")));
            }
            Ok(answer(request).await)
        }
    });
    let mut beginning = [0; 3];
    while stream.peek(&mut beginning).await.is_ok_and(|count| (1..3).contains(&count)) {
        tokio::task::yield_now().await;
    }
    // How it ends is seen by the other side.
    if &beginning == b"PRI" {
        drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    } else {
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }
}

impl Setup {
    /// With these replicas, to which all paths lead.
    #[must_use]
    pub fn upstreams<'a>(self, upstreams: impl IntoIterator<Item = &'a Upstream>) -> Self {
        let addresses: Vec<_> = upstreams.into_iter().map(|upstream| upstream.address.to_string()).collect();
        self.set("fleet.runtime", "static")
            .set("fleet.upstreams", addresses.join(","))
            .set("fleet.replicas", addresses.len())
            .set("proxy.paths", "/*")
            .set("state", "")
    }
}
