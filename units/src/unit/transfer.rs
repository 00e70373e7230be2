//! An open offer is brought to its target again and again until there is an answer: only that one says where the tasks are.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Event;
use crate::frame::Frame;
use crate::link::{self, Hear, Inbound};
use crate::places::Places;
use crate::tasks::{Offer, Verdict};

/// How long a target may take to answer before it is asked again.
const ANSWERING: Duration = Duration::from_secs(2);
/// Between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Until it is settled.
pub(super) async fn bring(from: u16, to: u16, offer: Offer, places: Places, events: mpsc::Sender<Event>) {
    let authority = places.authority(to);
    let mut pause = PAUSES.0;
    loop {
        match timeout(ANSWERING, ask(from, &authority, &offer)).await {
            Ok(Some(verdict)) => {
                drop(events.send(Event::Settled { to, batch: offer.batch, verdict }).await);
                return;
            }
            Ok(None) | Err(_) => tracing::debug!(to, batch = offer.batch, "an offer was not answered"),
        }
        if events.is_closed() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Once: what the target says.
async fn ask(from: u16, authority: &str, offer: &Offer) -> Option<Verdict> {
    let socket = link::dial(authority).await.ok()?;
    let (out, frames) = mpsc::channel(1);
    out.try_send(Frame::Offer { sender: from, offer: offer.clone() }).ok()?;
    let mut ear = Ear { batch: offer.batch, said: None };
    link::carry(socket, frames, &mut ear).await;
    drop(out);
    ear.said
}

/// Waits for the answer to one offer.
struct Ear {
    batch: u64,
    said: Option<Verdict>,
}

impl Hear for Ear {
    async fn hear(&mut self, inbound: Inbound) -> bool {
        if let Inbound::Frame(Frame::Answer { batch, verdict, .. }) = inbound
            && batch == self.batch
        {
            self.said = Some(verdict);
        }
        self.said.is_none()
    }
}
