//! Replicas that do what a test needs: hold a request, close their port, refuse to start or to stop.
//!
//! They are the test's own executable, started again by the balancer (`process.command`), so that no other
//! program need be built or installed: each file of tests that uses them has a test [`PROGRAM`], which does nothing
//! but call [`serve_if_asked`].

use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::balancer::{Balancer, Setup};
use crate::http::Answer;
use crate::wait::{LOOK_EVERY, wait_until};

/// The test that is the program.
pub const PROGRAM: &str = "replica_program";
/// Comma-separated: `stubborn` does not stop when it is asked to, `fail=4` ends at once as replica 4.
const MODES: &str = "TEST_REPLICA_MODES";
/// A held request is let go at the latest after this.
const HOLD: Duration = Duration::from_secs(30);
/// In the folder of a held request: it came, and it may go.
const HELD: &str = "held";
const LET_GO: &str = "let-go";
/// Until a replica has a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client's frame of eight bytes: two of its head, four of its mask, its message.
pub const MASKED: usize = 14;
/// The piece in which a download is sent.
const PIECE: usize = 64 * 1024;

/// Lets a balancer's replicas be this program; all paths lead to them.
#[must_use]
pub fn program(setup: Setup, modes: &str) -> Setup {
    let executable = std::env::current_exe().expect("tests are files");
    let command = format!("{},{PROGRAM},--exact,--nocapture", executable.display());
    setup.set("process.command", command).set("proxy.paths", "/*").env(MODES, modes)
}

/// A request that its replica holds until it is told to let it go.
#[derive(Debug)]
pub struct Held {
    folder: TempDir,
    answer: JoinHandle<Result<Answer, String>>,
}

impl Held {
    /// Sends it with the header `x-key: ann`, and waits until a replica has it.
    pub async fn send(balancer: &Balancer, method: Method) -> Self {
        Self::send_to(balancer, "/hold", method).await
    }

