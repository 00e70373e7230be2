//! Configuration: one list of keys, read from flags, environment and file, in that order of precedence.
//!
//! `Config::read` is that list. Every key is declared once, with its default and its words; the same pass
//! validates a user's settings, finds unknown keys and writes the commented example. Deriving `Deserialize` on a
//! mirror of the file was the alternative: it stops at the first mistake, knows no environment, and needs its
//! documentation kept in step by hand.

mod calm;
mod parse;
mod reader;
mod report;

pub use calm::CalmConfig;
pub use reader::{Origin, Sources};
pub use report::{ConfigError, Mistake};

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use ipnet::IpNet;
use slipring_hashing::{HashPair, Placement};

use crate::proxy::key::KeySource;
use crate::proxy::tls::TlsFiles;
use reader::Reader;

/// The file that is read when it is there and no other was named.
pub const DEFAULT_FILE: &str = "slipring.toml";

/// Validated configuration: whatever is in here can be acted on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect over TLS, and with which certificate.
    pub tls: Option<(SocketAddr, TlsFiles)>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether another balancer may listen at the same addresses, so that a new one starts beside one that drains.
    pub reuse_port: bool,
    /// Where only administrators connect.
    pub admin: AdminConfig,
    /// The file that remembers the membership; `None` remembers nothing.
    pub state: Option<PathBuf>,
    /// How long the balancer's own stop waits for requests in flight.
    pub drain_timeout: Duration,
    /// Replicas: how many, how watched, how healed.
    pub fleet: FleetConfig,
    /// The process runtime.
    pub process: ProcessConfig,
    /// The Docker runtime.
    pub docker: DockerConfig,
    /// How keys are placed on replicas.
    pub placement: Placement,
    /// The data plane.
    pub proxy: ProxyConfig,
}

/// Administration.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// The admin-only port.
    pub listen: SocketAddr,
    /// The bearer token that lets callers in from anywhere.
    pub token: Option<Secret>,
    /// Connections to the admin-only port at a time.
    pub max_connections: usize,
}

/// A text that must not be printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Compares in time that does not depend on where the difference is.
    pub fn matches(&self, offered: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(offered).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Which runtime runs replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Docker where its socket answers, processes elsewhere.
    Auto,
    /// Child processes of the balancer.
    Process,
    /// Containers.
    Docker,
    /// Nothing: they run elsewhere, at given addresses.
    Static,
}

/// Whether a respawned replica keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespawnName {
    /// The same name.
    Same,
    /// A new random one. Its identity, and with it its share of the keys, stays.
    New,
}

/// How replicas are kept alive.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// How many replicas the first start makes.
    pub replicas: usize,
    /// The most there may ever be.
    pub max_replicas: usize,
    /// What runs them.
    pub runtime: RuntimeChoice,
    /// Where they are, if nothing here runs them.
    pub upstreams: Vec<std::net::SocketAddr>,
    /// Time from the start of one heartbeat to the start of the next.
    pub heartbeat_interval: Duration,
    /// How long one heartbeat may take, and how soon a suspect is asked again; at most the interval.
    pub heartbeat_timeout: Duration,
    /// The path that is asked.
    pub heartbeat_path: PathAndQuery,
    /// Consecutive failures that flatline a replica.
    pub failures: u32,
    /// From launch to the first good heartbeat.
    pub start_timeout: Duration,
    /// From the polite signal to the kill; also the longest drain of a removed replica.
    pub stop_timeout: Duration,
    /// Runtime calls (spawns, and apart from them stops) in flight.
    pub task_batch: usize,
    /// Heartbeats in flight.
    pub request_batch: usize,
    /// What a respawned replica is called.
    pub respawn_name: RespawnName,
    /// First delay of a replica that dies again.
    pub backoff_min: Duration,
    /// Longest delay.
    pub backoff_max: Duration,
    /// A life this long is forgiven: the next respawn is immediate.
    pub backoff_reset: Duration,
    /// How often the fleet is compared with what really runs.
    pub reconcile_interval: Duration,
}

/// Replicas as child processes.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// A program and its arguments; empty: Slipring's own demonstration replica.
    pub command: Vec<String>,
}

