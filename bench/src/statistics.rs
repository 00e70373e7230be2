//! Medians, and ratios of what was measured in the same round.

/// The middle value, or the mean of the two in the middle. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// A value of one round.
pub(crate) type Round = (u32, f64);

/// One ratio for each round in which both were measured; a round whose denominator is 0 has none.
pub(crate) fn ratios(of: &[Round], to: &[Round]) -> Vec<f64> {
    let pair = |&(round, value): &Round| {
        let &(_, base) = to.iter().find(|(other, _)| *other == round)?;
        (base != 0.0).then_some(value / base)
    };
    of.iter().filter_map(pair).collect()
}

/// The median, with the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let most = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { median: median(values)?, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    /// A machine that slows down between rounds must not show: each value is divided by its own round's.
    #[test]
    fn ratios_are_taken_within_a_round() {
        let ours = [(0, 0.9), (1, 1.8), (2, 3.6)];
        let theirs = [(2, 4.0), (0, 1.0), (1, 2.0)];
        let ratios = ratios(&ours, &theirs);
        assert!(ratios.iter().all(|ratio| (ratio - 0.9).abs() < 1e-9), "{ratios:?}");
        assert_eq!(Spread::of(&ratios).map(|spread| spread.median), Some(0.9));
    }

    #[test]
    fn a_round_without_a_partner_or_with_a_zero_has_no_ratio() {
        assert_eq!(ratios(&[(0, 1.0), (1, 1.0)], &[(1, 0.0), (2, 1.0)]), [] as [f64; 0]);
    }
}
