//! From a pool's configuration to what is obeyed of it here: by the core, by the replicas' upstreams, by the clock.

use std::collections::BTreeMap;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::{FixedMember, PoolConfig, RespawnName};
use crate::fleet::backoff::BackoffPolicy;
use crate::fleet::core::Settings;
use crate::fleet::state::Duty;
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
        respawn_name: if names_are_given(config) { RespawnName::Same } else { fleet.respawn_name },
        backoff: BackoffPolicy { min: fleet.backoff_min, max: fleet.backoff_max, reset: fleet.backoff_reset },
        max_replicas: fleet.max_replicas,
        slow_start: fleet.slow_start,
        prefix: config.prefix().to_owned(),
        listed: fleet.upstreams.iter().map(|listed| (listed.address.to_string(), listed.weight)).collect(),
        duties: duties(config),
        seed: rand::random(),
        unix_ms,
    }
}

fn names_are_given(config: &PoolConfig) -> bool {
    config.overlay.is_some() || !config.fleet.upstreams.is_empty()
}

fn duties(config: &PoolConfig) -> BTreeMap<String, Duty> {
    let members = config.overlay.iter().flat_map(|overlay| &overlay.members);
    let duty = |member: &FixedMember| Duty { role: member.role.clone(), is_routed: member.is_routed };
    members.map(|member| (member.name.clone(), duty(member))).collect()
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
