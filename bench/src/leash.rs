//! `bench-proxy leash`: becomes another program, which stays on its CPU and ends with its parent.
//!
//! Affinity and the signal at the parent's death must be set between `fork` and `exec`; setting them here, in a
//! process of our own that then calls `exec`, needs no code in a forked copy of the harness. The signal is SIGTERM
//! and not SIGKILL, because nginx's workers are ended by their master and by nobody else.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End with this parent process, however it ends.
    #[arg(long)]
    parent: u32,
    /// Run on this CPU only.
    #[arg(long)]
    cpu: Option<usize>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

/// What another process is started with to be on a leash: arguments of our own executable.
pub(crate) fn arguments(parent: u32, cpu: Option<usize>) -> Vec<String> {
    let mut arguments = vec!["leash".to_owned(), format!("--parent={parent}")];
    arguments.extend(cpu.map(|cpu| format!("--cpu={cpu}")));
    arguments.push("--".to_owned());
    arguments
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let tied = tie(arguments.parent).and_then(|()| arguments.cpu.map_or(Ok(()), stay_on));
    let error = match tied {
        Ok(()) => Command::new(&arguments.command[0]).args(&arguments.command[1..]).exec(),
        Err(error) => error,
    };
    eprintln!("bench-proxy: {} cannot be started: {error}", arguments.command[0].display());
    ExitCode::FAILURE
}

fn tie(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() == expected { Ok(()) } else { Err(io::Error::other("the harness is gone")) }
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
