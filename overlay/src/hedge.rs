//! When a second way is worth asking: once the first takes longer than nearly all have, and seldom enough that a slow
//! overlay is not made slower by its own impatience.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rounds that are remembered.
const REMEMBERED: usize = 256;
/// Fewer say nothing of what is usual.
const FEWEST: usize = 20;
/// The least patience.
const LEAST: Duration = Duration::from_millis(5);
/// Patience while nothing is known.
const AT_FIRST: Duration = Duration::from_millis(250);
/// Of so many rounds, one may be hedged.
const ONE_OF: u64 = 10;
/// Hedges that are free at the start.
const CREDIT: u64 = 5;

#[derive(Debug, Default)]
pub(crate) struct Hedging(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<Duration>,
    rounds: u64,
    hedges: u64,
}

impl Hedging {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait for the first way: the 95th percentile of the last rounds.
    pub(crate) fn patience(&self) -> Duration {
        let state = self.state();
        if state.recent.len() < FEWEST {
            return AT_FIRST;
        }
        let mut recent: Vec<_> = state.recent.iter().copied().collect();
        drop(state);
        let place = recent.len() * 95 / 100;
        (*recent.select_nth_unstable(place).1).max(LEAST)
    }

    /// Whether a second way may be asked now; it counts as asked then.
    pub(crate) fn may(&self) -> bool {
        let mut state = self.state();
        let may = state.hedges < CREDIT + state.rounds / ONE_OF;
        state.hedges += u64::from(may);
        may
    }

    /// A round took so long. What failed says nothing of how long an answer takes.
    pub(crate) fn took(&self, time: Duration, was_answered: bool) {
        let mut state = self.state();
        state.rounds += 1;
        if !was_answered {
            return;
        }
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back(time);
    }

    /// Second ways that were asked.
    pub(crate) fn hedges(&self) -> u64 {
        self.state().hedges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_what_nearly_all_rounds_needed() {
        let hedging = Hedging::default();
        assert_eq!(hedging.patience(), AT_FIRST);
        for millis in 1..=100 {
            hedging.took(Duration::from_millis(millis), true);
            hedging.took(Duration::from_secs(4), false);
        }
        assert_eq!(hedging.patience(), Duration::from_millis(96));
        for _ in 0..REMEMBERED {
            hedging.took(Duration::from_micros(10), true);
        }
        assert_eq!(hedging.patience(), LEAST);
    }

    #[test]
    fn one_round_in_ten_may_be_hedged() {
        let hedging = Hedging::default();
        let granted = (0..1000)
            .filter(|_| {
                hedging.took(LEAST, true);
                hedging.may()
            })
            .count();
        assert_eq!(granted as u64, CREDIT + 100);
        assert_eq!(hedging.hedges(), CREDIT + 100);
    }
}
