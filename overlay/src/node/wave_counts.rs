//! What a process counts of waves.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use crate::wave::{Answer, Why};

/// What may become of a message; each is there from the beginning.
const OUTCOMES: [&str; 7] = ["joined", "heard", "repeated", "over", "unknown", "refused", "overloaded"];

#[derive(Debug)]
pub(crate) struct WaveCounts {
    begun: IntCounterVec,
    took: Histogram,
    messages: IntCounterVec,
    undelivered: IntCounterVec,
    under_way: IntGauge,
    watchers: IntGauge,
}

impl WaveCounts {
    pub(super) fn new(opts: impl Fn(&str, &str) -> Opts, registry: &Registry) -> Self {
        let known = "the names are ours and different";
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(opts(name, help), &[label]).expect(known)
        };
        let gauge = |name: &str, help: &str| IntGauge::with_opts(opts(name, help)).expect(known);
        let begun =
            counters("slipring_overlay_waves_total", "Waves begun here, by what became of them.", "outcome");
        let took = Histogram::with_opts(HistogramOpts {
            common_opts: opts("slipring_overlay_wave_seconds", "How long waves took that were begun here."),
            buckets: vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0],
        })
        .expect(known);
        let messages = counters(
            "slipring_overlay_wave_messages_total",
            "Messages of waves that came, by what became of them: repeated, over and unknown ones changed nothing.",
            "outcome",
        );
        let undelivered = counters(
            "slipring_overlay_wave_undelivered_total",
            "Messages of waves that a neighbor did not take.",
            "why",
        );
        let under_way = gauge("slipring_overlay_waves", "Waves under way here.");
        let watchers = gauge("slipring_overlay_watchers", "Clients that follow /overlay/watch.");
        let all: [Box<dyn Collector>; 6] = [
            Box::new(begun.clone()),
            Box::new(took.clone()),
            Box::new(messages.clone()),
            Box::new(undelivered.clone()),
            Box::new(under_way.clone()),
            Box::new(watchers.clone()),
        ];
        all.into_iter().for_each(|one| registry.register(one).expect(known));
        for outcome in OUTCOMES {
            messages.with_label_values(&[outcome]);
        }
        Self { begun, took, messages, undelivered, under_way, watchers }
    }

    pub(super) fn ended(&self, answer: &Answer, took: Duration) {
        let outcome = match (answer.is_complete, &answer.mismatch) {
            (true, None) => "complete",
            (true, Some(_)) => "mismatch",
            (false, _) => "incomplete",
        };
        self.begun.with_label_values(&[outcome]).inc();
        self.took.observe(took.as_secs_f64());
    }

    pub(super) fn rejected(&self) {
        self.begun.with_label_values(&["rejected"]).inc();
    }

    /// A message came, and this became of it.
    pub(super) fn message(&self, outcome: &'static str) {
        self.messages.with_label_values(&[outcome]).inc();
    }

    pub(super) fn undelivered(&self, why: Why) {
        let why = match why {
            Why::Unreachable => "unreachable",
            Why::Silent => "silent",
            Why::Overloaded => "overloaded",
            Why::Refused => "refused",
            Why::Over => "over",
        };
        self.undelivered.with_label_values(&[why]).inc();
    }

    pub(super) fn now(&self, under_way: usize, watchers: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.under_way.set(number(under_way));
        self.watchers.set(number(watchers));
    }
}
