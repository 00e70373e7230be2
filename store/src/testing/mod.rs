//! What tests of this crate and of its users need: a PostgreSQL of their own.

mod cluster;

pub use cluster::{Cluster, Missing, required};
