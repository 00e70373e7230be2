//! The balancer's port: the original's HTTP and WebSocket contract, and what a page needs beside it.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use axum::extract::{Query, State as Shared, WebSocketUpgrade};
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_waves::topology::Tree;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};

use super::metrics::Metrics;
use super::record::Record;
use super::watch::Watchers;
use super::{Call, Ending, Event, Handle, Order, Refused, Wanted, ratio, rebalance};
use crate::config::Config;
use crate::frame::{Algorithm, Errand, Frame, LONGEST, Sender};
use crate::link::{self, Hear, Inbound, Outbox, STRANGERS_SILENCE, WAITING};
use crate::site;
use crate::unit::LONGEST_PURPOSE;

/// Tasks that one call adds.
const MOST_TASKS: u64 = 10_000;

/// Everything that an answer is made of.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) tree: Arc<Tree>,
    pub(super) config: Arc<Config>,
    pub(super) handle: Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) watchers: Watchers,
}

impl Edge {
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/echo", get(echo))
            .route("/echo_ws", get(echo_ws))
            .route("/finn_ws", get(finn_ws))
            .route("/avg-disbalance", get(disbalance))
            .route("/ws", get(websocket))
            .route("/wave", post(wave))
            .route("/tasks", post(tasks))
            .route("/rebalance", post(balance))
            .route("/units", get(units))
            .route("/waves", get(waves))
            .route("/watch", get(watch))
            .route("/heartbeat", get(|| async { "alive\n" }))
            .route("/metrics", get(async |Shared(edge): Shared<Self>| edge.metrics.text()))
            .layer(middleware::from_fn(site::guard))
            .with_state(self);
        crate::serving::serve(listener, router, shutdown).await
    }

    async fn wave(
        &self,
        algorithm: Algorithm,
        initiator: Option<u16>,
        purpose: &str,
    ) -> Result<Arc<Record>, Failure> {
        let wanted = Wanted { algorithm, initiator, purpose: purpose.to_owned() };
        self.handle.wave(wanted).await?.map_err(Failure::from)
    }
}

/// An answer that is not the one that was hoped for.
struct Failure(StatusCode, String);

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, ending.to_string())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NobodyThere | Refused::NotThere => StatusCode::SERVICE_UNAVAILABLE,
            Refused::NoUnit => StatusCode::BAD_REQUEST,
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
        };
        Self(status, refused.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut answer = (self.0, Json(json!({"status": "error", "reason": self.1}))).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE || self.0 == StatusCode::TOO_MANY_REQUESTS {
            answer
                .headers_mut()
                .insert(axum::http::header::RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        answer
    }
}

fn usage(words: &str) -> Failure {
    Failure(StatusCode::BAD_REQUEST, words.to_owned())
}

/// The tree, as the original's; when somebody is missing, the root says who.
fn tree(record: &Record) -> Result<Value, Failure> {
    let tree = record.tree.as_ref().ok_or_else(|| {
        let words = "nobody answered in time: the unit that began the wave is gone or stands still";
        Failure(StatusCode::GATEWAY_TIMEOUT, words.to_owned())
    })?;
    let mut tree = serde_json::to_value(tree).unwrap_or_default();
    if let Value::Object(root) = &mut tree {
        root.insert("wave".into(), json!(record.id));
        root.insert("is_complete".into(), record.is_complete.into());
        root.insert("messages".into(), record.messages.into());
        root.insert("expected".into(), json!(record.expected));
        if !record.is_complete {
            root.insert("missing".into(), json!(record.missing));
            root.insert("missing_subtrees".into(), json!(record.missing_subtrees));
        }
    }
    Ok(tree)
}

async fn echo(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let record = edge.wave(Algorithm::Echo, None, "ask").await?;
    Ok(Json(tree(&record)?).into_response())
}

#[derive(Deserialize)]
struct Receiver {
    receiver: Option<String>,
}

/// Who is meant: a unit, where the wave begins; somebody else of this machine, to whom the tree is sent; or nobody.
enum Receiving {
    Unit(u16),
    Client { authority: String, path: String },
    Nobody,
}

fn receiving(receiver: Option<&str>, tree: &Tree) -> Result<Receiving, Failure> {
    let words = "receiver is the URL of a unit, where the wave begins, or of a WebSocket of this machine, to which the tree is sent: ws://127.0.0.1:8000/ws";
    let Some(receiver) = receiver.filter(|receiver| !receiver.is_empty()) else {
        return Ok(Receiving::Nobody);
    };
    let uri: Uri = receiver.parse().map_err(|_| usage(words))?;
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(usage(words)) };
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_here {
        return Err(usage(words));
    }
    if tree.unit(port).is_some() {
        return Ok(Receiving::Unit(port));
    }
    match uri.scheme_str() {
        Some("ws") => {
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            Ok(Receiving::Client { authority, path: uri.path().to_owned() })
        }
        _ => Err(usage(words)),
    }
}

