//! Waves through the overlay: one process asks, every process tells its neighbors, and all that is told comes back over the
//! fathers, so that each process counts once although the overlay is a graph.
//!
//! Here is what decides, and nothing that sends: the algorithm is [`slipring_waves::Echo`], one node of it for each wave
//! that passes through ([`Table`]). `node::waves` carries the messages. A survey (`survey`) asks each process by itself
//! and needs to reach them all; a wave needs no more than neighbors, and shows the way that it took.

mod answer;
mod graph;
mod table;
mod told;

pub(crate) use answer::Answer;
pub(crate) use graph::Graph;
pub(crate) use table::{Heard, Steps, Table, TooMany};
pub(crate) use told::{Garbled, One, Told, Why};
