//! `GET /stream`: everything the page shows, as one stream of server-sent events.
//!
//! | event | what it holds |
//! |---|---|
//! | `now` | the clock here, which all times are of; once, at the beginning |
//! | `fleet` | all pools and their members, as they are |
//! | `ring` | a pool's slots, whenever its ring is another one |
//! | `log` | what happened: a list of the fleet's events, those of the past first |
//! | `pool` | what a pool of given members tells of itself, as it tells it; why it tells nothing; or what was left out of it |
//! | `lagged` | the last word to who reads too slowly: come again |
//!
//! One task looks and listens for all who watch, and only while somebody does; each thing is put into bytes once. Who
//! comes gets everything as it is, and then what follows. A poll of `/replicas` and `/ring` by every page was the
//! alternative: that is late, and what it costs grows with those who look.

mod feed;
mod look;
mod source;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::Admin;
use super::refusal::Refusal;
use crate::fleet::events::FleetEvent;
use crate::limit::Limit;
use feed::Feed;

/// Events that may wait for one who reads slowly.
const QUEUE: usize = 128;
/// Of what happened before somebody came.
const PAST: usize = 300;
/// Waves of a pool that are told again to who comes, and their bytes.
const WAVES: usize = 24;
const WAVES_BYTES: usize = 4 << 20;

/// Whoever watches, and what they have been told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Mutex<Option<Told>>>);

/// What one who comes has to be told first.
#[derive(Debug)]
struct Told {
    live: broadcast::Sender<Bytes>,
    fleet: Bytes,
    rings: BTreeMap<Arc<str>, Bytes>,
    pools: BTreeMap<Arc<str>, Recent>,
    feed: JoinHandle<()>,
}

/// What a pool told of itself.
#[derive(Debug, Default)]
struct Recent {
    /// How it is.
    state: Option<Bytes>,
    /// What it did, by name if it has one.
    waves: VecDeque<(Option<String>, Bytes)>,
}

impl Recent {
    /// What is said once more of the same one, which has gone on since, is said in its place.
    fn did(&mut self, id: Option<String>, wave: Bytes) {
        match self.waves.iter_mut().find(|(known, _)| id.is_some() && *known == id) {
            Some(known) => known.1 = wave,
            None => self.waves.push_back((id, wave)),
        }
        let mut bytes: usize = self.waves.iter().map(|(_, wave)| wave.len()).sum();
        while self.waves.len() > WAVES || (bytes > WAVES_BYTES && self.waves.len() > 1) {
            bytes -= self.waves.pop_front().map_or(0, |(_, wave)| wave.len());
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// An event as it goes over the wire; JSON has no line breaks of its own.
fn event(name: &str, data: &str) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// What happened.
fn log(events: &[Arc<FleetEvent>]) -> Bytes {
    let events: Vec<_> = events.iter().map(|event| json!(**event)).collect();
    event("log", &json!(events).to_string())
}

impl Stream {
    /// All as it is, and a receiver of what follows.
    fn join(&self, admin: &Admin) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_some_and(|told| told.feed.is_finished()) {
            *told = None;
        }
        let told = told.get_or_insert_with(|| {
            let (mut feed, live) = Feed::new(admin.clone());
            let looked = feed.look();
            let feed = tokio::spawn(feed.run(self.clone()));
            let mut told =
                Told { live, fleet: Bytes::new(), rings: BTreeMap::new(), pools: BTreeMap::new(), feed };
            told.take(looked);
            told
        });
        let past = admin.events.history();
        let past = &past[past.len().saturating_sub(PAST)..];
        let states = told.pools.values().filter_map(|pool| pool.state.clone());
        let waves = told.pools.values().flat_map(|pool| pool.waves.iter().map(|(_, wave)| wave.clone()));
        let first = [event("now", &json!({ "now_ms": now_ms() }).to_string()), told.fleet.clone()];
        let first = first.into_iter().chain(told.rings.values().cloned());
        let first = first.chain([log(past)]).chain(states).chain(waves);
        (first.collect(), told.live.subscribe())
    }

    /// Whether nobody watches any more; then everything is forgotten.
    fn is_over(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = told.as_ref().is_none_or(|told| told.live.receiver_count() == 0);
        if over {
            *told = None;
        }
        over
    }

    /// Nothing more is told.
    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Changes what is told, and tells it.
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        if let Some(told) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            change(told);
        }
    }
}

