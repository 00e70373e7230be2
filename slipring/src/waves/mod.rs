//! `slipring waves`: units of a tree and the balancer that begins waves on them, one by one or all under the appliance; and
//! trees to try them on.

mod generate;
mod pool;
mod process;
mod up;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
pub(crate) use pool::members;
use slipring_units::config::Config;
use slipring_waves::topology::{Topology, Tree};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start an appliance that runs all units of a tree and their balancer, and heals them.
    Up(up::Arguments),
    /// Run one unit.
    Unit(process::Unit),
    /// Run the balancer of the waves.
    Balancer(process::Balancer),
    /// Print a random tree.
    Generate(generate::Arguments),
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Unit(arguments) => process::unit(arguments),
        Command::Balancer(arguments) => process::balancer(arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    }
}

/// A file, or its text: an appliance hands on what it has read, because the file may change while it runs.
fn text(path: &Path) -> std::io::Result<String> {
    match path.to_str().filter(|text| text.starts_with('{')) {
        Some(text) => Ok(text.to_owned()),
        None => std::fs::read_to_string(path),
    }
}

/// Why a file is not what it should be, in lines for people.
fn read<T, E: std::error::Error>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Vec<String>> {
    let text = text(path).map_err(|error| vec![format!("{} cannot be read: {error}", path.display())])?;
    parse(&text).map_err(|error| {
        let cause = error.source().map(|source| format!(" ({source})")).unwrap_or_default();
        error.to_string().lines().map(|line| format!("{}: {line}{cause}", name(path))).collect()
    })
}

/// What a path is called, or a text.
fn name(path: &Path) -> String {
    if path.to_str().is_some_and(|text| text.starts_with('{')) {
        "the text".to_owned()
    } else {
        path.display().to_string()
    }
}

fn tree(path: &Path) -> Result<Tree, Vec<String>> {
    read(path, |text| Topology::parse(text)?.tree())
}

fn config(path: Option<&Path>) -> Result<Config, Vec<String>> {
    match path {
        Some(path) => read(path, Config::parse),
        None => Ok(Config::parse("{}").expect("all of it has a default")),
    }
}

/// Tells what is wrong with arguments, and ends.
fn refuse(lines: &[String]) -> ExitCode {
    for line in lines {
        eprintln!("slipring: {line}");
    }
    ExitCode::from(2)
}
