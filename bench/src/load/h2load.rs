//! h2load: HTTP/2 in the clear, begun without asking, and unary calls of gRPC, which are `POST`s in a certain form. It
//! knows nothing of `grpc-status`: a call that failed has no message, so the bytes that came are counted. It prints no percentiles, but writes a line for each request.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{Errors, Outcome, Task, message, output, percentile};
use crate::backend::ANSWER;
use crate::error::Error;
use crate::peer::write;
use crate::plan::Workload;

/// Paths that each client goes through in turn. Enough for the replicas' shares to be even.
const PATHS: u32 = 4096;

pub(super) async fn run(task: &Task, streams: u32, h2load: &Path, folder: &Path) -> Result<Outcome, Error> {
    let log = folder.join("h2load.log");
    // It appends.
    write(&log, b"")?;
    write(&folder.join("h2load.uris"), uris(task).as_bytes())?;
    let is_grpc = matches!(task.workload, Workload::Grpc { .. });
    if is_grpc {
        write(&folder.join("h2load.message"), &message(ANSWER.as_bytes()))?;
    }
    let text = output("h2load", h2load, arguments(task, streams), task, folder).await?;
    let log = fs::read_to_string(&log).map_err(|error| Error::Output {
        tool: "h2load",
        why: error.to_string(),
        text: text.clone(),
    })?;
    let outcome = parse(&text, &log)?;
    if !is_grpc {
        return Ok(outcome);
    }
    let data = data_bytes(&text).ok_or_else(|| Error::Output {
        tool: "h2load",
        why: "no bytes of data".to_owned(),
        text,
    })?;
    Ok(without_message(outcome, data, message(ANSWER.as_bytes()).len() as u64))
}

/// Counts the calls that were answered with no message as failed.
fn without_message(mut outcome: Outcome, data: u64, each: u64) -> Outcome {
    let good = outcome.requests.saturating_sub(outcome.errors.total());
    outcome.errors.status += (good * each).saturating_sub(data).div_ceil(each);
    outcome
}

/// "traffic: 3.99MB (4187192) total, 1.01MB (1058816) headers (space savings 42.86%), 2.07MB (2165760) data"
fn data_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("traffic: "))?;
    line.strip_suffix(") data")?.rsplit('(').next()?.parse().ok()
}

fn arguments(task: &Task, streams: u32) -> Vec<String> {
    let Task { connections, seconds, .. } = task;
    let mut words: Vec<String> =
        ["-t1", "-i", "h2load.uris", "--log-file", "h2load.log"].map(str::to_owned).into();
    if matches!(task.workload, Workload::Grpc { .. }) {
        let call = ["-d", "h2load.message", "-H", "content-type: application/grpc", "-H", "te: trailers"];
        words.extend(call.map(str::to_owned));
    }
    words.extend([format!("-c{connections}"), format!("-m{streams}"), format!("-D{seconds}")]);
    words
}

fn uris(task: &Task) -> String {
    // A linear congruential generator (D. Knuth, MMIX): its upper bits are random enough for paths.
    let mut state = u64::from(task.seed) + 1;
    let mut text = String::new();
    for _ in 0..PATHS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let digits = (state >> 33) % 1_000_000;
        writeln!(text, "http://127.0.0.1:{}{}{digits:06}", task.port, task.prefix())
            .expect("a string can be written to");
    }
    text
}

fn parse(text: &str, log: &str) -> Result<Outcome, Error> {
    let failed = |why: &str| Error::Output { tool: "h2load", why: why.to_owned(), text: text.to_owned() };
    let line = |start: &str| {
        let found = text.lines().find_map(|line| line.trim().strip_prefix(start));
        found.ok_or_else(|| failed(&format!("no line that begins with {start:?}")))
    };
    // "finished in 5.00s, 36093.80 req/s, 3.99MB/s"
    let duration = line("finished in ")?.split(',').next().and_then(microseconds);
    let duration_us = duration.ok_or_else(|| failed("no duration"))?;
    // "requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout"
    let counts = line("requests: ")?;
    let count = |what: &str| labelled(counts, what).ok_or_else(|| failed(&format!("no count of {what}")));
    // "traffic: 3.99MB (4187192) total, …"
    let bytes = line("traffic: ")?.split(['(', ')']).nth(1).and_then(|text| text.parse().ok());
    let statuses = line("status codes: ")?;
    let bad = ["4xx", "5xx"].iter().filter_map(|class| labelled(statuses, class)).sum();
    let mut times: Vec<f64> = log.lines().filter_map(response_time).collect();
    times.sort_by(f64::total_cmp);
    let share = |share| percentile(&times, share).ok_or_else(|| failed("no request in its log"));
    Ok(Outcome {
        requests: count("done")?,
        duration_us,
        bytes: bytes.ok_or_else(|| failed("no traffic"))?,
        p50_us: share(0.5)?,
        p99_us: share(0.99)?,
        p999_us: share(0.999)?,
        // Those with a bad status are among the failed.
        errors: Errors {
            connect: 0,
            exchange: count("failed")?.saturating_sub(bad),
            status: bad,
            timeout: count("timeout")?,
        },
    })
}

/// `9` of `9 total, 8 started`, labelled `total`.
fn labelled(text: &str, label: &str) -> Option<u64> {
    text.split(',').find_map(|part| part.trim().strip_suffix(label)?.trim().parse().ok())
}

/// `5.00s`, `812.31ms`, `90us`.
fn microseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

/// The third field of: when it was sent, its status, how many microseconds it took.
fn response_time(line: &str) -> Option<f64> {
    line.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "starting benchmark...\n\n\
        finished in 812.50ms, 36093.80 req/s, 3.99MB/s\n\
        requests: 110 total, 104 started, 100 done, 97 succeeded, 3 failed, 1 errored, 1 timeout\n\
        status codes: 97 2xx, 0 3xx, 0 4xx, 1 5xx\n\
        traffic: 3.99MB (4187192) total, 1.01MB (1058816) headers (space savings 42.86%), 2.07MB (2165760) data\n";

    #[test]
    fn its_report_and_its_log() {
        let log = "1337\t200\t900\n1338\t200\t700\n1339\t502\t1100\n";
        let outcome = parse(TEXT, log).unwrap();
        assert_eq!((outcome.requests, outcome.bytes, outcome.duration_us), (100, 4_187_192, 812_500.0));
        assert_eq!((outcome.p50_us, outcome.p99_us), (900.0, 1100.0));
        let expected = Errors { connect: 0, exchange: 2, status: 1, timeout: 1 };
        assert_eq!(outcome.errors, expected);
    }

    #[test]
    fn a_run_without_a_request_is_an_error() {
        assert!(parse(TEXT, "").is_err());
        assert!(parse("", "1337\t200\t900\n").is_err());
    }

    #[test]
    fn a_call_without_its_message_has_failed() {
        assert_eq!(data_bytes(TEXT), Some(2_165_760));
        let outcome = Outcome { requests: 10, ..Outcome::default() };
        assert_eq!(without_message(outcome.clone(), 650, 65).errors.total(), 0);
        assert_eq!(
            without_message(outcome.clone(), 651, 65).errors.total(),
            0,
            "one was under way at the end"
        );
        assert_eq!(without_message(outcome, 585, 65).errors.status, 1);
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(microseconds("5.00s"), Some(5e6));
        assert_eq!(microseconds(" 90us"), Some(90.0));
        assert_eq!(microseconds("5"), None);
    }
}
