//! Configuration: one list of keys, read from flags, environment and file, in that order of precedence.
//!
//! `Config::read` is that list. Every key is declared once, with its default and its words; the same pass
//! validates a user's settings, finds unknown keys and writes the commented example; a pool is read by the parts of
//! the list that it may have for itself, with its name before each key. Deriving `Deserialize` on a
//! mirror of the file was the alternative: it stops at the first mistake, knows no environment, and needs its
//! documentation kept in step by hand.

mod analyse;
mod calm;
mod difference;
mod fleet;
mod forward;
mod given;
mod keys;
mod names;
mod overlay;
mod parse;
mod pool;
mod proxy;
mod reader;
mod report;
mod ring;
mod runtime;
mod upstream;
mod waves;

pub use analyse::{AnalyseConfig, STORE_VARIABLE, WATCH};
pub use calm::CalmConfig;
pub use difference::{Difference, NeedsRestart, PoolChanges};
pub use fleet::{FleetConfig, Listed, RespawnName, RuntimeChoice};
pub use forward::ForwardConfig;
pub use given::{Given, LoadError};
pub use keys::KeyChange;
pub use overlay::{Contained, FixedMember, GivenKind, OverlayConfig, OverlayKeys, ReadOverlay};
pub use pool::{DEFAULT, MOST_POOLS, PoolConfig};
pub use proxy::ProxyConfig;
pub use reader::{Origin, Sources};
pub use report::{ConfigError, Mistake};
pub use runtime::{DockerConfig, ProcessConfig};
pub use upstream::{UpstreamConfig, UpstreamSecurity};
pub use waves::{ReadWaves, WavesKeys};

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::chain;
use crate::proxy::tls::{Tls, TlsFiles};
use keys::Effect::{AtReload, AtRestart};
use keys::Keys;
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
    /// How long the balancer's own stop waits for requests in flight.
    pub drain_timeout: Duration,
    /// The data plane.
    pub proxy: ProxyConfig,
    /// The pool without a name, which takes `proxy.paths` where no route takes them.
    pub main: PoolConfig,
    /// The pools with names.
    pub pools: Vec<PoolConfig>,
    keys: Keys,
}

/// Administration.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// The admin-only port.
    pub listen: SocketAddr,
    /// The bearer token that lets callers in from anywhere.
    pub token: Option<Secret>,
    /// Whether the gateway of the balancer's own container counts as this machine.
    pub trust_gateway: bool,
    /// Connections to the admin-only port at a time.
    pub max_connections: usize,
    /// Pages of this appliance that are fed at a time.
    pub max_watchers: usize,
    /// With which certificate it speaks TLS, and to whom; `None`: it speaks in the clear.
    pub tls: Option<TlsFiles>,
}

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for whom it is meant for.
    fn reveal(&self) -> &str {
        &self.0
    }

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

