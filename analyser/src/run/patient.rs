//! The store, with the patience that a long analysis has: what is away for a while is waited for, and said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_store::{Change, Error, Outcome, Store, with_patience};

use super::event::{Event, Tell};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tell: Tell,
    /// How long an outage may last.
    pub(crate) patience: Duration,
}

impl Patient {
    /// Repeats a call until the store answers, or patience is over.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        call: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let begin = Instant::now();
        let mut said: Option<Instant> = None;
        let report = |waiting: slipring_store::Waiting<'_>| {
            if said.is_none_or(|said| said.elapsed() >= Duration::from_secs(1)) {
                said = Some(Instant::now());
                let (why, waited) = (super::plan::in_words(waiting.error), waiting.waited);
                self.tell.tell(Event::Waiting { why, waited });
            }
        };
        let answer = with_patience(self.patience, report, call).await;
        if said.is_some() && answer.is_ok() {
            self.tell.tell(Event::Back { after: begin.elapsed() });
        }
        answer
    }

    pub(crate) async fn transact(&self, changes: Vec<Change>) -> Result<Outcome, Error> {
        self.call(|| self.store.transact(changes.clone())).await
    }
}
