//! `slipring overlay node`: one process.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use slipring_overlay::node::{self, Options};
use slipring_server::die_with_parent;
use tokio::net::TcpListener;

use super::Settings;
use crate::report::complain;
use crate::signals::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The overlay's file, or what it says.
    config: PathBuf,
    /// Which of its processes this is.
    id: String,
    #[command(flatten)]
    settings: Settings,
    /// Where to listen, if not where the file says.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where a process is found, if not where the file says; once for each.
    #[arg(long, value_name = "ID=HOST:PORT", value_parser = place)]
    at: Vec<(String, String, u16)>,
    /// End with this parent process, however it ends.
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

fn place(text: &str) -> Result<(String, String, u16), String> {
    let parts = text.split_once('=').and_then(|(id, place)| Some((id, place.rsplit_once(':')?)));
    let place = parts.and_then(|(id, (host, port))| {
        Some((id.to_owned(), host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
    });
    place.ok_or_else(|| "expected a process and its place, like B=10.0.0.2:60052".to_owned())
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    if let Some(parent) = arguments.parent
        && let Err(error) = die_with_parent(parent)
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    let mut topology = match super::read(&arguments.config) {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    for (id, host, port) in &arguments.at {
        match topology.processes.get_mut(id.as_str()) {
            Some(process) => (process.host, process.port) = (host.clone(), *port),
            None => {
                eprintln!("slipring: --at {id}=…: {} has no process '{id}'", arguments.config.display());
                return ExitCode::from(2);
            }
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    crate::balancer::raise_file_limit();
    let code = runtime.block_on(serve(arguments, topology));
    // Scans that nobody waits for do not hold up the end.
    runtime.shutdown_background();
    code
}

async fn serve(arguments: Arguments, topology: slipring_overlay::topology::Topology) -> ExitCode {
    let Arguments { id, settings, listen, .. } = arguments;
    let process = match topology.process(&id) {
        Ok(process) => process.clone(),
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let bound = match listen {
        Some(address) => TcpListener::bind(address).await,
        None => TcpListener::bind((process.host.as_str(), process.port)).await,
    };
    let (signals, listener) = match bound.and_then(|listener| Ok((Signals::new()?, listener))) {
        Ok(both) => both,
        Err(error) => {
            // The contract's ports are among those that Linux gives to connections.
            let advice = match error.kind() {
                ErrorKind::AddrInUse => {
                    ": end who listens there; if it was a connection's own port, net.ipv4.ip_local_reserved_ports keeps it free"
                }
                _ => "",
            };
            eprintln!("slipring: process {id} cannot listen on {}: {error}{advice}", process.authority());
            return ExitCode::FAILURE;
        }
    };
    match listener.local_addr() {
        Ok(address) => println!("listening on http://{address}"),
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    }
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = settings.threads.unwrap_or_else(cores);
    let (overrides, cache, limits) = (settings.overrides(), settings.cache(), settings.limits());
    let dataset_root = settings.dataset_root;
    let options = Options { topology, id: id.clone(), overrides, dataset_root, threads, cache, limits };
    signals
        .run_until(&format!("process {id}"), |mut stop| async move {
            let shutdown = async move { stop.asked().await };
            match node::serve(options, listener, shutdown).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            }
        })
        .await
}
