//! What is counted, for Prometheus. Labels are bounded: pools, member names (`POOL/NAME` where the pool has a name), status
//! classes, states.
//!
//! What is so at a moment and known elsewhere (states, requests in flight) is asked when somebody looks, and kept
//! nowhere: a gauge of a replica that is gone cannot be left behind.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::config::PoolConfig;
use crate::fleet::events::News;
use crate::fleet::state::State;
use crate::limit::Limit;
use crate::snapshot::Snapshot;

/// Before every name but those of the process, which are the ones that every Prometheus dashboard knows.
const NAMESPACE: &str = "slipring";

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Seconds: from what loopback takes to what a user gives up at.
const LATENCY_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// All counters of one balancer, with a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    latency: Histogram,
    /// Requests offered again, to the same replica or the next.
    pub retries: IntCounter,
    /// Retries that the budget did not allow.
    pub retries_denied: IntCounter,
    /// How often no replica was well.
    pub panics: IntCounter,
    /// Requests that went past a replica which held too many.
    pub overflows: IntCounter,
    /// Lines of the access log that found no place in its queue.
    pub log_lost: IntCounter,
    limits_hit: IntCounterVec,
    connections: IntGauge,
    broken: IntCounterVec,
    ejections: IntCounterVec,
    events: IntCounterVec,
    admin_connections: IntGauge,
    admin_refusals: IntCounterVec,
    relayed: IntCounterVec,
    watched: IntCounterVec,
    /// Connections to the admin port that did not come to speak TLS.
    pub admin_handshakes_failed: IntCounter,
    limits: IntGaugeVec,
    spans: IntCounterVec,
    reloads: IntCounterVec,
    last_reload: IntGauge,
}

/// Administration at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Administration {
    /// Calls under way.
    pub calls: usize,
    /// Streams of events.
    pub watchers: usize,
    /// Pages that are fed.
    pub pages: usize,
}

/// What is counted for one replica, looked up once.
#[derive(Clone, Debug)]
pub struct ReplicaMetrics {
    classes: [IntCounter; 5],
    latency: Histogram,
    broken: IntCounter,
    /// How often it was left out because requests failed.
    pub ejections: IntCounter,
}

impl ReplicaMetrics {
    /// A replica answered with `status`, `elapsed` after the request came.
    pub fn answered(&self, status: u16, elapsed: Duration) {
        self.classes[class(status)].inc();
        self.latency.observe(elapsed.as_secs_f64());
    }

    /// Its answers up to now.
    pub fn answers(&self) -> u64 {
        self.classes.iter().map(IntCounter::get).sum()
    }

    /// An answer of this replica ended before it was complete, and not because the client went away.
    pub fn broke_off(&self) {
        self.broken.inc();
    }
}

fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

