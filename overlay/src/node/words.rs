//! What becomes of a question, in the contract's words: the one place where a refusal becomes a status.

use std::sync::Arc;

use crate::admission::Rejected;
use crate::query::Mode;
use crate::results::Answer;
use crate::topology::ProcessId;
use crate::wire::{Coverage, QueryResponse};

use super::{Asked, Refusal};

/// Names of what is missing that are told in the status; the coverage has them all.
const MOST_NAMED: usize = 10;

impl Refusal {
    /// In the contract's words.
    pub(super) fn status(&self) -> String {
        match self {
            Self::Invalid(error) => format!("invalid_query:{error}"),
            Self::Loop => "loop_detected".into(),
            Self::Rejected(_) => "rejected".into(),
            Self::Incomplete(coverage) => format!("incomplete:{}", missing(coverage)),
            Self::Cancelled => "cancelled".into(),
            Self::NotFound => "not_found".into(),
        }
    }
}

/// When to come again.
pub(super) fn millis(rejected: Rejected) -> i32 {
    i32::try_from(rejected.retry_after.as_millis()).unwrap_or(i32::MAX)
}

fn missing(coverage: &Coverage) -> String {
    let named: Vec<_> = coverage
        .missing
        .iter()
        .take(MOST_NAMED)
        .map(|m| format!("{} ({}: {})", m.name, m.process, m.why))
        .collect();
    match coverage.missing.len().checked_sub(MOST_NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", named.join(", ")),
        _ => named.join(", "),
    }
}

/// The answer to a client.
pub(super) fn response(
    own: &ProcessId,
    asked: &Asked,
    outcome: &Result<Arc<Answer>, Refusal>,
) -> QueryResponse {
    let hops = asked.hops.iter().chain([own]).map(ToString::to_string).collect();
    let query_id = asked.query_id.clone();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    match outcome {
        Ok(answer) => {
            let partial = asked.query.mode == Mode::Partial && !answer.coverage.missing.is_empty();
            QueryResponse {
                uid: answer.uid.as_str().to_owned(),
                total_chunks: i32::try_from(answer.chunks()).unwrap_or(i32::MAX),
                total_records: number(answer.returned),
                hops,
                status: if partial { "partial".into() } else { "ready".into() },
                matched: number(answer.matched),
                truncated: answer.returned < answer.matched,
                coverage: Some(answer.coverage.clone()),
                retry_after_ms: 0,
                query_id,
            }
        }
        Err(refusal) => {
            let coverage = match refusal {
                Refusal::Incomplete(coverage) => Some(coverage.clone()),
                _ => None,
            };
            let retry_after_ms = match refusal {
                Refusal::Rejected(rejected) => millis(*rejected),
                _ => 0,
            };
            QueryResponse {
                hops,
                status: refusal.status(),
                coverage,
                retry_after_ms,
                query_id,
                ..QueryResponse::default()
            }
        }
    }
}
