//! `slipring client query`, `metrics` and `echo`: questions to an overlay, through a balancer or to one of its processes.

mod coverage;
mod echo;
mod format;
mod metrics;
mod query;
mod stream;

use std::process::ExitCode;

use hyper::StatusCode;

use super::call::{Answer, CallError};
use super::{INCOMPLETE, REFUSED, UNREACHABLE};
use crate::report::chain;

pub(super) use echo::Arguments as Echo;
pub(super) use metrics::Arguments as Metrics;
pub(super) use query::Arguments as Query;

/// Why there is no complete answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("refused ({0}): {1}")]
    Refused(StatusCode, String),
    /// What is missing, in lines.
    #[error("the answer is incomplete:\n{0}")]
    Incomplete(String),
    /// Of a wave that reached everybody.
    #[error("every process answered, but {messages} messages were sent instead of {expected}: {why}")]
    Mismatch { messages: u64, expected: u64, why: String },
    #[error("what it answers is no answer of an overlay: is {0} one, or a balancer before one?")]
    Strange(String, #[source] serde_json::Error),
    /// Records that are none, after others that were.
    #[error("the answer is incomplete: what follows cannot be understood")]
    Garbled(#[source] serde_json::Error),
    #[error("the answer cannot be written")]
    Output(#[source] std::io::Error),
}

impl From<std::io::Error> for Failure {
    /// What writes records reads them, too.
    fn from(error: std::io::Error) -> Self {
        error.downcast().map_or_else(Self::Output, Self::Garbled)
    }
}

impl Failure {
    /// What the overlay, or the balancer before it, says no with.
    fn of(answer: &Answer) -> Self {
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if let Ok(coverage) = serde_json::from_value::<coverage::Coverage>(body["coverage"].clone()) {
            return Self::Incomplete(coverage.words());
        }
        // The balancer's words, the overlay's, or whoever's it is.
        let words = body["message"].as_str().or_else(|| body["status"].as_str());
        let words = words.map_or_else(|| answer.text(), str::to_owned);
        let later =
            answer.retry_after.map_or_else(String::new, |seconds| format!("; try again in {seconds} s"));
        Self::Refused(answer.status, format!("{}{later}", words.trim()))
    }

    /// Whoever reads has read enough (`| head`).
    fn is_enough(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Says it, and with which code to end.
    fn told(&self) -> ExitCode {
        match self {
            _ if self.is_enough() => return ExitCode::SUCCESS,
            _ => eprintln!("slipring: {}", chain(self).trim_end()),
        }
        match self {
            Self::Call(_) => ExitCode::from(UNREACHABLE),
            Self::Incomplete(_) | Self::Mismatch { .. } | Self::Garbled(_) => ExitCode::from(INCOMPLETE),
            Self::Refused(..) | Self::Strange(..) | Self::Output(_) => ExitCode::from(REFUSED),
        }
    }
}
