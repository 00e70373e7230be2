//! `GET /overlay/watch`: once a second what `GET /overlay/metrics` answers, as server-sent events. The processes are asked once
//! for all who watch, and not at all while nobody does: a page that stays open costs them one look a second.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Node;
use super::survey_edge::Whole;

/// How many may watch at a time.
pub(super) const MOST: usize = 64;
/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// What those who watch are told.
#[derive(Clone, Debug)]
pub(super) struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    whole: Whole,
    /// The latest event, while somebody looks.
    latest: watch::Sender<Option<Bytes>>,
    /// Whether somebody looks: told and changed together with how many watch.
    is_looking: Mutex<bool>,
}

impl Watched {
    pub(super) fn of(whole: Whole) -> Self {
        let latest = watch::Sender::new(None);
        Self(Arc::new(Inner { whole, latest, is_looking: Mutex::new(false) }))
    }

    /// One more watches: what is known is its first event.
    fn follow(&self, node: &Arc<Node>) -> watch::Receiver<Option<Bytes>> {
        let inner = &self.0;
        let mut is_looking = inner.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = inner.latest.subscribe();
        if *is_looking {
            if events.borrow().is_some() {
                events.mark_changed();
            }
        } else {
            *is_looking = true;
            inner.latest.send_replace(None);
            events.mark_unchanged();
            tokio::spawn(look(inner.clone(), node.clone()));
        }
        events
    }
}

/// Looks until nobody watches.
async fn look(inner: Arc<Inner>, node: Arc<Node>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let look = async {
            ticks.tick().await;
            inner.whole.said(&node).await
        };
        tokio::select! {
            said = look => {
                inner.latest.send_replace(Some(format!("data: {said}\n\n").into()));
            }
            () = inner.latest.closed() => {}
        }
        let mut is_looking = inner.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.latest.is_closed() {
            *is_looking = false;
            return;
        }
    }
}

pub(super) async fn watch(State(node): State<Arc<Node>>, watched: Watched) -> Response {
    let Ok(place) = node.watching.clone().try_acquire_owned() else {
        let refusal = Json(json!({"status": "rejected"}));
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], refusal).into_response();
    };
    let events = watched.follow(&node);
    let events = stream::unfold((events, node, place), |(mut events, node, place)| async {
        tokio::select! {
            changed = events.changed() => changed.ok()?,
            () = node.stopping.cancelled() => return None,
        }
        let event = events.borrow_and_update().clone()?;
        Some((Ok::<_, Infallible>(event), (events, node, place)))
    });
    let kinds = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (kinds, Body::from_stream(events)).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn all_who_watch_are_told_of_the_same_look_and_nobody_looks_when_they_are_gone() {
        let node = Node::leader();
        let watched = Watched::of(Whole::of(&node));
        let is_looking = || *watched.0.is_looking.lock().unwrap();
        for _ in 0..2 {
            let watch =
                async || watch(State(node.clone()), watched.clone()).await.into_body().into_data_stream();
            let (mut one, mut other) = (watch().await, watch().await);
            let (one_told, other_told) = tokio::join!(one.next(), other.next());
            let (one_told, other_told) = (one_told.unwrap().unwrap(), other_told.unwrap().unwrap());
            assert_eq!(one_told.as_ptr(), other_told.as_ptr(), "the very same bytes");
            let mut late = watch().await;
            assert_eq!(late.next().await.unwrap().unwrap(), one_told, "without another look");
            assert!(is_looking());
            drop((one, other, late));
            let ended = async {
                while is_looking() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), ended).await.expect("nobody watches");
            assert_eq!(node.watching.available_permits(), MOST);
        }
        let places: Vec<_> = (0..MOST).map(|_| node.watching.clone().try_acquire_owned().unwrap()).collect();
        let refused = watch(State(node.clone()), watched.clone()).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        assert!(!is_looking(), "for nobody");
        drop(places);
    }
}
