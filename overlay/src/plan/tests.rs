use serde_json::json;

use super::*;
use crate::catalog::Day;

#[test]
fn when_a_hop_is_on_the_best_ways_another_one_is_found() {
    let process = |id: &str, role: &str, port: u16, neighbors: &[&str]| json!({"id": id, "role": role, "team": "green", "host": "127.0.0.1", "port": port, "neighbors": neighbors});
    // From A to W four short ways lead through X, and a long one around it.
    let file = json!({"processes": {
        "A": process("A", "leader", 1001, &["X", "Y"]),
        "X": process("X", "team_leader", 1002, &["A", "W", "P", "Q", "R"]),
        "P": process("P", "team_leader", 1003, &["X", "W"]),
        "Q": process("Q", "team_leader", 1004, &["X", "W"]),
        "R": process("R", "team_leader", 1005, &["X", "W"]),
        "Y": process("Y", "team_leader", 1006, &["A", "Z"]),
        "Z": process("Z", "team_leader", 1007, &["Y", "V"]),
        "V": process("V", "team_leader", 1008, &["Z", "W"]),
        "W": process("W", "worker", 1009, &["X", "P", "Q", "R", "V"]),
    }});
    let topology = Topology::parse(&file.to_string()).unwrap();
    let reach = Reach::of(&topology, &"A".into());
    let date = Date::from_number(20_200_810).unwrap();
    let mut catalog = Catalog::default();
    let day = Day { rows: 1, fingerprint: 7, ..Day::default() };
    catalog.workers.insert("W".into(), [(date, day)].into());
    let way = |hops: &[&str]| {
        let hops: Vec<_> = hops.iter().map(|&hop| ProcessId::from(hop)).collect();
        let plan = Plan::new(&topology, &reach, &hops, &catalog, &Query::default());
        assert_eq!(plan.wanted.len() + plan.missing.len(), 1, "one day");
        let path = &plan.wanted.first()?.routes.front()?.path;
        Some(path.iter().map(ProcessId::as_str).collect::<String>())
    };
    assert_eq!(way(&[]).as_deref(), Some("XW"));
    assert_eq!(way(&["P"]).as_deref(), Some("XW"));
    assert_eq!(way(&["X"]).as_deref(), Some("YZVW"));
    assert_eq!(way(&["X", "Z"]), None);
}

#[test]
fn a_leader_answers_for_every_worker_whoever_else_leads() {
    let process = |id: &str, role: &str, port: u16, neighbors: &[&str]| json!({"id": id, "role": role, "team": "green", "host": "127.0.0.1", "port": port, "neighbors": neighbors});
    // C is one step from L1, as B is; from L2 it is two steps, over B.
    let file = json!({"leaders": 2, "processes": {
        "L1": process("L1", "leader", 1001, &["B", "C"]),
        "L2": process("L2", "leader", 1002, &["B"]),
        "B": process("B", "team_leader", 1003, &["C"]),
        "C": process("C", "worker", 1004, &["B"]),
    }});
    let topology = Topology::parse(&file.to_string()).unwrap();
    for id in ["L1", "L2", "B", "C"] {
        assert_eq!(Reach::of(&topology, &id.into()).scope, ["C".into()], "{id}");
    }
}
