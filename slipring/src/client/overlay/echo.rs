//! One wave through an overlay: what each process says of itself, in the tree of fathers over which it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde::Deserialize;

use super::Failure;
use super::metrics::{Format, Metrics};
use crate::client::call::{Balancer, Call};
use crate::text::{counted, grouped, shown, table};

#[derive(clap::Args)]
pub(in crate::client) struct Arguments {
    /// After which the answer is of those who were heard; the overlay decides if it is not said.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Wave {
    wave: String,
    nodes: BTreeMap<String, Node>,
    missing: Vec<Missing>,
    messages: u64,
    expected: u64,
    mismatch: Option<String>,
    took_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Node {
    father: Option<String>,
    messages: u64,
    metrics: Metrics,
}

#[derive(Debug, Deserialize)]
struct Missing {
    process: String,
    given_up_by: Vec<GivenUp>,
    behind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct GivenUp {
    process: String,
    why: String,
}

impl Arguments {
    pub(in crate::client) async fn run(&self, balancer: &Balancer, as_json: bool) -> ExitCode {
        match self.ask(balancer, self.format.unwrap_or(Format::of(as_json))).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.told(),
        }
    }

    async fn ask(&self, balancer: &Balancer, format: Format) -> Result<(), Failure> {
        let timeout = self.timeout.map_or_else(String::new, |seconds| format!("?timeout={seconds}"));
        let answer = balancer.send(&Call::get(&format!("/overlay/echo{timeout}"))).await?;
        if !answer.is_success() {
            return Err(Failure::of(&answer));
        }
        let strange = |error| Failure::Strange(balancer.url().to_owned(), error);
        let wave: Wave = serde_json::from_str(&answer.body).map_err(strange)?;
        match format {
            Format::Table => print!("{}", wave.text()),
            Format::Json => println!("{}", answer.body),
        }
        if !wave.missing.is_empty() {
            return Err(Failure::Incomplete(wave.missing.iter().map(Missing::words).collect()));
        }
        match wave.mismatch {
            Some(why) => Err(Failure::Mismatch { messages: wave.messages, expected: wave.expected, why }),
            None => Ok(()),
        }
    }
}

impl Wave {
    fn text(&self) -> String {
        let row = |(line, name): (String, &str)| {
            let Node { messages, metrics, .. } = self.nodes.get(name)?;
            let mut row = vec![line, metrics.role.clone(), metrics.team.clone()];
            row.extend(metrics.cells());
            row.push(grouped(*messages));
            Some(row)
        };
        let rows: Vec<_> = self.tree().into_iter().filter_map(row).collect();
        let heads = [
            "process",
            "role",
            "team",
            "state",
            ">active",
            ">capacity",
            ">queue",
            ">ms",
            ">files",
            ">messages",
        ];
        let (there, all) = (self.nodes.len() as u64, (self.nodes.len() + self.missing.len()) as u64);
        format!(
            "{}\n{} of {}, {} of {}, {:.1} ms (wave {})\n",
            table(&heads, &rows),
            grouped(there),
            if all == 1 { "1 process".to_owned() } else { format!("{} processes", grouped(all)) },
            grouped(self.messages),
            counted(self.expected, "message"),
            self.took_ms,
            shown(&self.wave)
        )
    }

    /// Everybody, behind its father and as a line of the tree shows it.
    fn tree(&self) -> Vec<(String, &str)> {
        let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            // Whoever's father is not there is a root as well.
            let father = node.father.as_deref().filter(|father| self.nodes.contains_key(*father));
            children.entry(father.unwrap_or_default()).or_default().push(name);
        }
        let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
        for root in children.get("").into_iter().flatten() {
            branch(root, "", "", &children, &mut seen, &mut lines);
        }
        // An answer may say anything: nobody is left out because his fathers go in a circle.
        lines.extend(
            self.nodes
                .keys()
                .filter(|name| !seen.contains(name.as_str()))
                .map(|name| (name.clone(), name.as_str())),
        );
        lines
    }
}

