//! gRPC as the overlay's processes speak it among themselves.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::client_edge::time_of;
use super::{DEADLINE, LONGEST, Node};
use crate::peer_wire::peer_server::Peer;
use crate::peer_wire::{CatalogRequest, CatalogResponse, ScanPart, ScanRequest};
use crate::topology::ProcessId;

/// Parts that may wait for the one who asked.
const WAITING: usize = 16;

#[derive(Debug)]
pub(super) struct Edge(pub(super) Arc<Node>);

/// Until when the next process may take its time: a little less than we may, so that what it says of a failure still
/// arrives.
fn deadline<T>(request: &Request<T>) -> Instant {
    let within = time_of(request).unwrap_or(DEADLINE).min(LONGEST);
    Instant::now() + within.mul_f64(0.9)
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

    type ScanStream = Pin<Box<dyn Stream<Item = Result<ScanPart, Status>> + Send>>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        if request.hops.iter().any(|hop| *hop == *self.0.process.id.as_str()) {
            return Err(Status::aborted("loop_detected"));
        }
        let (sender, parts) = mpsc::channel(WAITING);
        let node = self.0.clone();
        // It ends with whoever takes the parts: every send fails then.
        tokio::spawn(async move {
            tokio::select! {
                () = node.asker.scan(request, deadline, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts).map(Ok))))
    }
}
