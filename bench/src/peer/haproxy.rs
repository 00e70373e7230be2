//! HAProxy.

use super::Site;

/// Room for ten thousand idle clients. It would take the double in file descriptors if all of them asked at once,
/// and is told not to insist.
const MAX_CONNECTIONS: u32 = 16_384;

pub(super) fn configuration(site: &Site) -> String {
    let servers: String = site
        .replicas
        .iter()
        .enumerate()
        .map(|(index, port)| {
            format!("  server replica{index} 127.0.0.1:{port}{}\n", if site.grpc { " proto h2" } else { "" })
        })
        .collect();
    format!(
        "global\n  nbthread {}\n  maxconn {MAX_CONNECTIONS}\n  no strict-limits\n\n\
         defaults\n  mode http\n  option http-keep-alive\n  http-reuse always\n  timeout connect 5s\n\
        \x20 timeout client 600s\n  timeout server 60s\n  timeout http-request 60s\n  timeout http-keep-alive 600s\n{}\n\
         frontend clients\n  bind 127.0.0.1:{} backlog 4096{}\n  default_backend replicas\n\n\
         backend replicas\n  balance uri\n  hash-type consistent\n{servers}",
        site.workers,
        // Large answers that never leave the kernel take a third of the processor time.
        if site.tuned { "  option splice-response\n" } else { "" },
        site.port,
        if site.http2 || site.grpc { " proto h2" } else { "" },
    )
}
