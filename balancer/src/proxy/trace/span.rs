//! A request's span, from its head to the end of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;

use super::TraceConfig;
use super::export::Exporter;
use super::parent::{LENGTH, Parent, SAMPLED};
use crate::metrics::Metrics;
use crate::proxy::access_log::{Noted, Tally};

/// Bytes of a text that comes from a client: what a queue of them holds has a bound.
const LONGEST: usize = 1024;
/// Methods that semantic conventions know; others are a client's words.
const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
/// Code of gRPC from which on a server is to blame: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS.
const SERVERS_FAULT: [u32; 6] = [2, 4, 12, 13, 14, 15];

/// Where spans go, if anywhere, and of which requests.
#[derive(Clone, Debug)]
pub struct Traces {
    exporter: Option<Arc<Exporter>>,
    sample: f64,
}

/// The span of a request, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Box<Open>>);

#[derive(Clone, Debug)]
struct Open {
    exporter: Arc<Exporter>,
    own: Parent,
    parent: Option<[u8; 8]>,
    written: [u8; LENGTH],
}

/// Under which name a request goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Onward<'a>(Option<&'a Open>);

impl Traces {
    /// Begins to send, if somebody is to be sent to.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn begin(config: &TraceConfig, metrics: &Metrics) -> Self {
        let exporter = config.endpoint.as_ref().map(|to| Exporter::begin(to, &config.service, metrics));
        Self { exporter, sample: config.sample }
    }

    /// The same, for another share of the requests.
    #[must_use]
    pub fn again(&self, config: &TraceConfig) -> Self {
        Self { exporter: self.exporter.clone(), sample: config.sample }
    }

    /// A span for a request that says this about where it comes from. Who began the trace has decided whether it is
    /// recorded; of those that begin here, a share is.
    pub fn span<'a>(&self, traceparent: impl FnOnce() -> Option<&'a [u8]>) -> Span {
        let Some(exporter) = &self.exporter else { return Span(None) };
        let parent = traceparent().and_then(Parent::parse);
        let recorded = match &parent {
            Some(parent) => parent.is_sampled(),
            None => self.sample >= 1.0 || rand::random::<f64>() < self.sample,
        };
        if !recorded {
            return Span(None);
        }
        // All zero, which is no name, comes as often as a meteorite.
        let span = rand::random();
        let own = match parent {
            Some(parent) => Parent { span, flags: SAMPLED, ..parent },
            None => Parent { trace: rand::random(), span, flags: SAMPLED },
        };
        let (exporter, parent) = (exporter.clone(), parent.map(|parent| parent.span));
        Span(Some(Box::new(Open { exporter, own, parent, written: own.written() })))
    }

    /// Sends what is left, for at most `within`.
    pub async fn end(&self, within: Duration) {
        if let Some(exporter) = &self.exporter {
            exporter.end(within).await;
        }
    }
}

impl Span {
    /// Whether there is one.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// What the replica is told.
    pub fn onward(&self) -> Onward<'_> {
        Onward(self.0.as_deref())
    }

    /// Ends it with what came of the request.
    pub fn end(&self, noted: &Noted, client: IpAddr, tally: &Tally) {
        if let Some(open) = &self.0 {
            open.exporter.send(open.told(noted, client, tally));
        }
    }
}

impl Onward<'_> {
    /// Whether a client's field of this name does not go on: what we say stands in its place, and `tracestate` belongs
    /// to a `traceparent` that we could follow.
    pub fn replaces(&self, name: &str) -> bool {
        self.0.is_some_and(|open| {
            name.eq_ignore_ascii_case("traceparent")
                || open.parent.is_none() && name.eq_ignore_ascii_case("tracestate")
        })
    }

    /// What we say.
    pub fn traceparent(&self) -> Option<&[u8]> {
        self.0.map(|open| &open.written[..])
    }
}

