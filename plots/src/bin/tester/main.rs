//! `tester`: measures a balancer and draws what it found.
//!
//! Thin: parse, measure, save, print. Exit codes: 0 everything was answered; 1 it was measured, and
//! requests failed or a killed replica did not come back; 2 it could not be measured; 130 interrupted.
mod appliance;
mod cli;
mod control;
mod distribute;
mod error;
mod failure;
mod interrupt;
mod progress;

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use slipring_plots::report::distribution::Distribution;
use slipring_plots::report::failure::{FailureRun, Manner};
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
    raise_file_limit();
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

/// Every request in flight is a file descriptor, and so is each of its connections in the balancer that is started
/// here, which inherits the limit: take as many as we may have. What is missing then is counted as failed to connect.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("tester: the limit of open files could not be raised: {error}");
    }
}

async fn run(command: Command) -> Result<Verdict, Error> {
    let interrupt = Interrupt::listen()?;
    match command {
        Command::Distribute(args) => {
            let report = distribute::measure(&args, &interrupt).await?;
            keep(&report, &args.output.out, &distribute::summary(&report))?;
            let failed: u64 = report.runs.iter().map(|run| run.failed()).sum();
            Ok(if failed == 0 { Verdict::Good } else { Verdict::Bad })
        }
        Command::Failure(args) => {
            let report = failure::measure(&args, &interrupt).await?;
            keep(&report, &args.output.out, &failure::summary(&report))?;
            let healed = report.figures.recovered_at.is_some() && report.figures.failures.is_empty();
            Ok(if healed { Verdict::Good } else { Verdict::Bad })
        }
        Command::Draw(output) => draw(&output.out),
    }
}

/// Draws the pictures of whichever reports the folder has.
fn draw(folder: &Path) -> Result<Verdict, Error> {
    let has = |name: &str| folder.join(format!("{name}.json")).exists();
    let failures = Manner::ALL.map(Manner::name).into_iter().filter(|name| has(name));
    let failures: Vec<&str> = failures.collect();
    if has(Distribution::NAME) || failures.is_empty() {
        keep(&load::<Distribution>(folder, Distribution::NAME)?, folder, "")?;
    }
    for name in failures {
        keep(&load::<FailureRun>(folder, name)?, folder, "")?;
    }
    Ok(Verdict::Good)
}

/// Writes the files first and speaks afterwards, so that nobody who stops listening loses a measurement.
fn keep<R: Report>(report: &R, folder: &Path, summary: &str) -> Result<(), Error> {
    let written = save(report, folder)?;
    let names = written.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy());
    let names: String = names.map(|name| format!("  {name}\n")).collect();
    let said = write!(std::io::stdout().lock(), "{summary}\nwrote into {}:\n{names}", folder.display());
    match said {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}
