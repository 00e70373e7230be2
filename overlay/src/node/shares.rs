//! How fairly teams are served, over the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// How far it looks back.
const WINDOW: Duration = Duration::from_secs(60);
/// Requests of a team that are remembered.
const REMEMBERED: usize = 2048;

/// The requests of each team: when they ended, and how long they took; `None`: rejected.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<String, VecDeque<(Instant, Option<Duration>)>>);

impl Shares {
    pub(super) fn note(&mut self, team: &str, now: Instant, took: Option<Duration>) {
        let requests = self.0.entry(team.to_owned()).or_default();
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back((now, took));
    }

    fn recent(
        &mut self,
        now: Instant,
    ) -> impl Iterator<Item = (&String, &VecDeque<(Instant, Option<Duration>)>)> {
        self.0.retain(|_, requests| {
            while requests.front().is_some_and(|(ended, _)| now - *ended > WINDOW) {
                requests.pop_front();
            }
            !requests.is_empty()
        });
        self.0.iter()
    }

    /// Jain's index of the share of its requests that each team was served: 1 when all fare alike, 1/n when one of n has
    /// everything. Source: Jain, Chiu, Hawe 1984.
    pub(super) fn jain(&mut self, now: Instant) -> f64 {
        let served = self.recent(now).map(|(_, requests)| {
            requests.iter().filter(|(_, took)| took.is_some()).count() as f64 / requests.len() as f64
        });
        let (count, sum, squares) = served.fold((0.0, 0.0, 0.0), |(count, sum, squares), share| {
            (count + 1.0, sum + share, squares + share * share)
        });
        if squares == 0.0 { 1.0 } else { sum * sum / (count * squares) }
    }

    /// The 99th percentile of the times that each team's requests took.
    pub(super) fn p99(&mut self, now: Instant) -> Vec<(String, Duration)> {
        let of = |(team, requests): (&String, &VecDeque<(Instant, Option<Duration>)>)| {
            let mut times: Vec<_> = requests.iter().filter_map(|(_, took)| *took).collect();
            let place = (times.len() * 99).div_ceil(100).checked_sub(1)?;
            Some((team.clone(), *times.select_nth_unstable(place).1))
        };
        self.recent(now).filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_index_and_the_percentile() {
        let mut shares = Shares::default();
        let now = Instant::now();
        assert!((shares.jain(now) - 1.0).abs() < 1e-9, "nobody asked, nobody was wronged");
        for millis in 1..=100 {
            shares.note("green", now, Some(Duration::from_millis(millis)));
            shares.note("pink", now, None);
        }
        assert!((shares.jain(now) - 0.5).abs() < 1e-9, "one of two has all");
        assert_eq!(shares.p99(now), [("green".to_owned(), Duration::from_millis(99))]);
        for _ in 0..100 {
            shares.note("pink", now, Some(Duration::from_millis(1)));
        }
        // 1 and a half: (1.5)² / (2 × 1.25).
        assert!((shares.jain(now) - 0.9).abs() < 1e-9);
        let later = now + WINDOW + Duration::from_secs(1);
        assert!(shares.p99(later).is_empty() && shares.0.is_empty());
    }
}
