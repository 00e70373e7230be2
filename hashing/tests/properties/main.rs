//! What every placement promises, over generated memberships.
//!
//! Deterministic: the generator's seed is fixed, so a failure here is a failure everywhere; set
//! `SLIPRING_HASHING_SEED` to another number to explore.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

mod bounded;
mod hostile;
mod movement;
mod order;
mod restore;
mod weights;

use proptest::{
    collection::{btree_map, btree_set},
    prelude::*,
    test_runner::{Config, RngSeed},
};
use slipring_hashing::{HashPair, Member, Placement, Probing, ReplicaId, Weight};

/// Few cases of big tables: what differs between members is their ids and weights, and both are drawn each time.
fn config(cases: u32) -> Config {
    let seed = std::env::var("SLIPRING_HASHING_SEED").ok().and_then(|seed| seed.parse().ok());
    let rng_seed = RngSeed::Fixed(seed.unwrap_or(0x736c_6970_7269_6e67));
    Config { cases, rng_seed, failure_persistence: None, ..Config::default() }
}

fn weight(value: f64) -> Weight {
    Weight::new(value).unwrap()
}

fn member(id: u16, weight: Weight) -> Member {
    Member::new(ReplicaId(id), weight, format!("10.0.{}.{}:8080", id / 256, id % 256))
}

/// The contract's ring with every pair and probing.
fn rings() -> Vec<Placement> {
    let probings = [Probing::Linear, Probing::Quadratic];
    let pairs = HashPair::ALL.into_iter().flat_map(|pair| probings.map(|probing| (pair, probing)));
    pairs.map(|(pair, probing)| Placement::Slots { pair, slots: 512, virtual_servers: 9, probing }).collect()
}

fn placements() -> Vec<Placement> {
    let mut all = rings();
    all.extend([Placement::Rendezvous, Placement::Maglev, Placement::Ketama]);
    all
}

/// Members of weight 1 with a few gaps between their identities, in no order.
fn equals(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Member>> {
    btree_set(0_u16..64, count)
        .prop_map(|ids| ids.into_iter().map(|id| member(id, Weight::ONE)).collect::<Vec<_>>())
        .prop_shuffle()
}

/// Members of weights between a quarter and four.
fn weighted(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Member>> {
    btree_map(0_u16..64, 1_u32..=16, count)
        .prop_map(|drawn| {
            let members = drawn.into_iter();
            members.map(|(id, quarters)| member(id, weight(f64::from(quarters) / 4.0))).collect::<Vec<_>>()
        })
        .prop_shuffle()
}
