//! Those who watch: a bounded number, each a stream of JSON objects. One that is too slow is let go.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::record::Record;

/// How many may watch.
pub(super) const MOST: usize = 32;
/// What waits for a slow one: each of at most a MiB, and one for all of them.
const WAITING: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Watchers {
    sender: Arc<std::sync::Mutex<Option<broadcast::Sender<Arc<str>>>>>,
}

impl Watchers {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self { sender: Arc::new(std::sync::Mutex::new(Some(broadcast::channel(WAITING).0))) }
    }

    /// Whether anybody watches.
    pub(super) fn any(&self) -> bool {
        self.with(|sender| sender.receiver_count() > 0).unwrap_or(false)
    }

    /// One more; none if there are too many, or if it is over.
    pub(super) fn watch(&self) -> Option<broadcast::Receiver<Arc<str>>> {
        self.with(|sender| (sender.receiver_count() < MOST).then(|| sender.subscribe())).flatten()
    }

    /// Tells all of them.
    pub(super) fn tell(&self, record: &Record) {
        if self.any() {
            self.tell_text(serde_json::to_string(record).expect("only maps with keys of text").into());
        }
    }

    /// Tells all of them what is JSON already.
    pub(super) fn tell_text(&self, text: Arc<str>) {
        // Nobody watches: nothing is lost.
        self.with(|sender| drop(sender.send(text)));
    }

    /// Ends all streams.
    pub(super) fn end(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<broadcast::Sender<Arc<str>>>> {
        self.sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn with<T>(&self, then: impl FnOnce(&broadcast::Sender<Arc<str>>) -> T) -> Option<T> {
        self.lock().as_ref().map(then)
    }
}
