//! `slipring waves generate`: a random tree, as the original's generator draws them.

use std::process::ExitCode;

use clap::ValueEnum;
use slipring_waves::topology::{Topology, Tree};

use super::refuse;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many units.
    #[arg(long, default_value_t = 8)]
    units: usize,
    /// The same seed is the same tree.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// json, as `waves up` reads it, or dot, for Graphviz.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Dot,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let tree = match Tree::random(arguments.units, arguments.seed) {
        Ok(tree) => tree,
        Err(error) => return refuse(&[error.to_string()]),
    };
    match arguments.format {
        Format::Json => println!("{}", tree.to_json()),
        Format::Dot => print!("{}", Topology::Tree(tree).graph().to_dot()),
    }
    ExitCode::SUCCESS
}
