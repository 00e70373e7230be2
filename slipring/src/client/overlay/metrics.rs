//! What the processes of an overlay say of themselves.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Deserialize;

use super::Failure;
use crate::client::INCOMPLETE;
use crate::client::call::{Balancer, Call};
use crate::text::{counted, grouped, shown, table};

#[derive(clap::Args)]
pub(in crate::client) struct Arguments {
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns, and the last lines of each process's log.
    Table,
    /// As it came.
    Json,
}

impl Format {
    /// What is meant where it is not said.
    pub(super) fn of(as_json: bool) -> Self {
        if as_json { Self::Json } else { Self::Table }
    }
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
pub(super) struct Metrics {
    pub(super) role: String,
    pub(super) team: String,
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
    #[serde(default)]
    rows_malformed: u64,
}

impl Arguments {
    pub(in crate::client) async fn run(&self, balancer: &Balancer, as_json: bool) -> ExitCode {
        let format = self.format.unwrap_or(Format::of(as_json));
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
    let text = match format {
        Format::Table => survey.text(),
        Format::Json => answer.body + "\n",
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)?;
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
            if let Some(lines) =
                metrics.as_ref().map(|metrics| metrics.rows_malformed).filter(|lines| *lines > 0)
            {
                let lines = counted(lines, "line");
                text.push_str(&format!(
                    "{}: {lines} malformed; GET /overlay/malformed says at which address it names them\n",
                    shown(process)
                ));
            }
            for line in metrics.iter().flat_map(|metrics| &metrics.recent_logs) {
                text.push_str(&format!("{}: {}\n", shown(process), shown(line)));
            }
        }
        text
    }
}

impl Metrics {
    /// Its state and numbers, as columns of a table.
    pub(super) fn cells(&self) -> [String; 6] {
        [
            match (self.is_healthy, self.data_files_loaded) {
                (true, _) => "up",
                (false, 0) => "loading",
                (false, _) => "partly", // some of its partitions cannot be read
            }
            .to_owned(),
            grouped(self.active_requests),
            grouped(self.max_capacity),
            grouped(self.queue_size),
            format!("{:.1}", self.avg_processing_time_ms),
            grouped(self.data_files_loaded),
        ]
    }
}

impl Surveyed {
    fn row(&self) -> Vec<String> {
        let mut row = vec![self.process.clone(), self.role.clone(), self.team.clone()];
        match &self.metrics {
            Some(metrics) => {
                row.extend(metrics.cells());
                row.push(format!(
                    "{} {} {} {}",
                    metrics.forwarding_strategy,
                    if metrics.async_forwarding { "async" } else { "blocking" },
                    metrics.chunking_strategy,
                    metrics.fairness_strategy
                ));
            }
            None => {
                row.push("down".into());
                row.extend(std::iter::repeat_n("-".to_owned(), 5));
                row.push(self.why.clone().unwrap_or_default());
            }
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_process_says_reaches_the_terminal_as_a_command() {
        let odd = "x\u{1b}[2Jy\r\u{7}";
        let metrics = serde_json::json!({
            "role": odd, "team": odd, "active_requests": 1, "max_capacity": 100, "is_healthy": true, "queue_size": 0,
            "avg_processing_time_ms": 1.5, "data_files_loaded": 3, "forwarding_strategy": odd,
            "async_forwarding": true, "chunking_strategy": odd, "fairness_strategy": odd, "recent_logs": [odd],
        });
        let up = serde_json::json!({"process": odd, "role": odd, "team": odd, "metrics": metrics});
        let down = serde_json::json!({"process": odd, "role": odd, "team": odd, "why": odd});
        let survey: Survey = serde_json::from_value(serde_json::json!({"processes": [up, down]})).unwrap();
        let text = survey.text();
        assert!(text.contains("x·[2Jy··"), "{text:?}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}
