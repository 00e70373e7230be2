//! A unit's port: the original's HTTP and WebSocket contract, with heartbeat, metrics and tasks by name beside it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use axum::extract::{Query, State as Shared, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use serde_json::json;
use slipring_waves::topology::Tree;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use super::{Call, Event, LinkId, LinkIds, Peer};
use crate::frame::{Frame, LONGEST};
use crate::link::{self, Hear, Inbound, Outbox, SILENCE, STRANGERS_SILENCE, WAITING};
use crate::site;

/// Everything that an answer is made of.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) port: u16,
    pub(super) tree: Arc<Tree>,
    pub(super) links: LinkIds,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Arc<Metrics>,
}

impl Edge {
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/specs", get(specs))
            .route("/echo", get(echo))
            .route("/add_task", get(add).post(add))
            .route("/rebalance", post(rebalance))
            .route("/tasks", get(tasks))
            .route("/ws", get(websocket))
            .route("/heartbeat", get(|| async { "alive\n" }))
            .route("/metrics", get(async |Shared(edge): Shared<Self>| edge.metrics.text()))
            .layer(middleware::from_fn(site::guard))
            .with_state(self);
        crate::serving::serve(listener, router, shutdown).await
    }

    async fn call<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Call(call(answer))).await.map_err(|_| Failure::ending())?;
        answered.await.map_err(|_| Failure::ending())
    }
}

/// An answer that is not the one that was hoped for.
struct Failure(StatusCode, String);

impl Failure {
    fn ending() -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, "the unit is ending".to_owned())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"status": "error", "reason": self.1}))).into_response()
    }
}

async fn specs(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let state = edge.call(Call::Specs).await?;
    let unit = edge.tree.unit(edge.port).ok_or_else(Failure::ending)?;
    Ok(Json(json!({
        "name": unit.name, "port": unit.port, "cpu": unit.cpu, "load": state.load, "running": state.running,
        "queued": state.queued, "reserved": state.reserved, "finished": state.finished, "link": state.link,
    }))
    .into_response())
}

async fn echo(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    let gathered = edge.call(Call::Echo).await?;
    let tree = gathered.map_err(|ignored| {
        Failure(StatusCode::TOO_MANY_REQUESTS, format!("no wave was begun: {}", ignored.name()))
    })?;
    Ok(Json(tree).into_response())
}

async fn add(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    use crate::tasks::AddError::{Full, Journal, Twice};
    match edge.call(Call::Add).await? {
        Ok(task) => Ok(Json(json!({"status": "ok", "task": task})).into_response()),
        Err(error) => {
            let status = match &error {
                Full(_) => StatusCode::TOO_MANY_REQUESTS,
                Twice => StatusCode::CONFLICT,
                Journal(cause) => {
                    tracing::error!(%cause, "a task cannot be written down");
                    StatusCode::INSUFFICIENT_STORAGE
                }
            };
            Err(Failure(status, error.to_string()))
        }
    }
}

#[derive(Deserialize)]
struct Rebalance {
    target: u16,
    #[serde(default = "one")]
    count: u64,
}

const fn one() -> u64 {
    1
}

async fn rebalance(
    Shared(edge): Shared<Edge>,
    order: Result<Query<Rebalance>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    let Query(Rebalance { target, count }) = order.map_err(|_| {
        Failure(StatusCode::BAD_REQUEST, "?target=PORT, and &count=N for more than one".to_owned())
    })?;
    let moved = edge.call(|answer| Call::Move { to: target, count, answer }).await?;
    match moved.reason {
        None => Ok(Json(json!({"status": "ok", "moved": moved.count})).into_response()),
        Some(reason) => Err(Failure(StatusCode::CONFLICT, reason)),
    }
}

async fn tasks(Shared(edge): Shared<Edge>) -> Result<Response, Failure> {
    Ok(Json(edge.call(Call::Tasks).await?).into_response())
}

async fn websocket(Shared(edge): Shared<Edge>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(LONGEST).max_frame_size(LONGEST).on_upgrade(|socket| accept(socket, edge))
}

async fn accept(socket: WebSocket, edge: Edge) {
    let (out, frames) = mpsc::channel(WAITING);
    let mut ear = Ear { link: edge.links.next(), out: Some(out), is_stranger: true, edge };
    link::carry(socket, frames, &mut ear).await;
    drop(ear.edge.events.send(Event::Closed { link: ear.link }).await);
}

/// A link that was accepted: its first frame says who it is.
struct Ear {
    link: LinkId,
    out: Option<Outbox>,
    is_stranger: bool,
    edge: Edge,
}

impl Ear {
    /// Who is no unit at all is the balancer; units hang on those above them.
    fn peer(&self, sender: u16) -> Option<Peer> {
        let Edge { port, tree, .. } = &self.edge;
        if tree.unit(sender).is_none() {
            return Some(Peer::Balancer);
        }
        tree.ancestors(sender).any(|above| above == *port).then_some(Peer::Below(sender))
    }

    async fn event(&self, event: Event) -> bool {
        self.edge.events.send(event).await.is_ok()
    }
}

impl Hear for Ear {
    async fn hear(&mut self, inbound: Inbound) -> bool {
        let link = self.link;
        let Some(out) = self.out.take() else { return self.event(Event::Inbound { link, inbound }).await };
        if let Inbound::Frame(Frame::Hello { sender }) = inbound {
            let Some(peer) = self.peer(sender) else {
                self.edge.metrics.rejected("not_below");
                return false;
            };
            self.is_stranger = false;
            return self.event(Event::Opened { link, peer, out }).await;
        }
        let peer = match &inbound {
            Inbound::Frame(Frame::Offer { sender, .. }) if self.edge.tree.unit(*sender).is_some() => {
                self.is_stranger = false;
                Peer::Source(*sender)
            }
            _ => Peer::Stranger,
        };
        self.event(Event::Opened { link, peer, out }).await
            && self.event(Event::Inbound { link, inbound }).await
    }

    fn silence(&self) -> Duration {
        if self.is_stranger { STRANGERS_SILENCE } else { SILENCE }
    }
}
