//! What the balancer counts, for Prometheus.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use super::record::{Move, Record};

/// See the module.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    waves: IntCounterVec,
    took: HistogramVec,
    wrong: IntCounter,
    moved: IntCounter,
    rejected: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("valid names");
            registry.register(Box::new(counters.clone())).expect("each name once");
            counters
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a valid name");
            registry.register(Box::new(counter.clone())).expect("each name once");
            counter
        };
        let buckets = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
        let took =
            HistogramOpts::new("slipring_waves_seconds", "How long waves took, from start to decision.");
        let took = HistogramVec::new(took.buckets(buckets), &["algorithm"]).expect("valid names");
        registry.register(Box::new(took.clone())).expect("each name once");
        Self {
            waves: counters("slipring_waves_total", "Waves that are over.", &["algorithm", "outcome"]),
            rejected: counters(
                "slipring_waves_rejected_total",
                "Messages that were refused or ignored.",
                &["reason"],
            ),
            wrong: counter(
                "slipring_waves_wrong_total",
                "Waves that sent another number of messages than the closed form says.",
            ),
            moved: counter("slipring_waves_moved_tasks_total", "Tasks that were moved from unit to unit."),
            took,
            registry,
        }
    }

    /// A wave is over.
    pub(super) fn wave(&self, record: &Record) {
        let (algorithm, outcome) =
            (record.algorithm.name(), if record.is_complete { "complete" } else { "incomplete" });
        self.waves.with_label_values(&[algorithm, outcome]).inc();
        #[expect(clippy::cast_precision_loss, reason = "a wave takes less than 2^52 microseconds")]
        self.took.with_label_values(&[algorithm]).observe(record.took_us as f64 / 1e6);
        if record.is_wrong {
            self.wrong.inc();
        }
    }

    /// A plan was carried out.
    pub(super) fn moved(&self, moves: &[Move]) {
        self.moved.inc_by(moves.iter().map(|order| order.moved).sum());
    }

    /// Something was refused or ignored.
    pub(super) fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// As Prometheus reads it.
    pub(super) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
