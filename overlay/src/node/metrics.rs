//! What a process counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::time::Instant;

use super::shares::{Ended, Shares};
use super::wave_counts::WaveCounts;
use super::{Node, Refusal};
use crate::results::Answer;
use crate::topology::Process;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    queries: IntCounterVec,
    took: Histogram,
    carried: Histogram,
    active: IntGauge,
    waiting: IntGauge,
    hedges: IntGauge,
    rows: IntGauge,
    malformed: IntGauge,
    unreadable: IntGauge,
    stream_bytes: IntGauge,
    partition_bytes: IntGauge,
    result_bytes: IntGauge,
    jain: Gauge,
    p99: GaugeVec,
    pub(super) waves: WaveCounts,
    shares: Mutex<Shares>,
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
        let times = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts {
                common_opts: opts(name, help),
                buckets: vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0],
            })
        };
        let took = times("slipring_overlay_query_seconds", "How long questions took that were let in.");
        let carried = times(
            "slipring_overlay_carried_seconds",
            "How long it took to scan, or to pass on, what other processes asked.",
        );
        let active = IntGauge::with_opts(opts("slipring_overlay_active", "Requests under way."));
        let hedges = IntGauge::with_opts(opts(
            "slipring_overlay_hedges",
            "Second ways that were asked since the first took longer than usual.",
        ));
        let gauge = |name: &str, help: &str| IntGauge::with_opts(opts(name, help)).expect("the name is ours");
        let rows = gauge("slipring_overlay_rows", "Rows of the partitions here.");
        let malformed =
            gauge("slipring_overlay_rows_malformed", "Lines of the partitions here that are no rows.");
        let unreadable = gauge(
            "slipring_overlay_partitions_unreadable",
            "Partitions that are to be here and cannot be read.",
        );
        let stream_bytes =
            gauge("slipring_overlay_stream_bytes", "Memory of the answers that are on their way to readers.");
        let partition_bytes = gauge("slipring_overlay_partition_bytes", "Memory of the partitions here.");
        let result_bytes = gauge("slipring_overlay_result_bytes", "Memory of the results that are kept.");
        let jain = Gauge::with_opts(opts(
            "slipring_overlay_jain_index",
            "Of the share of its questions that each team was served in the last minute: 1 when all fare alike.",
        ));
        let p99 = GaugeVec::new(
            opts(
                "slipring_overlay_team_p99_seconds",
                "Of the time that a team's questions took in the last minute.",
            ),
            &["of"],
        );
        let waiting =
            IntGauge::with_opts(opts("slipring_overlay_waiting", "Questions that wait to be let in."));
        let known = "the names are ours and different";
        let (queries, took, carried) = (queries.expect(known), took.expect(known), carried.expect(known));
        let (active, waiting, hedges) = (active.expect(known), waiting.expect(known), hedges.expect(known));
        let (jain, p99) = (jain.expect(known), p99.expect(known));
        let all: [Box<dyn Collector>; 14] = [
            Box::new(rows.clone()),
            Box::new(malformed.clone()),
            Box::new(unreadable.clone()),
            Box::new(stream_bytes.clone()),
            Box::new(partition_bytes.clone()),
            Box::new(result_bytes.clone()),
            Box::new(queries.clone()),
            Box::new(took.clone()),
            Box::new(carried.clone()),
            Box::new(active.clone()),
            Box::new(waiting.clone()),
            Box::new(hedges.clone()),
            Box::new(jain.clone()),
            Box::new(p99.clone()),
        ];
        all.into_iter().for_each(|one| registry.register(one).expect(known));
        let (waves, shares) = (WaveCounts::new(opts, &registry), Mutex::default());
        Self {
            registry,
            queries,
            took,
            carried,
            active,
            waiting,
            hedges,
            rows,
            malformed,
            unreadable,
            stream_bytes,
            partition_bytes,
            result_bytes,
            jain,
            p99,
            waves,
            shares,
        }
    }

    /// Another process's question was scanned for, or passed on.
    pub(super) fn carried(&self, took: Duration) {
        self.carried.observe(took.as_secs_f64());
    }

    /// A client's question has ended.
    pub(super) fn answered(&self, team: &str, outcome: &Result<Arc<Answer>, Refusal>, took: Duration) {
        let name = match outcome {
            Ok(answer) if answer.coverage.missing.is_empty() => "ready",
            Ok(_) => "partial",
            Err(Refusal::Invalid(_)) => "invalid",
            Err(Refusal::Loop) => "loop_detected",
            Err(Refusal::Rejected(_)) => "rejected",
            Err(Refusal::Incomplete(_)) => "incomplete",
            Err(Refusal::Cancelled) => "cancelled",
            Err(Refusal::NotFound) => "not_found",
        };
        self.queries.with_label_values(&[name]).inc();
        // Whoever was let in has waited, also in vain; served is who has an answer.
        let ended = match outcome {
            Err(Refusal::Invalid(_) | Refusal::Loop | Refusal::NotFound) => return,
            Err(Refusal::Rejected(_)) => Ended { is_served: false, took: None },
            Err(Refusal::Incomplete(_) | Refusal::Cancelled) => Ended { is_served: false, took: Some(took) },
            Ok(_) => Ended { is_served: true, took: Some(took) },
        };
        ended.took.iter().for_each(|took| self.took.observe(took.as_secs_f64()));
        self.shares().note(team, Instant::now(), ended);
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds that a question took here on the average, whoever asked it.
    pub(super) fn average_ms(&self) -> f32 {
        let all = [&self.took, &self.carried];
        let count: u64 = all.iter().map(|times| times.get_sample_count()).sum();
        let sum: f64 = all.iter().map(|times| times.get_sample_sum()).sum();
        if count == 0 { 0.0 } else { (sum * 1000.0 / count as f64) as f32 }
    }

    /// All of them, as Prometheus reads them.
    pub(super) fn text(&self, node: &Node) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (active, waiting) = node.load();
        self.active.set(number(active));
        self.waiting.set(number(waiting));
        self.hedges.set(i64::try_from(node.asker.hedging.hedges()).unwrap_or(i64::MAX));
        self.result_bytes.set(i64::try_from(node.results.size()).unwrap_or(i64::MAX));
        self.stream_bytes.set(i64::try_from(node.room.used()).unwrap_or(i64::MAX));
        self.waves.now(node.waves.under_way(), super::watch_edge::MOST - node.watching.available_permits());
        if let Some(held) = node.asker.holdings.now() {
            let partitions = || held.values().filter_map(|held| held.as_ref().ok());
            let malformed: u64 = partitions().map(|partition| partition.malformed).sum();
            self.malformed.set(i64::try_from(malformed).unwrap_or(i64::MAX));
            self.unreadable.set(number(held.values().filter(|held| held.is_err()).count()));
            self.rows.set(number(partitions().map(|partition| partition.rows()).sum()));
            self.partition_bytes.set(number(partitions().map(|partition| partition.size()).sum()));
        }
        let (mut shares, now) = (self.shares(), Instant::now());
        self.jain.set(shares.jain(now));
        self.p99.reset();
        for (team, p99) in shares.p99(now) {
            self.p99.with_label_values(&[&team]).set(p99.as_secs_f64());
        }
        drop(shares);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory takes it");
        String::from_utf8(text).expect("it is text")
    }
}
