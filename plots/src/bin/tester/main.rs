//! `tester`: measures a balancer and draws what it found.
//!
//! Thin: parse, measure, save, print. Exit codes: 0 everything was answered; 1 it was measured, and
//! requests failed or a killed replica did not come back; 2 it could not be measured; 130 interrupted.
#![allow(clippy::print_stdout, reason = "the figures are this program's output")]

mod appliance;
mod cli;
mod control;
mod distribute;
mod error;
mod failure;
mod interrupt;
mod progress;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use slipring_plots::report::distribution::Distribution;
use slipring_plots::report::failure::FailureRun;
use slipring_plots::report::{Report, load, save};

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::interrupt::Interrupt;

/// What a finished command says about what it measured.
enum Verdict {
    /// Every request was answered.
    Good,
    /// Some were not.
    Bad,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
        .and_then(|runtime| runtime.block_on(run(cli.into_command())));
    match outcome {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tester: {}", error::chain(&error));
            ExitCode::from(if matches!(error, Error::Interrupted) { 130 } else { 2 })
        }
    }
}

async fn run(command: Command) -> Result<Verdict, Error> {
    let interrupt = Interrupt::listen()?;
    match command {
        Command::Distribute(args) => {
            let report = distribute::measure(&args, &interrupt).await?;
            distribute::print(&report);
            keep(&report, &args.output.out)?;
            let failed: u64 = report.runs.iter().map(|run| run.failed()).sum();
            Ok(if failed == 0 { Verdict::Good } else { Verdict::Bad })
        }
        Command::Failure(args) => {
            let report = failure::measure(&args, &interrupt).await?;
            failure::print(&report);
            keep(&report, &args.output.out)?;
            let healed = report.figures.recovered_at.is_some() && report.figures.failures.is_empty();
            Ok(if healed { Verdict::Good } else { Verdict::Bad })
        }
        Command::Draw(output) => draw(&output.out),
    }
}

/// Draws the pictures of whichever reports the folder has.
fn draw(folder: &Path) -> Result<Verdict, Error> {
    let has = |name: &str| folder.join(format!("{name}.json")).exists();
    if has(Distribution::NAME) || !has(FailureRun::NAME) {
        keep(&load::<Distribution>(folder)?, folder)?;
    }
    if has(FailureRun::NAME) {
        keep(&load::<FailureRun>(folder)?, folder)?;
    }
    Ok(Verdict::Good)
}

fn keep<R: Report>(report: &R, folder: &Path) -> Result<(), Error> {
    let written = save(report, folder)?;
    println!("\nwrote into {}:", folder.display());
    for path in written {
        println!("  {}", path.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(())
}
