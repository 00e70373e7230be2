//! The one task that looks and listens while somebody watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::super::Admin;
use super::look::{Looked, Looks};
use super::source::{self, About, Said};
use super::{QUEUE, Stream, log};
use crate::fleet::events::FleetEvent;

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks after which something is said, even if nothing is new: who hears nothing for longer knows that the stream is
/// broken.
const LOOKS_IN_SILENCE: u32 = 8;
/// What given pools have told and nobody has passed on yet.
const SAID: usize = 16;
/// What says nothing but that somebody is there.
const COMMENT: &[u8] = b": watching\n\n";

/// See the module.
pub(super) struct Feed {
    admin: Admin,
    looks: Looks,
    happened: broadcast::Receiver<Arc<FleetEvent>>,
    said: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    sources: HashMap<Arc<str>, AbortOnDropHandle<()>>,
}

impl Feed {
    /// Nothing was seen yet.
    pub(super) fn new(admin: Admin) -> (Self, broadcast::Sender<Bytes>) {
        let (_, happened) = admin.events.subscribe(u64::MAX);
        let looks = Looks::new();
        (
            Self { admin, looks, happened, said: mpsc::channel(SAID), sources: HashMap::new() },
            broadcast::Sender::new(QUEUE),
        )
    }

    /// Looks at everything, and sees to it that whoever tells something of itself is listened to.
    pub(super) fn look(&mut self) -> Looked {
        let Admin { pools, events, stopping, .. } = &self.admin;
        let pools = pools.load_full();
        let looked = self.looks.look(&pools, events, stopping.is_cancelled(), Instant::now());
        self.sources.retain(|name, _| looked.pools.contains(name));
        for pool in pools.all() {
            let name = &pool.config.name;
            if pool.config.told_kind().is_some() && !self.sources.contains_key(name) {
                let listening = source::listen(self.admin.clone(), name.clone(), self.said.0.clone());
                self.sources.insert(name.clone(), AbortOnDropHandle::new(tokio::spawn(listening)));
            }
        }
        looked
    }

    /// Tells whatever is new until nobody watches, or nothing more can happen.
    pub(super) async fn run(mut self, stream: Stream) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = self.admin.ended.clone();
        let mut silent = 0;
        loop {
            tokio::select! {
                biased;
                happened = self.happened.recv() => {
                    let log = self.log(happened);
                    stream.tell(|told| told.send(log));
                }
                Some(said) = self.said.1.recv() => stream.tell(|told| {
                    let recent = told.pools.entry(said.pool).or_default();
                    match said.about {
                        About::Wave(id) => recent.did(id, said.frame.clone()),
                        About::State => recent.state = Some(said.frame.clone()),
                        About::Passing => {}
                    }
                    told.send(said.frame);
                }),
                _ = looks.tick() => {
                    if stream.is_over() {
                        return;
                    }
                    let looked = self.look();
                    silent = if looked.fleet.is_some() { 0 } else { silent + 1 };
                    stream.tell(|told| {
                        told.take(looked);
                        if silent >= LOOKS_IN_SILENCE {
                            silent = 0;
                            told.send(Bytes::from_static(COMMENT));
                        }
                    });
                }
                () = ended.cancelled() => {
                    let looked = self.look();
                    stream.tell(|told| told.take(looked));
                    stream.end();
                    return;
                }
            }
        }
    }

    /// What happened, together with all that happened meanwhile.
    fn log(&mut self, happened: Result<Arc<FleetEvent>, broadcast::error::RecvError>) -> Bytes {
        let mut all: Vec<_> = happened.ok().into_iter().collect();
        while let Ok(event) = self.happened.try_recv() {
            all.push(event);
        }
        log(&all)
    }
}