fn branch<'a>(
    name: &'a str,
    own: &str,
    below: &str,
    children: &BTreeMap<&str, Vec<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    lines: &mut Vec<(String, &'a str)>,
) {
    if !seen.insert(name) {
        return;
    }
    lines.push((format!("{own}{name}"), name));
    let all = children.get(name).map_or(&[][..], Vec::as_slice);
    for (place, child) in all.iter().enumerate() {
        let (corner, line) = if place + 1 == all.len() { ("└ ", "  ") } else { ("├ ", "│ ") };
        branch(child, &format!("{below}{corner}"), &format!("{below}{line}"), children, seen, lines);
    }
}

impl Missing {
    fn words(&self) -> String {
        let reasons: Vec<_> =
            self.given_up_by.iter().map(|by| format!("{} gave it up: {}", by.process, by.why)).collect();
        let why = match (reasons.is_empty(), self.behind.is_empty()) {
            (false, _) => reasons.join("; "),
            (true, false) => format!("behind {}", self.behind.join(", ")),
            (true, true) => "nobody leads to it".into(),
        };
        format!("{}\n", shown(&format!("missing {}: {why}", self.process)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(fathers: &[(&str, Option<&str>)]) -> Wave {
        let node = |&(name, father): &(&str, Option<&str>)| {
            let node = serde_json::json!({"father": father, "messages": 2, "metrics": {"process_id": name, "role": "worker",
                "team": "pink", "active_requests": 1, "max_capacity": 100, "is_healthy": true, "queue_size": 0,
                "avg_processing_time_ms": 0.5, "data_files_loaded": 1000, "forwarding_strategy": "", "async_forwarding": false,
                "chunking_strategy": "", "fairness_strategy": "", "recent_logs": []}});
            (name.to_owned(), serde_json::from_value(node).unwrap())
        };
        let nodes = fathers.iter().map(node).collect();
        Wave {
            wave: "0-7".into(),
            nodes,
            missing: vec![],
            messages: 12,
            expected: 12,
            mismatch: None,
            took_ms: 1.25,
        }
    }

    #[test]
    fn fathers_are_a_tree() {
        let all = [
            ("A", None),
            ("B", Some("A")),
            ("C", Some("B")),
            ("D", Some("B")),
            ("E", Some("A")),
            ("F", Some("E")),
        ];
        let wave = wave(&all);
        let shown: Vec<_> = wave.tree().into_iter().map(|line| line.0).collect();
        assert_eq!(shown, ["A", "├ B", "│ ├ C", "│ └ D", "└ E", "  └ F"]);
        let text = wave.text();
        assert!(
            text.contains("\n│ └ D    worker  pink  up          1       100      0  0.5  1,000         2\n"),
            "{text}"
        );
        assert!(text.ends_with("\n\n6 of 6 processes, 12 of 12 messages, 1.2 ms (wave 0-7)\n"), "{text}");
    }

    #[test]
    fn nobody_is_left_out_whatever_an_answer_says_of_fathers() {
        let strange =
            wave(&[("A", Some("B")), ("B", Some("A")), ("C", Some("Z")), ("D", Some("D")), ("E", Some("C"))]);
        let shown: Vec<_> = strange.tree().into_iter().map(|line| line.0).collect();
        assert_eq!(shown, ["C", "└ E", "A", "B", "D"]);
    }

    #[test]
    fn who_is_missing_is_told_with_the_reasons_or_with_what_it_is_behind() {
        let missing = |given_up_by: &[(&str, &str)], behind: &[&str]| {
            let by = given_up_by
                .iter()
                .map(|(process, why)| GivenUp { process: process.to_string(), why: why.to_string() });
            let behind = behind.iter().map(ToString::to_string).collect();
            Missing { process: "D".into(), given_up_by: by.collect(), behind }.words()
        };
        assert_eq!(
            missing(&[("B", "it cannot be reached"), ("E", "no word of it in time")], &[]),
            "missing D: B gave it up: it cannot be reached; E gave it up: no word of it in time\n"
        );
        assert_eq!(missing(&[], &["B", "E"]), "missing D: behind B, E\n");
        assert_eq!(missing(&[], &[]), "missing D: nobody leads to it\n");
    }
}
