//! When a replica that died may be started again.

use std::time::Duration;

/// Exponential delays: none after a first death, then `min`, doubling up to `max`; a long enough life is
/// forgiven.
#[derive(Clone, Copy, Debug)]
pub struct BackoffPolicy {
    /// The delay after the second death in a row.
    pub min: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// A life this long starts the row afresh.
    pub reset: Duration,
}

/// One replica's row of deaths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// Counts a death after a life of `lived` (zero if it never answered) and says how long to wait.
    pub fn died(&mut self, policy: &BackoffPolicy, lived: Duration) -> Duration {
        if lived >= policy.reset {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        match self.deaths - 1 {
            0 => Duration::ZERO,
            again => policy.min.saturating_mul(1 << (again - 1).min(30)).min(policy.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BackoffPolicy = BackoffPolicy {
        min: Duration::from_millis(100),
        max: Duration::from_secs(30),
        reset: Duration::from_secs(10),
    };

    #[test]
    fn delays_double_up_to_the_longest_and_a_long_life_is_forgiven() {
        let mut backoff = Backoff::default();
        let mut delays = |lives: &[u64]| -> Vec<u128> {
            lives.iter().map(|&s| backoff.died(&POLICY, Duration::from_secs(s)).as_millis()).collect()
        };
        assert_eq!(delays(&[0, 0, 1, 9, 0]), [0, 100, 200, 400, 800]);
        assert_eq!(delays(&[10, 0]), [0, 100]);
        assert_eq!(delays(&[0; 60])[59], 30_000);
    }
}
