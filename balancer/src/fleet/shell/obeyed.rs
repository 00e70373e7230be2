//! From a pool's configuration to what is obeyed of it here: by the core, by the replicas' upstreams, by the clock.

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::{PoolConfig, RespawnName};
use crate::fleet::backoff::BackoffPolicy;
use crate::fleet::core::Settings;
use crate::proxy::upstream::{Alarm, UpstreamLimits};

pub(super) fn settings(config: &PoolConfig, unix_ms: u64) -> Settings {
    let fleet = &config.fleet;
    Settings {
        failures: fleet.failures,
        heartbeat_interval: fleet.heartbeat_interval,
        heartbeat_timeout: fleet.heartbeat_timeout,
        start_timeout: fleet.start_timeout,
        stop_timeout: fleet.stop_timeout,
        task_batch: fleet.task_batch,
        request_batch: fleet.request_batch,
        respawn_name: if fleet.upstreams.is_empty() { fleet.respawn_name } else { RespawnName::Same },
        backoff: BackoffPolicy { min: fleet.backoff_min, max: fleet.backoff_max, reset: fleet.backoff_reset },
        max_replicas: fleet.max_replicas,
        slow_start: fleet.slow_start,
        prefix: config.prefix().to_owned(),
        listed: fleet.upstreams.iter().map(|listed| (listed.address.to_string(), listed.weight)).collect(),
        seed: rand::random(),
        unix_ms,
    }
}

pub(super) fn limits(config: &PoolConfig, workers: usize, alarm: Alarm) -> UpstreamLimits {
    let forward = &config.forward;
    UpstreamLimits {
        connections: forward.max_connections_per_replica,
        waiting: forward.max_waiting_per_replica,
        workers,
        alarm,
        ejection: forward.ejection,
    }
}

pub(super) fn reconciliations(config: &PoolConfig) -> Interval {
    let mut reconcile = interval(config.fleet.reconcile_interval);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reconcile
}