async fn echo_ws(
    Shared(edge): Shared<Edge>,
    Query(Receiver { receiver }): Query<Receiver>,
) -> Result<Response, Failure> {
    let receiving = receiving(receiver.as_deref(), &edge.tree)?;
    let initiator = match &receiving {
        Receiving::Unit(port) => Some(*port),
        Receiving::Client { .. } | Receiving::Nobody => None,
    };
    let record = edge.wave(Algorithm::Echo, initiator, "ask").await?;
    let gathered = tree(&record)?;
    if let (Receiving::Client { authority, path }, Some(tree)) = (receiving, &record.tree) {
        let errand = Errand { wave: Some(record.id), purpose: record.purpose.clone(), ..Errand::default() };
        let frame = Frame::EchoBack { sender: Sender::default(), errand, payload: tree.clone() };
        deliver(&authority, &path, frame).await.map_err(|error| {
            Failure(StatusCode::BAD_GATEWAY, format!("the receiver does not answer: {error}"))
        })?;
    }
    Ok(Json(json!({"status": "ok", "wave": record.id, "payload": gathered})).into_response())
}

/// One frame to somebody else's WebSocket.
async fn deliver(authority: &str, path: &str, frame: Frame) -> Result<(), link::DialError> {
    let socket = link::dial_path(authority, path).await?;
    let (out, frames) = mpsc::channel(1);
    drop(out.try_send(frame));
    drop(out); // the link ends when it has been sent
    link::carry(socket, frames, &mut Deaf).await;
    Ok(())
}

struct Deaf;

impl Hear for Deaf {
    async fn hear(&mut self, _: Inbound) -> bool {
        true
    }
}

async fn finn_ws(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let record = edge.wave(Algorithm::Finn, None, "spread").await?;
    let status = if record.is_complete { "ok" } else { "error" };
    let mut answer = json!({
        "status": status, "wave": record.id, "decided": record.decided, "messages": record.messages, "bound": record.bound,
    });
    if !record.is_complete {
        answer["missing"] = json!(record.missing);
        answer["reason"] = "not every unit took part: those that did have the task".into();
    }
    Ok(Json(answer).into_response())
}

async fn disbalance(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let record = edge.wave(Algorithm::Echo, None, "ask").await?;
    tree(&record)?;
    let units = record.tree.iter().flat_map(crate::gathered::Gathered::all);
    let (load, cpu) = units.fold((0, 0), |(load, cpu), unit| (load + unit.load, cpu + u64::from(unit.cpu)));
    let mut answer = json!({"load": ratio(load, cpu)});
    if !record.is_complete {
        answer["missing"] = json!(record.missing);
    }
    Ok(Json(answer).into_response())
}

#[derive(Deserialize)]
struct WaveQuery {
    algorithm: Algorithm,
    initiator: Option<u16>,
    purpose: Option<String>,
}

async fn wave(
    Shared(edge): Shared<Edge>,
    query: Result<Query<WaveQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let words = "?algorithm=echo|finn|barrier, and &initiator=PORT; purpose=spread has each unit that decides add a task";
    let Query(WaveQuery { algorithm, initiator, purpose }) = query.map_err(|_| usage(words))?;
    let purpose = purpose.unwrap_or_else(|| "ask".to_owned());
    if purpose.len() > LONGEST_PURPOSE {
        return Err(usage("a purpose of at most 64 bytes"));
    }
    let record = edge.wave(algorithm, initiator, &purpose).await?;
    Ok(Json(&*record).into_response())
}

#[derive(Deserialize)]
struct TasksQuery {
    unit: u16,
    #[serde(default = "one")]
    n: u64,
}

const fn one() -> u64 {
    1
}

