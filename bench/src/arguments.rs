//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::leash;
use crate::peer::Peer;

/// What a request costs in Slipring, in nginx and in HAProxy, measured in turn in one run on one machine.
#[derive(Parser)]
#[command(name = "bench-proxy", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) hidden: Option<Hidden>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

#[derive(Subcommand)]
pub(crate) enum Hidden {
    /// Become another program that ends with its parent.
    #[command(hide = true)]
    Leash(leash::Arguments),
}

/// What a user chooses.
#[derive(Args)]
pub(crate) struct Flags {
    /// What is measured.
    #[arg(long, value_enum, default_value_t = Table::Proxy)]
    pub(crate) table: Table,
    /// The slipring executable (a release build).
    #[arg(long, value_name = "PATH")]
    pub(crate) slipring: Option<PathBuf>,
    /// Who is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    pub(crate) peers: Vec<Peer>,
    /// One worker pinned, or two that are not [default: both for the table `proxy`, pinned for the others].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) settings: Vec<Setting>,
    /// How often each peer is measured in each case [default: 5; 3 for `idle`].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// How long one measurement lasts [default: 5; 10 for `idle`].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: Option<u32>,
    /// How long each peer is loaded before it is measured.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) warmup: u32,
    /// How many seconds to wait, before each round, for a machine on which nobody else works.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) patience: u32,
    /// Clients at a time, one case each [default: 64; 10000 for `idle`].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: Vec<u32>,
    /// Two rounds of three seconds, pinned only.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "settings"])]
    pub(crate) quick: bool,
    /// Where the raw data goes [default: bench/runs/DATE-proxy].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// One question each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Table {
    /// `GET`, a 60-byte answer: what the proxy itself costs.
    Proxy,
    /// Answers of 1 MB.
    Bodies,
    /// `POST` of 1 kB and of 100 kB.
    Posts,
    /// 1, 3, 30 and 300 replicas.
    Replicas,
    /// 10,000 clients that are connected and say nothing.
    Idle,
    /// HTTP/2 in front.
    Http2,
    /// Unary calls of gRPC, and beside them those to a replica itself.
    Grpc,
}

/// Where the processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Setting {
    /// Each proxy has one worker, on CPU 0; load and backends are on CPU 1.
    Pinned,
    /// Each proxy has two workers; the kernel places everything.
    Unpinned,
}

impl Setting {
    pub(crate) fn workers(self) -> u32 {
        match self {
            Setting::Pinned => 1,
            Setting::Unpinned => 2,
        }
    }

    /// Where the proxy runs.
    pub(crate) fn proxy_cpu(self) -> Option<usize> {
        (self == Setting::Pinned).then_some(0)
    }

    /// Where everything else runs.
    pub(crate) fn load_cpu(self) -> Option<usize> {
        (self == Setting::Pinned).then_some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let cli = Cli::parse_from(["bench-proxy", "--connections", "1,64,512", "--peers", "nginx,haproxy"]);
        assert_eq!(cli.flags.connections, [1, 64, 512]);
        assert_eq!(cli.flags.peers, [Peer::Nginx, Peer::Haproxy]);
    }
}