impl Config {
    /// Reads and validates everything, or reports every mistake at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(sources);
        let config = Self::read(&mut reader);
        Ok(Self { keys: reader.finish()?, ..config })
    }

    /// The commented example: every key with its default.
    pub fn example() -> String {
        // A pool, for what one may have; in its own words it is only spoken of.
        let flags = [("pool.api.routes".to_owned(), "/api/*".to_owned())].into();
        let one_pool = Sources { flags, ..Sources::default() };
        let mut reader = Reader::new(&one_pool);
        Self::read(&mut reader);
        let [inherited, own] = reader.of_pools();
        let mut text = reader.example();
        let list = |keys: Vec<&str>| {
            let mut lines = vec![String::from("#  ")];
            for key in keys {
                if lines.last().is_some_and(|line| line.len() + key.len() > 110) {
                    lines.push(String::from("#  "));
                }
                lines.last_mut().expect("there is one").extend([" ", key]);
            }
            lines.join("\n")
        };
        write!(
            text,
            "\n# Pools: fleets of their own behind routes of their own, at most {MOST_POOLS}. A route is a host, a path or both; an exact\n\
             # host goes before a wildcard, a wildcard before none, then the longest path. What no route takes is proxy.paths'.\n\
             # [pool.api]\n\
             # routes = [\"api.example.com/*\", \"*.api.example.com/v2/*\", \"/api/*\"]\n\
             # fleet.replicas = 2\n\
             # What a pool does not set of these is as above (SLIPRING_POOL_API_RING_PLACEMENT for pool.api.ring.placement):\n{}\n\
             # What it does not set of these has its default, whatever is above; addresses make its runtime `static`, and\n\
             # containers without a label of its own have the one above with its name behind it:\n{}\n",
            list(inherited),
            list(own),
        )
        .expect("writing into memory");
        text
    }

    /// All pools, the one without a name first.
    pub fn all_pools(&self) -> impl Iterator<Item = &PoolConfig> {
        std::iter::once(&self.main).chain(&self.pools)
    }

    fn read(r: &mut Reader<'_>) -> Self {
        r.section("", "Where it listens, what it remembers.");
        let listen = r.key(
            "listen",
            AtRestart,
            "0.0.0.0:5000",
            "Where clients connect; port 0 takes a free one.",
            parse::address,
        );
        let reuse_port = r.key(
            "reuse_port", AtRestart,
            "false",
            "true | false: whether a new balancer may start at the same addresses beside one that drains (SO_REUSEPORT).",
            parse::one_of(&["true", "false"]),
        ) == "true";
        let state = r.key(
            "state", AtRestart,
            ".slipring/state.json",
            "The file that remembers the membership over a restart; \"\" remembers nothing. A pool's is beside it, with its name: state-NAME.json.",
            parse::optional_path,
        );
        let drain_timeout = r.key(
            "drain_timeout",
            AtReload,
            "10s",
            "How long a stop of the balancer waits for requests in flight.",
            parse::duration,
        );
        let tls = Self::read_tls(r);
        let admin = Self::read_admin(r);
        let balancer = pool::Balancer { listen, state };
        let main = PoolConfig::read(r, DEFAULT, &balancer);
        let proxy = proxy::read(r, main.forward.idle_timeout);
        let pools = PoolConfig::read_all(r, &main, &balancer);
        Self { tls, listen, reuse_port, admin, drain_timeout, proxy, main, pools, keys: Keys::default() }
    }

    fn read_tls(r: &mut Reader<'_>) -> Option<(SocketAddr, TlsFiles)> {
        r.section("tls", "The same over TLS, with HTTP/2 where the client can.");
        let listen = r.key(
            "tls.listen",
            AtRestart,
            "",
            "Where clients connect, like 0.0.0.0:5443; \"\": nowhere.",
            parse::optional_address,
        );
        let certificate = r.key(
            "tls.certificate",
            AtRestart,
            "",
            "The chain as PEM; taken anew when the file changes.",
            parse::optional_path,
        );
        let key = r.key("tls.key", AtRestart, "", "Its key as PEM.", parse::optional_path);
        match (listen, certificate, key) {
            (None, None, None) => None,
            (Some(listen), Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate, key, client_ca: None };
                look_into(r, &files, &["tls.certificate", "tls.key"]);
                Some((listen, files))
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
            listen: r.key("admin.listen", AtRestart, "127.0.0.1:5001", "The admin-only port.", parse::address),
            token: r.secret(
                "admin.token", AtReload,
                "",
                "With it, `Authorization: Bearer <token>` is let in from anywhere; without, only this machine is. At least 16 characters.",
                |text| parse::token(text).map(|token| token.map(Secret)),
            ),
            trust_gateway: r.key(
                "admin.trust_gateway", AtRestart,
                "true",
                "Whether, for a balancer in a container, the gateway of its network counts as this machine, which is where its host's calls come from; not where others' do too (rootless Docker, a published port that docker-proxy carries).",
                parse::truth,
            ),
            max_connections: r.key(
                "admin.max_connections", AtReload,
                "256",
                "Connections to the admin-only port at a time; more wait. One caller (an address) may have half of them, but always 8; beyond those it is turned away.",
                parse::number(1_usize..=100_000),
            ),
            max_watchers: r.key(
                "admin.max_watchers", AtReload,
                "64",
                "Pages (GET / on the admin-only port) that are fed at a time; one more is told to come again.",
                parse::number(1_usize..=100_000),
            ),
            tls: Self::read_admin_tls(r),
        }
    }

    fn read_admin_tls(r: &mut Reader<'_>) -> Option<TlsFiles> {
        let certificate = r.key(
            "admin.tls_certificate",
            AtRestart,
            "",
            "The chain as PEM, with which the admin-only port speaks TLS and nothing else; taken anew when the file changes. \"\": no TLS.",
            parse::optional_path,
        );
        let key = r.key("admin.tls_key", AtRestart, "", "Its key as PEM.", parse::optional_path);
        let client_ca = r.key(
            "admin.client_ca",
            AtRestart,
            "",
            "Authorities as PEM, taken anew when the file changes: only who has a certificate of theirs is let in, from wherever; with admin.token, who has both. \"\": no certificate is asked for.",
            parse::optional_path,
        );
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate, key, client_ca };
                look_into(r, &files, &["admin.tls_certificate", "admin.tls_key", "admin.client_ca"]);
                Some(files)
            }
            (None, None) if client_ca.is_none() => None,
            _ => {
                r.mistake(
                    &["admin.tls_certificate", "admin.tls_key", "admin.client_ca"],
                    "admin.tls_certificate with admin.tls_key, which admin.client_ca needs, too",
                );
                None
            }
        }
    }
}

/// What the files hold is a mistake like any other, told beside the others. Who serves reads them again.
fn look_into(r: &mut Reader<'_>, files: &TlsFiles, keys: &[&str]) {
    if r.looks_into_files()
        && let Err(error) = Tls::load(files.clone(), &[])
    {
        r.mistake(keys, &format!("PEM files that can be read and go together: {}", chain::words(&error)));
    }
}

#[cfg(test)]
mod tests;
