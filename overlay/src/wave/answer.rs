//! What a wave has gathered, as its initiator tells it: who answered over which father, who is missing and who gave them up,
//! and whether the number of messages is the one that Echo takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use slipring_waves::{NodeId, WaveId};

use super::{Graph, One, Told, Why};
use crate::wire::MetricsResponse;

/// See the module; in JSON the answer of `GET /overlay/echo`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    wave: String,
    /// All processes of the file are in it.
    pub(crate) is_complete: bool,
    nodes: BTreeMap<String, Node>,
    missing: Vec<Missing>,
    messages: u64,
    /// Two for each link.
    expected: u64,
    /// Why the messages of a complete wave are others than expected.
    pub(crate) mismatch: Option<String>,
    took_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Node {
    father: Option<String>,
    messages: u32,
    gave_up: Vec<GivenUp>,
    metrics: MetricsResponse,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct GivenUp {
    process: String,
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Missing {
    process: String,
    /// Those who waited for it, and why they do no longer.
    given_up_by: Vec<GivenUp>,
    /// If nobody did: those of the missing ones that were given up and lead to it.
    behind: Vec<String>,
}

impl Answer {
    pub(crate) fn of(wave: WaveId, told: Told, graph: &Graph, took: Duration) -> Self {
        let name = |number: NodeId| graph.name(number).to_string();
        let missing: BTreeSet<_> = graph.numbers().filter(|number| !told.0.contains_key(number)).collect();
        let given_up: BTreeSet<_> = told.0.values().flat_map(|one| one.given_up.keys().copied()).collect();
        let missing = missing.iter().map(|&number| {
            let reason = |(by, one): (&NodeId, &One)| {
                Some(GivenUp { process: name(*by), why: one.given_up.get(&number)?.words() })
            };
            let behind = behind(number, &missing, &given_up, graph);
            Missing {
                process: name(number),
                given_up_by: told.0.iter().filter_map(reason).collect(),
                behind: behind.into_iter().map(name).collect(),
            }
        });
        let missing: Vec<_> = missing.collect();
        let messages = told.0.values().map(|one| u64::from(one.messages)).sum();
        let expected = graph.messages() as u64;
        let is_complete = missing.is_empty();
        let mismatch = (is_complete && messages != expected).then(|| mismatch(&told, graph));
        let node = |(number, One { father, messages, given_up, metrics }): (NodeId, One)| {
            let gave_up = given_up
                .into_iter()
                .map(|(process, why)| GivenUp { process: name(process), why: why.words() });
            (name(number), Node { father: father.map(name), messages, gave_up: gave_up.collect(), metrics })
        };
        Self {
            wave: wave.to_string(),
            is_complete,
            nodes: told.0.into_iter().map(node).collect(),
            missing,
            messages,
            expected,
            mismatch,
            took_ms: took.as_secs_f64() * 1000.0,
        }
    }
}

/// Who of those that were given up stands before one whom nobody waited for.
fn behind(
    number: NodeId,
    missing: &BTreeSet<NodeId>,
    given_up: &BTreeSet<NodeId>,
    graph: &Graph,
) -> BTreeSet<NodeId> {
    let (mut before, mut seen) = (BTreeSet::new(), BTreeSet::from([number]));
    let mut open = if given_up.contains(&number) { vec![] } else { vec![number] };
    while let Some(one) = open.pop() {
        for &neighbor in graph.neighbors(one).intersection(missing) {
            match (given_up.contains(&neighbor), seen.insert(neighbor)) {
                (true, _) => drop(before.insert(neighbor)),
                (false, true) => open.push(neighbor),
                (false, false) => {}
            }
        }
    }
    before
}

/// The links over which something was lost.
fn mismatch(told: &Told, graph: &Graph) -> String {
    let links = told.0.iter().flat_map(|(by, one)| {
        one.given_up.iter().map(|(process, why): (_, &Why)| {
            format!("{} gave up {}: {}", graph.name(*by), graph.name(*process), why.words())
        })
    });
    let links: Vec<_> = links.collect();
    match links.is_empty() {
        true => "and nobody was given up: a message was doubled or not counted".into(),
        false => links.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    const WAVE: WaveId = WaveId { initiator: 0, number: 17 };

    /// Number, father, messages, and whom it gave up.
    type Row<'a> = (NodeId, Option<NodeId>, u32, &'a [(NodeId, Why)]);

    fn answer(told: &[Row<'_>]) -> serde_json::Value {
        let topology = Topology::parse(include_str!("../../topologies/baseline.json")).unwrap();
        let one = |&(number, father, messages, given_up): &Row<'_>| {
            (number, One { father, messages, given_up: given_up.iter().copied().collect(), ..One::default() })
        };
        let told = Told(told.iter().map(one).collect());
        serde_json::to_value(Answer::of(WAVE, told, &Graph::of(&topology), Duration::from_micros(1500)))
            .unwrap()
    }

    #[test]
    fn a_complete_wave_is_checked_against_two_messages_a_link() {
        let all = |given_up: &'static [(NodeId, Why)], of_b| {
            answer(&[
                (0, None, 2, &[]),
                (1, Some(0), of_b, given_up),
                (2, Some(1), 1, &[]),
                (3, Some(1), 2, &[]),
                (4, Some(0), 3, &[]),
                (5, Some(4), 1, &[]),
            ])
        };
        let right = all(&[], 3);
        assert_eq!((&right["wave"], &right["is_complete"]), (&"0-17".into(), &true.into()));
        assert_eq!(
            (&right["messages"], &right["expected"], &right["mismatch"]),
            (&12.into(), &12.into(), &().into())
        );
        assert_eq!((&right["took_ms"], &right["nodes"]["D"]["father"]), (&1.5.into(), &"B".into()));
        let lost = all(&[(3, Why::Unreachable)], 2);
        assert_eq!(
            (&lost["is_complete"], &lost["mismatch"]),
            (&true.into(), &"B gave up D: it cannot be reached".into())
        );
        assert!(all(&[], 4)["mismatch"].as_str().unwrap().contains("doubled"));
    }

    #[test]
    fn who_is_missing_is_named_with_those_who_gave_it_up_and_what_is_behind_it_with_the_way() {
        let some = answer(&[
            (0, None, 2, &[]),
            (1, Some(0), 1, &[(2, Why::Silent), (3, Why::Silent)]),
            (4, Some(0), 1, &[(3, Why::Unreachable)]),
        ]);
        let given_up = |process: &str, why: Why| serde_json::json!({"process": process, "why": why.words()});
        assert_eq!(
            some["missing"],
            serde_json::json!([
                {"process": "C", "given_up_by": [given_up("B", Why::Silent)], "behind": []},
                {"process": "D", "given_up_by": [given_up("B", Why::Silent), given_up("E", Why::Unreachable)], "behind": []},
                {"process": "F", "given_up_by": [], "behind": []},
            ])
        );
        assert_eq!((&some["is_complete"], &some["mismatch"]), (&false.into(), &().into()));
        let alone = answer(&[(0, None, 2, &[(1, Why::Silent), (4, Why::Silent)])]);
        assert_eq!(alone["missing"][1]["behind"], serde_json::json!(["B"]));
        assert_eq!(alone["missing"][2]["behind"], serde_json::json!(["B", "E"]));
        let far = answer(&[(5, None, 0, &[(4, Why::Unreachable)])]);
        let behind: Vec<_> =
            far["missing"].as_array().unwrap().iter().map(|one| one["behind"].to_string()).collect();
        assert_eq!(behind, [r#"["E"]"#, r#"["E"]"#, r#"["E"]"#, r#"["E"]"#, "[]"], "F knows nobody else");
    }
}
