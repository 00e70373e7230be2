//! gRPC as clients speak it: the contract's service, health and reflection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;

use super::outgoing::Leaving;
use super::{Asked, Node, Refusal, words};
use crate::peer_wire::peer_server::PeerServer;
use crate::peers::LARGEST_MESSAGE;
use crate::query::{Query, Uid};
use crate::record;
use crate::results::Holder;
use crate::topology::ProcessId;
use crate::wave_wire::waves_server::WavesServer;
use crate::wire::overlay_node_server::{OverlayNode, OverlayNodeServer};
use crate::wire::{
    CancelRequest, CancelResponse, ChunkRequest, ChunkResponse, MetricsRequest, MetricsResponse,
    QueryRequest, QueryResponse, ReleaseRequest, ReleaseResponse, ShutdownRequest, ShutdownResponse,
    StreamPiece,
};

/// Bytes of a piece of a stream.
const PIECE: usize = 1 << 20;
/// Hops that a request may have come over.
const MOST_HOPS: usize = 64;

/// All services of a process.
pub(super) async fn routes(node: &Arc<Node>) -> Routes {
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_not_serving::<OverlayNodeServer<Edge>>().await;
    let holdings = node.asker.holdings.clone();
    tokio::spawn(async move {
        holdings.all().await;
        health.set_service_status("", ServingStatus::Serving).await;
        health.set_serving::<OverlayNodeServer<Edge>>().await;
    });
    let described = include_bytes!(concat!(env!("OUT_DIR"), "/overlay.bin"));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(described)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Only answers are large.
    let peer =
        PeerServer::new(super::peer_edge::Edge(node.clone())).max_encoding_message_size(LARGEST_MESSAGE);
    let waves = WavesServer::new(super::wave_edge::Edge(node.clone()))
        .max_decoding_message_size(super::waves::LARGEST_MESSAGE);
    Routes::new(OverlayNodeServer::new(Edge(node.clone())))
        .add_service(peer)
        .add_service(waves)
        .add_service(service)
        .add_service(reflection().build_v1().expect("the description is ours"))
        .add_service(reflection().build_v1alpha().expect("the description is ours"))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Edge(pub(super) Arc<Node>);

/// What is left of the time that a caller gives.
pub(super) fn time_of<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

fn address_of(headers: &HeaderMap, extensions: &Extensions) -> String {
    let forwarded = header(headers, "x-forwarded-for").and_then(|all| all.split(',').next());
    let from = || extensions.get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_string());
    forwarded.map(|name| name.trim().to_owned()).or_else(from).unwrap_or_default()
}

/// Who asks, of one that does not say so in the question: the name that it gives itself, or where it comes from.
pub(super) fn client_of(headers: &HeaderMap, extensions: &Extensions) -> String {
    let named = header(headers, "x-client-id").map(ToOwned::to_owned);
    named.unwrap_or_else(|| address_of(headers, extensions))
}

/// The same, of one that is told of a result or gives it back.
pub(super) fn holder_of(headers: &HeaderMap, extensions: &Extensions) -> Holder {
    let named = header(headers, "x-client-id").map(Holder::named);
    named.unwrap_or_else(|| Holder::at(&address_of(headers, extensions)))
}

/// A question's name, drawn if it has none.
pub(super) fn named(query_id: String) -> String {
    if query_id.is_empty() { format!("{:032x}", rand::random::<u128>()) } else { query_id }
}

/// Why there is no chunk, beside what the contract has words for: it would look like the last one.
fn no_chunk(refusal: &Refusal) -> Status {
    let words = refusal.status();
    match refusal {
        Refusal::Rejected(rejected) => {
            let mut status = Status::resource_exhausted(words);
            status.metadata_mut().insert("retry-after-ms", words::millis(*rejected).into());
            status
        }
        Refusal::Incomplete(_) => Status::unavailable(words),
        Refusal::Cancelled => Status::cancelled(words),
        Refusal::Loop => Status::aborted(words),
        Refusal::Invalid(_) => Status::invalid_argument(words),
        Refusal::NotFound => Status::not_found(words),
    }
}

impl Edge {
    async fn ask(
        &self,
        request: Request<QueryRequest>,
        is_streamed: bool,
    ) -> (Asked, Result<(Arc<crate::results::Answer>, Option<Leaving>), Refusal>) {
        let (within, unnamed) =
            (time_of(&request), client_of(request.metadata().as_ref(), request.extensions()));
        let QueryRequest { query_type, query_params, hops, client_id, query_id } = request.into_inner();
        let loops = hops.len() > MOST_HOPS;
        let hops = hops.iter().take(MOST_HOPS).map(|hop| ProcessId::from(hop.as_str())).collect();
        let query_id = named(query_id);
        let client = if client_id.is_empty() { unnamed } else { client_id };
        let mut asked = Asked { query: Query::default(), hops, client, query_id, within };
        let refusal = match Query::parse(&query_type, &query_params) {
            _ if loops => Refusal::Loop,
            Err(error) => Refusal::Invalid(error),
            Ok(query) => {
                asked.query = query;
                let outcome = self.0.answer(&asked, is_streamed).await;
                return (asked, outcome);
            }
        };
        self.0.note(&asked, &Err(refusal.clone()), Duration::ZERO);
        (asked, Err(refusal))
    }
}

