//! Keys of the data plane that keep it calm whatever pool a request is for: limits of one client, and the log.

use std::time::Duration;

use super::keys::Effect::{AtReload, AtRestart};
use super::parse;
use super::reader::Reader;
use crate::proxy::access_log::{Format, LogConfig};
use crate::proxy::clients::ClientLimits;
use crate::proxy::trace::{self, TraceConfig};
use crate::proxy::wire::fields::MOST_FIELDS;

/// What keeps the data plane calm.
#[derive(Clone, Debug, PartialEq)]
pub struct CalmConfig {
    /// What one client may have.
    pub clients: ClientLimits,
    /// Requests of one connection; 0: any number.
    pub max_requests_per_connection: u64,
    /// Header fields of a request.
    pub max_header_fields: usize,
    /// Bytes a second that a client sends or takes of a body at the least; 0: any number.
    pub min_body_rate: u64,
    /// How long it may be slower.
    pub body_grace: Duration,
    /// Whether trusted proxies say in the PROXY protocol whose connection it is.
    pub accept_proxy_protocol: bool,
    /// The access log.
    pub log: LogConfig,
    /// Traces.
    pub traces: TraceConfig,
}

impl CalmConfig {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let clients = ClientLimits {
            connections: r.key(
                "proxy.max_connections_per_client", AtReload,
                "512",
                "Connections of one client (an address; of IPv6 a /64) at a time, beyond them 429; 0: any number. Those in proxy.trusted may have any number: proxies bring many clients. An office behind one address has a few hundred; a whole provider behind one needs more than this.",
                parse::number(0_usize..=1_000_000),
            ),
            rate: r.key(
                "proxy.max_requests_per_second_per_client", AtReload,
                "0",
                "Requests of one client a second, beyond them 429; 0: any number. Of what comes from proxy.trusted, whom X-Forwarded-For names last beside those is charged; nobody, if it names none.",
                parse::number(0_u32..=1_000_000),
            ),
            burst: r.key(
                "proxy.burst_per_client", AtReload,
                "0",
                "How many of those may come at once; 0: as many as in a second.",
                parse::number(0_u32..=1_000_000),
            ),
        };
        let max_requests_per_connection = r.key(
            "proxy.max_requests_per_connection",
            AtReload,
            "0",
            "Requests after which a client's connection is closed; 0: any number.",
            parse::number(0_u64..=1_000_000_000),
        );
        let max_header_fields = r.key(
            "proxy.max_header_fields",
            AtReload,
            "128",
            "Header fields of a request; beyond them 431.",
            parse::number(1_usize..=MOST_FIELDS),
        );
        let min_body_rate = r.key(
            "proxy.min_body_rate", AtReload,
            "500",
            "Bytes a second: who sends a body more slowly while it is waited for gets 408, who takes an answer more slowly is cut off; of gRPC only who has begun a message owes its rest (RESOURCE_EXHAUSTED); 0: any number, for clients that send little for long, like events upward, before their answer begins (then it is not asked of them any more, nor of upgraded connections).",
            parse::number(0_u64..=1_000_000_000),
        );
        let body_grace = r.key(
            "proxy.body_grace",
            AtReload,
            "10s",
            "How long a client may be slower than that before it counts.",
            parse::duration,
        );
        let accept_proxy_protocol = r.key(
            "proxy.accept_proxy_protocol", AtReload,
            "false",
            "Whether connections from proxy.trusted begin with a header of the PROXY protocol, version 1 or 2; then all of them must.",
            parse::truth,
        );
        Self {
            clients,
            max_requests_per_connection,
            max_header_fields,
            min_body_rate,
            body_grace,
            accept_proxy_protocol,
            log: read_log(r),
            traces: read_traces(r),
        }
    }
}

fn read_log(r: &mut Reader<'_>) -> LogConfig {
    r.section("log", "What is written about requests.");
    LogConfig {
        access: r.key(
            "log.access",
            AtReload,
            "",
            "json | common | combined: a line for each request; \"\": none.",
            |written| {
                Ok(Some(match written.text()? {
                    "" => return Ok(None),
                    "json" => Format::Json,
                    "common" => Format::Common,
                    "combined" => Format::Combined,
                    _ => return Err("json, common, combined, or \"\" for none".into()),
                }))
            },
        ),
        file: r.key(
            "log.file",
            AtReload,
            "",
            "Where; begun anew when it is moved away. \"\": standard output.",
            parse::optional_path,
        ),
        sample: r.key(
            "log.sample",
            AtReload,
            "1.0",
            "The share of requests that get a line.",
            parse::fraction(0.0, 1.0),
        ),
    }
}

fn read_traces(r: &mut Reader<'_>) -> TraceConfig {
    r.section("otel", "Traces: a span for each request, from executables with the feature otel.");
    let endpoint = r.key(
        "otel.endpoint",
        AtRestart,
        "",
        "Where an OpenTelemetry collector takes OTLP over HTTP, like http://127.0.0.1:4318 (a path of its own, or /v1/traces); \"\": there are no spans.",
        parse::collector,
    );
    if endpoint.is_some() && !trace::IS_BUILT {
        r.mistake(
            &["otel.endpoint"],
            "no collector: this executable was built without the feature otel (with it: cargo build --release -p slipring --features otel)",
        );
    }
    TraceConfig {
        endpoint,
        sample: r.key(
            "otel.sample",
            AtReload,
            "1.0",
            "The share of requests that get a span; of one with a traceparent, whoever sent it has decided.",
            parse::fraction(0.0, 1.0),
        ),
        service: r.key(
            "otel.service",
            AtRestart,
            "slipring",
            "What the balancer is called among other services (service.name).",
            |written| Ok(written.text()?.to_owned()),
        ),
    }
}
