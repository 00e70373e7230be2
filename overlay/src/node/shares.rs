//! How fairly teams are served, over the last minute: counted second by second, so that a busy minute is no shorter.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How far it looks back, and in which steps.
const WINDOW: u64 = 60;
const STEP: Duration = Duration::from_secs(1);
/// Digits of a time, in microseconds, that count: as few different times a second as these make are all that is kept.
const DIGITS: u32 = 3;

/// The requests of each team in each of the last seconds, however many there were.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<String, VecDeque<Second>>, Option<Instant>);

/// Those that ended in one second.
#[derive(Debug, Default)]
struct Second {
    number: u64,
    all: u64,
    served: u64,
    /// How many took so long, in microseconds, rounded up; those that were sent away took no time.
    took: BTreeMap<u64, u64>,
}

/// What became of a request: whether it was served, and how long it took, if it was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) is_served: bool,
    pub(super) took: Option<Duration>,
}

impl Shares {
    pub(super) fn note(&mut self, team: &str, now: Instant, ended: Ended) {
        let number = self.second(now);
        let seconds = self.0.entry(team.to_owned()).or_default();
        if seconds.back().is_none_or(|last| last.number < number) {
            seconds.push_back(Second { number, ..Second::default() });
            forget(seconds, number);
        }
        let Some(second) = seconds.back_mut() else { return };
        second.all += 1;
        second.served += u64::from(ended.is_served);
        if let Some(took) = ended.took {
            *second.took.entry(rounded(took)).or_default() += 1;
        }
    }

    /// Seconds since the first request.
    fn second(&mut self, now: Instant) -> u64 {
        let began = *self.1.get_or_insert(now);
        (now.saturating_duration_since(began).as_nanos() / STEP.as_nanos()) as u64
    }

    fn recent(&mut self, now: Instant) -> impl Iterator<Item = (&String, &VecDeque<Second>)> {
        let number = self.second(now);
        self.0.retain(|_, seconds| {
            forget(seconds, number);
            !seconds.is_empty()
        });
        self.0.iter()
    }

    /// Jain's index of the share of its requests that each team was served: 1 when all fare alike, 1/n when one of n has
    /// everything. Source: Jain, Chiu, Hawe 1984.
    pub(super) fn jain(&mut self, now: Instant) -> f64 {
        let sum =
            |seconds: &VecDeque<Second>, count: fn(&Second) -> u64| seconds.iter().map(count).sum::<u64>();
        let served = self.recent(now).map(|(_, seconds)| {
            sum(seconds, |second| second.served) as f64 / sum(seconds, |second| second.all) as f64
        });
        let (count, sum, squares) = served.fold((0.0, 0.0, 0.0), |(count, sum, squares), share| {
            (count + 1.0, sum + share, squares + share * share)
        });
        if squares == 0.0 { 1.0 } else { sum * sum / (count * squares) }
    }

    /// The 99th percentile of the times that each team's requests took, rounded up to three digits.
    pub(super) fn p99(&mut self, now: Instant) -> Vec<(String, Duration)> {
        let of = |(team, seconds): (&String, &VecDeque<Second>)| {
            let mut all: BTreeMap<u64, u64> = BTreeMap::new();
            for (micros, count) in seconds.iter().flat_map(|second| &second.took) {
                *all.entry(*micros).or_default() += count;
            }
            let mut left = (all.values().sum::<u64>() * 99).div_ceil(100);
            let reached = all.into_iter().find(|(_, count)| {
                left = left.saturating_sub(*count);
                left == 0
            });
            Some((team.clone(), Duration::from_micros(reached?.0)))
        };
        self.recent(now).filter_map(of).collect()
    }
}

/// Those that are older than the window; the second that has begun is one of it.
fn forget(seconds: &mut VecDeque<Second>, now: u64) {
    while seconds.front().is_some_and(|first| first.number + WINDOW < now) {
        seconds.pop_front();
    }
}

/// In microseconds, up to the next number of three digits and zeros.
fn rounded(took: Duration) -> u64 {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 2);
    let digits = micros.checked_ilog10().map_or(1, |log| log + 1);
    let unit = 10_u64.pow(digits.saturating_sub(DIGITS));
    micros.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT_AWAY: Ended = Ended { is_served: false, took: None };

    fn served(took: Duration) -> Ended {
        Ended { is_served: true, took: Some(took) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_is_a_minute_however_many_ask_and_who_waited_in_vain_has_waited() {
        let (mut shares, mut now) = (Shares::default(), Instant::now());
        // Two in a hundred are slow, all of them in the first of 59 seconds; the rest are many.
        (0..1000).for_each(|_| shares.note("green", now, served(Duration::from_secs(7))));
        for _ in 0..59 {
            now += STEP;
            (0..800).for_each(|_| shares.note("green", now, served(Duration::from_micros(1234))));
        }
        assert_eq!(shares.p99(now), [("green".to_owned(), Duration::from_secs(7))]);
        now += STEP * 2;
        assert_eq!(
            shares.p99(now),
            [("green".to_owned(), Duration::from_micros(1240))],
            "more than a minute ago"
        );
        // Incomplete after thirty seconds, or given up: not served, and the time is the worst there is.
        let in_vain = Ended { is_served: false, took: Some(Duration::from_secs(30)) };
        (0..1000).for_each(|_| shares.note("green", now, in_vain));
        assert_eq!(shares.p99(now), [("green".to_owned(), Duration::from_secs(30))]);
        assert!(shares.0["green"].iter().all(|second| second.took.len() <= 2));
    }

    #[test]
    fn a_time_is_never_told_as_less() {
        for (micros, expected) in
            [(0, 0), (1, 1), (999, 999), (1000, 1000), (1001, 1010), (99_000, 99_000), (123_456, 124_000)]
        {
            assert_eq!(rounded(Duration::from_micros(micros)), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_index_and_the_percentile() {
        let mut shares = Shares::default();
        let now = Instant::now();
        assert!((shares.jain(now) - 1.0).abs() < 1e-9, "nobody asked, nobody was wronged");
        for millis in 1..=100 {
            shares.note("green", now, served(Duration::from_millis(millis)));
            shares.note("pink", now, SENT_AWAY);
        }
        assert!((shares.jain(now) - 0.5).abs() < 1e-9, "one of two has all");
        assert_eq!(shares.p99(now), [("green".to_owned(), Duration::from_millis(99))]);
        for _ in 0..100 {
            shares.note("pink", now, served(Duration::from_millis(1)));
        }
        // 1 and a half: (1.5)² / (2 × 1.25).
        assert!((shares.jain(now) - 0.9).abs() < 1e-9);
        let later = now + STEP * WINDOW as u32 + Duration::from_secs(1);
        assert!(shares.p99(later).is_empty() && shares.0.is_empty());
    }
}
