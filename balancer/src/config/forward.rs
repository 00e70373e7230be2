//! Keys of the data plane that each pool may have for itself: how a request is carried to one of its replicas.

use std::time::Duration;

use slipring_hashing::bounded::BoundedLoads;

use super::keys::Effect::AtReload;
use super::parse;
use super::reader::Reader;
use super::upstream::{self, UpstreamConfig};
use crate::proxy::ejection::Policy;
use crate::proxy::key::KeySource;

/// Where a result's name stands in the paths of an overlay: `/overlay/query/{uid}/{chunk}`.
const UID: std::num::NonZeroU8 = std::num::NonZeroU8::new(3).expect("three");

/// How requests are carried to replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardConfig {
    /// Where a request's key comes from: the first source that has one.
    pub key: Vec<KeySource>,
    /// To a connection over which a request can be sent.
    pub connect_timeout: Duration,
    /// From the request to the head of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body, and on a client's kept-alive connection.
    pub idle_timeout: Duration,
    /// How long nothing may pass through an upgraded connection (WebSocket).
    pub tunnel_timeout: Duration,
    /// How long an idle connection to a replica is kept.
    pub replica_idle_timeout: Duration,
    /// How many replicas one request may wait for in turn; a refused connection costs no wait and does not count.
    pub max_attempts: usize,
    /// The longest body of a request.
    pub max_body_bytes: u64,
    /// Requests that wait for a place at one replica.
    pub max_waiting_per_replica: usize,
    /// Requests to one replica at a time, each over a connection of its own but for gRPC; idle ones are kept beside them.
    pub max_connections_per_replica: usize,
    /// Retries as a share of the requests of the last seconds.
    pub retry_budget: f64,
    /// When a replica that fails is left out.
    pub ejection: Policy,
    /// How much more than its share of all requests one replica may hold.
    pub bounded_load: Option<BoundedLoads>,
    /// What comes before requests on connections to replicas.
    pub upstream: UpstreamConfig,
}

/// An `overlay`'s cursors stay with one leader unless `proxy.key` says otherwise.
pub(super) fn read(r: &mut Reader<'_>, overlay: bool) -> ForwardConfig {
    r.section("proxy", "The data plane.");
    let key = r.key("proxy.key", AtReload, "[\"random\"]", "Where a request's key comes from, the first that has one: header:NAME, cookie:NAME, query:NAME, segment:N (the path's Nth piece), path, uri (path and query), client, random. Of an overlay it is segment:3 unless it is set.", parse::key_sources);
    let key = if overlay && !r.is_set_anywhere("proxy.key") { vec![KeySource::Segment(UID)] } else { key };
    let connect_timeout =
        r.key("proxy.connect_timeout", AtReload, "1s", "To a replica's accept; over TLS to the end of the handshake, for gRPC to the first answer in HTTP/2. For replicas that are far away 1 s may be little.", parse::duration);
    let first_byte_timeout = r.key(
        "proxy.first_byte_timeout",
        AtReload,
        "30s",
        "From the request to the head of its answer; a gRPC call with a deadline of its own may wait for up to idle_timeout.",
        parse::duration,
    );
    let idle_timeout = r.key(
        "proxy.idle_timeout",
        AtReload,
        "60s",
        "Between two pieces of a body, and on a client's kept-alive connection; a gRPC call on which nothing moves for so long ends, whatever its own deadline.",
        parse::duration,
    );
    let tunnel_timeout = r.key(
        "proxy.tunnel_timeout",
        AtReload,
        "1h",
        "How long nothing may pass through an upgraded connection (WebSocket).",
        parse::duration,
    );
    let replica_idle_timeout = r.key(
        "proxy.replica_idle_timeout",
        AtReload,
        "15s",
        "How long an idle connection to a replica is kept; less than the replica itself keeps it.",
        parse::duration,
    );
    let max_attempts = r.key("proxy.max_attempts", AtReload, "3", "How many replicas one request may wait for in turn; a refused connection costs no wait and does not count.", parse::number(1_usize..=100));
    let max_body_bytes = Some(r.key(
        "proxy.max_body_bytes",
        AtReload,
        "0",
        "The longest body of a request, beyond it 413; of a gRPC call all its messages together, beyond them RESOURCE_EXHAUSTED; 0: any.",
        parse::number(0_u64..=u64::MAX),
    ))
    .filter(|&limit| limit > 0)
    .unwrap_or(u64::MAX);
    let max_waiting_per_replica = r.key(
        "proxy.max_waiting_per_replica",
        AtReload,
        "16384",
        "Requests that wait for a place at one replica; beyond them 503.",
        parse::number(0_usize..=1_000_000),
    );
    let max_connections_per_replica = r.key(
        "proxy.max_connections_per_replica",
        AtReload,
        "1024",
        "Requests under way to one replica; those beyond these wait, at most first_byte_timeout. Idle connections are kept beside theirs.",
        parse::number(1_usize..=1_000_000),
    );
    let retry_budget = r.key(
        "proxy.retry_budget", AtReload,
        "0.2",
        "Retries as a share of the requests of the last ten seconds (three a second are always allowed); refused connections cost nothing and do not count. Beyond it the first error is the answer.",
        parse::fraction(0.0, 100.0),
    );
    let failures = r.key(
        "proxy.eject_failures", AtReload,
        "5",
        "A replica with so many failures in a row (connection lost, silence, nonsense) is left out for a while; 0: never for that.",
        parse::number(0_u32..=1_000_000),
    );
    let success_rate = r.key(
        "proxy.eject_success_rate", AtReload,
        "0.5",
        "The same for one that answers less than this share of at least 20 requests in ten seconds; 0: never for that.",
        parse::fraction(0.0, 1.0),
    );
    let statuses = r.key(
        "proxy.eject_on_5xx",
        AtReload,
        "false",
        "Whether a 5xx of the replica's own counts as a failure, too.",
        parse::truth,
    );
    let time = r.key(
        "proxy.eject_time",
        AtReload,
        "10s",
        "How long the first time; the second is twice as long, and so on.",
        parse::duration,
    );
    let longest = r.key("proxy.eject_time_max", AtReload, "300s", "The longest.", parse::duration);
    let most = r.key(
        "proxy.max_ejected",
        AtReload,
        "0.34",
        "The most of the members that may be left out at a time, as a share: one of three, none of two.",
        parse::fraction(0.0, 1.0),
    );
    let bounded_load = r.key(
        "proxy.bounded_load", AtReload,
        "0",
        "Like 1.25: a replica that holds that many times its share of all requests under way is passed over for the next in the key's order; 0: it is not.",
        parse::bounded_load,
    );
    let upstream = upstream::read(r);
    let longest: Duration = longest;
    if longest < time {
        r.mistake(
            &["proxy.eject_time", "proxy.eject_time_max"],
            "proxy.eject_time of at most proxy.eject_time_max",
        );
    }
    let ejection = Policy { failures, success_rate, statuses, time, longest, most };
    ForwardConfig {
        key,
        connect_timeout,
        first_byte_timeout,
        idle_timeout,
        tunnel_timeout,
        replica_idle_timeout,
        max_attempts,
        max_body_bytes,
        max_waiting_per_replica,
        max_connections_per_replica,
        retry_budget,
        ejection,
        bounded_load,
        upstream,
    }
}
