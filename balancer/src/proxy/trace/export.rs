//! Spans on their way to a collector: OTLP over HTTP, in protobuf.
//!
//! Whoever ends a span leaves it in a bounded queue; a full queue loses it, which is counted, and never makes a request
//! wait. A task sends what has gathered, one batch at a time, each within a deadline. What a collector does not take is
//! counted and not sent again: a queue that waits for a sick collector is full when it is well.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prometheus::IntCounter;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Spans that wait to be sent.
const QUEUE: usize = 2048;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long a batch that is not full waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take to a batch.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer of a collector that is read.
const LARGEST_ANSWER: usize = 64 * 1024;
/// Where collectors take traces if nothing else is said.
const PATH: &str = "/v1/traces";

/// See the module.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Span>,
    dropped: IntCounter,
    /// Nothing more follows.
    ending: CancellationToken,
    /// Everything was sent, or is lost.
    ended: CancellationToken,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("no collector answers there")]
    Connect(#[source] std::io::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("its answer cannot be read")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the collector answers {0}")]
    Refused(StatusCode),
    #[error("the collector did not answer within {DEADLINE:?}")]
    Timeout,
    #[error("it cannot be asked")]
    Request(#[source] http::Error),
}

/// Where to.
#[derive(Debug)]
struct Collector {
    authority: String,
    path: String,
    resource: Resource,
}

/// What became of spans.
#[derive(Debug)]
struct Counted {
    exported: IntCounter,
    failed: IntCounter,
}

impl Exporter {
    pub(super) fn begin(to: &Uri, service: &str, metrics: &Metrics) -> Arc<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (ending, ended) = (CancellationToken::new(), CancellationToken::new());
        let counted = Counted { exported: metrics.spans("exported"), failed: metrics.spans("failed") };
        let (told, over) = (ending.clone(), ended.clone().drop_guard());
        let collector = Collector::at(to, service);
        tokio::spawn(async move {
            let _over = over;
            collector.send_all(waiting, told, counted).await;
        });
        Arc::new(Self { queue, dropped: metrics.spans("dropped"), ending, ended })
    }

    pub(super) fn send(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    pub(super) async fn end(&self, within: Duration) {
        self.ending.cancel();
        if tokio::time::timeout(within, self.ended.cancelled()).await.is_err() {
            tracing::warn!(?within, "the last spans were not sent in time");
        }
    }
}

impl Collector {
    fn at(to: &Uri, service: &str) -> Self {
        let authority = to.authority().map_or_else(String::new, ToString::to_string);
        let authority = if to.port().is_some() { authority } else { format!("{authority}:80") };
        let path = to.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let path = if path == "/" { PATH } else { path }.to_owned();
        let text = |key: &str, text: &str| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }),
            ..KeyValue::default()
        };
        let attributes =
            vec![text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
        Self { authority, path, resource: Resource { attributes, ..Resource::default() } }
    }

    /// Until the end is told, and everything that had come before.
    async fn send_all(self, mut waiting: mpsc::Receiver<Span>, ending: CancellationToken, counted: Counted) {
        let mut failing = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = gathered(&mut waiting, &mut batch) => {}
                () = ending.cancelled(), if !waiting.is_closed() => waiting.close(),
            }
            if batch.is_empty() {
                if waiting.is_closed() && waiting.is_empty() {
                    return;
                }
                continue;
            }
            let count = batch.len() as u64;
            let sent = tokio::time::timeout(DEADLINE, self.send(batch)).await;
            match sent.unwrap_or(Err(ExportError::Timeout)) {
                Ok(()) => {
                    failing = false;
                    counted.exported.inc_by(count);
                }
                Err(error) => {
                    counted.failed.inc_by(count);
                    if !std::mem::replace(&mut failing, true) {
                        let error = crate::chain::words(&error);
                        tracing::warn!(error, collector = self.authority, "spans are not taken");
                    }
                }
            }
        }
    }

    async fn send(&self, spans: Vec<Span>) -> Result<(), ExportError> {
        let scope = InstrumentationScope { name: "slipring".to_owned(), ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let all = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        let body = ExportTraceServiceRequest { resource_spans: vec![all] }.encode_to_vec();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(body)))
            .map_err(ExportError::Request)?;
        let stream = TcpStream::connect(&self.authority).await.map_err(ExportError::Connect)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(ExportError::Broken)?;
        let asking = async {
            let answer = sender.send_request(request).await.map_err(ExportError::Broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
            body.map_err(ExportError::Answer)?;
            if status.is_success() { Ok(()) } else { Err(ExportError::Refused(status)) }
        };
        // In this very task: what is given up leaves nothing behind.
        tokio::pin!(asking, connection);
        tokio::select! {
            biased;
            asked = &mut asking => asked,
            ended = &mut connection => match ended {
                Ok(()) => asking.await,
                Err(error) => Err(ExportError::Broken(error)),
            },
        }
    }
}

/// The next batch: whatever comes within a moment of its first span. Not to be given up after that came, unless all of
/// it is in `batch`, which it is.
async fn gathered(waiting: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    if waiting.recv_many(batch, BATCH).await == 0 {
        return;
    }
    let filling =
        async { while batch.len() < BATCH && waiting.recv_many(batch, BATCH - batch.len()).await > 0 {} };
    if tokio::time::timeout(GATHER, filling).await.is_err() {
        tracing::trace!("a batch that is not full");
    }
}
