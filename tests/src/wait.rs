//! Waiting for a condition: bounded, level-triggered, and in vain it says what it last saw.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// From one look to the next.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is something to return; an `Err` says what is there instead.
///
/// # Panics
/// When `what` did not come to be `within` the time.
pub async fn wait_until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = "nothing".to_owned();
    let looking = async {
        loop {
            ticks.tick().await;
            match look().await {
                Ok(found) => return found,
                Err(state) => last = state,
            }
        }
    };
    match timeout_at(deadline, looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {within:?}; last seen: {last}"),
    }
}
