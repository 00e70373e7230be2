//! gRPC as the overlay's processes speak it among themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::client_edge::time_of;
use super::{DEADLINE, LONGEST, Node};
use crate::gather::micros;
use crate::peer_wire::peer_server::Peer;
use crate::peer_wire::{
    CatalogRequest, CatalogResponse, GiveBackRequest, GiveBackResponse, ScanPart, ScanParts, ScanRequest,
};
use crate::query::Uid;
use crate::topology::ProcessId;

/// Parts that may wait for the one who asked.
const WAITING: usize = 64;
/// Bytes of records from which on a message is sent without waiting for more.
const MESSAGE: usize = 256 << 10;
/// How long one that passes something on says nothing at first, and at most.
const SILENT: Duration = Duration::from_millis(2);
const LONGEST_SILENCE: Duration = Duration::from_millis(256);
/// Requests of other processes at a time: a leader has a hundred, and there may be some leaders.
const MOST_CARRIED: usize = 1000;

#[derive(Debug)]
pub(super) struct Edge(pub(super) Arc<Node>);

/// A request of another process, until it is dropped.
struct Carried {
    node: Arc<Node>,
    began: Instant,
}

impl Carried {
    fn new(node: &Arc<Node>) -> Result<Self, Status> {
        let carried = Self { node: node.clone(), began: Instant::now() };
        if node.carried.fetch_add(1, Ordering::Relaxed) >= MOST_CARRIED {
            return Err(Status::resource_exhausted("it carries as much as it can"));
        }
        Ok(carried)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.node.carried.fetch_sub(1, Ordering::Relaxed);
        self.node.metrics.carried(self.began.elapsed());
    }
}

/// Until when the next process may take its time: a little less than we may, so that what it says of a failure still
/// arrives.
fn deadline<T>(request: &Request<T>) -> Instant {
    Instant::now() + within(request).mul_f64(0.9)
}

fn within<T>(request: &Request<T>) -> Duration {
    time_of(request).unwrap_or(DEADLINE).min(LONGEST)
}

#[tonic::async_trait]
impl Peer for Edge {
    async fn catalog(&self, request: Request<CatalogRequest>) -> Result<Response<CatalogResponse>, Status> {
        let deadline = deadline(&request);
        let node = &self.0;
        let CatalogRequest { mut path, mut hops } = request.into_inner();
        if hops.iter().any(|hop| *hop == *node.process.id.as_str()) {
            return Err(Status::aborted("loop_detected"));
        }
        if path.is_empty() {
            let own = tokio::time::timeout_at(deadline, node.own_catalog()).await;
            return own
                .map(Response::new)
                .map_err(|_| Status::unavailable("its partitions are still being loaded"));
        }
        let next = ProcessId::from(path.remove(0).as_str());
        let peer = node.asker.peers.get(&next);
        let peer =
            peer.ok_or_else(|| Status::not_found(format!("{next} is no neighbor of {}", node.process.id)))?;
        hops.push(node.process.id.to_string());
        let path: Vec<_> = path.iter().map(|id| ProcessId::from(id.as_str())).collect();
        peer.catalog(&path, hops, deadline).await.map(Response::new)
    }

    async fn give_back(
        &self,
        request: Request<GiveBackRequest>,
    ) -> Result<Response<GiveBackResponse>, Status> {
        let request = request.into_inner();
        let (uid, ..) =
            Uid::parse(&request.uid).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(self.0.given_back(&uid, &request.client, request.step()).await))
    }

    type ScanStream = Pin<Box<dyn Stream<Item = Result<ScanParts, Status>> + Send>>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let (deadline, end) = (deadline(&request), Instant::now() + within(&request));
        let request = request.into_inner();
        if request.hops.iter().any(|hop| *hop == *self.0.process.id.as_str()) {
            return Err(Status::aborted("loop_detected"));
        }
        let carried = Carried::new(&self.0)?;
        let (began, passes_on) = (Instant::now(), request.routes.iter().any(|route| !route.path.is_empty()));
        let (sender, parts) = mpsc::channel(WAITING);
        let node = self.0.clone();
        // It ends with whoever takes the parts, and when nobody takes them in time.
        tokio::spawn({
            let node = node.clone();
            async move {
                let _carried = carried;
                tokio::select! {
                    () = node.asker.scan(request, deadline, &sender) => {}
                    () = sender.closed() => {}
                    () = tokio::time::sleep_until(end) => {}
                }
            }
        });
        let said = stream::unfold((parts, SILENT), move |(mut parts, silent)| {
            let node = node.clone();
            async move {
                // Whoever waits for others says so, ever more seldom: otherwise it would be taken for the one that is
                // waited for.
                let (mut together, silent) = match passes_on {
                    false => (together(&mut parts).await?, SILENT),
                    true => match tokio::time::timeout(silent, together(&mut parts)).await {
                        Ok(together) => (together?, SILENT),
                        Err(_) => (Vec::new(), (silent * 2).min(LONGEST_SILENCE)),
                    },
                };
                if passes_on {
                    // In each message: nobody waits for a last one when all parts are there.
                    let (process, elapsed_us) = (node.process.id.to_string(), micros(began.elapsed()));
                    together.insert(0, ScanPart { process, elapsed_us, ..ScanPart::default() });
                }
                // Whoever is nearest to the one who asks says how much it has to do.
                let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
                let (active, capacity) = (number(node.load().0), number(crate::admission::MOST));
                Some((Ok(ScanParts { parts: together, active, capacity }), (parts, silent)))
            }
        });
        Ok(Response::new(Box::pin(said)))
    }
}

/// The parts that are there, at least one, as many as one message should have; `None`: there are no more.
async fn together(parts: &mut mpsc::Receiver<ScanPart>) -> Option<Vec<ScanPart>> {
    let first = parts.recv().await?;
    let mut bytes = first.arrow.len();
    let mut together = vec![first];
    while bytes < MESSAGE
        && together.len() < WAITING
        && let Ok(part) = parts.try_recv()
    {
        bytes += part.arrow.len();
        together.push(part);
    }
    Some(together)
}