/// Replicas as containers.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The network that replicas share.
    pub network: String,
    /// A user's own image; `None`: the appliance's own, built when it is missing.
    pub image: Option<String>,
    /// The port that replicas listen on inside.
    pub port: u16,
    /// Tells this balancer's containers from another's on the same engine; `None`: a label of its own, remembered
    /// beside the membership.
    pub fleet: Option<String>,
}

/// The data plane.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Paths that reach replicas; one that ends in `/*` stands for everything below it.
    pub paths: Vec<String>,
    /// Where a request's key comes from: the first source that has one.
    pub key: Vec<KeySource>,
    /// To a replica's accept.
    pub connect_timeout: Duration,
    /// From the request to the head of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body, and on a client's kept-alive connection.
    pub idle_timeout: Duration,
    /// How long an idle connection to a replica is kept.
    pub replica_idle_timeout: Duration,
    /// How many replicas one request may wait for in turn; a refused connection costs no wait and does not count.
    pub max_attempts: usize,
    /// From the first moment of a connection, or the first byte of a later request, to the end of its head.
    pub header_timeout: Duration,
    /// How long nothing may pass through an upgraded connection (WebSocket).
    pub tunnel_timeout: Duration,
    /// Threads of the data plane.
    pub workers: usize,
    /// The longest head of a request.
    pub max_header_bytes: usize,
    /// The longest body of a request.
    pub max_body_bytes: u64,
    /// Streams of one HTTP/2 connection.
    pub max_streams: u32,
    /// Streams of one HTTP/2 connection that the client takes back within ten seconds.
    pub max_resets: u32,
    /// Proxies whose word about their clients counts.
    pub trusted: Vec<IpNet>,
    /// Requests that wait for a place at one replica.
    pub max_waiting_per_replica: usize,
    /// Client connections at a time.
    pub max_connections: usize,
    /// Connections to one replica at a time.
    pub max_connections_per_replica: usize,
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

