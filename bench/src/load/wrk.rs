//! wrk: one thread, a script for the random paths, a line of JSON at the end.

use std::path::Path;

use super::{Outcome, Task, output};
use crate::error::Error;
use crate::peer::write;

const SCRIPT: &str = include_str!("wrk.lua");

pub(super) async fn run(task: &Task, wrk: &Path, folder: &Path) -> Result<Outcome, Error> {
    write(&folder.join("wrk.lua"), SCRIPT.as_bytes())?;
    let text = output("wrk", wrk, arguments(task), task, folder).await?;
    parse(&text)
}

fn arguments(task: &Task) -> Vec<String> {
    let method = if task.body_bytes() > 0 { "POST" } else { "GET" };
    let Task { port, connections, seconds, seed, .. } = task;
    let url = format!("http://127.0.0.1:{port}/");
    let mut words: Vec<String> = ["-t1", "--timeout", "10s", "-s", "wrk.lua"].map(str::to_owned).into();
    words.extend([format!("-c{connections}"), format!("-d{seconds}s"), url, "--".to_owned()]);
    words.extend([
        seed.to_string(),
        method.to_owned(),
        task.prefix().to_owned(),
        task.body_bytes().to_string(),
    ]);
    words
}

fn parse(text: &str) -> Result<Outcome, Error> {
    let failed = |why: String| Error::Output { tool: "wrk", why, text: text.to_owned() };
    let line = text.lines().rfind(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| failed("no line of JSON".to_owned()))?;
    serde_json::from_str(line).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Errors;

    #[test]
    fn the_line_of_json_is_found_among_the_others() {
        let text = "Running 3s test @ http://127.0.0.1:9000/\n  1 threads and 64 connections\n\
            Requests/sec:  52876.04\nTransfer/sec:     11.50MB\n\
            {\"requests\":158633,\"duration_us\":3000102,\"bytes\":36168324,\"p50_us\":1180,\"p99_us\":1694,\
            \"p999_us\":2512,\"errors\":{\"connect\":0,\"exchange\":1,\"status\":2,\"timeout\":3}}\n";
        let outcome = parse(text).unwrap();
        assert_eq!((outcome.requests, outcome.bytes), (158_633, 36_168_324));
        assert_eq!((outcome.p50_us, outcome.p99_us, outcome.p999_us), (1180.0, 1694.0, 2512.0));
        assert_eq!(outcome.errors, Errors { connect: 0, exchange: 1, status: 2, timeout: 3 });
        assert_eq!(outcome.errors.total(), 6);
    }

    #[test]
    fn output_without_it_is_shown() {
        let error = parse("unable to connect to 127.0.0.1:9000 Connection refused\n").unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
        assert!(parse("{\"requests\":1}").is_err());
    }
}
