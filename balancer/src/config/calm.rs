//! Keys of the data plane that keep it calm: retries, ejection, limits of one client.

use std::time::Duration;

use slipring_hashing::bounded::BoundedLoads;

use super::parse;
use super::reader::Reader;
use crate::proxy::access_log::{Format, LogConfig};
use crate::proxy::clients::ClientLimits;
use crate::proxy::ejection::Policy;
use crate::proxy::wire::request::MOST_FIELDS;

/// What keeps the data plane calm.
#[derive(Clone, Debug)]
pub struct CalmConfig {
    /// Retries as a share of the requests of the last seconds.
    pub retry_budget: f64,
    /// When a replica that fails is left out.
    pub ejection: Policy,
    /// How much more than its share of all requests one replica may hold.
    pub bounded_load: Option<BoundedLoads>,
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
}

impl CalmConfig {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let retry_budget = r.key(
            "proxy.retry_budget",
            "0.2",
            "Retries as a share of the requests of the last ten seconds (three a second are always allowed); refused connections cost nothing and do not count. Beyond it the first error is the answer.",
            parse::fraction(0.0, 100.0),
        );
        let failures = r.key(
            "proxy.eject_failures",
            "5",
            "A replica with so many failures in a row (connection lost, silence, nonsense) is left out for a while; 0: never for that.",
            parse::number(0_u32..=1_000_000),
        );
        let success_rate = r.key(
            "proxy.eject_success_rate",
            "0.5",
            "The same for one that answers less than this share of at least 20 requests in ten seconds; 0: never for that.",
            parse::fraction(0.0, 1.0),
        );
        let statuses = r.key(
            "proxy.eject_on_5xx",
            "false",
            "Whether a 5xx of the replica's own counts as a failure, too.",
            parse::truth,
        );
        let time = r.key(
            "proxy.eject_time",
            "10s",
            "How long the first time; the second is twice as long, and so on.",
            parse::duration,
        );
        let longest = r.key("proxy.eject_time_max", "300s", "The longest.", parse::duration);
        let most = r.key(
            "proxy.max_ejected",
            "0.34",
            "The most of the members that may be left out at a time, as a share: one of three, none of two.",
            parse::fraction(0.0, 1.0),
        );
        let bounded_load = r.key(
            "proxy.bounded_load",
            "0",
            "Like 1.25: a replica that holds that many times its share of all requests under way is passed over for the next in the key's order; 0: it is not.",
            parse::bounded_load,
        );
        let longest: Duration = longest;
        if longest < time {
            r.mistake(
                &["proxy.eject_time", "proxy.eject_time_max"],
                "proxy.eject_time of at most proxy.eject_time_max",
            );
        }
        let ejection = Policy { failures, success_rate, statuses, time, longest, most };
        let clients = ClientLimits {
            connections: r.key(
                "proxy.max_connections_per_client",
                "0",
                "Connections of one client (an address; of IPv6 a /64) at a time, beyond them 429; 0: any number.",
                parse::number(0_usize..=1_000_000),
            ),
            rate: r.key(
                "proxy.max_requests_per_second_per_client",
                "0",
                "Requests of one client a second, beyond them 429; 0: any number.",
                parse::number(0_u32..=1_000_000),
            ),
            burst: r.key(
                "proxy.burst_per_client",
                "0",
                "How many of those may come at once; 0: as many as in a second.",
                parse::number(0_u32..=1_000_000),
            ),
        };
        let max_requests_per_connection = r.key(
            "proxy.max_requests_per_connection",
            "0",
            "Requests after which a client's connection is closed; 0: any number.",
            parse::number(0_u64..=1_000_000_000),
        );
        let max_header_fields = r.key(
            "proxy.max_header_fields",
            "128",
            "Header fields of a request; beyond them 431.",
            parse::number(1_usize..=MOST_FIELDS),
        );
        let min_body_rate = r.key(
            "proxy.min_body_rate",
            "0",
            "Bytes a second: who sends a body more slowly while it is waited for gets 408, who takes an answer more slowly is cut off; 0: any number.",
            parse::number(0_u64..=1_000_000_000),
        );
        let body_grace = r.key(
            "proxy.body_grace",
            "10s",
            "How long a client may be slower than that before it counts.",
            parse::duration,
        );
        let accept_proxy_protocol = r.key(
            "proxy.accept_proxy_protocol",
            "false",
            "Whether connections from proxy.trusted begin with a header of the PROXY protocol, version 1 or 2; then all of them must.",
            parse::truth,
        );
        Self {
            retry_budget,
            ejection,
            bounded_load,
            clients,
            max_requests_per_connection,
            max_header_fields,
            min_body_rate,
            body_grace,
            accept_proxy_protocol,
            log: read_log(r),
        }
    }
}

fn read_log(r: &mut Reader<'_>) -> LogConfig {
    r.section("log", "What is written about requests.");
    LogConfig {
        access: r.key(
            "log.access",
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
            "",
            "Where; begun anew when it is moved away. \"\": standard output.",
            parse::optional_path,
        ),
        sample: r.key(
            "log.sample",
            "1.0",
            "The share of requests that get a line.",
            parse::fraction(0.0, 1.0),
        ),
    }
}
