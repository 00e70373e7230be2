//! Load, from the generators that are installed: each is given the same task and its report read into one shape.

mod h2load;
mod oha;
mod wrk;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::Workload;
use crate::process::{Launch, Process};
use crate::tools::Tools;

/// How much longer than asked a generator may take to end.
const GRACE: Duration = Duration::from_secs(30);

/// A generator of HTTP/1.1 load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generator {
    Wrk,
    Oha,
}

impl Generator {
    /// The one that costs less goes first: it shares its CPU with the replicas.
    pub(crate) const ALL: [Generator; 2] = [Generator::Wrk, Generator::Oha];

    pub(crate) fn program(self) -> &'static str {
        match self {
            Generator::Wrk => "wrk",
            Generator::Oha => "oha",
        }
    }
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) port: u16,
    pub(crate) workload: Workload,
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
    /// The same for every peer of a round, so that all are asked for the same.
    pub(crate) seed: u32,
    pub(crate) cpu: Option<usize>,
}

impl Task {
    /// What every path begins with; six digits follow.
    fn prefix(&self) -> &'static str {
        match self.workload {
            Workload::Post { .. } => "/post/",
            Workload::Download { .. } => "/download/",
            Workload::Grpc { .. } => "/bench.Hello/",
            Workload::Get | Workload::Http2 { .. } | Workload::Idle => "/home/",
        }
    }

    /// How long the body of a request is.
    fn body_bytes(&self) -> usize {
        if let Workload::Post { bytes } = self.workload { bytes } else { 0 }
    }
}

/// A message of gRPC as it is on the wire: not compressed, its length, and itself.
pub(crate) fn message(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], text].concat()
}

/// What a generator saw. Times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) duration_us: f64,
    pub(crate) bytes: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) errors: Errors,
}

/// Requests without a good answer, by what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    /// The exchange broke off.
    pub(crate) exchange: u64,
    /// Another status than 2xx or 3xx.
    pub(crate) status: u64,
    pub(crate) timeout: u64,
}

impl Errors {
    pub(crate) fn total(&self) -> u64 {
        self.connect + self.exchange + self.status + self.timeout
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errors { connect, exchange, status, timeout } = self;
        write!(f, "connect {connect}, broken off {exchange}, status {status}, timeout {timeout}")
    }
}

/// Sends load for as long as the task says and returns what came of it.
pub(crate) async fn run(task: &Task, tools: &Tools, folder: &Path) -> Result<Outcome, Error> {
    match task.workload {
        Workload::Http2 { streams } | Workload::Grpc { streams } => {
            let h2load = tools.h2load.as_ref().expect("what the plan needs was found");
            h2load::run(task, streams, h2load, folder).await
        }
        _ => match tools.generator.as_ref().expect("what the plan needs was found") {
            (Generator::Wrk, path) => wrk::run(task, path, folder).await,
            (Generator::Oha, path) => oha::run(task, path, folder).await,
        },
    }
}

/// Runs a generator to its end and returns what it printed.
async fn output(
    name: &str,
    program: &Path,
    arguments: Vec<String>,
    task: &Task,
    folder: &Path,
) -> Result<String, Error> {
    let launch = Launch {
        name: name.to_owned(),
        program: program.to_owned(),
        arguments: arguments.into_iter().map(Into::into).collect(),
        folder: folder.to_owned(),
        cpu: task.cpu,
    };
    Process::start(&launch)?.finish(Duration::from_secs(task.seconds.into()) + GRACE).await
}

/// The value below which this share of a sorted list lies (nearest rank).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(500.0));
        assert_eq!(percentile(&values, 0.999), Some(999.0));
        assert_eq!(percentile(&values, 1.0), Some(1000.0));
        assert_eq!(percentile(&[7.0], 0.01), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
