//! What the processes of an overlay say of themselves.

use std::process::ExitCode;

use serde::Deserialize;

use super::Failure;
use crate::client::INCOMPLETE;
use crate::client::call::{Balancer, Call};
use crate::text::{grouped, table};

#[derive(clap::Args)]
pub(in crate::client) struct Arguments {
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns, and the last lines of each process's log.
    Table,
    /// As it came.
    Json,
}

#[derive(Debug, Deserialize)]
struct Survey {
    processes: Vec<Surveyed>,
}

#[derive(Debug, Deserialize)]
struct Surveyed {
    process: String,
    role: String,
    team: String,
    metrics: Option<Metrics>,
    why: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    active_requests: u64,
    max_capacity: u64,
    is_healthy: bool,
    queue_size: u64,
    avg_processing_time_ms: f64,
    data_files_loaded: u64,
    forwarding_strategy: String,
    async_forwarding: bool,
    chunking_strategy: String,
    fairness_strategy: String,
    recent_logs: Vec<String>,
}

impl Arguments {
    pub(in crate::client) async fn run(&self, balancer: &Balancer, as_json: bool) -> ExitCode {
        let format = self.format.unwrap_or(if as_json { Format::Json } else { Format::Table });
        match run(balancer, format).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(INCOMPLETE),
            Err(failure) => failure.told(),
        }
    }
}

/// Whether all processes answered.
async fn run(balancer: &Balancer, format: Format) -> Result<bool, Failure> {
    let answer = balancer.send(&Call::get("/overlay/metrics")).await?;
    if !answer.is_success() {
        return Err(Failure::of(&answer));
    }
    let strange = |error| Failure::Strange(balancer.url().to_owned(), error);
    let survey: Survey = serde_json::from_str(&answer.body).map_err(strange)?;
    match format {
        Format::Table => print!("{}", survey.text()),
        Format::Json => println!("{}", answer.body),
    }
    Ok(survey.processes.iter().all(|process| process.metrics.is_some()))
}

impl Survey {
    fn text(&self) -> String {
        let rows: Vec<_> = self.processes.iter().map(Surveyed::row).collect();
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
            "strategies",
        ];
        let mut text = table(&heads, &rows);
        for Surveyed { process, metrics, .. } in &self.processes {
            for line in metrics.iter().flat_map(|metrics| &metrics.recent_logs) {
                let line: String = line.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
                text.push_str(&format!("{process}: {line}\n"));
            }
        }
        text
    }
}

impl Surveyed {
    fn row(&self) -> Vec<String> {
        let mut row = vec![self.process.clone(), self.role.clone(), self.team.clone()];
        match &self.metrics {
            Some(metrics) => row.extend([
                if metrics.is_healthy { "up" } else { "loading" }.to_owned(),
                grouped(metrics.active_requests),
                grouped(metrics.max_capacity),
                grouped(metrics.queue_size),
                format!("{:.1}", metrics.avg_processing_time_ms),
                grouped(metrics.data_files_loaded),
                format!(
                    "{} {} {} {}",
                    metrics.forwarding_strategy,
                    if metrics.async_forwarding { "async" } else { "blocking" },
                    metrics.chunking_strategy,
                    metrics.fairness_strategy
                ),
            ]),
            None => {
                row.push("down".into());
                row.extend(std::iter::repeat_n("-".to_owned(), 5));
                row.push(self.why.clone().unwrap_or_default());
            }
        }
        row
    }
}
