//! Pearson's χ² test: do counts agree with an expectation?
//!
//! The distribution is approximated as Wilson and Hilferty did (1931): the cube root of χ²/k is nearly normal
//! with mean 1 − 2/(9k) and variance 2/(9k). Between 0.001 and 0.1 a p-value is off by less than a quarter of
//! itself for one degree of freedom, a sixth for two to five, a tenth for ten or more (tested against
//! printed tables). Good for a test and a chart; the exact value would take an incomplete gamma function, or a
//! statistics crate, and no verdict would change.

/// The outcome of a χ² test.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct ChiSquared {
    /// Σ (observed − expected)² / expected.
    pub statistic: f64,
    /// Categories that could be hit, less one.
    pub degrees_of_freedom: usize,
}

/// Tests counts against the uniform distribution.
#[must_use]
pub fn chi_squared(observed: &[u64]) -> ChiSquared {
    let share = 1.0 / observed.len().max(1) as f64;
    chi_squared_expected(observed, &vec![share; observed.len()])
}

/// Tests counts against expected shares, which need not add up to 1.
///
/// A category whose share is 0 must be empty: one hit makes the statistic infinite. Surplus entries of the
/// longer list count as 0.
#[must_use]
pub fn chi_squared_expected(observed: &[u64], shares: &[f64]) -> ChiSquared {
    let total: u64 = observed.iter().sum();
    let whole: f64 = shares.iter().sum();
    let mut statistic = 0.0;
    let mut categories = 0_usize;
    for index in 0..observed.len().max(shares.len()) {
        let count = observed.get(index).copied().unwrap_or(0) as f64;
        let share = shares.get(index).copied().unwrap_or(0.0);
        if share > 0.0 {
            categories += 1;
            let expected = total as f64 * share / whole;
            if expected > 0.0 {
                statistic += (count - expected).powi(2) / expected;
            }
        } else if count > 0.0 {
            statistic = f64::INFINITY;
        }
    }
    ChiSquared { statistic, degrees_of_freedom: categories.saturating_sub(1) }
}

impl ChiSquared {
    /// The probability that chance alone gives this statistic or a larger one. 1 without a degree of freedom,
    /// unless the impossible was observed.
    #[must_use]
    pub fn p_value(self) -> f64 {
        if self.statistic.is_infinite() {
            return 0.0;
        }
        if self.degrees_of_freedom == 0 || self.statistic <= 0.0 {
            return 1.0;
        }
        let k = self.degrees_of_freedom as f64;
        let variance = 2.0 / (9.0 * k);
        normal_tail(((self.statistic / k).cbrt() - (1.0 - variance)) / variance.sqrt())
    }

    /// Whether chance alone would give as much in a share `level` of all cases or more: 0.001 accuses an
    /// honest placement once in a thousand tests.
    #[must_use]
    pub fn agrees(self, level: f64) -> bool {
        self.p_value() >= level
    }
}

/// The probability that a standard normal variable exceeds `z`: Abramowitz and Stegun 26.2.17, off by at most
/// 7.5·10⁻⁸.
fn normal_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal_tail(-z);
    }
    const COEFFICIENTS: [f64; 5] =
        [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = COEFFICIENTS.iter().fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upper critical values from any table of the χ² distribution.
    const TABLE: [(usize, f64, f64); 15] = [
        (1, 0.1, 2.706),
        (1, 0.05, 3.841),
        (1, 0.001, 10.828),
        (2, 0.05, 5.991),
        (2, 0.001, 13.816),
        (3, 0.1, 6.251),
        (3, 0.05, 7.815),
        (3, 0.001, 16.266),
        (5, 0.05, 11.070),
        (5, 0.001, 20.515),
        (10, 0.01, 23.209),
        (10, 0.001, 29.588),
        (20, 0.001, 45.315),
        (50, 0.05, 67.505),
        (100, 0.1, 118.498),
    ];

    #[test]
    fn the_p_value_meets_the_tables() {
        for (degrees_of_freedom, level, statistic) in TABLE {
            let p = ChiSquared { statistic, degrees_of_freedom }.p_value();
            let allowed = match degrees_of_freedom {
                1 => 0.25,
                2..10 => 0.167,
                _ => 0.1,
            };
            assert!((p / level - 1.0).abs() < allowed, "k = {degrees_of_freedom}: {p} for {level}");
        }
    }

    #[test]
    fn the_statistic() {
        assert!((chi_squared(&[10, 20, 30]).statistic - 10.0).abs() < 1e-12);
        assert_eq!(chi_squared(&[10, 20, 30]).degrees_of_freedom, 2);
        assert_eq!(chi_squared_expected(&[10, 30], &[0.25, 0.75]).statistic, 0.0);
        assert_eq!(chi_squared(&[]).p_value(), 1.0);
        assert_eq!(chi_squared(&[0, 0]).p_value(), 1.0);
    }

    #[test]
    fn the_impossible_is_refuted() {
        assert_eq!(chi_squared_expected(&[5, 1], &[1.0, 0.0]).p_value(), 0.0);
        assert!(chi_squared_expected(&[5, 0], &[1.0, 0.0]).agrees(0.001));
        assert!(!chi_squared(&[100, 200]).agrees(0.001));
    }
}