    /// The same at another path that ends in `/hold`.
    pub async fn send_to(balancer: &Balancer, path: &str, method: Method) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let main = balancer.main;
        let request = main.request(method.clone(), &format!("{path}?folder={}", folder.path().display()));
        let body = if method == Method::GET { Bytes::new() } else { Bytes::from("a body") };
        let request = request.header("x-key", "ann").body(Full::new(body)).expect("a valid request");
        let answer = tokio::spawn(async move { main.send(request).await });
        let held = Self { folder, answer };
        held.is_held().await;
        held
    }

    /// Waits until a replica has it, and says which: its number.
    pub async fn is_held(&self) -> String {
        let file = self.folder.path().join(HELD);
        wait_until("a replica has the request", PATIENCE, async || match std::fs::read_to_string(&file) {
            Ok(replica) if !replica.is_empty() => Ok(replica),
            Ok(_) => Err("half a file".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Forgets that a replica has it, so that [`Held::is_held`] waits for the next.
    pub fn forget(&self) {
        std::fs::remove_file(self.folder.path().join(HELD)).expect("it was held");
    }

    /// Lets its replica answer it.
    pub fn let_go(&self) {
        std::fs::write(self.folder.path().join(LET_GO), "").expect("the folder is ours");
    }

    /// Whether the client has its answer, or has learnt that there will be none.
    pub fn is_answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// What the client got.
    pub async fn answer(self) -> Result<Answer, String> {
        timeout(PATIENCE, self.answer).await.expect("it ends").expect("the client does not panic")
    }
}

/// Is the program, if a balancer started this process.
pub fn serve_if_asked() {
    let (Ok(modes), Ok(port), Ok(id)) =
        (std::env::var(MODES), std::env::var("PORT"), std::env::var("SERVER_ID"))
    else {
        return;
    };
    let mode = |mode: &str| modes.split(',').any(|asked| asked == mode);
    if mode(&format!("fail={id}")) {
        std::process::exit(3);
    }
    let port = port.parse().expect("PORT is a port");
    let replica = Arc::new(Replica { id, closed: Notify::new() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(serve(replica, port, mode("stubborn")));
    std::process::exit(0);
}

struct Replica {
    id: String,
    /// Told when the port is to be closed.
    closed: Notify,
}

type Served = Response<Either<Full<Bytes>, Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error> + Send>>>>;

async fn serve(replica: Arc<Replica>, port: u16, stubborn: bool) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the balancer found a free port");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be heard");
    let connections = GracefulShutdown::new();
    let mut listener = Some(listener);
    let server = auto::Builder::new(TokioExecutor::new()).http1_only();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => {
                let Ok((stream, _)) = accepted else { continue };
                let replica = replica.clone();
                let service = service_fn(move |request| answer(replica.clone(), request));
                let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
                tokio::spawn(connections.watch(connection));
            }
            () = replica.closed.notified() => listener = None,
            _ = interrupt.recv() => if !stubborn { break },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn answer(replica: Arc<Replica>, request: Request<Incoming>) -> Result<Served, Infallible> {
    let held = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let response = match request.uri().path() {
        "/heartbeat" => text(String::new()),
        // Says in a file that it came, and answers when there is another.
        path if path.ends_with("/hold") => {
            let folder = PathBuf::from(parameter("folder").unwrap_or_default());
            std::fs::write(folder.join(HELD), &replica.id).expect("the test's folder can be written to");
            let file = folder.join(LET_GO);
            let mut ticks = interval(LOOK_EVERY); // paced: looks for a file
            while !file.exists() && held.elapsed() < HOLD {
                ticks.tick().await;
            }
            text("let go".into())
        }
        "/close" => {
            replica.closed.notify_one();
            let mut response = text("closed".into());
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        // Each piece back as soon as it comes.
        "/echo" => return Ok(Response::new(Either::Right(Box::pin(request.into_body())))),
        // Each body that was ever carried out, a line each in a file that all replicas share.
        "/record" => {
            let path = parameter("file").unwrap_or_default().to_owned();
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            let Ok(body) = body else { return Ok(text("broken off".into())) };
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            let line = [&body[..], b"\n"].concat();
            file.and_then(|mut file| file.write_all(&line)).expect("the test's file can be written to");
            text("recorded".into())
        }
        "/socket" => socket(request),
        "/upload" => text(count(request.into_body()).await.to_string()),
        "/download" => {
            let bytes: usize = parameter("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
            let piece = Bytes::from(vec![b'x'; PIECE]);
            let pieces = stream::iter(0..bytes / PIECE).map(move |_| Ok(Frame::data(piece.clone())));
            return Ok(Response::new(Either::Right(Box::pin(StreamBody::new(pieces)))));
        }
        // What of the request came here; and headers that are to go no further than the balancer.
        "/headers" => {
            let mut response = text(described(&request).to_string());
            let headers = response.headers_mut();
            headers.insert("connection", HeaderValue::from_static("x-private"));
            for name in ["x-private", "keep-alive", "proxy-authenticate", "x-kept"] {
                headers.insert(name, HeaderValue::from_static("from-the-replica"));
            }
            response
        }
        path => text(format!("{path} at {}", replica.id)),
    };
    Ok(response)
}

/// A WebSocket that sends each message back: frames of a known length, whose mask is zero.
fn socket(request: Request<Incoming>) -> Served {
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let mut asked = [0; MASKED];
        while from.read_exact(&mut asked).await.is_ok() {
            let answer = [&[asked[0], asked[1] & 0x7f], &asked[6..]].concat();
            if to.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    let mut response = text(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

fn text(text: String) -> Served {
    Response::new(Either::Left(Full::new(text.into())))
}

async fn count(mut body: Incoming) -> usize {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes
}

fn described(request: &Request<Incoming>) -> Value {
    let mut headers = Map::new();
    for (name, value) in request.headers() {
        let value = value.to_str().unwrap_or("not text");
        let earlier =
            headers.get(name.as_str()).and_then(Value::as_str).map(|earlier| format!("{earlier}, {value}"));
        headers.insert(name.to_string(), earlier.unwrap_or_else(|| value.to_owned()).into());
    }
    json!({ "method": request.method().as_str(), "uri": request.uri().to_string(), "headers": headers })
}
