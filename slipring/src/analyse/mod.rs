//! `slipring analyse`: what is in a folder of logs; workers that help another process with it; and the proof of a result.

mod chart;
mod edge;
mod generate;
mod restore;
mod run;
mod scaling;
mod show;
mod verify;
mod worker;

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use slipring_store::{Store, Waiting, open, with_patience};

use crate::report::complain;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Asked,
}

#[derive(Subcommand)]
enum Command {
    /// Read parts of whatever is being analysed in a store, until it is stopped.
    Worker(worker::Arguments),
    /// Add a ledger up again: is every byte of every file counted, once?
    Verify(verify::Arguments),
    /// Write the logs that an archive holds into a folder, and mend its copies.
    Restore(restore::Arguments),
    /// Write logs of the seed's shape, for those who have none.
    Generate(generate::Arguments),
}

/// What workers and coordinators have in common.
#[derive(clap::Args, Clone, Debug)]
struct Sharing {
    /// How long a worker or a coordinator may not be heard of before another takes over.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = lease)]
    lease: Duration,
    /// How long the store may be away before this process gives up.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    patience: Duration,
}

/// `500ms`, `5s`, `10m`, `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = text[..digits].parse().ok();
    let all = number.and_then(|number| number.checked_mul(millis)).filter(|all| *all > 0);
    all.map(Duration::from_millis).ok_or_else(|| "expected a time above 0, like 500ms, 5s or 10m".to_owned())
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = time(text)?;
    let most = Duration::from_secs(3600);
    if (Duration::from_millis(200)..=most).contains(&lease) {
        Ok(lease)
    } else {
        Err("a lease is between 200ms and 1h: shorter ones run out while their holders live".to_owned())
    }
}

/// `1000000`, `64KB`, `1MB`, `1GB` (powers of ten), `64KiB`, `1MiB`, `1GiB` (of two).
fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let unit = match &text[digits..] {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let number: Option<u64> = text[..digits].parse().ok();
    let all = number.and_then(|number| number.checked_mul(unit)).and_then(NonZeroU64::new);
    all.ok_or_else(|| "expected a number of bytes above 0, like 4194304, 4MiB or 1GB".to_owned())
}

/// All cores.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A thread for the small things; reading has threads of its own, as many as there are workers.
fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// Opens a store; one that does not answer yet is waited for.
async fn store(url: &str, patience: Duration) -> Result<Arc<dyn Store>, ExitCode> {
    let report = |waiting: Waiting<'_>| {
        let waited = waiting.waited.as_secs_f64();
        eprintln!("slipring: waiting for the store, {waited:.1}s so far: {}", waiting.error);
    };
    with_patience(patience, report, || open(url)).await.map_err(|error| {
        complain(&error);
        match error {
            slipring_store::Error::Invalid(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    })
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Some(Command::Worker(arguments)) => worker::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Restore(arguments)) => restore::run(&arguments),
        Some(Command::Generate(arguments)) => generate::run(&arguments),
        None => run::run(&arguments.run),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes, lease, time};

    #[test]
    fn times_and_sizes_are_read_and_what_is_none_is_refused() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "-1s", "1d", "0s", "99999999999999999999s", "18446744073709551615h", "1.5s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(lease("100ms").is_err() && lease("2h").is_err() && lease("1s").is_ok());
        let size = |text| bytes(text).map(std::num::NonZero::get);
        assert_eq!((size("1GB"), size("4MiB"), size("7")), (Ok(1_000_000_000), Ok(4 << 20), Ok(7)));
        for bad in ["", "0", "GB", "1TB", "1 GB", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
