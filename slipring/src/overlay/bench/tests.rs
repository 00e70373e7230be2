use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use slipring_overlay::wire::MetricsResponse;

use super::page;
use super::report::Report;
use super::state::{Bench, Outcome, Plan, Seen, Strategies};

fn metrics(id: &str, role: &str, team: &str, files: i32, logs: &[&str]) -> MetricsResponse {
    MetricsResponse {
        process_id: id.into(),
        role: role.into(),
        team: team.into(),
        active_requests: 7,
        max_capacity: 100,
        is_healthy: true,
        queue_size: 1,
        avg_processing_time_ms: 12.34,
        data_files_loaded: files,
        recent_logs: logs.iter().map(|&line| line.to_owned()).collect(),
        ..MetricsResponse::default()
    }
}

/// A hundred answers of 10 to 1,000 ms, and three failures; one process loads, one is down.
fn bench() -> Bench {
    let strategies = Strategies {
        forwarding: "parallel".into(),
        async_forwarding: true,
        chunking: "adaptive".into(),
        fairness: "strict".into(),
    };
    let plan = Plan {
        target: "127.0.0.1:60051".into(),
        question: r#"{"limit":2000}"#.into(),
        requests: 400,
        concurrency: 20,
        strategies,
    };
    let seen = |id: &str, role: &str, team: &str| Seen {
        id: id.into(),
        role: role.into(),
        team: team.into(),
        metrics: None,
        why: None,
    };
    let processes = [
        ("A", "leader", "green"),
        ("C", "worker", "green"),
        ("D", "worker", "pink"),
        ("F", "worker", "pink"),
    ];
    let mut bench = Bench::new(plan, processes.map(|(id, role, team)| seen(id, role, team)).to_vec());
    for n in 1..=100 {
        bench.finished(Duration::from_millis(n * 10), Outcome::Answered { records: 2000, chunks: 5 });
    }
    for status in ["rejected", "incomplete", "rejected"] {
        bench.finished(Duration::from_millis(1), Outcome::Failed(status.into()));
    }
    let loading = MetricsResponse { is_healthy: false, ..metrics("D", "worker", "pink", 0, &[]) };
    bench.looked(vec![
        Ok(metrics("A", "leader", "green", 0, &["first", "second", "third"])),
        Ok(metrics("C", "worker", "green", 96, &["scanned"])),
        Ok(loading),
        Err("it cannot be reached".into()),
    ]);
    bench
}

#[test]
fn the_page_shows_everything_at_once() {
    let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
    terminal.draw(|frame| page::draw(frame, &bench(), Duration::from_secs(4))).unwrap();
    insta::assert_snapshot!(terminal.backend(), @r#"
    "┌ 127.0.0.1:60051 · parallel async adaptive strict ────────────────────────────────────────────────┐"
    "│█████████████████████████                   103 of 400                                            │"
    "│load         20 at a time for 4.0 s                                                               │"
    "│throughput   25.0 requests/s   50,000 records/s                                                   │"
    "│latency      p50 500.0 ms   p95 950.0 ms   p99 990.0 ms   average 505.0 ms                        │"
    "│failed       incomplete 1, rejected 2                                                             │"
    "└─────────────────────────────────────────────────────────────────────────────────────── q ends it ┘"
    "┌ processes ───────────────────────────────────────────────────────────────────────────────────────┐"
    "│id       role        team     state    active  queue  average    files                            │"
    "│A        leader      green    up       7       1      12.3 ms    0                                │"
    "│C        worker      green    up       7       1      12.3 ms    96                               │"
    "│D        worker      pink     loading  7       1      12.3 ms    0                                │"
    "│F        worker      pink     down     -       -      -          -      it cannot be reached      │"
    "└──────────────────────────────────────────────────────────────────────────────────────────────────┘"
    "┌ log ─────────────────────────────────────────────────────────────────────────────────────────────┐"
    "│A second                                                                                          │"
    "│A third                                                                                           │"
    "│C scanned                                                                                         │"
    "│                                                                                                  │"
    "└──────────────────────────────────────────────────────────────────────────────────────────────────┘"
    "#);
}

#[test]
fn a_small_terminal_and_an_empty_run_have_a_page() {
    let mut empty = bench();
    empty = Bench::new(empty.plan, Vec::new());
    for (width, height) in [(1, 1), (10, 3), (30, 8), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        for bench in [&empty, &bench()] {
            terminal.draw(|frame| page::draw(frame, bench, Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn figures_add_up_and_both_files_say_the_same() {
    let bench = bench();
    let figures = bench.figures(Duration::from_secs(4));
    assert_eq!((figures.done(), figures.answered, figures.failed), (103, 100, 3));
    assert_eq!((figures.records, figures.chunks), (200_000, 500));
    assert_eq!((figures.requests_per_second, figures.records_per_second), (25.0, 50_000.0));
    let latency = figures.latency_ms.expect("some were answered");
    assert_eq!(
        (latency.min, latency.p50, latency.p95, latency.p99, latency.max),
        (10.0, 500.0, 950.0, 990.0, 1000.0)
    );
    assert_eq!(latency.average, 505.0);

    let report = Report { bench: &bench, figures, distinct: true, interrupted: true, began: 1_600_000_000 };
    assert_eq!(report.name(), "benchmark_parallel_async_adaptive_strict");
    insta::assert_snapshot!(report.text(), @r#"
    asked        127.0.0.1:60051
    strategies   parallel async adaptive strict
    question     {"limit":2000} (each time with another bound, so that none is kept)
    load         103 of 400 requests, 20 at a time, ended early
    answered     100
    failed       3, incomplete 1, rejected 2
    records      200,000 in 500 chunks
    time         4.000 s
    throughput   25.0 requests/s, 50,000 records/s
    latency      average 505.0 ms, min 10.0, p50 500.0, p95 950.0, p99 990.0, max 1000.0

    process  role    team   state    active  queue  average ms  files
    A        leader  green  up            7      1        12.3      0
    C        worker  green  up            7      1        12.3     96
    D        worker  pink   loading       7      1        12.3      0
    F        worker  pink   down          -      -           -      -
    "#);
    let json = report.json();
    assert_eq!(json["failures"], serde_json::json!({"incomplete": 1, "rejected": 2}));
    assert_eq!((&json["answered"], &json["latency_ms"]["p95"]), (&100.into(), &950.0.into()));
    assert_eq!(json["processes"][3]["why"], "it cannot be reached");
    assert_eq!(json["processes"][1]["metrics"]["data_files_loaded"], 96);
}

#[test]
fn nothing_of_a_strangers_words_becomes_a_path() {
    let mut bench = bench();
    bench.plan.strategies.forwarding = "../../etc/passwd".into();
    let figures = bench.figures(Duration::ZERO);
    let report = Report { bench: &bench, figures, distinct: false, interrupted: false, began: 0 };
    assert_eq!(report.name(), "benchmark_etcpasswd_async_adaptive_strict");
}
