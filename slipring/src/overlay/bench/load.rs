//! The load: clients as the original's are, each with a connection of its own, one question after another, every chunk
//! read and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::IgnoredAny;
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::question::Questions;
use super::state::Outcome;

/// How long a request and all its chunks may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(5);
/// Bytes of a chunk.
const LARGEST_CHUNK: usize = 64 << 20;
/// Ends that nobody has taken note of yet.
const QUEUE: usize = 1024;

/// A request that is over.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

/// Starts `concurrency` clients, which make so many requests together; what came of each is received. They end when
/// all are made, or nobody receives any more.
pub(super) fn start(
    runtime: &Handle,
    endpoint: &Endpoint,
    questions: Questions,
    requests: u64,
    concurrency: usize,
) -> mpsc::Receiver<Done> {
    let (tell, told) = mpsc::channel(QUEUE);
    let shared = Arc::new((questions, AtomicU64::new(0)));
    for number in 0..concurrency {
        let channel = {
            let _entered = runtime.enter();
            endpoint.clone().connect_timeout(CONNECTING).tcp_nodelay(true).connect_lazy()
        };
        let client = OverlayNodeClient::new(channel).max_decoding_message_size(LARGEST_CHUNK);
        runtime.spawn(one(client, format!("bench-{number}"), shared.clone(), requests, tell.clone()));
    }
    told
}

async fn one(
    mut client: OverlayNodeClient<Channel>,
    name: String,
    shared: Arc<(Questions, AtomicU64)>,
    requests: u64,
    tell: mpsc::Sender<Done>,
) {
    let (questions, next) = &*shared;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return;
        }
        let began = Instant::now();
        let asked = timeout(DEADLINE, ask(&mut client, &name, questions.nth(number)));
        let outcome = match asked.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => Outcome::Failed(format!("grpc {:?}", status.code())),
            Err(_) => Outcome::Failed("no answer in time".into()),
        };
        if tell.send(Done { took: began.elapsed(), outcome }).await.is_err() {
            return;
        }
    }
}

async fn ask(client: &mut OverlayNodeClient<Channel>, name: &str, params: String) -> Result<Outcome, Status> {
    let request = QueryRequest {
        query_type: "filter".into(),
        query_params: params,
        client_id: name.into(),
        ..QueryRequest::default()
    };
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    let answer = client.query(request).await?.into_inner();
    if answer.status != "ready" {
        // What follows a colon differs from one to the next.
        let kind = answer.status.split(':').next().unwrap_or_default();
        return Ok(Outcome::Failed(kind.into()));
    }
    let mut records = 0;
    for chunk_index in 0..answer.total_chunks {
        let chunk =
            client.get_chunk(ChunkRequest { uid: answer.uid.clone(), chunk_index }).await?.into_inner();
        if chunk.status != "success" {
            return Ok(Outcome::Failed(format!("chunk {}", chunk.status)));
        }
        match serde_json::from_str::<Vec<IgnoredAny>>(&chunk.data) {
            Ok(there) => records += there.len() as u64,
            Err(_) => return Ok(Outcome::Failed("chunk garbled".into())),
        }
    }
    // It says how many there are: fewer would be a wrong answer, not a fast one.
    match u64::try_from(answer.total_records) == Ok(records) {
        true => {
            Ok(Outcome::Answered { records, chunks: u64::try_from(answer.total_chunks).unwrap_or_default() })
        }
        false => Ok(Outcome::Failed("records missing".into())),
    }
}
