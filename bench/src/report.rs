//! The tables: a row for each figure, each peer's median over the rounds, and the ratios between peers, each the median
//! of the rounds' ratios with the least and the most of them.

use std::fmt::Write as _;

use crate::measure::{CPU, Figure, Measured, OTHERS, P99};
use crate::peer::Peer;
use crate::plan::Plan;
use crate::run::CaseRun;
use crate::statistics::{Round, Spread, median, ratios};

/// Who is divided by whom.
const RATIOS: [(Peer, Peer); 3] =
    [(Peer::Slipring, Peer::Haproxy), (Peer::Slipring, Peer::Nginx), (Peer::Nginx, Peer::Haproxy)];
/// The clients that the last line is about, if they were among the cases.
const HEADLINE_CONNECTIONS: u32 = 64;

/// Others' part of the CPUs, in percent, beyond which caches and tails are not the proxy's own.
const NOISY: f64 = 10.0;

/// Every case as a table.
pub(crate) fn tables(cases: &[CaseRun], plan: &Plan) -> String {
    let mut text = String::new();
    for run in cases {
        let (rounds, seconds) = (plan.rounds, plan.seconds);
        let plural = if rounds == 1 { "" } else { "s" };
        text.push_str(&format!("\n{}; {rounds} round{plural} of {seconds} s\n", run.case));
        text.push_str(&table(&run.measured, &plan.peers));
        text.push_str(&remarks(&run.measured));
    }
    text
}

/// What a reader must know who believes the table.
fn remarks(measured: &[Measured]) -> String {
    let mut text = String::new();
    for one in measured {
        let (peer, round) = (one.peer.name(), one.round + 1);
        if let Some(blemish) = &one.blemish {
            text.push_str(&format!("DOES NOT COMPARE: {peer} in round {round}: {blemish}\n"));
        }
        let others = one.figures.iter().find(|figure| figure.name == OTHERS).map(|figure| figure.value);
        if let Some(percent) = others.filter(|&percent| percent > NOISY) {
            text.push_str(&format!(
                "NOISY: {percent:.0} % of the CPUs went to others when {peer} was measured in round {round}\n"
            ));
        }
    }
    text
}

fn table(measured: &[Measured], peers: &[Peer]) -> String {
    let compared: Vec<(Peer, Peer)> =
        RATIOS.into_iter().filter(|(of, to)| peers.contains(of) && peers.contains(to)).collect();
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(peers.iter().map(|peer| peer.name().to_owned()));
    rows[0].extend(compared.iter().map(|(of, to)| format!("{}/{}", of.name(), to.name())));
    for figure in measured.first().map(|first| first.figures.as_slice()).unwrap_or_default() {
        let mut row = vec![figure.name.to_owned()];
        row.extend(peers.iter().map(|&peer| value(measured, peer, figure)));
        row.extend(compared.iter().map(|&(of, to)| ratio(measured, of, to, figure)));
        rows.push(row);
    }
    aligned(&rows)
}

/// What a figure was in each round.
fn rounds(measured: &[Measured], peer: Peer, name: &str) -> Vec<Round> {
    let of_peer = measured.iter().filter(|one| one.peer == peer);
    let find = |one: &Measured| {
        let figure = one.figures.iter().find(|figure| figure.name == name)?;
        Some((one.round, figure.value))
    };
    of_peer.filter_map(find).collect()
}

fn value(measured: &[Measured], peer: Peer, figure: &Figure) -> String {
    let values: Vec<f64> = rounds(measured, peer, figure.name).into_iter().map(|(_, value)| value).collect();
    median(&values).map(|value| format!("{value:.*}", figure.decimals)).unwrap_or_default()
}

fn spread(measured: &[Measured], of: Peer, to: Peer, name: &str) -> Option<Spread> {
    Spread::of(&ratios(&rounds(measured, of, name), &rounds(measured, to, name)))
}

fn ratio(measured: &[Measured], of: Peer, to: Peer, figure: &Figure) -> String {
    let spread = if figure.compared { spread(measured, of, to, figure.name) } else { None };
    let show = |Spread { median, least, most }: Spread| format!("{median:.2} ({least:.2} to {most:.2})");
    spread.map(show).unwrap_or_default()
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(line, "  {cell:>width$}").expect("a string can be written to");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// For scripts: Slipring's CPU time and p99 against the others', pinned, 64 clients. `None` without such a case.
pub(crate) fn last_line(cases: &[CaseRun]) -> Option<String> {
    let mut headlines = cases.iter().filter(|run| run.case.is_headline());
    let first = headlines.clone().next();
    let run = headlines.find(|run| run.case.connections == HEADLINE_CONNECTIONS).or(first)?;
    let wanted = [("cpu", CPU, Peer::Haproxy), ("cpu", CPU, Peer::Nginx), ("p99", P99, Peer::Haproxy)];
    let word = |(label, name, to): (&str, &str, Peer)| {
        let spread = spread(&run.measured, Peer::Slipring, to, name)?;
        Some(format!("{label}/{}={:.2}", to.name(), spread.median))
    };
    let words: Vec<String> = wanted.into_iter().filter_map(word).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Setting;
    use crate::plan::{Case, Workload};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn measured(peer: Peer, round: u32, cpu: f64, p99: f64) -> Measured {
        let figures = vec![Figure::compared(CPU, cpu, 3), Figure::compared(P99, p99, 3)];
        Measured { peer, round, figures, blemish: None, raw: Value::Null }
    }

    fn run(connections: u32, slower: f64) -> CaseRun {
        let (setting, workload) = (Setting::Pinned, Workload::Get);
        let case = Case { setting, workload, connections, replicas: 3, tuned: false };
        let rounds = (0..3).flat_map(|round| {
            // The machine gets slower from round to round.
            let noise = f64::from(round + 1);
            [
                measured(Peer::Nginx, round, 2.0 * noise, 1.0),
                measured(Peer::Haproxy, round, 1.9 * noise, 1.0),
                measured(Peer::Slipring, round, 1.8 * slower * noise, 0.5),
            ]
        });
        CaseRun { case, measured: rounds.collect(), configurations: BTreeMap::new() }
    }

    #[test]
    fn the_last_line_is_about_64_clients_if_they_were_there() {
        let cases = [run(1, 2.0), run(64, 1.0)];
        assert_eq!(last_line(&cases).unwrap(), "cpu/haproxy=0.95 cpu/nginx=0.90 p99/haproxy=0.50");
        assert_eq!(last_line(&cases[..1]).unwrap(), "cpu/haproxy=1.89 cpu/nginx=1.80 p99/haproxy=0.50");
        assert_eq!(last_line(&[]), None);
    }

    #[test]
    fn a_table_shows_medians_and_ratios() {
        let text = table(&run(64, 1.0).measured, &Peer::ALL);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("slipring/haproxy") && lines[0].contains("nginx/haproxy"), "{text}");
        assert!(lines[1].contains("3.600") && lines[1].contains("0.95 (0.95 to 0.95)"), "{text}");
        assert_eq!(lines.len(), 3, "{text}");
    }

    #[test]
    fn without_a_peer_there_are_no_ratios_to_it() {
        let text = table(&run(64, 1.0).measured, &[Peer::Nginx, Peer::Haproxy]);
        assert!(!text.contains("slipring"), "{text}");
    }
}
