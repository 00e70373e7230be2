//! What a process counts.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::Refusal;
use crate::results::Answer;
use crate::topology::Process;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    queries: IntCounterVec,
    took: Histogram,
    pub(super) active: IntGauge,
    pub(super) waiting: IntGauge,
}

impl Metrics {
    pub(super) fn new(process: &Process) -> Self {
        let labels =
            [("process", process.id.as_str()), ("role", process.role.name()), ("team", &process.team)];
        let registry = Registry::new();
        let opts = |name: &str, help: &str| {
            labels.iter().fold(Opts::new(name, help), |opts, (label, value)| opts.const_label(*label, *value))
        };
        let queries = IntCounterVec::new(
            opts("slipring_overlay_queries_total", "Questions of clients, by what became of them."),
            &["outcome"],
        );
        let took = opts("slipring_overlay_query_seconds", "How long questions took that were let in.");
        let took = HistogramOpts {
            common_opts: took,
            buckets: vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0],
        };
        let took = Histogram::with_opts(took);
        let active = IntGauge::with_opts(opts("slipring_overlay_active", "Questions under way."));
        let waiting =
            IntGauge::with_opts(opts("slipring_overlay_waiting", "Questions that wait to be let in."));
        let known = "the names are ours and different";
        let (queries, took) = (queries.expect(known), took.expect(known));
        let (active, waiting) = (active.expect(known), waiting.expect(known));
        registry.register(Box::new(queries.clone())).expect(known);
        registry.register(Box::new(took.clone())).expect(known);
        registry.register(Box::new(active.clone())).expect(known);
        registry.register(Box::new(waiting.clone())).expect(known);
        Self { registry, queries, took, active, waiting }
    }

    pub(super) fn answered(&self, outcome: &Result<Arc<Answer>, Refusal>, took: Duration) {
        let name = match outcome {
            Ok(answer) if answer.coverage.missing.is_empty() => "ready",
            Ok(_) => "partial",
            Err(Refusal::Invalid(_)) => "invalid",
            Err(Refusal::Loop) => "loop_detected",
            Err(Refusal::Rejected(_)) => "rejected",
            Err(Refusal::Incomplete(_)) => "incomplete",
            Err(Refusal::Cancelled) => "cancelled",
        };
        self.queries.with_label_values(&[name]).inc();
        if !matches!(outcome, Err(Refusal::Rejected(_))) {
            self.took.observe(took.as_secs_f64());
        }
    }

    /// Milliseconds, on the average.
    pub(super) fn average_ms(&self) -> f32 {
        match self.took.get_sample_count() {
            0 => 0.0,
            count => (self.took.get_sample_sum() * 1000.0 / count as f64) as f32,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes it");
        String::from_utf8(text).expect("it is text")
    }
}
