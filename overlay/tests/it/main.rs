//! A whole overlay on loopback: each process on a runtime of its own, which can be ended without a word.

mod answers;
mod cluster;
mod data;
mod disagreements;
mod failures;
mod openapi;
mod promises;
mod waves;
