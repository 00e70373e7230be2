//! `bench-proxy`: what a request costs in Slipring, in nginx and in HAProxy, measured in turn in one run.
//!
//! Absolute figures of a shared machine say little; what survives is the ratio of two proxies that were measured
//! within the same seconds. So everything here is a ratio per round, and the median over the rounds. CPU time comes
//! from the kernel's own accounting of each proxy's processes, because it survives a noisy machine best.
//!
//! Exit codes: 0 measured; 1 it could not be measured; 2 a mistake in the arguments; 3 a program is missing;
//! 4 measured, but requests failed or connections were not reused, so that the figures do not compare;
//! 130 interrupted.

#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod account;
mod arguments;
mod backend;
mod date;
mod error;
mod http;
mod idle;
mod leash;
mod load;
mod machine;
mod measure;
mod peer;
mod plan;
mod ports;
mod process;
mod quiet;
mod record;
mod report;
mod run;
mod statistics;
mod tools;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Cli, Hidden};
use crate::error::Error;
use crate::plan::Plan;
use crate::run::Verdict;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Hidden::Leash(arguments)) = &cli.hidden {
        return leash::run(arguments);
    }
    // One thread: the children are tied to the thread that started them, and this one lives longest.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
        .and_then(|runtime| runtime.block_on(until_interrupted(cli.flags)));
    match outcome {
        Ok(Verdict::Comparable) => ExitCode::SUCCESS,
        Ok(Verdict::NotComparable) => ExitCode::from(4),
        Err(error) => {
            eprintln!("bench-proxy: {}", error::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// A signal drops the work, and with it everything that was started.
async fn until_interrupted(flags: arguments::Flags) -> Result<Verdict, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Runtime)?;
    tokio::select! {
        verdict = Box::pin(work(flags)) => verdict,
        _ = interrupt.recv() => Err(Error::Interrupted),
        _ = terminate.recv() => Err(Error::Interrupted),
        _ = hangup.recv() => Err(Error::Interrupted),
    }
}

async fn work(flags: arguments::Flags) -> Result<Verdict, Error> {
    let plan = Plan::new(&flags)?;
    let tools = tools::Tools::find(&plan, flags.slipring.as_deref())?;
    let finished = run::run(&plan, tools).await?;
    let path = record::save(&finished, &plan, flags.out.as_deref())?;
    eprintln!("raw data: {}", path.display());
    let tables = report::tables(&finished.cases, &plan);
    println!("{tables}");
    if let Some(line) = report::last_line(&finished.cases) {
        println!("{line}");
    }
    Ok(finished.verdict())
}
