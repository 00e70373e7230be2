//! Slipring, with everything on that it has on by default: health, metrics, forwarding headers, timeouts.

use super::Site;

/// The most replicas that the ketama ring holds, and that the default allows.
const KETAMA_REPLICAS: usize = 256;

pub(super) fn configuration(site: &Site) -> String {
    // Replicas that speak nothing but HTTP/2 have no path to be asked for.
    let heartbeat = if site.grpc { "heartbeat_path = \"\"\n" } else { "" };
    let upstreams: Vec<String> = site.replicas.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    // Ketama is what nginx calls consistent: the same keys for the same replicas. Beyond its room, our own default.
    let (placement, more) = if site.replicas.len() > KETAMA_REPLICAS {
        ("rendezvous", format!("max_replicas = {}\n", site.replicas.len()))
    } else {
        ("ketama", String::new())
    };
    format!(
        "listen = \"127.0.0.1:{}\"\nstate = \"\"\n\n[admin]\nlisten = \"127.0.0.1:{}\"\n\n\
         [ring]\nplacement = \"{placement}\"\n\n[fleet]\nruntime = \"static\"\nupstreams = [{}]\n{heartbeat}{more}\n\
         [proxy]\nworkers = {}\npaths = [\"/*\"]\nkey = [\"path\"]\n",
        site.port,
        site.admin_port,
        upstreams.join(", "),
        site.workers,
    )
}
