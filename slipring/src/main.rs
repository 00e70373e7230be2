//! The command line: one binary that runs every role.

#![allow(clippy::print_stdout, reason = "a command line prints its answers")]

mod analyse;
mod balancer;
mod client;
mod exec;
mod image;
mod init;
mod overlay;
mod report;
mod server;
mod signals;
mod text;
mod waves;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A load-balancer appliance: consistent hashing, replicas that are kept alive, answers without a Kubernetes.
#[derive(Parser)]
#[command(name = "slipring", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run the balancer and its replicas.
    Balancer(balancer::Arguments),
    /// Run one replica.
    Server(server::Arguments),
    /// Run an overlay: leader, team leaders and workers over partitioned data.
    Overlay(overlay::Arguments),
    /// Count what is in a folder of logs, on all cores or many machines, exactly once.
    Analyse(analyse::Arguments),
    /// Run a tree of units whose load is balanced by waves.
    Waves(waves::Arguments),
    /// Talk to a balancer.
    Client(client::Arguments),
    /// Build the container image from this executable, on the configured Docker engine.
    Image(image::Arguments),
    /// Become another program that ends with its parent (used by the process runtime).
    #[command(hide = true)]
    Exec(exec::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("SLIPRING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_target(false).with_ansi(colours).init();
    match arguments.role {
        Role::Balancer(_) if init::is_needed() => init::run(),
        Role::Balancer(arguments) => balancer::run(arguments),
        Role::Server(arguments) => server::run(&arguments),
        Role::Overlay(arguments) => overlay::run(arguments),
        Role::Analyse(arguments) => analyse::run(arguments),
        Role::Waves(arguments) => waves::run(arguments),
        Role::Client(arguments) => client::run(arguments),
        Role::Image(arguments) => image::run(arguments),
        Role::Exec(arguments) => exec::run(&arguments),
    }
}
