//! Means and spreads of loads or shares.
//!
//! All take the whole population (every replica), so deviations divide by `n`, not `n - 1`. An empty list
//! has the mean 0 and no spread.

/// The share of each count in their total; all 0 when the total is.
#[must_use]
pub fn shares(counts: &[u64]) -> Vec<f64> {
    let total: u64 = counts.iter().sum();
    counts.iter().map(|&count| count as f64 / total.max(1) as f64).collect()
}

/// The arithmetic mean.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation of the population.
#[must_use]
pub fn stddev(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

/// The largest value over the mean: 1 is perfectly even, 2 is one replica with twice its part. 0 when the
/// mean is.
#[must_use]
pub fn max_over_mean(values: &[f64]) -> f64 {
    over(values.iter().copied().fold(0.0, f64::max), mean(values))
}

/// The standard deviation over the mean. 0 when the mean is.
#[must_use]
pub fn coefficient_of_variation(values: &[f64]) -> f64 {
    over(stddev(values), mean(values))
}

/// The standard deviation of a replica's load when each of `requests` picks one of `replicas` uniformly at
/// random: √(n·p·(1 − p)) with p = 1/replicas. What is above it is the placement's fault.
#[must_use]
pub fn uniform_stddev(requests: u64, replicas: usize) -> f64 {
    let p = 1.0 / replicas.max(1) as f64;
    (requests as f64 * p * (1.0 - p)).sqrt()
}

fn over(value: f64, mean: f64) -> f64 {
    if mean == 0.0 { 0.0 } else { value / mean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_figures() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), 5.0);
        assert_eq!(stddev(&values), 2.0);
        assert_eq!(coefficient_of_variation(&values), 0.4);
        assert_eq!(max_over_mean(&values), 1.8);
        assert_eq!(shares(&[1, 3]), [0.25, 0.75]);
        assert_eq!(uniform_stddev(10_000, 2), 50.0);
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(mean(&[]), 0.0);
        assert_eq!(stddev(&[]), 0.0);
        assert_eq!(max_over_mean(&[]), 0.0);
        assert_eq!(coefficient_of_variation(&[0.0, 0.0]), 0.0);
        assert_eq!(shares(&[0, 0]), [0.0, 0.0]);
        assert_eq!(uniform_stddev(100, 0), 0.0);
    }
}
