//! The pictures of a distribution: which charts, with which words.
//!
//! Titles state the question, subtitles what was measured; nothing claims a result that the next
//! measurement might refute, the figures speak for themselves.

use super::distribution::{ChiSquared, Distribution, Run, uniform_band};
use crate::chart::{
    Band, Bar, BarPanel, Bars, ChartError, Colour, Lines, Picture, Point, Scale, Series, grouped as written,
    placement_colour,
};

const EXPECTED: &str = "expected from the placement's exact shares";

/// Bars for each N, and over N the means and the standard deviations.
pub(super) fn distribution(report: &Distribution) -> Result<Vec<(String, Picture)>, ChartError> {
    let ns = distinct(report.runs.iter().map(|run| run.n));
    let mut pictures = Vec::new();
    for &n in &ns {
        pictures.push((format!("requests-n{n}"), bars(report, n).draw()?));
    }
    if ns.len() > 1 {
        pictures.push(("mean".to_owned(), mean(report, &ns).draw()?));
        pictures.push(("stddev".to_owned(), stddev(report, &ns).draw()?));
    }
    Ok(pictures)
}

fn bars(report: &Distribution, n: u32) -> Bars {
    let requests = grouped(report.requests);
    let panel = |(i, run): (usize, &Run)| BarPanel {
        title: run.placement.clone(),
        note: note(run),
        colour: colour(report, run, i),
        bars: run
            .replicas
            .iter()
            .map(|tally| Bar {
                label: tally.name.strip_prefix("Server-").unwrap_or(&tally.name).to_owned(),
                value: tally.requests as f64,
                expected: tally.share.map(|share| share * run.answered() as f64),
            })
            .collect(),
    };
    Bars {
        title: format!("Who answers {requests} requests, {n} replica{}", if n == 1 { "" } else { "s" }),
        subtitle: vec![
            format!(
                "{requests} × GET /home for each placement, {} in flight, the request id drawn at random by the balancer.",
                report.concurrency
            ),
            "σ: standard deviation over the replicas; p: how often chance alone would miss the expectation as far."
                .to_owned(),
        ],
        y_name: "requests answered".to_owned(),
        bar_name: "replica".to_owned(),
        expected_name: EXPECTED.to_owned(),
        even: Some((report.requests as f64 / f64::from(n.max(1)), "perfectly even split".to_owned())),
        panels: report.runs.iter().filter(|run| run.n == n).enumerate().map(panel).collect(),
    }
}

fn note(run: &Run) -> String {
    let balance = &run.balance;
    let deviation = format!("σ {}, uniform {}", figure(balance.stddev), figure(balance.stddev_uniform));
    let test = balance.chi_squared_placement.map_or_else(String::new, |test| {
        let ChiSquared { statistic, p_value, .. } = test;
        let statistic = statistic.map_or_else(|| "∞".to_owned(), |value| format!("{value:.1}"));
        format!("; χ² {statistic}, {}", probability(p_value))
    });
    let failed = match run.failed() {
        0 => String::new(),
        failed => format!("; {failed} FAILED"),
    };
    format!("{deviation}{test}{failed}")
}

fn mean(report: &Distribution, ns: &[u32]) -> Lines {
    let requests = report.requests as f64;
    Lines {
        title: "Requests per replica: the mean, and from least to most loaded".to_owned(),
        subtitle: vec![format!(
            "{} × GET /home for each placement and N. A mean on the dashed line says that every request was answered.",
            grouped(report.requests)
        )],
        x_name: "N, replicas".to_owned(),
        y_name: "requests per replica".to_owned(),
        scale: Scale::Linear,
        side_by_side: true,
        theory: Some((
            "all requests ÷ N".to_owned(),
            ns.iter().map(|&n| (n, requests / f64::from(n.max(1)))).collect(),
        )),
        series: series(report, |run| {
            let counts = run.replicas.iter().map(|tally| tally.requests as f64);
            let (low, high) = counts.fold((f64::INFINITY, 0.0), |(low, high), count| {
                (f64::min(low, count), f64::max(high, count))
            });
            Point { x: run.n, y: run.balance.mean, range: Some((low, high)), expected: None }
        }),
        ..Lines::default()
    }
}

fn stddev(report: &Distribution, ns: &[u32]) -> Lines {
    let uniform = |n: u32| slipring_hashing::stats::uniform_stddev(report.requests, n as usize);
    let edge = |n: u32| {
        let (low, high) = uniform_band(report.requests, n);
        (n, low, high)
    };
    Lines {
        title: "How unevenly the requests are spread".to_owned(),
        subtitle: vec![format!(
            "Standard deviation of requests per replica, {} × GET /home for each placement and N. Lower is more even.",
            grouped(report.requests)
        )],
        x_name: "N, replicas".to_owned(),
        y_name: "standard deviation, requests (logarithmic)".to_owned(),
        scale: Scale::Log,
        side_by_side: false,
        expected_name: EXPECTED.to_owned(),
        theory: Some((
            "perfectly uniform hashing, √(n·p·(1 − p))".to_owned(),
            ns.iter().map(|&n| (n, uniform(n))).collect(),
        )),
        band: Some(Band {
            name: "95 of 100 uniform runs".to_owned(),
            edges: ns.iter().map(|&n| edge(n)).collect(),
        }),
        series: series(report, |run| Point {
            x: run.n,
            y: run.balance.stddev,
            range: None,
            expected: run.balance.stddev_expected,
        }),
    }
}

fn series(report: &Distribution, point: impl Fn(&Run) -> Point) -> Vec<Series> {
    let names = distinct_in_order(report.runs.iter().map(|run| run.placement.as_str()));
    let line = |(i, name): (usize, &str)| Series {
        name: name.to_owned(),
        colour: placement_colour(name, i),
        points: report.runs.iter().filter(|run| run.placement == name).map(&point).collect(),
    };
    names.into_iter().enumerate().map(line).collect()
}

fn colour(report: &Distribution, run: &Run, fallback: usize) -> Colour {
    let names = distinct_in_order(report.runs.iter().map(|run| run.placement.as_str()));
    let position = names.iter().position(|name| *name == run.placement);
    placement_colour(&run.placement, position.unwrap_or(fallback))
}

fn distinct(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut values: Vec<u32> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn distinct_in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// Two digits that matter, no more.
fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { grouped(value.round() as u64) }
}

fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p {p:.2}") }
}

pub(super) fn grouped(count: u64) -> String {
    written(count as f64)
}
