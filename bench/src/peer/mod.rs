//! The proxies that are compared, each configured as its users would for the same task: consistent hashing on the
//! URI, connections to the replicas kept, nothing logged.

mod haproxy;
pub(crate) mod nginx;
mod slipring;

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;
use crate::http;
use crate::process::{Launch, Process};
use crate::tools::Tools;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    Nginx,
    Haproxy,
    Slipring,
    /// Nobody: the load goes to a replica. What is left is what the load and the replicas take themselves.
    Direct,
}

/// What one start of a proxy is to be.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Where clients connect.
    pub(crate) port: u16,
    /// A second port, for who needs one.
    pub(crate) admin_port: u16,
    /// Where the replicas are.
    pub(crate) replicas: Vec<u16>,
    /// Threads or processes that carry requests.
    pub(crate) workers: u32,
    /// The most requests that will be under way at a time.
    pub(crate) concurrency: u32,
    /// Speak HTTP/2 in the clear to clients that begin with it.
    pub(crate) http2: bool,
    /// And to replicas, which speak nothing else.
    pub(crate) grpc: bool,
    /// Tuned for large answers, where that takes a setting.
    pub(crate) tuned: bool,
    /// Where it runs.
    pub(crate) cpu: Option<usize>,
}

impl Peer {
    pub(crate) const ALL: [Peer; 3] = [Peer::Nginx, Peer::Haproxy, Peer::Slipring];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Nginx => "nginx",
            Peer::Haproxy => "haproxy",
            Peer::Slipring => "slipring",
            Peer::Direct => "direct",
        }
    }

    /// Its configuration file.
    pub(crate) fn configuration(self, site: &Site) -> String {
        match self {
            Peer::Nginx => nginx::proxy(site),
            Peer::Haproxy => haproxy::configuration(site),
            Peer::Slipring => slipring::configuration(site),
            Peer::Direct => String::new(),
        }
    }

    fn arguments(self, file: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Peer::Nginx => &nginx::arguments(file),
            // In the foreground, as one process.
            Peer::Haproxy => &["-db", "-f", file],
            Peer::Slipring => &["balancer", "--config", file],
            Peer::Direct => &[],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// Starts it in this folder and waits until it answers.
    pub(crate) async fn start(self, site: &Site, tools: &Tools, folder: &Path) -> Result<Process, Error> {
        let file = format!("{}.conf", self.name());
        write(&folder.join(&file), self.configuration(site).as_bytes())?;
        let launch = Launch {
            name: self.name().to_owned(),
            program: tools.program(self),
            arguments: self.arguments(&file).into_iter().map(Into::into).collect(),
            folder: folder.to_owned(),
            cpu: site.cpu,
        };
        let mut process = Process::start(&launch)?;
        let only_http2 = site.http2 && self != Peer::Slipring;
        process.wait_until(async || ready(site.port, only_http2 || site.grpc).await).await?;
        Ok(process)
    }
}

/// It answers with a replica's answer. One that speaks only HTTP/2 is believed when it accepts: whether it answers
/// is seen when it is warmed up.
async fn ready(port: u16, only_http2: bool) -> Result<(), String> {
    if only_http2 {
        let connected = http::connect(std::net::Ipv4Addr::LOCALHOST, port).await;
        return connected.map(drop).map_err(|error| error.to_string());
    }
    match http::get(port, "/heartbeat").await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("status {}: {}", answer.status, answer.body)),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes a file of the run.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            port: 9000,
            admin_port: 9001,
            replicas: vec![9101, 9102],
            workers: 2,
            concurrency: 64,
            http2: false,
            grpc: false,
            tuned: false,
            cpu: None,
        }
    }

    #[test]
    fn every_configuration_names_every_replica_and_no_path() {
        for peer in Peer::ALL {
            let text = peer.configuration(&site());
            for address in ["127.0.0.1:9000", "127.0.0.1:9101", "127.0.0.1:9102"] {
                assert!(text.contains(address), "{address} is not in\n{text}");
            }
            assert!(!text.contains("/tmp") && !text.contains("/home/"), "{text}");
        }
    }

    #[test]
    fn http2_and_large_answers_are_said_to_those_who_must_be_told() {
        for peer in [Peer::Nginx, Peer::Haproxy] {
            let plain = peer.configuration(&site());
            for other in [
                Site { http2: true, ..site() },
                Site { grpc: true, ..site() },
                Site { tuned: true, ..site() },
            ] {
                assert_ne!(peer.configuration(&other), plain, "{peer:?}");
            }
        }
    }
}
