//! When a second way is worth asking: once the first is silent for longer than nearly all have been, and seldom enough
//! that a slow overlay is not made slower by its own impatience.
//!
//! Silence is what is measured, and not how long a round takes in all: a large answer takes long and flows, and a second
//! way would carry all of it once more.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::topology::ProcessId;

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
/// So many times what nearly all need: whoever is not heard of for as long does not only lag behind.
const FROZEN: u32 = 4;
/// How long one that was silent is the last one to be asked; twice as long each time that it is again.
const DISTRUST: Duration = Duration::from_secs(2);
/// But no longer than that.
const LONGEST_DISTRUST: Duration = Duration::from_secs(32);

#[derive(Debug, Default)]
pub(crate) struct Hedging(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<Duration>,
    rounds: u64,
    hedges: u64,
    /// Of whom nothing was heard since then, although somebody waited for it.
    unheard: HashMap<ProcessId, Instant>,
    /// Those who were silent.
    silent: HashMap<ProcessId, Distrust>,
}

/// Of one that was silent.
#[derive(Clone, Copy, Debug)]
struct Distrust {
    /// When it is asked as all others again.
    until: Instant,
    /// How long it was asked last.
    lasted: Duration,
}

/// How long nobody has said anything in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    patience: Duration,
    heard: Instant,
    longest: Duration,
}

impl Silence {
    pub(crate) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, heard: now, longest: Duration::ZERO }
    }

    /// Somebody said something.
    pub(crate) fn broken(&mut self, now: Instant) {
        self.longest = self.longest(now);
        self.heard = now;
    }

    /// Since when it lasts.
    pub(crate) fn since(&self) -> Instant {
        self.heard
    }

    /// When it has lasted too long.
    pub(crate) fn end(&self) -> Instant {
        self.heard + self.patience
    }

    /// How long it was at most.
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        self.longest.max(now - self.heard)
    }
}

impl Hedging {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the first way may be silent: the 95th percentile of the longest silence of the last rounds.
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

    /// In a round, it was silent for so long at most. What failed says nothing of how long that is in others.
    pub(crate) fn took(&self, silence: Duration, was_answered: bool) {
        let mut state = self.state();
        state.rounds += 1;
        if !was_answered {
            return;
        }
        if state.recent.len() == REMEMBERED {
            state.recent.pop_front();
        }
        state.recent.push_back(silence);
    }

    /// Whether that is so long that it is not only slow.
    pub(crate) fn is_frozen(silence: Duration, patience: Duration) -> bool {
        silence >= patience * FROZEN
    }

    /// One is waited for, in this round since then. It may only be slow, until nothing is heard of it in this round and
    /// those after it for several times the patience.
    pub(crate) fn unheard(&self, silent: &ProcessId, since: Instant, now: Instant, patience: Duration) {
        let mut state = self.state();
        let first = *state.unheard.entry(silent.clone()).or_insert(since);
        if Self::is_frozen(now.saturating_duration_since(first), patience) {
            state.unheard.remove(silent);
            drop(state);
            self.distrust(silent, now);
        }
    }

    /// It has said something.
    pub(crate) fn heard(&self, well: &ProcessId) {
        self.state().unheard.remove(well);
    }

    /// Of whom nothing was heard.
    pub(crate) fn all_unheard(&self) -> BTreeSet<ProcessId> {
        self.state().unheard.keys().cloned().collect()
    }

    /// One did not say what it was asked for.
    pub(crate) fn distrust(&self, silent: &ProcessId, now: Instant) {
        let mut state = self.state();
        let before = state.silent.get(silent).copied();
        let lasted = match before {
            // All who wait for it at the same time learn the same.
            Some(known) if known.until > now => return,
            Some(known) => (known.lasted * 2).min(LONGEST_DISTRUST),
            None => DISTRUST,
        };
        state.silent.insert(silent.clone(), Distrust { until: now + lasted, lasted });
    }

    /// It was another one who was silent, or it is well again.
    pub(crate) fn trust(&self, well: &ProcessId) {
        let mut state = self.state();
        state.silent.remove(well);
        state.unheard.remove(well);
    }

    /// Those who were silent a moment ago.
    pub(crate) fn distrusted(&self, now: Instant) -> Vec<ProcessId> {
        let mut state = self.state();
        // Whoever has been well for so long is as good as new.
        state.silent.retain(|_, distrust| distrust.until + distrust.lasted > now);
        let silent = state.silent.iter().filter(|(_, distrust)| distrust.until > now);
        silent.map(|(id, _)| id.clone()).collect()
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
    fn silence_is_what_lies_between_two_words() {
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let mut silence = Silence::new(second, began);
        assert_eq!(silence.end(), began + second);
        silence.broken(began + second * 3);
        silence.broken(began + second * 4);
        assert_eq!(silence.end(), began + second * 5);
        assert_eq!(silence.longest(began + second * 6), second * 3);
        assert_eq!(silence.longest(began + second * 9), second * 5);
    }

    #[test]
    fn whoever_was_silent_is_distrusted_for_a_while() {
        let (hedging, now) = (Hedging::default(), Instant::now());
        hedging.distrust(&"B".into(), now);
        assert_eq!(hedging.distrusted(now + DISTRUST / 2), ["B".into()]);
        assert_eq!(hedging.distrusted(now + DISTRUST), []);
    }

    #[test]
    fn whoever_is_silent_again_and_again_is_asked_ever_more_seldom() {
        let (hedging, mut now) = (Hedging::default(), Instant::now());
        for lasts in [2, 4, 8, 16, 32, 32].map(Duration::from_secs) {
            (0..3).for_each(|_| hedging.distrust(&"D".into(), now));
            assert_eq!(hedging.distrusted(now + lasts - LEAST), ["D".into()]);
            now += lasts;
            assert_eq!(hedging.distrusted(now), []);
        }
        assert_eq!(hedging.distrusted(now + LONGEST_DISTRUST), []);
        hedging.distrust(&"D".into(), now);
        assert_eq!(hedging.distrusted(now + DISTRUST), [], "it was well for long");
        hedging.distrust(&"D".into(), now + DISTRUST);
        hedging.trust(&"D".into());
        assert_eq!(hedging.distrusted(now + DISTRUST), []);
    }

    #[test]
    fn a_straggler_is_not_distrusted_and_one_that_says_nothing_in_several_rounds_is() {
        let (hedging, began, d) = (Hedging::default(), Instant::now(), ProcessId::from("D"));
        let silent =
            |times: u32| hedging.unheard(&d, began + LEAST * (times - 1), began + LEAST * times, LEAST);
        let distrusted = |times: u32| !hedging.distrusted(began + LEAST * times).is_empty();
        silent(1);
        hedging.heard(&d);
        (2..=4).for_each(silent);
        assert!(!distrusted(4), "since it was heard it is no longer than three times");
        silent(5);
        assert!(distrusted(5));
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
