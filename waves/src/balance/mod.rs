//! Who gives how many tasks to whom, so that each unit has its share of all of them: plans, of what a wave has gathered.
//!
//! A unit's *fair share* is all tasks times its part of all cores; tasks are whole, so a unit is balanced when it has that
//! number rounded up or down. Three plans: [`tree`], along links, in one go and with the fewest moves that there can be;
//! [`heap`], the original's; [`stealing`].

mod heap;
mod measure;
mod stealing;
mod tree;

pub use heap::heap;
pub use measure::{Disbalance, Impossible, Trial, carried_out, disbalance, lower_bound, rounds_to_balance};
pub use stealing::stealing;
pub use tree::tree;

use crate::NodeId;

/// A unit, as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Which.
    pub id: NodeId,
    /// The place in the list of whom it hangs on, which is before it; none for the first alone.
    pub parent: Option<usize>,
    /// Its tasks. Where all together are more than a `u64` can count, nothing is planned.
    pub load: u64,
    /// Its cores, below 2^32; with none it is to have nothing.
    pub cores: u64,
}

/// Tasks from one unit to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Who gives.
    pub from: NodeId,
    /// Who takes.
    pub to: NodeId,
    /// How many, at least one.
    pub count: u64,
}

/// Whether all tasks together are a number at all: a neighbor can claim to have any.
fn are_countable(stations: &[Station]) -> bool {
    stations.iter().try_fold(0_u64, |sum, station| sum.checked_add(station.load)).is_some()
}

/// Each unit's share rounded down, and whether that leaves a part. Without any cores each keeps what it has.
fn shares(stations: &[Station]) -> Vec<(u64, bool)> {
    let sum =
        |part: fn(&Station) -> u64| stations.iter().map(|station| u128::from(part(station))).sum::<u128>();
    let (load, cores) = (sum(|station| station.load), sum(|station| station.cores));
    let share = |station: &Station| {
        if cores == 0 {
            return (station.load, false);
        }
        let exact = load * u128::from(station.cores);
        (u64::try_from(exact / cores).unwrap_or(u64::MAX), !exact.is_multiple_of(cores))
    };
    stations.iter().map(share).collect()
}

/// Whether each unit has its share, rounded up or down.
pub fn is_balanced(stations: &[Station]) -> bool {
    let is_share = |(station, (low, has_part)): (&Station, (u64, bool))| {
        station.load == low || has_part && station.load == low + 1
    };
    stations.iter().zip(shares(stations)).all(is_share)
}

#[cfg(test)]
mod tests;
