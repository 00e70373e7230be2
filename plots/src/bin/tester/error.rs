//! What can go wrong around a measurement, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use slipring_plots::load::client::{Failure, TargetError};
use slipring_plots::load::open::PlanError;
use slipring_plots::report::FilesError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start the asynchronous runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("the files are written, but the figures cannot be printed")]
    Output(#[source] std::io::Error),
    #[error("interrupted: nothing was written")]
    Interrupted,
    #[error(
        "there is no balancer at {}: build it (`cargo build -p slipring`), name another with --slipring PATH, \
         or measure one that runs already with --url URL",
        .0.display()
    )]
    NoExecutable(PathBuf),
    #[error("cannot start {}", path.display())]
    Spawn { path: PathBuf, source: std::io::Error },
    #[error("cannot make a working folder for the balancer: check TMPDIR")]
    Folder(#[source] std::io::Error),
    #[error("the balancer did not say where it listens within {} s; its last words:\n{words}", .within.as_secs())]
    Silent { within: Duration, words: String },
    #[error("the balancer ended before it was ready; its last words:\n{words}")]
    Ended { words: String },
    #[error("not all replicas were live within {} s: {last}", .within.as_secs())]
    NotReady { within: Duration, last: String },
    #[error("{call} failed")]
    Call { call: String, source: Failure },
    #[error("{call} was refused with status {status}: {body}")]
    Refused { call: String, status: u16, body: String },
    #[error("{call} answered something else than expected: {body}")]
    Unexpected { call: String, body: String },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("with --url, the failure run needs --admin-url to find out which process to kill")]
    NoAdmin,
    #[error("there is no live replica {wanted:?} with a process of its own; there are: {there}")]
    NoVictim { wanted: String, there: String },
    #[error(
        "process {pid} of this machine is no replica: run the tester on the balancer's machine, as its user, \
         and against the process runtime"
    )]
    NoReplica { pid: i32 },
    #[error("cannot start a thread to keep time: raise the limit of processes (ulimit -u)")]
    Timer(#[source] std::io::Error),
    #[error("cannot kill process {pid}: run the tester on the balancer's machine, as its user")]
    Kill { pid: i32, source: rustix::io::Errno },
}

/// The error and everything behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}