async fn tasks(
    Shared(edge): Shared<Edge>,
    query: Result<Query<TasksQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(TasksQuery { unit, n }) = query.map_err(|_| usage("?unit=PORT&n=COUNT"))?;
    if edge.tree.unit(unit).is_none() {
        return Err(Refused::NoUnit.into());
    }
    if !(1..=MOST_TASKS).contains(&n) {
        return Err(usage("n: 1 to 10000 tasks"));
    }
    let (added, reason) =
        edge.handle.ask(|answer| Call::Order(unit, Order::Add { count: n }, answer)).await?;
    match reason {
        None => Ok(Json(json!({"status": "ok", "added": added})).into_response()),
        Some(reason) => {
            let body = Json(json!({"status": "error", "added": added, "reason": reason}));
            Ok((StatusCode::SERVICE_UNAVAILABLE, body).into_response())
        }
    }
}

async fn balance(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let moves = rebalance::once(&edge.config, &edge.handle).await??;
    let moved: u64 = moves.iter().map(|order| order.moved).sum();
    Ok(Json(json!({"status": "ok", "moved": moved, "moves": moves})).into_response())
}

fn text(json: &str) -> Response {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], json.to_owned()).into_response()
}

async fn units(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    Ok(text(&edge.handle.ask(Call::Units).await?))
}

async fn waves(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let records = edge.handle.ask(Call::Waves).await?;
    Ok(Json(records.iter().map(|record| &**record).collect::<Vec<_>>()).into_response())
}

async fn watch(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let too_many =
        || Failure(StatusCode::SERVICE_UNAVAILABLE, "too many watch already: close another page".to_owned());
    // Subscribed first: nothing is lost between what is told at once and what comes then.
    let news = edge.watchers.watch().ok_or_else(too_many)?;
    let mut first: Vec<Arc<str>> = vec![edge.handle.ask(Call::Units).await?];
    for record in edge.handle.ask(Call::Waves).await? {
        first.push(serde_json::to_string(&*record).unwrap_or_default().into());
    }
    let event = |text: &str| Ok::<_, std::convert::Infallible>(SseEvent::default().data(text));
    let first = stream::iter(first.into_iter().map(move |text| event(&text)));
    let news = stream::unfold(news, move |mut news: broadcast::Receiver<Arc<str>>| async move {
        // Who is too slow is let go, and comes back.
        news.recv().await.ok().map(|text| (event(&text), news))
    });
    let both = futures_util::StreamExt::chain(first, news);
    Ok(Sse::new(both).keep_alive(KeepAlive::new().interval(Duration::from_secs(5))).into_response())
}

async fn websocket(Shared(edge): Shared<Edge>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(LONGEST).max_frame_size(LONGEST).on_upgrade(|socket| serve_client(socket, edge))
}

async fn serve_client(socket: WebSocket, edge: Edge) {
    let (out, frames) = mpsc::channel(WAITING);
    if edge.handle.events.send(Event::Joined { out: out.clone() }).await.is_ok() {
        link::carry(socket, frames, &mut Ear { edge, out }).await;
    }
}

/// A client of the original's: it is told the end of every wave, and may begin one.
struct Ear {
    edge: Edge,
    out: Outbox,
}

impl Hear for Ear {
    async fn hear(&mut self, inbound: Inbound) -> bool {
        let (algorithm, purpose) = match inbound {
            Inbound::Frame(Frame::Echo { errand, .. }) if errand.purpose.len() <= LONGEST_PURPOSE => {
                (Algorithm::Echo, errand.purpose)
            }
            Inbound::Frame(Frame::Echo { .. }) => {
                self.edge.metrics.rejected("long_purpose");
                return true;
            }
            Inbound::Frame(Frame::Finn { .. }) => (Algorithm::Finn, "spread".to_owned()),
            Inbound::Frame(_) => {
                self.edge.metrics.rejected("wrong_route");
                return true;
            }
            Inbound::Rejected(why) => {
                self.edge.metrics.rejected(why.name());
                return true;
            }
        };
        // What comes of it is told to every client.
        if let Err(Failure(_, reason)) = self.edge.wave(algorithm, None, &purpose).await {
            tracing::debug!(reason, "a client's wave was refused");
            self.edge.metrics.rejected("refused_wave");
        }
        !self.out.is_closed()
    }

    fn silence(&self) -> Duration {
        STRANGERS_SILENCE
    }
}
