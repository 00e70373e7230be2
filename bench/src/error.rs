//! What can go wrong, and the exit code that it becomes.

use std::io;
use std::path::PathBuf;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
    /// The runtime or its signals.
    #[error("the asynchronous runtime cannot be built")]
    Runtime(#[source] io::Error),
    /// Nothing is installed here: the user does that.
    #[error("missing: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// A combination that makes no sense.
    #[error("{0}")]
    Arguments(&'static str),
    /// The pinned setting needs two processors.
    #[error(
        "the pinned setting needs CPUs 0 and 1, and this machine lets us use {0}; try --settings unpinned"
    )]
    Processors(usize),
    /// Too few file descriptors for the idle connections.
    #[error(
        "{wanted} connections need as many open files, and the limit is {limit}: raise it or lower --connections"
    )]
    Files {
        /// Connections.
        wanted: u32,
        /// The hard limit.
        limit: u64,
    },
    /// No port left.
    #[error("there is no free port below the range of ephemeral ones")]
    Ports,
    /// A file of the run.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder of the run.
    #[error("a temporary folder cannot be made")]
    Folder(#[source] io::Error),
    /// A program that is there and cannot be executed.
    #[error("{name} cannot be started")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended, or did not come up.
    #[error("{name} {what}; it said:\n{said}")]
    Process {
        /// Which.
        name: String,
        /// What it did.
        what: String,
        /// Its standard error.
        said: String,
    },
    /// The kernel's accounts of a process.
    #[error("the kernel's accounts of {name} cannot be read")]
    Accounts {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A load generator's output.
    #[error("the output of {tool} is not understood: {why}\n{text}")]
    Output {
        /// Which.
        tool: &'static str,
        /// What is missing.
        why: String,
        /// What it wrote.
        text: String,
    },
    /// The backend's counters.
    #[error("the backends' counters cannot be read")]
    Backend(#[source] io::Error),
    /// The proxy answers wrongly, so there is nothing to measure.
    #[error("{peer} does not answer properly under load: {errors}")]
    WarmUp {
        /// Which.
        peer: &'static str,
        /// Which errors.
        errors: String,
    },
    /// An idle connection could not be opened.
    #[error("connection {number} to {peer} failed")]
    Connect {
        /// Which peer.
        peer: &'static str,
        /// Which connection.
        number: u32,
        /// Why.
        source: io::Error,
    },
    /// The raw data.
    #[error("the raw data cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl Error {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Arguments(_) => 2,
            Error::Missing(_) => 3,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}

/// The error and everything beneath it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