impl Told {
    fn send(&self, frame: Bytes) {
        if self.live.send(frame).is_err() {
            tracing::trace!("the last page is gone"); // the feed sees that, too
        }
    }

    /// What was seen, where it is not what was seen before.
    fn take(&mut self, looked: look::Looked) {
        self.rings.retain(|name, _| looked.pools.contains(name));
        self.pools.retain(|name, _| looked.pools.contains(name));
        for (name, ring) in looked.rings {
            let frame = event("ring", &ring);
            self.rings.insert(name, frame.clone());
            self.send(frame);
        }
        if let Some(fleet) = looked.fleet {
            self.fleet = event("fleet", &fleet);
            self.send(self.fleet.clone());
        }
    }
}

/// See the module.
pub(super) async fn watch(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let Some(place) = admin.watchers.try_take() else {
        admin.metrics.limit_hit(Limit::PageWatchers);
        return Err(Refusal::TooManyPages(admin.watchers.most()));
    };
    let (first, live) = admin.stream.join(&admin);
    let held = follow(first, live).map(move |frame| {
        let _place = &place; // goes with the stream
        Ok::<_, Infallible>(frame)
    });
    let mut response = Body::from_stream(held).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What there is, and what follows. For one who reads too slowly it ends with how much was missed: to come again costs
/// it less than to catch up.
fn follow(
    first: Vec<Bytes>,
    live: broadcast::Receiver<Bytes>,
) -> impl futures_util::stream::Stream<Item = Bytes> {
    let follow = stream::unfold(Some(live), |live| async move {
        let mut live = live?;
        match live.recv().await {
            Ok(frame) => Some((frame, Some(live))),
            Err(RecvError::Lagged(missed)) => {
                Some((event("lagged", &json!({ "missed": missed }).to_string()), None))
            }
            Err(RecvError::Closed) => None,
        }
    });
    stream::iter(first).chain(follow)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(stream: impl futures_util::stream::Stream<Item = Bytes>) -> String {
        let frames: Vec<_> = stream.collect().await;
        String::from_utf8(frames.concat()).unwrap()
    }

    #[tokio::test]
    async fn one_who_comes_is_told_what_there_is_and_then_what_follows_to_the_end() {
        let live = broadcast::Sender::new(QUEUE);
        let followed = follow(vec![event("fleet", "{}")], live.subscribe());
        live.send(event("log", "[]")).unwrap();
        drop(live);
        assert_eq!(all(followed).await, "event: fleet\ndata: {}\n\nevent: log\ndata: []\n\n");
    }

    #[tokio::test]
    async fn one_who_reads_too_slowly_is_let_go_with_a_word() {
        let live = broadcast::Sender::new(2);
        let followed = follow(Vec::new(), live.subscribe());
        for n in 0..5 {
            live.send(event("log", &n.to_string())).unwrap();
        }
        assert_eq!(all(followed).await, "event: lagged\ndata: {\"missed\":3}\n\n", "and that is the end");
    }

    #[test]
    fn what_a_pool_did_is_remembered_within_bounds() {
        let mut recent = Recent::default();
        for n in 0..100_u8 {
            recent.did(Some(n.to_string()), Bytes::from(vec![n]));
        }
        assert_eq!((recent.waves.len(), recent.waves[0].1[0]), (WAVES, 100 - WAVES as u8));
        recent.did(None, Bytes::from(vec![0; WAVES_BYTES + 1]));
        assert_eq!(recent.waves.len(), 1, "the last one always");
    }

    #[test]
    fn what_is_said_again_of_a_wave_takes_the_place_of_what_was_said_of_it() {
        let mut recent = Recent::default();
        for (id, said) in [("1", "began"), ("2", "whole"), ("1", "moved")] {
            recent.did(Some(id.into()), Bytes::from_static(said.as_bytes()));
        }
        recent.did(None, Bytes::from_static(b"no name"));
        recent.did(None, Bytes::from_static(b"no name"));
        let said: Vec<_> = recent.waves.iter().map(|(_, said)| said.as_ref()).collect();
        assert_eq!(said, [b"moved".as_slice(), b"whole", b"no name", b"no name"]);
    }
}