impl Open {
    fn told(&self, noted: &Noted, client: IpAddr, tally: &Tally) -> proto::Span {
        let status = tally.status.get();
        let grpc = tally.grpc_status.get();
        let known = METHODS.contains(&&*noted.method);
        let method = if known { &noted.method } else { "_OTHER" };
        let (path, query) = noted.target.split_once('?').unwrap_or((&noted.target, ""));
        let mut said = Said(Vec::with_capacity(20));
        said.text("http.request.method", method);
        if !known {
            said.text("http.request.method_original", &noted.method);
        }
        said.text("url.scheme", if noted.secure { "https" } else { "http" });
        said.text("url.path", path);
        if !query.is_empty() {
            said.text("url.query", query);
        }
        let (host, port) = host_and_port(&noted.host);
        if !host.is_empty() {
            said.text("server.address", host);
        }
        if let Some(port) = port {
            said.number("server.port", port.into());
        }
        said.text("client.address", &client.to_canonical().to_string());
        said.text("network.protocol.name", "http");
        let version = noted.protocol.strip_prefix("HTTP/").unwrap_or_default();
        said.text(
            "network.protocol.version",
            version.strip_suffix(".0").filter(|v| *v != "1").unwrap_or(version),
        );
        if !noted.agent.is_empty() {
            said.text("user_agent.original", &String::from_utf8_lossy(&noted.agent));
        }
        if status > 0 {
            said.number("http.response.status_code", status.into());
        }
        if let Some(code) = grpc {
            said.text("rpc.system", "grpc");
            said.number("rpc.grpc.status_code", code.into());
        }
        if let Some(pool) = &noted.pool {
            said.text("slipring.pool", pool);
            said.number("slipring.retries", tally.attempts.get().saturating_sub(1).into());
        }
        if let Some(replica) = &*tally.replica.borrow() {
            said.text("slipring.replica", &String::from_utf8_lossy(replica.as_bytes()));
        }
        said.text("slipring.request_id", &String::from_utf8_lossy(&noted.request_id));
        // Without a status nobody was answered: the client has left, or the answer could not begin.
        let error = match (status, grpc) {
            (0, _) => Some("no_answer".to_owned()),
            (500.., _) => Some(status.to_string()),
            _ if tally.broken_off.get() => Some("broken_off".to_owned()),
            (_, Some(code)) if SERVERS_FAULT.contains(&code) => Some(code.to_string()),
            _ => None,
        };
        if let Some(error) = &error {
            said.text("error.type", error);
        }
        let code =
            if error.is_some() { proto::status::StatusCode::Error } else { proto::status::StatusCode::Unset };
        let name = match grpc {
            Some(_) => cut(path.trim_start_matches('/')).to_owned(),
            None if known => noted.method.clone(),
            None => "HTTP".to_owned(),
        };
        let start = noted.at();
        proto::Span {
            trace_id: self.own.trace.to_vec(),
            span_id: self.own.span.to_vec(),
            parent_span_id: self.parent.map_or(Vec::new(), |parent| parent.to_vec()),
            flags: self.own.flags.into(),
            name,
            kind: proto::span::SpanKind::Server.into(),
            start_time_unix_nano: nanoseconds(start),
            end_time_unix_nano: nanoseconds(start + noted.took()),
            attributes: said.0,
            status: Some(proto::Status { code: code.into(), ..proto::Status::default() }),
            ..proto::Span::default()
        }
    }
}

struct Said(Vec<KeyValue>);

impl Said {
    fn text(&mut self, key: &str, text: &str) {
        self.put(key, any_value::Value::StringValue(cut(text).to_owned()));
    }

    fn number(&mut self, key: &str, number: i64) {
        self.put(key, any_value::Value::IntValue(number));
    }

    fn put(&mut self, key: &str, value: any_value::Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

/// `[::1]:80` is `::1` and 80.
fn host_and_port(host: &[u8]) -> (&str, Option<u16>) {
    let Ok(host) = std::str::from_utf8(host) else { return ("", None) };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