impl Config {
    /// Reads and validates everything, or reports every mistake at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(sources);
        let config = Self::read(&mut reader);
        reader.finish()?;
        Ok(config)
    }

    /// The commented example: every key with its default.
    pub fn example() -> String {
        let nothing = Sources::default();
        let mut reader = Reader::new(&nothing);
        Self::read(&mut reader);
        reader.example()
    }

    fn read(r: &mut Reader<'_>) -> Self {
        r.section("", "Where it listens, what it remembers.");
        let listen = r.key(
            "listen",
            "0.0.0.0:5000",
            "Where clients connect; port 0 takes a free one.",
            parse::address,
        );
        let reuse_port = r.key(
            "reuse_port",
            "false",
            "true | false: whether a new balancer may start at the same addresses beside one that drains (SO_REUSEPORT).",
            parse::one_of(&["true", "false"]),
        ) == "true";
        let state = r.key(
            "state",
            ".slipring/state.json",
            "The file that remembers the membership over a restart; \"\" remembers nothing.",
            parse::optional_path,
        );
        let drain_timeout = r.key(
            "drain_timeout",
            "10s",
            "How long a stop of the balancer waits for requests in flight.",
            parse::duration,
        );
        let tls = Self::read_tls(r);
        let admin = Self::read_admin(r);
        let placement = Self::read_ring(r);
        let fleet = Self::read_fleet(r, &placement);
        r.section("process", "Replicas as child processes.");
        let process = ProcessConfig {
            command: r.key(
                "process.command",
                "[]",
                "A program of your own and its arguments: it gets PORT and SERVER_ID in its environment. [] runs the demonstration replica.",
                parse::words,
            ),
        };
        let docker = Self::read_docker(r);
        if fleet.runtime == RuntimeChoice::Docker
            && docker.fleet.is_none()
            && state.is_none()
            && listen.port() == 0
        {
            r.mistake(
                &["state", "listen", "docker.fleet", "fleet.runtime"],
                "docker.fleet, or a file in state, or a fixed port in listen: a later balancer finds its containers by one of them",
            );
        }
        let proxy = Self::read_proxy(r);
        Self {
            listen,
            reuse_port,
            tls,
            admin,
            state,
            drain_timeout,
            fleet,
            process,
            docker,
            placement,
            proxy,
        }
    }

    fn read_tls(r: &mut Reader<'_>) -> Option<(SocketAddr, TlsFiles)> {
        r.section("tls", "The same over TLS, with HTTP/2 where the client can.");
        let listen = r.key(
            "tls.listen",
            "",
            "Where clients connect, like 0.0.0.0:5443; \"\": nowhere.",
            parse::optional_address,
        );
        let certificate = r.key(
            "tls.certificate",
            "",
            "The chain as PEM; taken anew when the file changes.",
            parse::optional_path,
        );
        let key = r.key("tls.key", "", "Its key as PEM.", parse::optional_path);
        match (listen, certificate, key) {
            (None, None, None) => None,
            (Some(listen), Some(certificate), Some(key)) => {
                Some((listen, TlsFiles { certificate, key, client_ca: None }))
            }
            _ => {
                r.mistake(
                    &["tls.listen", "tls.certificate", "tls.key"],
                    "tls.listen with tls.certificate and tls.key, or none of the three",
                );
                None
            }
        }
    }

    fn read_admin(r: &mut Reader<'_>) -> AdminConfig {
        r.section(
            "admin",
            "Administration: /rep, /add and /rm are served on both ports, the rest only here.",
        );
        AdminConfig {
            listen: r.key("admin.listen", "127.0.0.1:5001", "The admin-only port.", parse::address),
            token: r.secret(
                "admin.token",
                "",
                "With it, `Authorization: Bearer <token>` is let in from anywhere; without, only this machine is. At least 16 characters.",
                |text| parse::token(text).map(|token| token.map(Secret)),
            ),
            max_connections: r.key(
                "admin.max_connections",
                "256",
                "Connections to the admin-only port at a time; more wait in the kernel's queue.",
                parse::number(1_usize..=100_000),
            ),
        }
    }

    fn read_ring(r: &mut Reader<'_>) -> Placement {
        r.section("ring", "How keys are placed on replicas.");
        let chosen = r.key(
            "ring.placement",
            "rendezvous",
            "rendezvous | maglev | ketama | slots (the original's ring, see hash).",
            parse::one_of(&["rendezvous", "maglev", "ketama", "slots"]),
        );
        let hash = r.key(
            "ring.hash",
            "",
            "given | modified | sha256: selects `slots` with this hash pair. HASH_NUM=0|1|2 does the same.",
            parse::hash_pair,
        );
        let slots = r.key(
            "ring.slots",
            "512",
            "Of the `slots` placement: 1 to 65536.",
            parse::number(1_u32..=65_536),
        );
        let virtual_servers = r.key(
            "ring.virtual_servers",
            "9",
            "Points of one replica among the slots: 1 to 1024.",
            parse::number(1_u32..=1024),
        );
        let probing = r.key("ring.probing", "linear", "linear | quadratic.", parse::probing);
        if virtual_servers > slots {
            r.mistake(
                &["ring.virtual_servers", "ring.slots"],
                "ring.virtual_servers of at most ring.slots, or no replica fits",
            );
        }
        // What is set nearer is what is meant: HASH_NUM beside a file that holds every default selects its ring.
        let (hash_rank, placement_rank) = (r.rank("ring.hash"), r.rank("ring.placement"));
        if hash.is_some() && chosen != "slots" && hash_rank == placement_rank {
            r.mistake(
                &["ring.placement"],
                "\"slots\" (or leave it out): ring.hash or HASH_NUM selects that placement",
            );
        }
        match (chosen.as_str(), hash.filter(|_| hash_rank <= placement_rank || chosen == "slots")) {
            ("slots", pair) | (_, pair @ Some(_)) => {
                Placement::Slots { pair: pair.unwrap_or(HashPair::Given), slots, virtual_servers, probing }
            }
            ("maglev", None) => Placement::Maglev,
            ("ketama", None) => Placement::Ketama,
            (_, None) => Placement::Rendezvous,
        }
    }

    fn read_fleet(r: &mut Reader<'_>, placement: &Placement) -> FleetConfig {
        r.section("fleet", "Replicas: how many, how watched, how healed.");
        let mut fleet = FleetConfig {
            replicas: r.key(
                "fleet.replicas",
                "3",
                "How many the first start makes; later the remembered membership counts.",
                parse::number(0_usize..=4096),
            ),
            max_replicas: r.key(
                "fleet.max_replicas",
                "256",
                "The most there may ever be (the `slots` placement may hold fewer).",
                parse::number(1_usize..=4096),
            ),
            runtime: r.key(
                "fleet.runtime",
                "auto",
                "auto (docker where its socket answers) | process | docker | static (upstreams, which run elsewhere).",
                parse::runtime,
            ),
            upstreams: r.key(
                "fleet.upstreams",
                "[]",
                "Addresses that the runtime `static` balances over; nothing is started there.",
                parse::upstreams,
            ),
            heartbeat_interval: r.key(
                "fleet.heartbeat_interval",
                "1s",
                "From the start of one heartbeat to the next.",
                parse::duration,
            ),
            heartbeat_timeout: r.key(
                "fleet.heartbeat_timeout",
                "900ms",
                "How long one heartbeat may take, at most the interval; and, unless it is set, at most nine tenths of it.",
                parse::duration,
            ),
            heartbeat_path: r.key(
                "fleet.heartbeat_path",
                "/heartbeat",
                "What is asked of a replica; any 2xx is a sign of life.",
                parse::path,
            ),
            failures: r.key(
                "fleet.failures",
                "3",
                "Consecutive missed heartbeats that flatline a replica.",
                parse::number(1_u32..=1000),
            ),
            start_timeout: r.key(
                "fleet.start_timeout",
                "10s",
                "From launch to the first good heartbeat.",
                parse::duration,
            ),
            stop_timeout: r.key(
                "fleet.stop_timeout",
                "5s",
                "From the polite signal to the kill; also the longest drain of a removed replica.",
                parse::duration,
            ),
            task_batch: r.key(
                "fleet.task_batch",
                "10",
                "Spawns, polite stops and removals of the dead: each so many at a time.",
                parse::number(1_usize..=1000),
            ),
            request_batch: r.key(
                "fleet.request_batch",
                "10",
                "Heartbeats under way at a time.",
                parse::number(1_usize..=1000),
            ),
            respawn_name: r.key(
                "fleet.respawn_name",
                "same",
                "same | new: what a respawned replica is called. Its keys stay either way.",
                parse::respawn_name,
            ),
            backoff_min: r.key(
                "fleet.backoff_min",
                "100ms",
                "The first death is respawned at once, the second in a row after this; then it doubles.",
                parse::duration,
            ),
            backoff_max: r.key("fleet.backoff_max", "30s", "The longest such delay.", parse::duration),
            backoff_reset: r.key(
                "fleet.backoff_reset",
                "10s",
                "A replica that lived this long starts afresh.",
                parse::duration,
            ),
            reconcile_interval: r.key(
                "fleet.reconcile_interval",
                "5s",
                "How often the fleet is compared with what really runs.",
                parse::duration,
            ),
        };
        if !r.is_set("fleet.heartbeat_timeout") {
            fleet.heartbeat_timeout = fleet.heartbeat_timeout.min(fleet.heartbeat_interval * 9 / 10);
        }
        if fleet.heartbeat_timeout > fleet.heartbeat_interval {
            r.mistake(
                &["fleet.heartbeat_timeout"],
                "at most fleet.heartbeat_interval, or heartbeats would overtake each other",
            );
        }
        if (fleet.runtime == RuntimeChoice::Static) == fleet.upstreams.is_empty() {
            r.mistake(
                &["fleet.upstreams", "fleet.runtime"],
                "addresses, with fleet.runtime = \"static\" and only with it",
            );
        }
        if fleet.backoff_min > fleet.backoff_max {
            r.mistake(
                &["fleet.backoff_min", "fleet.backoff_max"],
                "fleet.backoff_min of at most fleet.backoff_max",
            );
        }
        let room = placement.capacity().min(fleet.max_replicas);
        if fleet.replicas > room {
            let keys =
                ["fleet.replicas", "fleet.max_replicas", "ring.slots", "ring.virtual_servers", "ring.hash"];
            r.mistake(
                &keys,
                &format!(
                    "fleet.replicas of at most {room}: that is what the ring and fleet.max_replicas hold"
                ),
            );
        }
        fleet
    }

    fn read_docker(r: &mut Reader<'_>) -> DockerConfig {
        r.section("docker", "Replicas as containers.");
        DockerConfig {
            socket: r.key("docker.socket", "/var/run/docker.sock", "The engine's socket.", parse::file_path),
            network: r.key("docker.network", "my_net", "The network of the replicas; made when it is missing.", parse::docker_name),
            image: r.key("docker.image", "", "An image of your own that listens on docker.port; \"\" builds slipring:<version> from this executable.", parse::optional_text),
            port: r.key("docker.port", "5000", "What replicas listen on inside their container.", parse::number(1_u16..=u16::MAX)),
            fleet: r
                .key("docker.fleet", "", "The label that tells this balancer's containers from another's on the same engine; \"\": one that is drawn once and remembered beside state (in a container: slipring-<its name>; without state: slipring-<port of listen>).", parse::optional_docker_name),
        }
    }

    fn read_proxy(r: &mut Reader<'_>) -> ProxyConfig {
        r.section("proxy", "The data plane.");
        ProxyConfig {
            paths: r.key("proxy.paths", "[\"/home\", \"/heartbeat\"]", "What reaches replicas; \"/api/*\" stands for everything below /api, \"/*\" for everything.", parse::paths),
            key: r.key("proxy.key", "[\"random\"]", "Where a request's key comes from, the first that has one: header:NAME, cookie:NAME, query:NAME, path, client, random.", parse::key_sources),
            connect_timeout: r.key("proxy.connect_timeout", "1s", "To a replica's accept.", parse::duration),
            first_byte_timeout: r.key("proxy.first_byte_timeout", "30s", "From the request to the head of its answer.", parse::duration),
            idle_timeout: r.key("proxy.idle_timeout", "60s", "Between two pieces of a body, and on a client's kept-alive connection.", parse::duration),
            header_timeout: r.key("proxy.header_timeout", "10s", "From a connection's first moment, or a later request's first byte, to the end of the head.", parse::duration),
            tunnel_timeout: r.key("proxy.tunnel_timeout", "1h", "How long nothing may pass through an upgraded connection (WebSocket).", parse::duration),
            replica_idle_timeout: r.key("proxy.replica_idle_timeout", "15s", "How long an idle connection to a replica is kept; less than the replica itself keeps it.", parse::duration),
            max_attempts: r.key("proxy.max_attempts", "3", "How many replicas one request may wait for in turn; a refused connection costs no wait and does not count.", parse::number(1_usize..=100)),
            workers: cores_if_none(r.key("proxy.workers", "0", "Threads of the data plane; 0: one for each core.", parse::number(0_usize..=256))),
            max_header_bytes: r.key("proxy.max_header_bytes", "16384", "The longest head of a request; beyond it 431.", parse::number(1024_usize..=32_768)),
            max_body_bytes: Some(r.key("proxy.max_body_bytes", "0", "The longest body of a request, beyond it 413; 0: any.", parse::number(0_u64..=u64::MAX))).filter(|&limit| limit > 0).unwrap_or(u64::MAX),
            max_streams: r.key("proxy.max_streams", "128", "Requests under way on one HTTP/2 connection.", parse::number(1_u32..=65_536)),
            max_resets: r.key("proxy.max_resets", "256", "Requests that a client may take back within ten seconds before their answers, on one HTTP/2 connection; beyond them it ends.", parse::number(1_u32..=1_000_000)),
            trusted: r.key("proxy.trusted", "[\"127.0.0.0/8\", \"::1/128\"]", "Networks of proxies whose Forwarded and X-Forwarded-* count; from anyone else they are replaced.", parse::networks),
            max_waiting_per_replica: r.key("proxy.max_waiting_per_replica", "16384", "Requests that wait for a free connection to one replica; beyond them 503.", parse::number(0_usize..=1_000_000)),
            max_connections: r.key("proxy.max_connections", "20000", "Clients at a time (at most three quarters of the limit of open files); more wait in the kernel's queue.", parse::number(1_usize..=1_000_000)),
            max_connections_per_replica: r.key("proxy.max_connections_per_replica", "1024", "Requests beyond these wait for a free connection, at most first_byte_timeout.", parse::number(1_usize..=1_000_000)),
            calm: CalmConfig::read(r),
        }
    }
}

fn cores_if_none(workers: usize) -> usize {
    match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    }
}

#[cfg(test)]
mod tests;
