//! What a benchmark leaves: a text for people and JSON with the same numbers.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::state::{Bench, Figures, Seen};
use crate::text::{counted, grouped, table};

/// A run that is over.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) bench: &'a Bench,
    pub(super) figures: Figures,
    /// Whether each question was another.
    pub(super) distinct: bool,
    /// Somebody ended it early.
    pub(super) interrupted: bool,
    /// Seconds since 1970.
    pub(super) began: u64,
}

impl Report<'_> {
    /// `benchmark_<forwarding>_<blocking|async>_<chunking>_<fairness>`.
    pub(super) fn name(&self) -> String {
        // They are what another process says: nothing but a name may come of it.
        let plain = |word: &str| -> String {
            word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
        };
        format!("benchmark_{}", self.bench.plan.strategies.words().map(plain).join("_"))
    }

    /// Writes both files into a folder; their paths.
    pub(super) fn write(&self, folder: &Path) -> io::Result<[PathBuf; 2]> {
        std::fs::create_dir_all(folder)?;
        let name = self.name();
        let paths = ["txt", "json"].map(|kind| folder.join(format!("{name}.{kind}")));
        std::fs::write(&paths[0], self.text())?;
        std::fs::write(&paths[1], format!("{:#}\n", self.json()))?;
        Ok(paths)
    }

    pub(super) fn text(&self) -> String {
        let (plan, figures) = (&self.bench.plan, &self.figures);
        let mut lines = Vec::new();
        let mut add = |name: &str, value: String| lines.push(format!("{name:<13}{value}\n"));
        add("asked", plan.target.clone());
        add("strategies", plan.strategies.words().join(" "));
        let how = if self.distinct {
            "each time with another bound, so that none is kept"
        } else {
            "always the same"
        };
        add("question", format!("{} ({how})", plan.question));
        let ended = if self.interrupted { ", ended early" } else { "" };
        let load = format!("{} of {}", grouped(figures.done()), counted(figures.requests, "request"));
        add("load", format!("{load}, {} at a time{ended}", plan.concurrency));
        add("answered", grouped(figures.answered));
        let failures =
            figures.failures.iter().map(|(status, count)| format!(", {status} {}", grouped(*count)));
        add("failed", format!("{}{}", grouped(figures.failed), failures.collect::<String>()));
        add("records", format!("{} in {}", grouped(figures.records), counted(figures.chunks, "chunk")));
        add("time", format!("{:.3} s", figures.seconds));
        let records = grouped(figures.records_per_second.round() as u64);
        add("throughput", format!("{:.1} requests/s, {records} records/s", figures.requests_per_second));
        if let Some(ms) = figures.latency_ms {
            add(
                "latency",
                format!(
                    "average {:.1} ms, min {:.1}, p50 {:.1}, p95 {:.1}, p99 {:.1}, max {:.1}",
                    ms.average, ms.min, ms.p50, ms.p95, ms.p99, ms.max
                ),
            );
        }
        let rows: Vec<_> = self.bench.processes.iter().map(row).collect();
        let heads = ["process", "role", "team", "state", ">active", ">queue", ">average ms", ">files"];
        lines.push(format!("\n{}", table(&heads, &rows)));
        lines.concat()
    }

    pub(super) fn json(&self) -> Value {
        let plan = &self.bench.plan;
        let question: Value = serde_json::from_str(&plan.question).unwrap_or_default();
        let mut all = json!({
            "target": plan.target,
            "strategies": plan.strategies,
            "question": question,
            "distinct_questions": self.distinct,
            "concurrency": plan.concurrency,
            "interrupted": self.interrupted,
            "began_unix_seconds": self.began,
            "processes": self.bench.processes.iter().map(shown).collect::<Vec<_>>(),
        });
        if let (Value::Object(all), Ok(Value::Object(figures))) =
            (&mut all, serde_json::to_value(&self.figures))
        {
            all.extend(figures);
        }
        all
    }
}

fn row(seen: &Seen) -> Vec<String> {
    let mut row = [&seen.id, &seen.role, &seen.team].map(Clone::clone).to_vec();
    row.push(seen.state().into());
    match &seen.metrics {
        Some(metrics) => row.extend([
            metrics.active_requests.to_string(),
            metrics.queue_size.to_string(),
            format!("{:.1}", metrics.avg_processing_time_ms),
            metrics.data_files_loaded.to_string(),
        ]),
        None => row.extend(std::iter::repeat_n("-".to_owned(), 4)),
    }
    row
}

fn shown(seen: &Seen) -> Value {
    json!({
        "process": seen.id,
        "role": seen.role,
        "team": seen.team,
        "state": seen.state(),
        "why": seen.why,
        "metrics": seen.metrics,
    })
}
