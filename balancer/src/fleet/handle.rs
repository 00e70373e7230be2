//! A handle on the fleet, for the data plane, the administration and the end of the program.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::core::Event;
use super::events::Events;
use super::request::{Change, RequestError};
use super::runtime::SpawnFailure;
use super::state::Instance;
use crate::snapshot::{Shared, Snapshot};

/// Why `/add` or `/rm` changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The replicas could not be started.
    #[error("{0}")]
    Failed(SpawnFailure),
    /// The fleet is gone.
    #[error("the balancer is shutting down")]
    Gone,
}

pub(super) type ChangeReply = oneshot::Sender<Result<Vec<String>, ChangeError>>;

/// What reaches the owner.
pub(super) enum Message {
    Add(Change, ChangeReply),
    /// Names that the runtime lets us have.
    Vetted(Vec<String>, ChangeReply),
    Remove(Change, ChangeReply),
    Event(Event),
    Shutdown(oneshot::Sender<()>),
}

/// A handle on the fleet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub(super) inbox: mpsc::Sender<Message>,
    pub(super) snapshot: Shared,
    pub(super) events: Events,
    pub(super) settled: watch::Receiver<bool>,
}

impl Fleet {
    /// Ring and health at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// What the fleet tells.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Adds replicas; answered with all members when the new ones are live, or start_timeout after.
    pub async fn add(&self, change: Change) -> Result<Vec<String>, ChangeError> {
        self.change(|reply| Message::Add(change, reply)).await
    }

    /// Removes replicas; answered with the remaining members when they are out of the ring.
    pub async fn remove(&self, change: Change) -> Result<Vec<String>, ChangeError> {
        self.change(|reply| Message::Remove(change, reply)).await
    }

    async fn change(&self, message: impl FnOnce(ChangeReply) -> Message) -> Result<Vec<String>, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(message(reply)).await.map_err(|_| ChangeError::Gone)?;
        answer.await.map_err(|_| ChangeError::Gone)?
    }

    /// Nobody listened where this instance should: a hint, dropped when the owner is busy.
    pub fn report_refused(&self, instance: &Instance) {
        let event = Event::Refused { instance: instance.clone() };
        if self.inbox.try_send(Message::Event(event)).is_err() {
            tracing::debug!(name = instance.name, "a refused connection went unreported");
        }
    }

    /// Resolves when every first member has been live, or has failed once and is healing's concern.
    pub async fn settled(&self) {
        if self.settled.clone().wait_for(|settled| *settled).await.is_err() {
            tracing::debug!("the fleet ended before it had settled");
        }
    }

    /// Whether [`Fleet::settled`] would resolve at once.
    pub fn has_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Drains and stops every replica; resolves when nothing is left.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.inbox.send(Message::Shutdown(done)).await.is_ok() && wait.await.is_err() {
            tracing::error!("the fleet ended before its replicas");
        }
    }
}
