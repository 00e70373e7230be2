//! Hints that there may be something to do. Nothing relies on them: a poller that hears none looks again by itself.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use tokio::sync::watch;

/// Queues that share one of them wake each other: a needless look.
const SLOTS: usize = 64;

/// What a store wakes its waiters with: bounded, however many queues there are.
#[derive(Debug)]
pub(crate) struct Wakes(Vec<watch::Sender<()>>);

impl Wakes {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| watch::Sender::new(())).collect())
    }

    fn slot(&self, queue: &str) -> &watch::Sender<()> {
        let digest = BuildHasherDefault::<DefaultHasher>::default().hash_one(queue);
        &self.0[usize::try_from(digest % SLOTS as u64).expect("a small number")]
    }

    pub(crate) fn wake(&self, queue: &str) {
        self.slot(queue).send_replace(());
    }

    pub(crate) fn wake_all(&self) {
        for slot in &self.0 {
            slot.send_replace(());
        }
    }

    pub(crate) fn hints(&self, queue: &str) -> Hints {
        Hints(self.slot(queue).subscribe())
    }
}

/// Hears hints about one queue from the moment it was made: make it, look, and then wait.
#[derive(Debug)]
pub struct Hints(watch::Receiver<()>);

impl Hints {
    /// Returns when there was a hint since it returned last. It may be that none comes: wait with a timeout, and look
    /// again.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone.
            std::future::pending::<()>().await;
        }
    }
}