/// A connection, counted until it is dropped.
#[derive(Debug)]
pub struct Connection(IntGauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All counters at zero.
    ///
    /// # Errors
    /// When a name is registered twice, which no caller can cause.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let vec = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(named(name, help), labels);
        let latency = HistogramOpts::new("request_seconds", "From a request's head to its answer's head.")
            .namespace(NAMESPACE);
        let metrics = Self {
            requests: vec("requests_total", "Requests that a replica answered.", &["replica", "code"])?,
            refusals: vec("refusals_total", "Requests that the balancer answered itself.", &["code"])?,
            latency: Histogram::with_opts(latency.buckets(LATENCY_BUCKETS.to_vec()))?,
            retries: IntCounter::with_opts(named(
                "retries_total",
                "Requests offered again, to the same replica or the next.",
            ))?,
            retries_denied: IntCounter::with_opts(named(
                "retries_denied_total",
                "Retries that proxy.retry_budget did not allow.",
            ))?,
            panics: IntCounter::with_opts(named("panics_total", "How often no replica was well any more."))?,
            overflows: IntCounter::with_opts(named(
                "overflows_total",
                "Requests passed on because their replica held too many (proxy.bounded_load).",
            ))?,
            ejections: vec("ejections_total", "Replicas left out because requests failed.", &["replica"])?,
            log_lost: IntCounter::with_opts(named(
                "access_log_lost_total",
                "Lines of the access log that found no place in its queue.",
            ))?,
            limits_hit: vec("limits_hit_total", "Limits that clients ran into.", &["limit"])?,
            connections: IntGauge::with_opts(named("connections", "Client connections."))?,
            broken: vec(
                "answers_broken_total",
                "Answers that a replica began and did not finish.",
                &["replica"],
            )?,
            events: vec("fleet_events_total", "What happened to replicas.", &["event"])?,
            admin_connections: IntGauge::with_opts(named(
                "admin_connections",
                "Connections to the admin port.",
            ))?,
            admin_refusals: vec("admin_refusals_total", "Administrative calls refused.", &["code"])?,
            relayed: vec("relayed_calls_total", "Calls passed on to members of given pools.", &["code"])?,
            watched: vec(
                "watched_objects_total",
                "What given pools told of themselves for pages, by what became of it.",
                &["outcome"],
            )?,
            admin_handshakes_failed: IntCounter::with_opts(named(
                "admin_handshakes_failed_total",
                "Connections to the admin port that did not come to speak TLS: no certificate, a wrong one, too slow.",
            ))?,
            spans: vec("spans_total", "Spans of requests, by what became of them.", &["outcome"])?,
            reloads: vec("reloads_total", "How often the configuration was read again.", &["outcome"])?,
            last_reload: IntGauge::with_opts(named(
                "last_reload_success_timestamp_seconds",
                "When the configuration that is obeyed was read, in seconds since 1970.",
            ))?,
            limits: IntGaugeVec::new(named("limit", "The most there may be at a time."), &["of"])?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        registry.register(Box::new(metrics.retries_denied.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.overflows.clone()))?;
        registry.register(Box::new(metrics.ejections.clone()))?;
        registry.register(Box::new(metrics.log_lost.clone()))?;
        registry.register(Box::new(metrics.limits_hit.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.broken.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.admin_connections.clone()))?;
        registry.register(Box::new(metrics.admin_refusals.clone()))?;
        registry.register(Box::new(metrics.relayed.clone()))?;
        registry.register(Box::new(metrics.watched.clone()))?;
        registry.register(Box::new(metrics.admin_handshakes_failed.clone()))?;
        registry.register(Box::new(metrics.spans.clone()))?;
        registry.register(Box::new(metrics.limits.clone()))?;
        for &limit in Limit::ALL {
            drop(metrics.limits_hit.with_label_values(&[limit.name()])); // there from the beginning
        }
        for outcome in ["passed", "refused", "too_long"] {
            drop(metrics.watched(outcome));
        }
        for outcome in ["applied", "refused"] {
            drop(metrics.reloads(outcome)); // there from the beginning
        }
        registry.register(Box::new(metrics.reloads.clone()))?;
        registry.register(Box::new(metrics.last_reload.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// The counters of the replica `name`, which is its full one.
    pub fn replica(&self, name: &str) -> ReplicaMetrics {
        let classes = CLASSES.map(|class| self.requests.with_label_values(&[name, class]));
        let broken = self.broken.with_label_values(&[name]);
        let ejections = self.ejections.with_label_values(&[name]);
        ReplicaMetrics { classes, latency: self.latency.clone(), broken, ejections }
    }

    /// Forgets a replica that is gone, so that names do not pile up.
    pub fn forget(&self, name: &str) {
        for class in CLASSES {
            if let Err(error) = self.requests.remove_label_values(&[name, class]) {
                tracing::debug!(%error, name, "it had no counters");
            }
        }
        for counters in [&self.broken, &self.ejections] {
            if let Err(error) = counters.remove_label_values(&[name]) {
                tracing::debug!(%error, name, "it had no counter");
            }
        }
    }

    /// The balancer answered by itself.
    pub fn refused(&self, status: StatusCode) {
        self.refusals.with_label_values(&[status.as_str()]).inc();
    }

    /// A client ran into a limit.
    pub fn limit_hit(&self, limit: Limit) {
        self.limits_hit.with_label_values(&[limit.name()]).inc();
    }

    /// An administrative call was refused.
    pub fn admin_refused(&self, status: StatusCode) {
        self.admin_refusals.with_label_values(&[status.as_str()]).inc();
    }

    /// A call was passed on to a member of a given pool, or could not be, and was answered with `status`.
    pub fn relayed(&self, status: StatusCode) {
        self.relayed.with_label_values(&[status.as_str()]).inc();
    }

    /// What given pools told of themselves with this outcome, `passed` or `refused`.
    pub fn watched(&self, outcome: &str) -> IntCounter {
        self.watched.with_label_values(&[outcome])
    }

    /// There may be at most `most` of something at a time.
    pub fn limit(&self, of: &str, most: usize) {
        self.limits.with_label_values(&[of]).set(number(most));
    }

    /// There is no such limit any more.
    pub fn no_limit(&self, of: &str) {
        if let Err(error) = self.limits.remove_label_values(&[of]) {
            tracing::debug!(%error, of, "there was none");
        }
    }

    /// Spans with this outcome: `exported`, `failed`, or `dropped` because too many waited.
    #[cfg(feature = "otel")]
    pub fn spans(&self, outcome: &str) -> IntCounter {
        self.spans.with_label_values(&[outcome])
    }

    /// How often the configuration was read again with this outcome, `applied` or `refused`.
    pub fn reloads(&self, outcome: &str) -> IntCounter {
        self.reloads.with_label_values(&[outcome])
    }

    /// The configuration that is obeyed was read at this moment.
    pub fn obeyed(&self, unix_ms: u64) {
        self.last_reload.set(i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX));
    }

    /// An administrator came.
    pub fn admin_connection(&self) -> Connection {
        self.admin_connections.inc();
        Connection(self.admin_connections.clone())
    }

    /// A client came.
    pub fn connection(&self) -> Connection {
        self.connections.inc();
        Connection(self.connections.clone())
    }

    /// Something happened to a replica.
    pub fn happened(&self, news: &News) {
        self.events.with_label_values(&[news.name()]).inc();
    }

    /// The present text for Prometheus, with its content type.
    ///
    /// # Errors
    /// When a counter cannot be encoded.
    pub fn encode(
        &self,
        pools: &[(&PoolConfig, Arc<Snapshot>)],
        administration: Administration,
    ) -> Result<(String, Vec<u8>), prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(present(pools, administration)?.gather());
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        encoder.encode(&families, &mut text)?;
        Ok((encoder.format_type().to_owned(), text))
    }
}

/// What is so at this moment.
fn present(
    pools: &[(&PoolConfig, Arc<Snapshot>)],
    administration: Administration,
) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        let gauge = IntGaugeVec::new(named(name, help), labels)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let replicas = gauge("replicas", "Replicas by state.", &["pool", "state"])?;
    let in_flight = gauge("requests_in_flight", "Requests under way at a member.", &["replica"])?;
    let waiting = gauge("requests_waiting", "Requests that wait for a place at a member.", &["replica"])?;
    let ejected = gauge("ejected", "Whether a member is left out because requests failed.", &["replica"])?;
    let panic = gauge("panic", "Whether no replica is well and requests go to sick ones.", &["pool"])?;
    for (config, snapshot) in pools {
        for state in State::ALL {
            let count = snapshot.views.iter().filter(|view| view.state == state).count();
            replicas.with_label_values(&[&*config.name, state.name()]).set(number(count));
        }
        for view in &snapshot.views {
            let upstream = snapshot.entry(view.id).and_then(|entry| entry.upstream.as_ref());
            if let Some(upstream) = upstream.filter(|upstream| upstream.instance.name == view.name) {
                let name = config.full_name(&view.name);
                in_flight.with_label_values(&[&name]).set(number(upstream.in_flight()));
                waiting.with_label_values(&[&name]).set(number(upstream.waiting()));
                ejected.with_label_values(&[&name]).set(i64::from(upstream.health.is_ejected()));
            }
        }
        panic.with_label_values(&[&*config.name]).set(i64::from(snapshot.is_in_panic()));
    }
    for (name, help, value) in [
        ("admin_calls", "Administrative calls under way.", administration.calls),
        ("event_watchers", "Streams of events.", administration.watchers),
        ("page_watchers", "Pages that are fed.", administration.pages),
    ] {
        let gauge = IntGauge::with_opts(named(name, help))?;
        gauge.set(number(value));
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

fn named(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
