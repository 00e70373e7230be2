//! `slipring waves unit` and `slipring waves balancer`: one process.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use slipring_server::die_with_parent;
use slipring_units::config::Config;
use slipring_units::{Places, balancer, unit};
use slipring_waves::topology::Tree;
use tokio::net::TcpListener;

use super::refuse;
use crate::report::complain;
use crate::signals::{Signals, Stop};

#[derive(clap::Args)]
pub(crate) struct Common {
    /// The tree's file, or what it says.
    topology: PathBuf,
    /// The configuration's file, or what it says: {"max_cpu", "task_time", "rebalance_interval", "strategy"}.
    config: Option<PathBuf>,
    /// The address at which all units are, and at which this process listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Where to listen, if not there [default: the host and the port].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where a unit is found, if not there at its port; once for each.
    #[arg(long, value_name = "PORT=HOST:PORT", value_parser = place)]
    at: Vec<(u16, String)>,
    /// End with this parent process, however it ends.
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

#[derive(clap::Args)]
pub(crate) struct Unit {
    /// Which unit.
    #[arg(long)]
    port: u16,
    #[command(flatten)]
    common: Common,
    /// The folder in which it writes down its tasks; without one they end with it.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Balancer {
    /// Its port, by which units know it.
    #[arg(long, default_value_t = 7999)]
    port: u16,
    #[command(flatten)]
    common: Common,
}

fn place(text: &str) -> Result<(u16, String), String> {
    let parts = text.split_once('=').and_then(|(port, place)| Some((port.parse().ok()?, place.to_owned())));
    parts.ok_or_else(|| "expected a unit's port and its place, like 8001=10.0.0.2:8001".to_owned())
}

struct Ready {
    tree: Arc<Tree>,
    config: Config,
    places: Places,
    listen: SocketAddr,
}

impl Common {
    fn ready(self, port: u16) -> Result<Ready, ExitCode> {
        if let Some(parent) = self.parent
            && let Err(error) = die_with_parent(parent)
        {
            complain(&error);
            return Err(ExitCode::FAILURE);
        }
        let (tree, config) = match (super::tree(&self.topology), super::config(self.config.as_deref())) {
            (Ok(tree), Ok(config)) => (tree, config),
            (tree, config) => {
                let wrong: Vec<_> = [tree.err(), config.err()].into_iter().flatten().flatten().collect();
                return Err(refuse(&wrong));
            }
        };
        let places: BTreeMap<u16, String> = self.at.into_iter().collect();
        if let Some(port) = places.keys().find(|port| tree.unit(**port).is_none()) {
            return Err(refuse(&[format!("--at {port}=…: no unit has that port")]));
        }
        let listen = self.listen.unwrap_or_else(|| SocketAddr::new(self.host, port));
        Ok(Ready { tree: Arc::new(tree), config, places: Places::new(self.host, places), listen })
    }
}

pub(crate) fn unit(arguments: Unit) -> ExitCode {
    let Unit { port, common, state } = arguments;
    let Ready { tree, config, places, listen } = match common.ready(port) {
        Ok(ready) => ready,
        Err(code) => return code,
    };
    if tree.unit(port).is_none() {
        let ports: Vec<_> = tree.units().iter().map(|unit| unit.port.to_string()).collect();
        return refuse(&[format!("no unit has port {port}; these do: {}", ports.join(", "))]);
    }
    let options = unit::Options { tree, port, config, places, state };
    serve(&format!("unit {port}"), listen, async |listener, mut stop| {
        match unit::serve(options, listener, async move { stop.asked().await }).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    })
}

pub(crate) fn balancer(arguments: Balancer) -> ExitCode {
    let Balancer { port, common } = arguments;
    let Ready { tree, config, places, listen } = match common.ready(port) {
        Ok(ready) => ready,
        Err(code) => return code,
    };
    if tree.unit(port).is_some() {
        return refuse(&[format!("port {port} is a unit's: --port names another one for the balancer")]);
    }
    let options = balancer::Options { tree, port, config, places };
    serve("the balancer of the waves", listen, async |listener, mut stop| {
        match balancer::serve(options, listener, async move { stop.asked().await }).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        }
    })
}

/// One thread: a process of many small messages is one of many on its machine.
fn serve<F: Future<Output = ExitCode>>(
    who: &str,
    listen: SocketAddr,
    work: impl FnOnce(TcpListener, Stop) -> F,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    crate::balancer::raise_file_limit();
    runtime.block_on(async {
        let bound = TcpListener::bind(listen).await;
        let (signals, listener) = match bound.and_then(|listener| Ok((Signals::new()?, listener))) {
            Ok(both) => both,
            Err(error) => {
                eprintln!("slipring: {who} cannot listen on {listen}: {error}: end who listens there, or change the port");
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
        signals.run_until(who, |stop| work(listener, stop)).await
    })
}
