//! oha, where wrk is not installed. It costs more per request than wrk and shares its CPU with the replicas, so
//! fewer requests come through; what the proxy spends on each stays comparable.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Errors, Outcome, Task, output};
use crate::error::Error;
use crate::peer::write;

/// What oha calls a request that was still under way at the end, which is no failure.
const UNFINISHED: &str = "aborted due to deadline";

pub(super) async fn run(task: &Task, oha: &Path, folder: &Path) -> Result<Outcome, Error> {
    if task.body_bytes() > 0 {
        write(&folder.join("body"), &vec![b'x'; task.body_bytes()])?;
    }
    let text = output("oha", oha, arguments(task), task, folder).await?;
    parse(&text)
}

fn arguments(task: &Task) -> Vec<String> {
    let Task { port, connections, seconds, .. } = task;
    let mut words: Vec<String> = ["--no-tui", "--output-format", "json"].map(str::to_owned).into();
    words.extend(["-c".to_owned(), connections.to_string(), "-z".to_owned(), format!("{seconds}s")]);
    if task.body_bytes() > 0 {
        words.extend(["-m", "POST", "-D", "body"].map(str::to_owned));
    }
    let path = task.prefix();
    words.extend(["--rand-regex-url".to_owned(), format!("http://127[.]0[.]0[.]1:{port}{path}[0-9]{{6}}")]);
    words
}

/// Of oha's report. Times are in seconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    summary: Summary,
    latency_percentiles: BTreeMap<String, Option<f64>>,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    total: f64,
    total_data: u64,
}

fn parse(text: &str) -> Result<Outcome, Error> {
    let failed = |why: String| Error::Output { tool: "oha", why, text: text.to_owned() };
    let report: Report = serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
    let percentile = |key: &str| {
        let seconds = report.latency_percentiles.get(key).copied().flatten();
        seconds.map(|seconds| seconds * 1e6).ok_or_else(|| failed(format!("no {key}")))
    };
    let good = |status: &str| status.starts_with('2') || status.starts_with('3');
    let count = |wanted: bool| {
        let counts = report.status_code_distribution.iter();
        counts.filter(|(status, _)| good(status) == wanted).map(|(_, count)| count).sum::<u64>()
    };
    let broken = report.error_distribution.iter().filter(|(what, _)| what.as_str() != UNFINISHED);
    let errors =
        Errors { exchange: broken.map(|(_, count)| count).sum(), status: count(false), ..Errors::default() };
    Ok(Outcome {
        requests: count(true) + errors.status,
        duration_us: report.summary.total * 1e6,
        bytes: report.summary.total_data,
        p50_us: percentile("p50")?,
        p99_us: percentile("p99")?,
        p999_us: percentile("p99.9")?,
        errors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_at_the_end_is_no_error() {
        let text = r#"{"summary":{"successRate":1.0,"total":3.0,"totalData":1200,"requestsPerSec":7.0},
            "latencyPercentiles":{"p10":0.0001,"p50":0.0011,"p99":0.002,"p99.9":0.003,"p99.99":null},
            "statusCodeDistribution":{"200":20,"502":1},
            "errorDistribution":{"aborted due to deadline":64,"connection closed before message completed":2}}"#;
        let outcome = parse(text).unwrap();
        assert_eq!(outcome.errors, Errors { exchange: 2, status: 1, ..Errors::default() });
        assert_eq!((outcome.requests, outcome.bytes), (21, 1200));
        assert!((outcome.p50_us - 1100.0).abs() < 1e-6, "{outcome:?}");
    }
}
