//! `slipring overlay up`: every process whose host is this one, as a child of this one.
//!
//! The balancer does the same and more for an overlay that is a pool of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_overlay::topology::{Process, Topology};

use super::children::Children;
use super::{Settings, here};
use crate::report::complain;
use crate::signals::Signals;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The overlay's file.
    config: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let topology = match super::read(&arguments.config) {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    let here = here::processes(&topology);
    if here.is_empty() {
        eprintln!("slipring: no process of {} is on this host", arguments.config.display());
        return ExitCode::FAILURE;
    }
    // One thread, which lives as long as the program: children end with the thread that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(all(arguments, &topology, &here))
}

async fn all(arguments: &Arguments, topology: &Topology, here: &[&Process]) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    println!("{} of {} processes are on this host:", here.len(), topology.processes.len());
    for process in here {
        println!("  {} {} {} http://{}", process.id, process.role.name(), process.team, process.authority());
    }
    let children = match Children::start(&arguments.config, &arguments.settings, here, None) {
        Ok(children) => children,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    signals.next().await;
    tokio::select! {
        () = children.end() => {
            println!("stopped");
            ExitCode::SUCCESS
        }
        () = signals.next() => ExitCode::from(crate::signals::ENDED_AT_ONCE),
    }
}
