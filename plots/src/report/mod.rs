//! Reports: what was measured, as plain data; its CSV and JSON; and the pictures drawn from it.
//!
//! Measuring fills a report, drawing reads it, and the JSON lies between the two: the pictures can be
//! drawn again from the files of last week, and whoever distrusts a picture has the numbers.

pub mod distribution;
pub mod expectation;
pub mod failure;
mod files;
mod pictures;
mod timeline;

#[cfg(test)]
mod tests;

pub use expectation::PlacementName;
pub use files::{FilesError, Report, load, save};
