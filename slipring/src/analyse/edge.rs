//! What a process of an analysis answers over HTTP: a heartbeat, how the analysis goes, and, where it was asked for, the
//! page that shows it.
//!
//! The store is looked at only while somebody watches, once for all of them, and what was seen is told when it differs
//! from the last time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::json;
use slipring_analyser::run::view::{Survey, View};
use slipring_balancer::admin::page;
use slipring_balancer::config::WATCH;
use slipring_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::report::chain;

/// Streams at a time; more are refused.
const WATCHERS: usize = 32;
/// From one look at the store to the next.
const LOOK: Duration = Duration::from_millis(250);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who hears nothing for longer may believe that the stream is broken.
const SILENCE: Duration = Duration::from_secs(2);
/// What says nothing but that somebody is there.
const COMMENT: &[u8] = b": watching\n\n";

/// What those who watch are told; cheap to clone.
#[derive(Clone)]
pub(super) struct Edge {
    told: watch::Sender<Arc<str>>,
    came: Arc<Notify>,
    places: Arc<Semaphore>,
}

impl Edge {
    pub(super) fn new() -> Self {
        let told = watch::Sender::new(Arc::from(view(&View::default())));
        Self { told, came: Arc::default(), places: Arc::new(Semaphore::new(WATCHERS)) }
    }

    /// Looks at the store, for ever.
    pub(super) async fn look(self, store: Arc<dyn Store>) {
        let mut survey = Survey::new(store);
        loop {
            while self.told.receiver_count() == 0 {
                self.came.notified().await;
            }
            let looked = timeout(PATIENCE, survey.look(now_ms())).await;
            let said = match looked {
                Ok(Ok(seen)) => view(seen),
                Ok(Err(error)) => why(&chain(&error).replace("\n  because", "")),
                Err(_) => why(&format!("the store did not answer within {PATIENCE:?}")),
            };
            self.told.send_if_modified(|told| {
                let differs = **told != *said;
                if differs {
                    *told = said.into();
                }
                differs
            });
            sleep(LOOK).await;
        }
    }

    /// A replica's answers.
    pub(super) fn replica(&self) -> Router {
        Router::new()
            .route("/heartbeat", get(|| std::future::ready(())))
            .route(WATCH, get(watched))
            .with_state(self.clone())
    }

    /// The page, and what feeds it.
    pub(super) fn page(&self) -> Router {
        Router::new()
            .route("/stream", get(streamed))
            .with_state(self.clone())
            .route("/", get(|| std::future::ready(Redirect::temporary(page::ANALYSIS))))
            .merge(page::of_an_analysis())
    }

    /// One that watches: what there is, and what follows.
    fn join(&self) -> Option<(watch::Receiver<Arc<str>>, OwnedSemaphorePermit)> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let told = self.told.subscribe();
        self.came.notify_one();
        Some((told, place))
    }
}

fn too_many() -> Response {
    let words = format!("{WATCHERS} streams are open, which is all there may be: close one");
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], words).into_response()
}

fn view(view: &View) -> String {
    let mut told = json!(view);
    told["kind"] = "analysis".into();
    told.to_string()
}

fn why(words: &str) -> String {
    json!({ "kind": "analysis", "why": words }).to_string()
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

async fn watched(State(edge): State<Edge>) -> Response {
    match edge.join() {
        Some((told, place)) => events(stream::empty(), told, place, |told| format!("data: {told}\n\n")),
        None => too_many(),
    }
}

/// As the appliance's stream tells it, which the page can read, too.
async fn streamed(State(edge): State<Edge>) -> Response {
    let now = format!("event: now\ndata: {}\n\n", json!({ "now_ms": now_ms() }));
    let pool = |told: &str| {
        format!("event: pool\ndata: {{\"pool\":\"analyse\",\"kind\":\"analyse\",\"data\":{told}}}\n\n")
    };
    match edge.join() {
        Some((told, place)) => events(stream::iter([Bytes::from(now)]), told, place, pool),
        None => too_many(),
    }
}

/// What is told now, and whatever is told later; a comment where that is long in coming.
fn events(
    first: impl Stream<Item = Bytes> + Send + 'static,
    mut told: watch::Receiver<Arc<str>>,
    place: OwnedSemaphorePermit,
    frame: impl Fn(&str) -> String + Send + 'static,
) -> Response {
    told.mark_changed();
    let rest = stream::unfold((told, place, frame), |(mut told, place, frame)| async move {
        let said = match timeout(SILENCE, told.changed()).await {
            Ok(Ok(())) => Bytes::from(frame(&told.borrow_and_update())),
            Ok(Err(_)) => return None,
            Err(_) => Bytes::from_static(COMMENT),
        };
        Some((said, (told, place, frame)))
    });
    let mut response = Body::from_stream(first.chain(rest).map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves these for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "nothing is answered any more: start this process again");
    }
}
