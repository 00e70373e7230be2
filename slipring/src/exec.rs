//! `slipring exec`: ties itself to its parent's life and becomes another program.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use slipring_server::die_with_parent;

use crate::report::complain;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End with this parent process, however it ends.
    #[arg(long)]
    parent: u32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if let Err(error) = die_with_parent(arguments.parent) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    let error = Command::new(&arguments.command[0]).args(&arguments.command[1..]).exec();
    eprintln!("slipring: {} cannot be started: {error}", arguments.command[0]);
    ExitCode::FAILURE
}
