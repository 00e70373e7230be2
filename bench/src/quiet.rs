//! Waiting for others to be done: a measurement beside somebody's compiler says little about tails.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::account::busy_ticks;
use crate::measure::TICKS_PER_SECOND;

/// How long one look lasts.
const LOOK: Duration = Duration::from_secs(1);
/// The share of all CPUs that may be busy on a quiet machine.
const QUIET: f64 = 0.07;

/// Returns when the machine is quiet, or when patience is at its end. Without patience, at once.
pub(crate) async fn wait(patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let Ok(before) = busy_ticks() else { return };
        sleep(LOOK).await;
        let Ok(after) = busy_ticks() else { return };
        if share(&before, &after) < QUIET {
            return;
        }
    }
    if !patience.is_zero() {
        eprintln!("  the machine was not quiet within {} s; measuring all the same", patience.as_secs());
    }
}

/// How busy all CPUs were during a look.
fn share(before: &[u64], after: &[u64]) -> f64 {
    let busy: u64 = after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).sum();
    busy as f64 / (TICKS_PER_SECOND * LOOK.as_secs_f64() * after.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_all_cpus() {
        assert_eq!(share(&[10, 20], &[60, 20]), 0.25);
        assert_eq!(share(&[], &[]), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_patience_nobody_waits() {
        let start = Instant::now();
        wait(Duration::ZERO).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
