//! What the fleet tells, as a growing list: its history first, then what happens.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::http::{Http, PATIENCE};

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened: `live`, `flatlined`, …
    pub name: String,
    /// To whom, if to one.
    pub replica: String,
    /// When it was heard here.
    pub heard: Instant,
    /// All of it.
    pub data: Value,
}

impl Event {
    /// Whether this is `name` of `replica`.
    pub fn is(&self, name: &str, replica: &str) -> bool {
        self.name == name && self.replica == replica
    }

    /// Milliseconds since 1970 on the balancer's clock.
    pub fn unix_ms(&self) -> u64 {
        self.data["unix_ms"].as_u64().expect("events have a time")
    }

    /// The field `why`.
    pub fn why(&self) -> &str {
        self.data["why"].as_str().unwrap_or_default()
    }
}

/// The events of one balancer, for as long as it runs.
#[derive(Debug)]
pub struct Events {
    seen: watch::Receiver<Vec<Event>>,
    listener: JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Events {
    /// Follows `/events` of an admin port.
    pub async fn follow(admin: Http) -> Self {
        Self::follow_at(admin, "/events").await
    }

    /// The same of one pool, say.
    pub async fn follow_at(admin: Http, path: &str) -> Self {
        let request = admin.request(Method::GET, path).body(Full::<Bytes>::default());
        let request = request.expect("a valid request");
        let mut sender = admin.connect().await.expect("the admin port answers");
        let answer = timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.expect("/events answers in time").expect("/events answers");
        assert_eq!(answer.status(), 200, "/events");
        let (tell, seen) = watch::channel(Vec::new());
        let listener = tokio::spawn(async move {
            let _connection = sender;
            listen(answer.into_body(), &tell).await;
        });
        Self { seen, listener }
    }

    /// Everything heard up to now.
    pub fn seen(&self) -> Vec<Event> {
        self.seen.borrow().clone()
    }

    /// Listens until `look` finds in all that was heard what it looks for.
    ///
    /// # Panics
    /// When it does not `within` the time.
    pub async fn until<T>(&self, what: &str, within: Duration, look: impl Fn(&[Event]) -> Option<T>) -> T {
        let mut seen = self.seen.clone();
        let listening = async {
            loop {
                if let Some(found) = look(&seen.borrow_and_update()) {
                    return Some(found);
                }
                if seen.changed().await.is_err() {
                    return None;
                }
            }
        };
        let found = timeout(within, listening).await;
        let heard = || self.seen().iter().map(|event| event.data.to_string()).collect::<Vec<_>>().join("\n");
        match found {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{what}: the events ended; heard:\n{}", heard()),
            Err(_) => panic!("{what}: not within {within:?}; heard:\n{}", heard()),
        }
    }

    /// Waits until there is nothing more to hear.
    ///
    /// # Panics
    /// When there may be `within` the time.
    pub async fn ended(&self, within: Duration) {
        let mut seen = self.seen.clone();
        let ended = timeout(within, async { while seen.changed().await.is_ok() {} }).await;
        assert!(ended.is_ok(), "the events go on after {within:?}");
    }

    /// Listens until `name` happened to `replica` after the first `past` events.
    pub async fn next(&self, past: usize, name: &str, replica: &str, within: Duration) -> Event {
        let look = |seen: &[Event]| seen.iter().skip(past).find(|event| event.is(name, replica)).cloned();
        self.until(&format!("{name} of {replica}"), within, look).await
    }
}

async fn listen(mut body: Incoming, tell: &watch::Sender<Vec<Event>>) {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if let Some(event) = line.strip_prefix(b"data: ").and_then(parse) {
                tell.send_modify(|seen| seen.push(event));
            }
        }
    }
}

fn parse(data: &[u8]) -> Option<Event> {
    let data: Value = serde_json::from_slice(data).ok()?;
    let word = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    Some(Event { name: word("event"), replica: word("replica"), heard: Instant::now(), data })
}
