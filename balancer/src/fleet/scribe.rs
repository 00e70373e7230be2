//! Writes the membership in a task of its own: the owner never waits for a disk, and callers are answered when
//! their change is on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::memory::{Memory, Remembered};

/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be remembered; the version counts upwards.
#[derive(Clone, Debug, Default)]
struct Page {
    version: u64,
    members: Vec<Remembered>,
}

/// See the module.
#[derive(Debug)]
pub struct Scribe {
    page: watch::Sender<Page>,
    tried: watch::Receiver<Tried>,
    writing: JoinHandle<()>,
}

/// The last version that was tried, and why that was in vain.
#[derive(Clone, Debug, Default)]
struct Tried {
    version: u64,
    failure: Option<String>,
}

/// Waits for one version to be written.
#[derive(Debug)]
pub struct Written {
    version: u64,
    tried: watch::Receiver<Tried>,
}

impl Scribe {
    /// Writes into `memory`; `complain` hears of each failure.
    pub fn new(memory: Memory, complain: impl Fn(String) + Send + 'static) -> Self {
        let (page, pages) = watch::channel(Page::default());
        let (tries, tried) = watch::channel(Tried::default());
        let writing = tokio::spawn(write(Arc::new(memory), pages, tries, complain));
        Self { page, tried, writing }
    }

    /// Resolves when the memory is anybody's again.
    pub async fn end(self) {
        let Self { page, writing, .. } = self;
        drop(page);
        if let Err(error) = writing.await {
            tracing::error!(%error, "the membership's writer ended early");
        }
    }

    /// Remembers `members`; an earlier page that was not written yet is skipped.
    pub fn remember(&self, members: Vec<Remembered>) {
        self.page.send_modify(|page| *page = Page { version: page.version + 1, members });
    }

    /// Resolves when what was last given to remember has been written, or could not be, which was told.
    pub fn written(&self) -> Written {
        Written { version: self.page.borrow().version, tried: self.tried.clone() }
    }
}

impl Written {
    /// See [`Scribe::written`]; an error says why it is not on disk yet.
    pub async fn wait(mut self) -> Result<(), String> {
        match self.tried.wait_for(|tried| tried.version >= self.version).await {
            Ok(tried) => tried.failure.clone().map_or(Ok(()), Err),
            Err(_) => Err("the fleet ended before its membership was written".into()),
        }
    }
}

async fn write(
    memory: Arc<Memory>,
    mut pages: watch::Receiver<Page>,
    tries: watch::Sender<Tried>,
    complain: impl Fn(String) + Send + 'static,
) {
    while pages.changed().await.is_ok() {
        loop {
            let Page { version, members } = pages.borrow_and_update().clone();
            let store = memory.clone();
            let stored = tokio::task::spawn_blocking(move || store.store(&members)).await;
            let failure = match stored {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(crate::chain::words(&error)),
                Err(error) => Some(error.to_string()),
            };
            tries.send_replace(Tried { version, failure: failure.clone() });
            let Some(failure) = failure else { break };
            complain(failure);
            if tokio::time::timeout(RETRY, pages.changed()).await.is_ok_and(|ended| ended.is_err()) {
                return;
            }
        }
    }
}
