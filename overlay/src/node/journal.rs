//! The last things that happened, for whoever looks at a process (`recent_logs` of the contract).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Asked, Refusal};
use crate::results::Answer;

/// Lines that are kept.
const LINES: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<VecDeque<String>>);

impl Journal {
    pub(super) fn note(&self, asked: &Asked, outcome: &Result<Arc<Answer>, Refusal>, took: Duration) {
        let question = asked.query.normal_form();
        let line = match outcome {
            Ok(answer) => {
                format!("{question} {} of {} records in {took:.1?}", answer.returned, answer.matched)
            }
            Err(refusal) => format!("{question} {} after {took:.1?}", refusal.status()),
        };
        tracing::debug!(client = asked.client, query_id = asked.query_id, "{line}");
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
