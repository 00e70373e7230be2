//! Who answered: the counts per replica for each placement and N, and how even they are.
//!
//! Two yardsticks stand beside every count. The ring's own exact shares say whether the balancer does what
//! its placement promises; perfectly uniform hashing says how good the promise is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipring_hashing::stats;

/// Everything that `tester distribute` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Requests of each run.
    pub requests: u64,
    /// How many were in flight at once.
    pub concurrency: usize,
    /// The runs, by placement, then by N.
    pub runs: Vec<Run>,
}

impl Distribution {
    /// The name of its files.
    pub const NAME: &'static str = "distribution";
}

/// One placement with one number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The placement's name, or what stands for it when a foreign balancer does not say.
    pub placement: String,
    /// The number of replicas on the ring.
    pub n: u32,
    /// What each of them answered; behind them everybody else who did.
    pub replicas: Vec<Tally>,
    /// Requests without a good answer, by kind.
    pub failures: BTreeMap<String, u64>,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// How even it is.
    pub balance: Balance,
}

/// What one replica answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Its name.
    pub name: String,
    /// Requests that it answered.
    pub requests: u64,
    /// The exact share that the placement gives it, if it is known.
    pub share: Option<f64>,
}

/// How even the counts of a run are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// Requests per replica.
    pub mean: f64,
    /// Their standard deviation over all replicas.
    pub stddev: f64,
    /// The standard deviation to expect from the placement's exact shares.
    pub stddev_expected: Option<f64>,
    /// The standard deviation that perfectly uniform hashing would give: √(n·p·(1 − p)).
    pub stddev_uniform: f64,
    /// Do the counts agree with the placement's exact shares?
    pub chi_squared_placement: Option<ChiSquared>,
    /// Do the counts agree with a uniform split?
    pub chi_squared_uniform: ChiSquared,
}

/// The outcome of a χ² test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChiSquared {
    /// Σ (observed − expected)² / expected; `None` (null) is infinity, something impossible was observed.
    pub statistic: Option<f64>,
    /// Replicas that can be hit, less one.
    pub degrees_of_freedom: usize,
    /// How often chance alone gives as much or more.
    pub p_value: f64,
}

impl From<stats::ChiSquared> for ChiSquared {
    fn from(test: stats::ChiSquared) -> ChiSquared {
        ChiSquared {
            statistic: Some(test.statistic).filter(|statistic| statistic.is_finite()),
            degrees_of_freedom: test.degrees_of_freedom,
            p_value: test.p_value(),
        }
    }
}

impl Run {
    /// A run from the counts of the replicas on the ring and of strangers who answered; the balance is the ring's.
    #[must_use]
    pub fn new(
        placement: &str,
        mut replicas: Vec<Tally>,
        strangers: Vec<Tally>,
        failures: BTreeMap<String, u64>,
        seconds: f64,
    ) -> Run {
        let n = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
        let balance = Balance::of(&replicas);
        replicas.extend(strangers);
        Run { placement: placement.to_owned(), n, replicas, failures, seconds, balance }
    }

    /// Requests with a good answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.replicas.iter().map(|tally| tally.requests).sum()
    }

    /// Requests without one.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

impl Balance {
    /// How even these counts are.
    #[must_use]
    pub fn of(replicas: &[Tally]) -> Balance {
        let counts: Vec<u64> = replicas.iter().map(|tally| tally.requests).collect();
        let loads: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let total: u64 = counts.iter().sum();
        let shares: Option<Vec<f64>> = replicas.iter().map(|tally| tally.share).collect();
        Balance {
            mean: stats::mean(&loads),
            stddev: stats::stddev(&loads),
            stddev_expected: shares.as_deref().map(|shares| expected_stddev(total, shares)),
            stddev_uniform: stats::uniform_stddev(total, replicas.len()),
            chi_squared_placement: shares
                .as_deref()
                .map(|shares| stats::chi_squared_expected(&counts, shares).into()),
            chi_squared_uniform: stats::chi_squared(&counts).into(),
        }
    }
}

/// The root mean square, over repetitions, of the deviation between replicas: what the shares make unequal,
/// and what chance adds. For equal shares it is √(n·p·(1 − p)).
#[must_use]
pub fn expected_stddev(requests: u64, shares: &[f64]) -> f64 {
    let n = requests as f64;
    let even = 1.0 / shares.len().max(1) as f64;
    let variances = shares.iter().map(|share| n * share * (1.0 - share) + (n * (share - even)).powi(2));
    (variances.sum::<f64>() * even).sqrt()
}

/// Where the deviation of perfectly uniform hashing lies in 95 of 100 runs: 25 of 1000 are below it, as many above.
///
/// N·s²/(n·p) follows χ² with N − 1 degrees of freedom.
#[must_use]
pub fn uniform_band(requests: u64, replicas: u32) -> (f64, f64) {
    let parts = f64::from(replicas.max(2));
    let freedom = replicas.max(2) as usize - 1;
    let edge = |probability| {
        let chi = stats::chi_squared_quantile(probability, freedom);
        (chi * requests as f64 / parts / parts).sqrt()
    };
    (edge(0.025), edge(0.975))
}
