//! A handle on the fleet, for the data plane, the administration and the end of the program.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::core::Event;
use super::events::Events;
use super::request::{Change, RequestError};
use super::runtime::SpawnFailure;
use super::state::Instance;
use crate::config::PoolConfig;
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

/// A change that is in effect.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The members after it.
    pub members: Vec<String>,
    /// Why a restart might not remember it: it could not be written yet.
    pub unwritten: Option<String>,
}

pub(super) type ChangeReply = oneshot::Sender<Result<Changed, ChangeError>>;

/// What reaches the owner.
pub(super) enum Message {
    Add(Change, ChangeReply),
    /// Names that the runtime lets us have.
    Vetted(Vec<String>, ChangeReply),
    Remove(Change, ChangeReply),
    Event(Event),
    Configure(Box<PoolConfig>, oneshot::Sender<()>),
    Shutdown(oneshot::Sender<Vec<String>>),
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

    /// The same for a moment's look, without the cost of keeping it.
    pub fn look(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// What the fleet tells.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Adds replicas; answered with all members when the new ones are live, or start_timeout after.
    pub async fn add(&self, change: Change) -> Result<Changed, ChangeError> {
        self.change(|reply| Message::Add(change, reply)).await
    }

    /// Removes replicas; answered with the remaining members when they are out of the ring.
    pub async fn remove(&self, change: Change) -> Result<Changed, ChangeError> {
        self.change(|reply| Message::Remove(change, reply)).await
    }

    async fn change(&self, message: impl FnOnce(ChangeReply) -> Message) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(message(reply)).await.map_err(|_| ChangeError::Gone)?;
        answer.await.map_err(|_| ChangeError::Gone)?
    }

    /// Goes on as this configuration says, in which nothing differs that needs a restart; resolves when it is obeyed.
    pub async fn configure(&self, config: PoolConfig) -> Result<(), ChangeError> {
        let (reply, obeyed) = oneshot::channel();
        let message = Message::Configure(Box::new(config), reply);
        self.inbox.send(message).await.map_err(|_| ChangeError::Gone)?;
        obeyed.await.map_err(|_| ChangeError::Gone)
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

    /// Drains and stops every replica; resolves when nothing is left, or when the time that this may take is over,
    /// with the names of what is.
    pub async fn shutdown(&self) -> Vec<String> {
        let (done, left) = oneshot::channel();
        if self.inbox.send(Message::Shutdown(done)).await.is_err() {
            return Vec::new(); // it was shut down before
        }
        left.await.unwrap_or_else(|_| {
            let snapshot = self.snapshot();
            snapshot.views.iter().map(|view| view.name.clone()).collect()
        })
    }
}
