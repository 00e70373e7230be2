//! The balancer's link to a unit, for as long as both are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Event;
use super::metrics::Metrics;
use crate::frame::Frame;
use crate::link::{self, Hear, Inbound, WAITING};

/// Before a unit is tried again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// See the module.
#[derive(Clone)]
pub(super) struct Link {
    /// The balancer's port, by which the unit knows it.
    pub(super) own: u16,
    /// The unit's.
    pub(super) unit: u16,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Arc<Metrics>,
}

impl Link {
    /// For ever, or until nobody listens.
    pub(super) async fn run(mut self, authority: String) {
        let (own, unit) = (self.own, self.unit);
        let mut pause = PAUSES.0;
        while !self.events.is_closed() {
            match link::dial(&authority).await {
                Ok(socket) => {
                    let (out, frames) = mpsc::channel(WAITING);
                    if out.try_send(Frame::Hello { sender: own }).is_ok()
                        && self.events.send(Event::Opened { unit, out }).await.is_ok()
                    {
                        link::carry(socket, frames, &mut self).await;
                        drop(self.events.send(Event::Closed { unit }).await);
                        pause = PAUSES.0;
                    }
                }
                Err(error) => tracing::debug!(unit, %error, "a unit does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

impl Hear for Link {
    async fn hear(&mut self, inbound: Inbound) -> bool {
        match inbound {
            Inbound::Frame(frame) => self.events.send(Event::Frame { unit: self.unit, frame }).await.is_ok(),
            Inbound::Rejected(why) => {
                self.metrics.rejected(why.name());
                tracing::warn!(unit = self.unit, why = why.name(), "a unit's message was refused");
                true
            }
        }
    }
}
