//! How much of the key space a replica should own, relative to the others.
//!
//! The range is checked where a weight is born, so that no placement meets a zero, a NaN or a value that
//! would make ketama build a million points for one server. A replica that should get nothing is drained
//! or removed; it is not given the weight 0.

use thiserror::Error;

/// A weight within [`Weight::MIN`]..=[`Weight::MAX`].
#[derive(Copy, Clone, PartialEq, PartialOrd, Debug)]
pub struct Weight(f64);

/// Why a number is no weight.
#[derive(Copy, Clone, PartialEq, Debug, Error)]
pub enum WeightError {
    /// NaN, or an infinity.
    #[error("weight {0} is not a finite number")]
    NotFinite(f64),
    /// Zero, negative, or too small to ever be given a slot.
    #[error("weight {0} is too small: the least is {min}", min = Weight::MIN.0)]
    TooSmall(f64),
    /// More than any placement can honour.
    #[error("weight {0} is too large: the most is {max}", max = Weight::MAX.0)]
    TooLarge(f64),
}

impl Weight {
    /// The weight of a replica that nobody configured.
    pub const ONE: Self = Self(1.0);
    /// The least weight. Between equals of weight 1 it already means "practically nothing".
    pub const MIN: Self = Self(1e-6);
    /// The largest weight. It bounds ketama's 160 points for each unit of weight.
    pub const MAX: Self = Self(256.0);

    /// Checks that `weight` is finite and within the range.
    pub fn new(weight: f64) -> Result<Self, WeightError> {
        if !weight.is_finite() {
            Err(WeightError::NotFinite(weight))
        } else if weight < Self::MIN.0 {
            Err(WeightError::TooSmall(weight))
        } else if weight > Self::MAX.0 {
            Err(WeightError::TooLarge(weight))
        } else {
            Ok(Self(weight))
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_within_the_range_are_weights() {
        for good in [1e-6, 0.5, 1.0, 256.0] {
            assert_eq!(Weight::new(good).map(Weight::get), Ok(good));
        }
        for bad in [0.0, -0.0, -1.0, 1e-7, f64::MIN_POSITIVE, 256.5, 1e300, f64::INFINITY, f64::NEG_INFINITY]
        {
            assert!(Weight::new(bad).is_err(), "{bad}");
        }
        assert!(Weight::new(f64::NAN).is_err());
    }

    #[test]
    fn the_error_says_what_would_be_right() {
        let message = Weight::new(1000.0).unwrap_err().to_string();
        assert_eq!(message, "weight 1000 is too large: the most is 256");
    }
}
