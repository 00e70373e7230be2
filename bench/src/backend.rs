//! The replicas: one nginx with a port for each, which also counts how often somebody connected.
//!
//! A unary call of gRPC is answered with one message, from a file, and the status in a trailer.
//!
//! A body that is posted must have been read when the answer goes out, else proxies would rightly give up the
//! connection. nginx reads one only to pass it on, so it passes it on, to itself, and drops it there.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::account::{Usage, usage};
use crate::error::Error;
use crate::http;
use crate::load::message;
use crate::peer::{nginx, write};
use crate::plan::{Case, Workload};
use crate::ports::Ports;
use crate::process::{Launch, Process};
use crate::tools::Tools;

/// Sixty bytes.
pub(crate) const ANSWER: &str = r#"{"message":"Hello from Server: bench","status":"successful"}"#;

/// The replicas run.
#[derive(Debug)]
pub(crate) struct Backend {
    process: Process,
    /// One for each replica.
    pub(crate) ports: Vec<u16>,
    control: u16,
    /// The file that it was started with.
    pub(crate) configuration: String,
}

/// What the replicas have counted so far, or between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Connections that were made to them.
    pub(crate) connections: u64,
    /// Requests on those.
    pub(crate) requests: u64,
}

impl Backend {
    /// Starts the replicas of a case.
    pub(crate) async fn start(
        case: &Case,
        tools: &Tools,
        ports: &mut Ports,
        folder: &Path,
    ) -> Result<Self, Error> {
        let replicas = ports.take_many(case.replicas)?;
        let control = ports.take()?;
        if let Workload::Download { bytes } = case.workload {
            write(&folder.join("download"), &vec![b'x'; bytes])?;
        }
        let is_grpc = matches!(case.workload, Workload::Grpc { .. });
        if is_grpc {
            write(&folder.join("message"), &message(ANSWER.as_bytes()))?;
        }
        let configuration = configuration(&replicas, control, is_grpc);
        write(&folder.join("backend.conf"), configuration.as_bytes())?;
        let launch = Launch {
            name: "backend".to_owned(),
            program: tools.nginx.clone(),
            arguments: nginx::arguments("backend.conf").map(Into::into).into(),
            folder: folder.to_owned(),
            cpu: case.setting.load_cpu(),
        };
        let mut process = Process::start(&launch)?;
        process.wait_until(async || counts(control).await.map(drop)).await?;
        Ok(Self { process, ports: replicas, control, configuration })
    }

    pub(crate) async fn counts(&self) -> Result<Counts, Error> {
        counts(self.control).await.map_err(Error::Backend)
    }

    /// What the replicas' processes have used so far.
    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        usage(self.process.group()).map_err(|source| Error::Accounts { name: "backend".to_owned(), source })
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
}

impl Counts {
    /// What was counted since an earlier look, without the look itself.
    pub(crate) fn since(self, earlier: Counts) -> Counts {
        let between = |now: u64, then: u64| now.saturating_sub(then).saturating_sub(1);
        Counts {
            connections: between(self.connections, earlier.connections),
            requests: between(self.requests, earlier.requests),
        }
    }
}

async fn counts(control: u16) -> io::Result<Counts> {
    let answer = http::get(control, "/status").await?;
    parse(&answer.body).ok_or_else(|| io::Error::other(format!("not nginx's counters: {}", answer.body)))
}

/// `stub_status`: the third line is accepted, handled, requests.
fn parse(text: &str) -> Option<Counts> {
    let mut numbers = text.lines().nth(2)?.split_whitespace().map(str::parse);
    let connections = numbers.next()?.ok()?;
    let requests = numbers.nth(1)?.ok()?;
    Some(Counts { connections, requests })
}

fn configuration(replicas: &[u16], control: u16, is_grpc: bool) -> String {
    // Before version 1.25 it speaks either or both only over TLS.
    let protocol = if is_grpc { " http2" } else { "" };
    let listen: String = replicas
        .iter()
        .map(|port| format!("    listen 127.0.0.1:{port}{protocol} backlog=4096;\n"))
        .collect();
    let http = format!(
        "  default_type application/json;\n  sendfile on;\n  tcp_nopush on;\n  http2_max_concurrent_streams 4096;\n\
        \x20 upstream sink {{ server unix:sink.sock; keepalive 1024; keepalive_requests 1000000000; }}\n\
        \x20 server {{\n    listen unix:sink.sock;\n    location / {{ return 200 '{ANSWER}'; }}\n\
        \x20   location /bench.Hello/ {{ root .; rewrite ^ /message break; default_type application/grpc; }}\n  }}\n\
        \x20 server {{\n    listen 127.0.0.1:{control};\n    location / {{ stub_status; }}\n  }}\n\
        \x20 server {{\n{listen}\
        \x20   location /heartbeat {{ return 200 ''; }}\n\
        \x20   location /home/ {{ return 200 '{ANSWER}'; }}\n\
        \x20   location /download/ {{ root .; rewrite ^ /download break; }}\n\
        \x20   location /post/ {{\n      proxy_pass http://sink;\n      proxy_http_version 1.1;\n\
        \x20     proxy_set_header Connection \"\";\n      proxy_set_header Content-Length \"\";\n\
        \x20     proxy_pass_request_body off;\n    }}\n\
        \x20   location /bench.Hello/ {{\n      proxy_pass http://sink;\n      proxy_http_version 1.1;\n\
        \x20     proxy_method GET;\n      proxy_set_header Connection \"\";\n      proxy_set_header Content-Length \"\";\n\
        \x20     proxy_pass_request_body off;\n      add_trailer grpc-status 0;\n    }}\n  }}\n",
    );
    nginx::configuration("backend", 1, &http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_sixty_bytes() {
        assert_eq!(ANSWER.len(), 60);
    }

    #[test]
    fn the_counters_of_nginx() {
        let text =
            "Active connections: 1 \nserver accepts handled requests\n 7 7 91 \nReading: 0 Writing: 1 \n";
        assert_eq!(parse(text), Some(Counts { connections: 7, requests: 91 }));
        assert_eq!(parse("<html>"), None);
    }

    #[test]
    fn a_look_does_not_count_itself() {
        let first = Counts { connections: 7, requests: 91 };
        let second = Counts { connections: 8, requests: 92 };
        assert_eq!(second.since(first), Counts { connections: 0, requests: 0 });
    }
}
