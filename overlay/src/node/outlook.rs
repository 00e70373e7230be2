//! What a process knows of the workers below it, asked again and again beside the questions: one that does not answer
//! holds nobody up who does not need it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Node;
use crate::catalog::Catalog;
use crate::peer_wire::CatalogResponse;
use crate::topology::ProcessId;

/// How old what is known of a worker may be.
const FRESH: Duration = Duration::from_secs(2);
/// How soon one is asked again that has not answered yet.
const AGAIN: Duration = Duration::from_millis(100);
/// How long after the start one that has not answered may still be starting, too: questions wait for it.
const STARTING: Duration = Duration::from_secs(2);
/// How long a worker may take to say what it holds.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Outlook {
    pub(super) catalog: ArcSwap<Catalog>,
    /// How many workers have answered, or are taken for dead.
    asked: watch::Sender<usize>,
    /// How often what is known has turned out to be wrong.
    wrong: watch::Sender<u64>,
}

impl Outlook {
    /// Until each worker has answered, or is taken for dead.
    pub(super) async fn ready(&self, workers: usize, deadline: Instant) {
        let mut asked = self.asked.subscribe();
        drop(timeout_at(deadline, asked.wait_for(|&asked| asked >= workers)).await);
    }

    /// What is known has turned out to be wrong.
    pub(super) fn hurry(&self) {
        self.wrong.send_modify(|wrong| *wrong += 1);
    }
}

/// Keeps looking, until the process ends.
pub(super) async fn look_around(node: Arc<Node>) {
    let workers = node.reach.scope.clone();
    let looking = join_all(workers.iter().map(|worker| watch_one(&node, worker)));
    tokio::select! {
        _ = looking => {}
        () = node.stopping.cancelled() => {}
    }
}

async fn watch_one(node: &Node, worker: &ProcessId) {
    let (mut is_first, began) = (true, Instant::now());
    let mut wrong = node.outlook.wrong.subscribe();
    loop {
        wrong.mark_unchanged();
        let said = catalog_of(node, worker, Instant::now() + PATIENCE).await;
        let pause = match &said {
            Ok(_) => FRESH,
            Err(why) => {
                tracing::debug!(%worker, why, "a worker does not say what it holds");
                AGAIN
            }
        };
        if let Ok(said) = said {
            // Nothing waits in between: this is the only task that writes.
            let mut next = (**node.outlook.catalog.load()).clone();
            let before = next.unowned.clone();
            next.learn(&node.topology, &node.reach.scope, worker, said);
            for date in next.unowned.difference(&before) {
                tracing::warn!(%date, "a day of the data set is nobody's: no worker's date_bounds and no team's dates hold it");
            }
            node.outlook.catalog.store(Arc::new(next));
        }
        let is_known = node.outlook.catalog.load().workers.contains_key(worker);
        if is_first && (is_known || began.elapsed() >= STARTING) {
            is_first = false;
            node.outlook.asked.send_modify(|asked| *asked += 1);
        }
        // However often it is wrong, nobody is asked without a pause.
        tokio::time::sleep(AGAIN).await;
        tokio::select! {
            () = tokio::time::sleep(pause - AGAIN) => {}
            _ = wrong.changed() => {}
        }
    }
}

async fn catalog_of(node: &Node, worker: &ProcessId, deadline: Instant) -> Result<CatalogResponse, String> {
    if *worker == node.process.id {
        return Ok(node.own_catalog().await);
    }
    let mut why = "no way leads to it".to_owned();
    let hops = vec![node.process.id.to_string()];
    let ways = node.reach.ways_to(worker);
    for (place, way) in ways.iter().enumerate() {
        let Some(peer) = node.asker.peers.get(&way[0]) else { continue };
        // A way that is silent leaves time for the others.
        let now = Instant::now();
        let left = u32::try_from(ways.len() - place).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        match peer.catalog(&way[1..], hops.clone(), share).await {
            Ok(said) => return Ok(said),
            Err(status) => why = status.message().to_owned(),
        }
    }
    Err(why)
}
