//! An overlay's file is refused with words, or it is a topology whose every part can be asked for without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_overlay::date::Date;
use slipring_overlay::topology::Topology;

/// What a file may hold; chance alone would not find it.
const PIECES: [&str; 20] = [
    "{\"processes\":{",
    "\"A\":{\"role\":\"leader\",\"team\":\"green\",\"host\":\"localhost\",\"port\":1,\"neighbors\":[",
    "\"B\":{\"role\":\"team_leader\",\"team\":\"pink\",\"host\":\"127.0.0.1\",\"port\":2,\"neighbors\":[",
    "\"C\":{\"role\":\"worker\",\"team\":\"green\",\"host\":\"::1\",\"port\":3,\"neighbors\":[",
    "\"D\":{\"role\":\"worker\",\"team\":\"pink\",\"host\":\"h\",\"port\":4,\"neighbors\":[",
    "\"A\"",
    "\"B\"",
    "\"C\"",
    "\"D\"",
    ",",
    "]}",
    "}",
    "],\"date_bounds\":[\"20200810\",\"20200816\"]}",
    "],\"date_bounds\":{\"start\":20200810,\"end\":20200820}}",
    ",\"placement\":\"ring\"",
    ",\"replicas\":2",
    ",\"leaders\":2",
    ",\"teams\":{\"green\":[\"20200101\",\"20201231\"]}",
    ",\"strategies\":{\"forwarding_strategy\":\"capacity\",\"chunk_size\":7}",
    "\"id\":\"A\",",
];

/// Bytes below 20 stand for pieces.
fn text(input: &[u8]) -> String {
    let mut text = Vec::new();
    for byte in input {
        match PIECES.get(usize::from(*byte)) {
            Some(piece) => text.extend_from_slice(piece.as_bytes()),
            None => text.push(*byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fuzz_target!(|input: &[u8]| {
    let topology = match Topology::parse(&text(input)) {
        Ok(topology) => topology,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let days: Vec<_> = (1..=31).filter_map(|day| Date::from_number(20_200_800 + day)).collect();
    for worker in topology.workers() {
        assert!(topology.dates_of(worker, &days).iter().all(|date| days.contains(date)));
        for process in topology.processes.keys() {
            for way in topology.paths(process, &worker.id, &[]) {
                assert!(way.last().is_none_or(|last| *last == worker.id), "a way leads to where it leads");
            }
        }
    }
});
