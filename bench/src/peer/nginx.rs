//! nginx, as a proxy and as the replicas.

use super::Site;

/// Of each worker; a proxied request takes two. Room for ten thousand idle clients.
const WORKER_CONNECTIONS: u32 = 16_384;
/// Never close a connection because it was used often, or for long.
const FOREVER: &str = "keepalive_requests 1000000000; keepalive_timeout 3600s;";
/// Large answers take half the processor time in pieces of 32 KiB as in those of a page, which are the default.
const LARGE_ANSWERS: &str =
    "  proxy_buffer_size 32k;\n  proxy_buffers 16 32k;\n  proxy_busy_buffers_size 128k;\n";
/// Large enough that no body goes through a file.
const BODY_BUFFER: &str = "client_max_body_size 16m; client_body_buffer_size 256k;";

/// In the foreground, with every file in the folder where it runs.
pub(crate) fn arguments(file: &str) -> [&str; 6] {
    ["-p", ".", "-e", "stderr", "-c", file]
}

/// What every nginx here has in common: `http` is what it does.
pub(crate) fn configuration(name: &str, workers: u32, http: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {name}-{kind};\n"))
        .concat();
    format!(
        "daemon off;\n\
         worker_processes {workers};\n\
         pid {name}.pid;\n\
         error_log stderr error;\n\
         events {{ worker_connections {WORKER_CONNECTIONS}; }}\n\
         http {{\n  access_log off;\n  {FOREVER}\n  {BODY_BUFFER}\n{temporary}{http}}}\n"
    )
}

/// The proxy.
///
/// As many idle connections as there can be requests, so that none is closed for want of room: 256 at least, which
/// 64 clients need. A body may be kept back in memory but never in a file.
pub(crate) fn proxy(site: &Site) -> String {
    let servers: String =
        site.replicas.iter().map(|port| format!("    server 127.0.0.1:{port};\n")).collect();
    let replicas = u32::try_from(site.replicas.len()).unwrap_or(u32::MAX);
    let keepalive = 256.max(2 * site.concurrency).max(8 * replicas);
    // A socket of its own for each worker, or the kernel gives most clients to one of them.
    let options = format!(
        "{}{} backlog=4096",
        if site.http2 || site.grpc { " http2" } else { "" },
        if site.workers > 1 { " reuseport" } else { "" }
    );
    let pass = if site.grpc {
        "      grpc_pass grpc://replicas;\n"
    } else {
        "      proxy_pass http://replicas;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n"
    };
    let tuning = if site.tuned { LARGE_ANSWERS } else { "" };
    let http = format!(
        "  proxy_max_temp_file_size 0;\n{tuning}\
        \x20 upstream replicas {{\n    hash $request_uri consistent;\n{servers}    keepalive {keepalive};\n    {FOREVER}\n  }}\n\
        \x20 server {{\n    listen 127.0.0.1:{}{options};\n\
        \x20   location / {{\n{pass}    }}\n  }}\n",
        site.port
    );
    configuration("nginx", site.workers, &http)
}
