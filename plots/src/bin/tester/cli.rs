//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use slipring_plots::report::PlacementName;

/// Measures a Slipring balancer and draws what it found.
///
/// Without a command it does what `distribute` does. Without --url it starts a balancer of its own, with
/// replicas as processes, and stops it at the end.
#[derive(Debug, Parser)]
#[command(name = "tester", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    distribute: DistributeArgs,
}

impl Cli {
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Distribute(self.distribute))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count who answers, for every placement and N, and compare with theory.
    Distribute(DistributeArgs),
    /// Kill (or freeze) a replica under constant load and watch the gap.
    Failure(FailureArgs),
    /// Draw the pictures again from the JSON files in --out.
    Draw(OutputArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// The folder for pictures and figures; made if it is missing.
    #[arg(long, default_value = "target/plots", value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// Which balancer is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// A running balancer; its number of replicas is changed only if --n asks for it, and restored.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The admin port of that balancer, which knows identities and processes.
    #[arg(long, value_name = "URL", requires = "url")]
    pub(crate) admin_url: Option<String>,
    /// The token for a running balancer that asks for one.
    #[arg(long, env = "SLIPRING_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The executable that is started without --url [default: slipring beside this one].
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(crate) slipring: Option<PathBuf>,
    /// The path that is asked for.
    #[arg(long, default_value = "/home")]
    pub(crate) path: String,
    /// How long a request may take, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DistributeArgs {
    /// Requests for each placement and N.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) requests: u64,
    /// Requests in flight at once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) concurrency: u16,
    /// Numbers of replicas, as 2..6 or 2,3,5 [default: 2..6; with --url: as many as there are].
    #[arg(long, value_name = "N")]
    pub(crate) n: Option<Counts>,
    /// A placement, may be repeated [default: all]. With --url it says which one that balancer uses.
    #[arg(long, visible_alias = "hash", value_enum)]
    pub(crate) placement: Vec<PlacementName>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FailureArgs {
    /// Requests a second, on a fixed schedule.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) rate: f64,
    /// How long the load lasts; the replica is struck after a third of it.
    #[arg(long, default_value = "12", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Replicas of the balancer that is started.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) replicas: u16,
    /// The placement of the balancer that is started, or that the one at --url uses.
    #[arg(long, visible_alias = "hash", value_enum, default_value = "rendezvous")]
    pub(crate) placement: PlacementName,
    /// Freeze the replica (SIGSTOP) instead of killing it: only heartbeats can tell.
    #[arg(long)]
    pub(crate) freeze: bool,
    /// The replica to strike [default: the second].
    #[arg(long, value_name = "NAME")]
    pub(crate) victim: Option<String>,
    /// The most requests in flight; more wait, and their latency shows it.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) in_flight: u16,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Numbers of replicas, ascending, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) Vec<u16>);

impl FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Counts, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|n| (1..=50).contains(n))
                .ok_or_else(|| format!("{text:?} is not a number from 1 to 50: write 2..6 or 2,3,5"))
        };
        let mut counts = Vec::new();
        for part in text.split(',') {
            match part.split_once("..") {
                Some((from, to)) => {
                    counts.extend(number(from)?..=number(to.strip_prefix('=').unwrap_or(to))?);
                }
                None => counts.push(number(part)?),
            }
        }
        counts.sort_unstable();
        counts.dedup();
        if counts.is_empty() {
            return Err(format!("{text:?} is an empty range: write the smaller number first"));
        }
        Ok(Counts(counts))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is not a number of seconds, above 0 and at most a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> Result<Vec<u16>, String> {
        text.parse::<Counts>().map(|counts| counts.0)
    }

    #[test]
    fn ranges_and_lists() {
        assert_eq!(counts("2..6").unwrap(), [2, 3, 4, 5, 6]);
        assert_eq!(counts("2..=4").unwrap(), [2, 3, 4]);
        assert_eq!(counts("5, 3,3").unwrap(), [3, 5]);
        assert_eq!(counts("7").unwrap(), [7]);
        for wrong in ["", "0", "51", "6..2", "2..", "x"] {
            assert!(counts(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_distribute() {
        let cli = Cli::parse_from(["tester", "--requests", "7", "--placement", "given", "--hash", "maglev"]);
        let Command::Distribute(args) = cli.into_command() else { panic!("another command") };
        assert_eq!(args.requests, 7);
        assert_eq!(args.placement, [PlacementName::Given, PlacementName::Maglev]);
    }
}
