//! Pearson's χ² test: do counts agree with an expectation? And the χ² distribution itself.
//!
//! The distribution is exact, to some thirteen digits: the regularized incomplete gamma function by its series
//! below the mean and by its continued fraction above (Press et al., *Numerical Recipes*, 6.2), quantiles by
//! bisection. Rejected: the approximation of Wilson and Hilferty, which is good in the upper tail and useless in the
//! lower one for few degrees of freedom (it puts the lowest fortieth of one degree at 0); a statistics crate, of
//! which this would be the only use.

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
        upper_tail(self.statistic, self.degrees_of_freedom)
    }

    /// Whether chance alone would give as much in a share `level` of all cases or more: 0.001 accuses an
    /// honest placement once in a thousand tests.
    #[must_use]
    pub fn agrees(self, level: f64) -> bool {
        self.p_value() >= level
    }
}

/// The value that a χ² variable stays below with this probability: 0 at 0 (and without a degree of freedom), infinity
/// at 1.
#[must_use]
pub fn chi_squared_quantile(probability: f64, degrees_of_freedom: usize) -> f64 {
    if probability <= 0.0 || degrees_of_freedom == 0 {
        return 0.0;
    }
    if probability >= 1.0 {
        return f64::INFINITY;
    }
    // Whichever tail is the smaller one is the one that has digits to compare.
    let is_below = |x: f64| match probability {
        ..0.5 => lower_tail(x, degrees_of_freedom) < probability,
        _ => upper_tail(x, degrees_of_freedom) > 1.0 - probability,
    };
    let mut high = degrees_of_freedom as f64;
    while is_below(high) {
        high *= 2.0;
    }
    let mut low = 0.0;
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return middle;
        }
        *(if is_below(middle) { &mut low } else { &mut high }) = middle;
    }
}

/// The probability that a χ² variable is below `x`.
fn lower_tail(x: f64, degrees_of_freedom: usize) -> f64 {
    let (a, x) = (degrees_of_freedom as f64 / 2.0, x / 2.0);
    if x < a + 1.0 { gamma_series(a, x) } else { 1.0 - gamma_fraction(a, x) }
}

/// The probability that a χ² variable is above `x`.
fn upper_tail(x: f64, degrees_of_freedom: usize) -> f64 {
    let (a, x) = (degrees_of_freedom as f64 / 2.0, x / 2.0);
    if x < a + 1.0 { 1.0 - gamma_series(a, x) } else { gamma_fraction(a, x) }
}

/// P(a, x) = xᵃe⁻ˣ/Γ(a) · Σ xⁿ/(a(a + 1)…(a + n)): each term is smaller than the one before it while x < a + 1.
fn gamma_series(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let (mut term, mut sum, mut divisor) = (1.0 / a, 1.0 / a, a);
    while term > sum * f64::EPSILON {
        divisor += 1.0;
        term *= x / divisor;
        sum += term;
    }
    sum * gamma_factor(a, x)
}

/// Q(a, x) = 1 − P(a, x) as a continued fraction, evaluated front to back as Lentz does; for x ≥ a + 1.
fn gamma_fraction(a: f64, x: f64) -> f64 {
    /// Stands for 0 in a denominator.
    const TINY: f64 = 1e-300;
    /// Far more steps than any x ≥ a + 1 takes; a bound all the same.
    const STEPS: u32 = 1_000_000;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / away_from_zero(b));
    let mut fraction = d;
    for step in 1..STEPS {
        let n = f64::from(step);
        let numerator = n * (a - n);
        b += 2.0;
        d = 1.0 / away_from_zero(numerator * d + b);
        c = away_from_zero(b + numerator / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    fraction * gamma_factor(a, x)
}

/// xᵃe⁻ˣ/Γ(a), by way of logarithms: the parts alone would overflow.
fn gamma_factor(a: f64, x: f64) -> f64 {
    (a * x.ln() - x - ln_gamma(a)).exp()
}

/// ln Γ(a) for whole and half numbers a, which is all that χ² asks for: Γ(a) = (a − 1)·Γ(a − 1), down to Γ(1) = 1 or
/// Γ(½) = √π.
fn ln_gamma(a: f64) -> f64 {
    let (mut sum, mut a) = (0.0, a);
    while a > 1.0 {
        a -= 1.0;
        sum += a.ln();
    }
    if a < 1.0 { sum + std::f64::consts::PI.sqrt().ln() } else { sum }
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
            assert!((p / level - 1.0).abs() < 1e-3, "k = {degrees_of_freedom}: {p} for {level}");
            let quantile = chi_squared_quantile(1.0 - level, degrees_of_freedom);
            assert!((quantile - statistic).abs() < 6e-4, "k = {degrees_of_freedom}: {quantile}");
        }
    }

    /// Lower critical values, from the same tables.
    #[test]
    fn the_quantiles_meet_the_tables_in_the_lower_tail() {
        let table = [
            (1, 0.025, 0.000_982_069),
            (2, 0.025, 0.050_635_6),
            (3, 0.025, 0.215_795),
            (4, 0.025, 0.484_419),
            (5, 0.025, 0.831_212),
            (10, 0.01, 2.558_21),
            (50, 0.05, 34.764_25),
            (100, 0.1, 82.358_14),
        ];
        for (degrees_of_freedom, probability, expected) in table {
            let quantile = chi_squared_quantile(probability, degrees_of_freedom);
            assert!((quantile / expected - 1.0).abs() < 2e-6, "k = {degrees_of_freedom}: {quantile}");
        }
    }

    /// With two degrees of freedom the tail is e^(−x/2), on both sides of where series and fraction meet.
    #[test]
    fn two_degrees_of_freedom_are_an_exponential() {
        for x in [1e-9, 0.5, 1.0, 3.999, 4.0, 4.001, 20.0, 700.0] {
            let p = ChiSquared { statistic: x, degrees_of_freedom: 2 }.p_value();
            assert!((p / (-x / 2.0).exp() - 1.0).abs() < 1e-12, "{x}: {p}");
        }
        for probability in [1e-12, 0.025, 0.5, 0.975, 0.999_999] {
            let expected = -2.0 * f64::ln_1p(-probability);
            let quantile = chi_squared_quantile(probability, 2);
            assert!((quantile / expected - 1.0).abs() < 1e-9, "{probability}: {quantile}");
        }
    }

    #[test]
    fn quantiles_end_at_the_ends() {
        assert_eq!(chi_squared_quantile(0.0, 3), 0.0);
        assert_eq!(chi_squared_quantile(0.5, 0), 0.0);
        assert_eq!(chi_squared_quantile(1.0, 3), f64::INFINITY);
        for k in [1, 2, 7, 1000, 65_535] {
            let middle = chi_squared_quantile(0.5, k);
            assert!((lower_tail(middle, k) - 0.5).abs() < 1e-9, "k = {k}: {middle}");
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
