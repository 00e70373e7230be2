//! What a unit hangs on: its parent; when that one is gone, its grandparent, or whoever above is the next that answers,
//! until the parent is back.

use std::sync::Arc;
use std::time::Duration;

use slipring_waves::topology::Tree;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Event, LinkId, LinkIds, Peer};
use crate::frame::Frame;
use crate::link::{self, Dialed, Hear, Inbound, WAITING};
use crate::places::Places;

/// Before all above are tried once more.
const PAUSE: Duration = Duration::from_millis(100);
/// How often somebody who hangs higher up looks whether a nearer one is back.
const LOOK: Duration = Duration::from_millis(250);

/// What it takes to find one's way up.
pub(super) struct Uplink {
    pub(super) port: u16,
    pub(super) tree: Arc<Tree>,
    pub(super) places: Places,
    pub(super) links: LinkIds,
    pub(super) events: mpsc::Sender<Event>,
}

impl Uplink {
    /// For ever, or until nobody listens; at once for the root.
    pub(super) async fn run(self) {
        let above: Vec<u16> = self.tree.ancestors(self.port).collect();
        if above.is_empty() {
            return;
        }
        let mut found = None;
        while !self.events.is_closed() {
            let (level, socket) = match found.take() {
                Some(found) => found,
                None => match self.first(&above).await {
                    Some(found) => found,
                    None => {
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            found = self.hang(above[level], &above[..level], socket).await;
        }
    }

    /// The nearest that answers.
    async fn first(&self, above: &[u16]) -> Option<(usize, Dialed)> {
        for (level, port) in above.iter().enumerate() {
            match link::dial(&self.places.authority(*port)).await {
                Ok(socket) => return Some((level, socket)),
                Err(error) => tracing::debug!(port, %error, "a unit above does not answer"),
            }
        }
        None
    }

    /// Hangs on one until it is gone, or a nearer one answers: that one is returned.
    async fn hang(&self, port: u16, nearer: &[u16], socket: Dialed) -> Option<(usize, Dialed)> {
        let link = self.links.next();
        let (out, frames) = mpsc::channel(WAITING);
        let hello = Frame::Hello { sender: self.port };
        if out.try_send(hello).is_err() {
            return None;
        }
        let opened = Event::Opened { link, peer: Peer::Up(port), out };
        if self.events.send(opened).await.is_err() {
            return None;
        }
        let mut ear = Ear { link, events: self.events.clone() };
        let carried = link::carry(socket, frames, &mut ear);
        let looking = async {
            loop {
                sleep(LOOK).await;
                if let Some(found) = self.first(nearer).await {
                    return found;
                }
            }
        };
        let found = tokio::select! {
            () = carried => None,
            found = looking, if !nearer.is_empty() => Some(found),
        };
        drop(self.events.send(Event::Closed { link }).await);
        found
    }
}

/// What comes over a link is an event.
struct Ear {
    link: LinkId,
    events: mpsc::Sender<Event>,
}

impl Hear for Ear {
    async fn hear(&mut self, inbound: Inbound) -> bool {
        self.events.send(Event::Inbound { link: self.link, inbound }).await.is_ok()
    }
}
