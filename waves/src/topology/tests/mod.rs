#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

mod graph;
mod properties;
mod tree;

/// The original's eight servers.
const EIGHT: &str = include_str!("../../../topologies/eight.json");
