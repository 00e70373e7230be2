//! How even a placement is, and what a change of membership moves.
//!
//! The figures are for people, charts and tests; no placement depends on them, so they may use the
//! platform's floating-point functions.

mod chi;
mod moves;
mod summary;

pub use chi::{ChiSquared, chi_squared, chi_squared_expected, chi_squared_quantile};
pub use moves::{Moves, moves};
pub use summary::{coefficient_of_variation, max_over_mean, mean, shares, stddev, uniform_stddev};
