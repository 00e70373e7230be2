//! What every wave promises, on graphs that nobody chose, over a network that does what it likes.
//!
//! Deterministic: the generator's seed is fixed, so a failure here is a failure everywhere; set `SLIPRING_WAVES_SEED` to
//! another number to explore.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

mod barrier;
mod echo;
mod finn;
mod many;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use slipring_waves::NodeId;
use slipring_waves::sim::{Conditions, Order};
use slipring_waves::topology::Graph;

fn config(cases: u32) -> Config {
    let seed = std::env::var("SLIPRING_WAVES_SEED").ok().and_then(|seed| seed.parse().ok());
    let rng_seed = RngSeed::Fixed(seed.unwrap_or(0x736c_6970));
    Config { cases, rng_seed, failure_persistence: None, ..Config::default() }
}

/// A connected graph.
fn connected() -> impl Strategy<Value = Graph> {
    (1_usize..24, 0_usize..30, any::<u64>())
        .prop_map(|(nodes, more, seed)| Graph::random_connected(nodes, more, seed))
}

/// A graph of one-way arcs, connected or not.
fn directed() -> impl Strategy<Value = Graph> {
    (1_usize..16, 0_usize..48, any::<u64>())
        .prop_map(|(nodes, arcs, seed)| Graph::random_directed(nodes, arcs, seed))
}

/// Any order, one message in three again; nobody dies.
fn rough(seed: u64) -> Conditions {
    Conditions { repeated: 33, is_causal: true, ..Conditions::new(seed) }
}

/// One of a graph's nodes.
fn chosen(graph: &Graph, any: prop::sample::Index) -> NodeId {
    graph.nodes()[any.index(graph.nodes().len())].id
}

/// Time without any other delay than one unit for each message.
fn in_rounds(seed: u64) -> Conditions {
    Conditions { order: Order::Rounds, ..Conditions::new(seed) }
}

/// Some of them, each dying after so many messages.
fn dying(graph: &Graph, drawn: Vec<(prop::sample::Index, usize)>) -> BTreeMap<NodeId, usize> {
    drawn.into_iter().map(|(any, survived)| (chosen(graph, any), survived)).collect()
}
