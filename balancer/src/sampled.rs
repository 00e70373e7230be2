//! Complaints that may come by the thousand: one a second is made, with the number of those that were not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Sampled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    silent: u64,
}

impl Sampled {
    /// Whether to complain at `now`; then how many complaints were not made since the last one.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            state.silent += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_passes_and_says_how_many_did_not() {
        let (sampled, start) = (Sampled::default(), Instant::now());
        let at = |ms: u64| sampled.pass(start + Duration::from_millis(ms));
        assert_eq!((at(0), at(1), at(999)), (Some(0), None, None));
        assert_eq!((at(1000), at(1500), at(9000)), (Some(2), None, Some(1)));
        assert_eq!(at(10_000), Some(0));
    }
}
