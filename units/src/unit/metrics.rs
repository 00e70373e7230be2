//! What a unit counts, for Prometheus.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::frame::{Algorithm, State};
use crate::tasks::Verdict;

/// See the module.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    rejected: IntCounterVec,
    waves: IntCounterVec,
    offers: IntCounterVec,
    tasks: IntGaugeVec,
    finished: IntGauge,
    running: IntGauge,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label]).expect("valid names");
            registry.register(Box::new(counters.clone())).expect("each name once");
            counters
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a valid name");
            registry.register(Box::new(gauge.clone())).expect("each name once");
            gauge
        };
        let tasks =
            IntGaugeVec::new(Opts::new("slipring_unit_tasks", "Tasks that are not finished."), &["state"])
                .expect("valid names");
        registry.register(Box::new(tasks.clone())).expect("each name once");
        Self {
            rejected: counters(
                "slipring_unit_rejected_total",
                "Messages, links and tasks that were refused or ignored.",
                "reason",
            ),
            waves: counters("slipring_unit_waves_total", "Waves that this unit began.", "algorithm"),
            offers: counters("slipring_unit_offers_total", "Offers of tasks that were answered.", "verdict"),
            finished: gauge("slipring_unit_finished_tasks", "Tasks that this unit has finished, ever."),
            running: gauge("slipring_unit_waves", "Waves that are not over here."),
            tasks,
            registry,
        }
    }

    /// Something was refused or ignored.
    pub(super) fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// A wave was begun.
    pub(super) fn wave(&self, algorithm: Algorithm) {
        self.waves.with_label_values(&[algorithm.name()]).inc();
    }

    /// An offer was answered.
    pub(super) fn offered(&self, verdict: Verdict) {
        let name = match verdict {
            Verdict::Accepted => "accepted",
            Verdict::Refused => "refused",
        };
        self.offers.with_label_values(&[name]).inc();
    }

    /// How the unit is.
    pub(super) fn state(&self, state: &State, waves: usize) {
        let gauge = |name: &str, value: u64| {
            self.tasks.with_label_values(&[name]).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge("running", state.running);
        gauge("queued", state.queued);
        gauge("reserved", state.reserved);
        self.finished.set(i64::try_from(state.finished).unwrap_or(i64::MAX));
        self.running.set(i64::try_from(waves).unwrap_or(i64::MAX));
    }

    /// As Prometheus reads it.
    pub(super) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
