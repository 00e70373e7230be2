use serde_json::json;

use super::*;
use crate::plan::{Plan, Reach};
use crate::query::Query;

const SIX: &str = include_str!("../../topologies/baseline.json");

/// What A is missing of a question, when all workers see these days of August and hold their own.
fn missing(edit: impl FnOnce(&mut serde_json::Value), seen: &[u32], query: &str) -> Vec<String> {
    let mut file = serde_json::from_str(SIX).unwrap();
    edit(&mut file);
    let topology = Topology::parse(&file.to_string()).unwrap();
    let reach = Reach::of(&topology, &"A".into());
    let seen: Vec<_> = seen.iter().map(|day| Date::from_number(20_200_800 + day).unwrap()).collect();
    let mut catalog = Catalog::default();
    for worker in topology.workers() {
        let day = |date: &Date| peer_wire::Day { date: date.number(), rows: 1, ..Default::default() };
        let said = peer_wire::CatalogResponse {
            process: worker.id.to_string(),
            days: topology.dates_of(worker, &seen).iter().map(day).collect(),
            seen: seen.iter().map(|date| date.number()).collect(),
        };
        catalog.learn(&topology, &reach.scope, &worker.id, said);
    }
    let plan = Plan::new(&topology, &reach, &[], &catalog, &Query::from_json(query).unwrap());
    plan.missing.into_iter().map(|missing| format!("{} {}", missing.name, missing.process)).collect()
}

#[test]
fn a_day_that_no_worker_is_to_hold_is_missing_and_not_absent() {
    let narrow = |file: &mut serde_json::Value| {
        file["processes"]["C"]["date_bounds"] = json!(["20200810", "20200816"]);
    };
    let seen = [5, 10, 16, 17, 20, 21];
    assert_eq!(missing(|_| (), &seen[1..], "{}"), [""; 0]);
    let nobodys =
        |days: &[u32]| -> Vec<_> { days.iter().map(|day| format!("202008{day:02} no process")).collect() };
    // Green's only worker takes less than green has, and a folder is in no team's span.
    assert_eq!(missing(narrow, &seen, "{}"), nobodys(&[5, 17, 20]));
    assert_eq!(
        missing(narrow, &seen, r#"{"team":"green"}"#),
        nobodys(&[17, 20]),
        "the other one is no team's"
    );
    assert_eq!(missing(narrow, &seen, r#"{"team":"pink"}"#), [""; 0]);
    assert_eq!(missing(narrow, &seen, r#"{"date_start":"20200810","date_end":"20200816"}"#), [""; 0]);
    let ring = |file: &mut serde_json::Value| file["placement"] = "ring".into();
    assert_eq!(missing(ring, &seen, "{}"), [""; 0], "the ring leaves out no day");
}
