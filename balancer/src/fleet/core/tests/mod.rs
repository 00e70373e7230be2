//! The core's tests, each rung trusted only when the one before it is there: [`script`]s say which commands an
//! event brings; [`hostile`] reports that no runtime would send break nothing; a simulated [`world`] answers the
//! commands in its own time, in staged [`scenarios`] and in hundreds of seeded [`simulation`]s.

mod adoption;
mod changes;
mod configured;
mod fixed;
mod hostile;
mod late;
mod lifecycle;
mod properties;
mod scenarios;
mod script;
mod shutdown;
mod simulation;
mod slow_start;
mod world;

use std::time::Duration;

use super::Settings;
use crate::config::RespawnName;
use crate::fleet::backoff::BackoffPolicy;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the tests start from; a test that cares says what it changes.
fn settings() -> Settings {
    Settings {
        failures: 3,
        heartbeat_interval: ms(1000),
        heartbeat_timeout: ms(500),
        start_timeout: ms(5000),
        stop_timeout: ms(2000),
        task_batch: 10,
        request_batch: 10,
        respawn_name: RespawnName::Same,
        backoff: BackoffPolicy { min: ms(100), max: ms(1000), reset: ms(10_000) },
        max_replicas: 20,
        slow_start: ms(0),
        prefix: "Server".into(),
        listed: Default::default(),
        duties: Default::default(),
        seed: 1,
        unix_ms: 1_700_000_000_000,
    }
}