#[tonic::async_trait]
impl OverlayNode for Edge {
    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        // Whoever names itself in the question gives back under the same name, in a header.
        let holder = match request.get_ref().client_id.as_str() {
            "" => holder_of(request.metadata().as_ref(), request.extensions()),
            client => Holder::named(client),
        };
        let (asked, outcome) = self.ask(request, false).await;
        let outcome = outcome.map(|(answer, _)| answer);
        if let Ok(answer) = &outcome {
            self.0.results.hand_out(&answer.uid, &holder).await;
        }
        Ok(Response::new(words::response(&self.0.process.id, &asked, &outcome)))
    }

    async fn get_chunk(&self, request: Request<ChunkRequest>) -> Result<Response<ChunkResponse>, Status> {
        let (within, client) =
            (time_of(&request), client_of(request.metadata().as_ref(), request.extensions()));
        let ChunkRequest { uid, chunk_index } = request.into_inner();
        let none = |status: &str, total_chunks| ChunkResponse {
            uid: uid.clone(),
            chunk_index,
            total_chunks,
            data: "[]".into(),
            is_last: true,
            status: status.into(),
        };
        let (answer, _admitted) = match self.0.result(&uid, client, within).await {
            Ok(read) => read,
            Err(Refusal::NotFound) => return Ok(Response::new(none("not_found", 0))),
            Err(refusal) => return Err(no_chunk(&refusal)),
        };
        let total_chunks = i32::try_from(answer.chunks()).unwrap_or(i32::MAX);
        let data = u64::try_from(chunk_index).ok().and_then(|index| answer.chunk_json(index));
        let Some(data) = data else { return Ok(Response::new(none("out_of_range", total_chunks))) };
        let is_last = chunk_index + 1 == total_chunks;
        Ok(Response::new(ChunkResponse {
            uid,
            chunk_index,
            total_chunks,
            data,
            is_last,
            status: "success".into(),
        }))
    }

    async fn get_metrics(
        &self,
        _request: Request<MetricsRequest>,
    ) -> Result<Response<MetricsResponse>, Status> {
        Ok(Response::new(self.0.said()))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        let graceful = request.into_inner().graceful;
        tracing::info!(graceful, "a client asks for the end");
        self.0.stop(graceful);
        Ok(Response::new(ShutdownResponse { status: "shutting_down".into() }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let status = if self.0.cancel(&request.into_inner().query_id) { "cancelled" } else { "not_found" };
        Ok(Response::new(CancelResponse { status: status.into() }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let holder = holder_of(request.metadata().as_ref(), request.extensions());
        let released = match Uid::parse(&request.into_inner().uid) {
            Ok((uid, ..)) => self.0.release(&uid, &holder).await,
            Err(_) => false,
        };
        let status = if released { "released" } else { "not_found" };
        Ok(Response::new(ReleaseResponse { status: status.into() }))
    }

    type QueryStreamStream = Pin<Box<dyn Stream<Item = Result<StreamPiece, Status>> + Send>>;

    async fn query_stream(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<Self::QueryStreamStream>, Status> {
        let (asked, outcome) = self.ask(request, true).await;
        let (outcome, leaving) = match outcome {
            Ok((answer, leaving)) => (Ok(answer), leaving),
            Err(refusal) => (Err(refusal), None),
        };
        let pieces = leaving.map(|leaving| leaving.pieces(arrow));
        let summary = words::response(&self.0.process.id, &asked, &outcome);
        drop(outcome); // the stream keeps the answer while it needs it
        let pieces = stream::iter(pieces).flatten().map(|piece| match piece {
            Ok(arrow) => Ok(StreamPiece { arrow, summary: None }),
            Err(stalled) => Err(Status::deadline_exceeded(stalled.to_string())),
        });
        let last = StreamPiece { arrow: bytes::Bytes::new(), summary: Some(summary) };
        Ok(Response::new(Box::pin(pieces.chain(stream::iter([Ok(last)])))))
    }
}

/// All of an answer as one Arrow IPC stream, in pieces.
pub(super) fn arrow(answer: Arc<crate::results::Answer>) -> impl Iterator<Item = bytes::Bytes> + Send {
    let parts = (0..answer.parts.len()).flat_map(move |place| {
        let whole = answer.parts[place].arrow.clone();
        (0..whole.len()).step_by(PIECE).map(move |from| whole.slice(from..whole.len().min(from + PIECE)))
    });
    std::iter::once(record::PREFIX.clone()).chain(parts).chain([bytes::Bytes::from_static(&record::END)])
}
