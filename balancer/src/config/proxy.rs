//! Keys of the data plane as a whole: its threads, its clients, and what the pool without a name takes.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::calm::CalmConfig;
use super::keys::Effect::{AtReload, AtRestart};
use super::parse;
use super::reader::Reader;

/// The data plane.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Paths that reach replicas of the pool without a name; one that ends in `/*` stands for everything below it.
    pub paths: Vec<String>,
    /// From the first moment of a connection, or the first byte of a later request, to the end of its head.
    pub header_timeout: Duration,
    /// How long a client that has ended its side still gets the answer to its request.
    pub half_closed_timeout: Duration,
    /// On a client's connection between two requests, and while it is told something by the balancer itself.
    pub idle_timeout: Duration,
    /// Threads of the data plane.
    pub workers: usize,
    /// The longest head of a request.
    pub max_header_bytes: usize,
    /// Streams of one HTTP/2 connection.
    pub max_streams: u32,
    /// Streams of one HTTP/2 connection that the client takes back within ten seconds.
    pub max_resets: u32,
    /// Bytes of bodies on one HTTP/2 connection that may come before replicas have taken them.
    pub connection_window: u32,
    /// The same of one of its streams.
    pub stream_window: u32,
    /// Proxies whose word about their clients counts.
    pub trusted: Vec<IpNet>,
    /// Client connections at a time.
    pub max_connections: usize,
    /// What keeps it calm.
    pub calm: CalmConfig,
}

impl ProxyConfig {
    /// Whether the word of `peer` about its own clients counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// `idle_timeout` is that of the pool without a name.
pub(super) fn read(r: &mut Reader<'_>, idle_timeout: Duration) -> ProxyConfig {
    ProxyConfig {
        paths: r.key("proxy.paths", AtReload, "[\"/home\", \"/heartbeat\"]", "What reaches replicas; \"/api/*\" stands for everything below /api, \"/*\" for everything.", parse::paths),
        header_timeout: r.key("proxy.header_timeout", AtReload, "10s", "From a connection's first moment, or a later request's first byte, to the end of the head.", parse::duration),
        half_closed_timeout: r.key("proxy.half_closed_timeout", AtReload, "1s", "How long a client of HTTP/1 that has ended its side after its request is still waited for with the answer, and between its pieces: it may have left, or listen on (nc -N).", parse::duration),
        idle_timeout,
        workers: cores_if_none(r.key("proxy.workers", AtRestart, "0", "Threads of the data plane; 0: one for each core.", parse::number(0_usize..=256))),
        max_header_bytes: r.key("proxy.max_header_bytes", AtReload, "16384", "The longest head of a request; beyond it 431.", parse::number(1024_usize..=32_768)),
        max_streams: r.key("proxy.max_streams", AtReload, "128", "Requests under way on one HTTP/2 connection.", parse::number(1_u32..=65_536)),
        max_resets: r.key("proxy.max_resets", AtReload, "256", "Requests that a client may take back within ten seconds before their answers, on one HTTP/2 connection; beyond them it ends.", parse::number(1_u32..=1_000_000)),
        connection_window: r.key("proxy.connection_window", AtReload, "2097152", "Bytes of bodies that a client may send ahead on one HTTP/2 connection, and that may be held for it; divided by the time of a round trip it is how fast one can send.", parse::number(65_535_u32..=16_777_216)),
        stream_window: r.key("proxy.stream_window", AtReload, "1048576", "The same on one of its streams; less than the connection's, or one that waits for its replica stops the others.", parse::number(16_384_u32..=16_777_216)),
        trusted: r.key("proxy.trusted", AtReload, "[\"127.0.0.0/8\", \"::1/128\"]", "Networks of proxies whose Forwarded and X-Forwarded-* count; from anyone else they are replaced.", parse::networks),
        max_connections: r.key("proxy.max_connections", AtReload, "20000", "Clients at a time (at most three quarters of the limit of open files, half of that with proxy.send_proxy_protocol); more wait in the kernel's queue.", parse::number(1_usize..=1_000_000)),
        calm: CalmConfig::read(r),
    }
}

fn cores_if_none(workers: usize) -> usize {
    match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}
