//! Keys of the data plane as a whole: its threads, its clients, and what the pool without a name takes.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::calm::CalmConfig;
use super::parse;
use super::reader::Reader;

/// The data plane.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Paths that reach replicas of the pool without a name; one that ends in `/*` stands for everything below it.
    pub paths: Vec<String>,
    /// From the first moment of a connection, or the first byte of a later request, to the end of its head.
    pub header_timeout: Duration,
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
        paths: r.key("proxy.paths", "[\"/home\", \"/heartbeat\"]", "What reaches replicas; \"/api/*\" stands for everything below /api, \"/*\" for everything.", parse::paths),
        header_timeout: r.key("proxy.header_timeout", "10s", "From a connection's first moment, or a later request's first byte, to the end of the head.", parse::duration),
        idle_timeout,
        workers: cores_if_none(r.key("proxy.workers", "0", "Threads of the data plane; 0: one for each core.", parse::number(0_usize..=256))),
        max_header_bytes: r.key("proxy.max_header_bytes", "16384", "The longest head of a request; beyond it 431.", parse::number(1024_usize..=32_768)),
        max_streams: r.key("proxy.max_streams", "128", "Requests under way on one HTTP/2 connection.", parse::number(1_u32..=65_536)),
        max_resets: r.key("proxy.max_resets", "256", "Requests that a client may take back within ten seconds before their answers, on one HTTP/2 connection; beyond them it ends.", parse::number(1_u32..=1_000_000)),
        trusted: r.key("proxy.trusted", "[\"127.0.0.0/8\", \"::1/128\"]", "Networks of proxies whose Forwarded and X-Forwarded-* count; from anyone else they are replaced.", parse::networks),
        max_connections: r.key("proxy.max_connections", "20000", "Clients at a time (at most three quarters of the limit of open files); more wait in the kernel's queue.", parse::number(1_usize..=1_000_000)),
        calm: CalmConfig::read(r),
    }
}

fn cores_if_none(workers: usize) -> usize {
    match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}
