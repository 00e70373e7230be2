//! As much of a Docker engine as a balancer needs, on a socket of its own, with a disk that can be full: no real
//! engine's disk can be filled for a test.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};

/// What the real one says.
const FULL: &str = "failed to register layer: write /slipring: no space left on device";

/// Where the disk is full, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Nowhere,
    Create,
    Start,
    Build,
    /// The build begins, and says in its course that it cannot go on.
    MidBuild,
}

/// See the module. All its containers are one little server, which answers everything with 200.
pub(crate) struct FakeEngine {
    folder: TempDir,
    replica: u16,
    state: Arc<State>,
}

struct State {
    full: Mutex<Disk>,
    /// Labels of the containers that there are, by id.
    containers: Mutex<BTreeMap<String, Value>>,
    created: AtomicU64,
}

type Body = Either<Full<Bytes>, StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>>;

impl FakeEngine {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("the folder is ours");
        let state = Arc::new(State {
            full: Mutex::new(Disk::Nowhere),
            containers: Mutex::default(),
            created: AtomicU64::new(1),
        });
        let engine = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = engine.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let replica = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = replica.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = replica.accept().await {
                let greet = service_fn(async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("a replica"))))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), greet));
            }
        });
        Self { folder, replica: port, state }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The port that all its containers listen on.
    pub(crate) fn port(&self) -> u16 {
        self.replica
    }

    pub(crate) fn fill(&self, full: Disk) {
        *self.state.full.lock().unwrap_or_else(PoisonError::into_inner) = full;
    }

    /// Somebody else's container of this name.
    pub(crate) fn stranger(&self, name: &str, labels: Value) {
        self.state.containers().insert(name.to_owned(), labels);
    }

    pub(crate) fn containers(&self) -> usize {
        self.state.containers().len()
    }
}

impl State {
    fn containers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, at: Disk) -> bool {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) == at
    }
}

fn networks() -> Value {
    json!({ "Networks": { "fake-net": { "IPAddress": "127.0.0.1" } } })
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let mut response = Response::new(Either::Left(Full::new(bytes)));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.first().is_some_and(|part| part.starts_with("v1.")) {
        parts.remove(0);
    }
    let method = request.method().clone();
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let body: Value = body.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let full = || reply(500, &json!({ "message": FULL }));
    let missing = || reply(404, &json!({ "message": "No such container, image or network" }));
    Ok(match (method, parts.as_slice()) {
        (_, ["version"]) => reply(200, &json!({ "ApiVersion": "1.41", "MinAPIVersion": "1.12" })),
        (_, ["_ping"]) => reply(200, &Value::Null),
        (Method::GET, ["events"]) => Response::new(Either::Right(StreamBody::new(stream::pending()))),
        (Method::GET, ["images", image, "json"]) if image.starts_with("fake") => {
            reply(200, &json!({ "Id": "sha256:0" }))
        }
        (Method::POST, ["build"]) if state.is_full(Disk::Build) => full(),
        (Method::POST, ["build"]) if state.is_full(Disk::MidBuild) => {
            reply(200, &json!({ "errorDetail": { "message": FULL }, "error": FULL }))
        }
        (Method::GET, ["networks", name]) => reply(200, &json!({ "Name": name })),
        (Method::POST, ["containers", "create"]) if state.is_full(Disk::Create) => full(),
        (Method::POST, ["containers", "create"]) => {
            let id = format!("{:064x}", state.created.fetch_add(1, Ordering::Relaxed));
            state.containers().insert(id.clone(), body["Labels"].clone());
            reply(201, &json!({ "Id": id, "Warnings": [] }))
        }
        (Method::GET, ["containers", "json"]) => {
            let shown = |(id, labels): (&String, &Value)| json!({ "Id": id, "Labels": labels, "State": "running", "NetworkSettings": networks() });
            reply(200, &state.containers().iter().map(shown).collect())
        }
        (_, ["containers", id, ..]) if !state.containers().contains_key(*id) => missing(),
        (Method::POST, ["containers", _, "start"]) if state.is_full(Disk::Start) => full(),
        (Method::POST, ["containers", _, "start" | "kill"]) => reply(204, &Value::Null),
        (Method::POST, ["containers", _, "wait"]) => reply(200, &json!({ "StatusCode": 0 })),
        (Method::GET, ["containers", id, "json"]) => {
            let config = json!({ "Image": "fake:1", "Labels": state.containers()[*id] });
            let name = format!("/{id}");
            reply(200, &json!({ "Id": id, "Name": name, "Config": config, "NetworkSettings": networks() }))
        }
        (Method::DELETE, ["containers", id]) => {
            state.containers().remove(*id);
            reply(204, &Value::Null)
        }
        _ => missing(),
    })
}
