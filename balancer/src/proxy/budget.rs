//! How many requests may be offered a second time: a share of those that come, so that replicas which are down
//! already are not asked three times as much as when they were well.
//!
//! Each thread counts the requests that it takes on a cache line of its own; only who wants to retry adds them up.
//! A limit of retries for each request alone was the alternative: in an outage it multiplies the load by itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds that are looked back upon.
const WINDOW: usize = 10;
/// Retries a second that are allowed however little there is to do.
const MINIMUM: f64 = 3.0;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    came: Arc<[Line]>,
    window: Arc<Mutex<Window>>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Budget {
    /// Retries of at most `share` of the requests of `workers` threads.
    pub fn new(share: f64, workers: usize) -> Self {
        let came = (0..workers.max(1)).map(|_| Line::default()).collect();
        Self { share, came, window: Arc::default() }
    }

    /// The same requests and retries, with another share.
    #[must_use]
    pub fn with_share(&self, share: f64) -> Self {
        Self { share, came: self.came.clone(), window: self.window.clone() }
    }

    /// A thread has taken a request. Only that thread may say so.
    pub fn came(&self, worker: usize) {
        let count = &self.came[worker].0;
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether one more retry is within the budget; then it is spent.
    pub fn withdraw(&self) -> bool {
        let came = self.total();
        self.window.lock().unwrap_or_else(PoisonError::into_inner).withdraw(came, self.share)
    }

    /// A second has passed.
    pub fn tick(&self) {
        let came = self.total();
        self.window.lock().unwrap_or_else(PoisonError::into_inner).tick(came);
    }

    fn total(&self) -> u64 {
        self.came.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// The last seconds: how much had come, and was spent, at the beginning of each.
#[derive(Debug, Default)]
struct Window {
    marks: VecDeque<(u64, u64)>,
    spent: u64,
}

impl Window {
    fn tick(&mut self, came: u64) {
        if self.marks.len() == WINDOW {
            self.marks.pop_front();
        }
        self.marks.push_back((came, self.spent));
    }

    fn withdraw(&mut self, came: u64, share: f64) -> bool {
        let (came_before, spent_before) =
            if self.marks.len() < WINDOW { (0, 0) } else { self.marks.front().copied().unwrap_or_default() };
        let requests = came.saturating_sub(came_before);
        let allowed = share * requests as f64 + MINIMUM * WINDOW as f64;
        let within = ((self.spent - spent_before) as f64) < allowed;
        self.spent += u64::from(within);
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(window: &mut Window, came: u64, share: f64) -> usize {
        (0..10_000).take_while(|_| window.withdraw(came, share)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_a_few_more() {
        let mut window = Window::default();
        assert_eq!(spend(&mut window, 1000, 0.2), 230);
        assert_eq!(spend(&mut window, 1000, 0.2), 0);
        assert_eq!(spend(&mut window, 1100, 0.2), 20, "each five requests bring one retry");
    }

    #[test]
    fn what_was_spent_is_forgotten_with_its_second() {
        let mut window = Window::default();
        assert_eq!(spend(&mut window, 0, 0.0), 30);
        for _ in 1..WINDOW {
            window.tick(0);
            assert_eq!(spend(&mut window, 0, 0.0), 0);
        }
        window.tick(0);
        assert_eq!(spend(&mut window, 0, 0.0), 30);
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_the_share_of_any_window(steps in proptest::collection::vec((0_u64..500, 0_usize..200), 1..60)) {
            let mut window = Window::default();
            let mut came = 0;
            let mut seconds = Vec::new();
            for (requests, wanted) in steps {
                came += requests;
                let got = (0..wanted).filter(|_| window.withdraw(came, 0.2)).count() as u64;
                seconds.push((requests, got));
                window.tick(came);
            }
            for span in seconds.windows(WINDOW).filter(|span| span[WINDOW - 1].1 > 0) {
                let (came, got) = span.iter().fold((0, 0), |sum, second| (sum.0 + second.0, sum.1 + second.1));
                proptest::prop_assert!(got as f64 <= 0.2 * came as f64 + 31.0, "{got} of {came}");
            }
        }
    }

    #[test]
    fn what_was_spent_counts_whatever_the_share_becomes() {
        let budget = Budget::new(0.0, 1);
        (0..100).for_each(|_| budget.came(0));
        let spend = |budget: &Budget| (0..1000).filter(|_| budget.withdraw()).count();
        assert_eq!(spend(&budget), 30);
        let generous = budget.with_share(0.5);
        assert_eq!((spend(&generous), spend(&budget)), (50, 0));
    }

    #[test]
    fn threads_are_added_up() {
        let budget = Budget::new(1.0, 3);
        (0..30).for_each(|n| budget.came(n % 3));
        assert_eq!(budget.total(), 30);
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 60);
        budget.tick();
        assert!(!budget.withdraw());
    }
}
