//! Lookup and change, placement by placement.
//!
//! `key` is the hash alone, `owner` the load alone (slots drawn beforehand), `route` both: what a lookup costs
//! *beside the hash* is the difference, which is printed at the end. Keys and slots run through a list of 4,096, so
//! that tables are read at random as by real requests. `make bench`; the figures a decision rests on are archived under
//! `bench/runs`.

#![allow(missing_docs, reason = "criterion's macro writes a public function")]
#![allow(clippy::print_stdout, reason = "it has figures to print")]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BatchSize, Criterion, criterion_group};
use slipring_hashing::{HashPair, Key, Member, Placement, ReplicaId, Table, Weight};

const REPLICAS: u16 = 10;
const KEYS: usize = 4096;

fn members(count: u16) -> Vec<Member> {
    let label = |id| format!("10.0.0.{id}:8080");
    (0..count).map(|id| Member::new(ReplicaId(id), Weight::ONE, label(id))).collect()
}

fn tables() -> Vec<(String, Table)> {
    let rings = HashPair::ALL.map(|pair| (format!("slots-{pair}"), Placement::contract(pair)));
    let others = [Placement::Rendezvous, Placement::Maglev, Placement::Ketama];
    let others = others.map(|placement| (placement.name().to_owned(), placement));
    let build =
        |placement: Placement| placement.build(&members(REPLICAS)).expect("ten replicas fit everywhere");
    rings.into_iter().chain(others).map(|(name, placement)| (name, build(placement))).collect()
}

/// Keys like those of real requests: 24 bytes of text each.
fn keys() -> Vec<[u8; 24]> {
    let text = |number| format!("/item/{:018}", number * 7_919 + 100_000);
    (0..KEYS).map(|number| text(number).into_bytes().try_into().expect("24 bytes")).collect()
}

/// Calls `look_up` with 0, 1, 2, … modulo the number of keys.
fn round_robin<T>(bencher: &mut criterion::Bencher<'_>, look_up: impl Fn(usize) -> T) {
    let mut next = 0;
    bencher.iter(|| {
        next = (next + 1) % KEYS;
        look_up(black_box(next))
    });
}

fn lookup(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("key");
    group.bench_function("xxh3-24-bytes", |bencher| round_robin(bencher, |i| Key::Bytes(&keys[i]).hash64()));
    group.bench_function("xxh3-id", |bencher| round_robin(bencher, |i| Key::Id(i as u32).hash64()));
    group.finish();

    for (name, table) in tables() {
        let slots: Vec<u32> = keys.iter().map(|key| table.slot_of(Key::Bytes(key))).collect();
        criterion.bench_function(&format!("owner/{name}"), |bencher| {
            round_robin(bencher, |i| table.owner(slots[i]));
        });
        criterion.bench_function(&format!("route-24-bytes/{name}"), |bencher| {
            round_robin(bencher, |i| table.route(Key::Bytes(&keys[i])));
        });
        criterion.bench_function(&format!("route-id/{name}"), |bencher| {
            round_robin(bencher, |i| table.route(Key::Id(100_000 + i as u32)));
        });
        criterion.bench_function(&format!("preference-first/{name}"), |bencher| {
            round_robin(bencher, |i| table.preference(slots[i]).next());
        });
        criterion.bench_function(&format!("preference-second/{name}"), |bencher| {
            round_robin(bencher, |i| table.preference(slots[i]).nth(1));
        });
    }
}

fn change(criterion: &mut Criterion) {
    let newcomer = members(REPLICAS + 1).pop().expect("eleven");
    for (name, table) in tables() {
        criterion.bench_function(&format!("build/{name}"), |bencher| {
            let members = members(REPLICAS);
            bencher.iter(|| table.placement().build(black_box(&members)));
        });
        criterion.bench_function(&format!("with/{name}"), |bencher| {
            bencher.iter_batched(|| newcomer.clone(), |newcomer| table.with(newcomer), BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("without/{name}"), |bencher| {
            bencher.iter(|| table.without(black_box(ReplicaId(3))));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().output_directory(&results());
    targets = lookup, change
}

/// Where criterion keeps what it measured.
fn results() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion")
}

/// The median of a benchmark in nanoseconds, by its folder: `group/name`, or `part_part`; `None` if it was never run.
fn median(benchmark: &str) -> Option<f64> {
    let text = std::fs::read_to_string(results().join(benchmark).join("new/estimates.json")).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

/// What a lookup costs beside the hash. Ketama's hash is another, CRC-32, and so are the slot rings' polynomials.
fn beside_the_hash() {
    for placement in ["rendezvous", "maglev"] {
        for (kind, key, route) in
            [("24-byte key", "key/xxh3-24-bytes", "route-24-bytes"), ("id", "key/xxh3-id", "route-id")]
        {
            if let (Some(key), Some(route)) = (median(key), median(&format!("{route}_{placement}"))) {
                let beside = route - key;
                println!(
                    "{placement}, {kind}: lookup beside the hash: {beside:.1} ns ({route:.1} - {key:.1})"
                );
            }
        }
    }
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Under `cargo test` each runs once and nothing is measured.
    if std::env::args().any(|argument| argument == "--bench") {
        beside_the_hash();
    }
}
