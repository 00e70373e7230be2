//! The `tester` as a user runs it: it starts a balancer, loads it, stops it, and leaves its files.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use slipring_plots::report::distribution::Distribution;
use slipring_plots::report::failure::FailureRun;
use slipring_plots::report::load;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

const TESTER: &str = env!("CARGO_BIN_EXE_tester");
/// A measurement of some seconds, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it to its end, which has to be a good one, and returns what it printed.
async fn tester(folder: &Path, arguments: &[&str]) -> String {
    // Whoever builds the workspace has both; who builds this package alone may not.
    let slipring = Path::new(TESTER).with_file_name("slipring");
    assert!(slipring.is_file(), "no balancer to measure: cargo build -p slipring, or cargo test --workspace");
    let mut command = Command::new(TESTER);
    command.args(arguments).args(["--timeout", "20", "--out"]).arg(folder);
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let (said, complaint) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{said}\n{complaint}", output.status);
    said
}

/// The names of the files in a folder, none of which is empty.
fn files(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            assert!(file.metadata().unwrap().len() > 0, "{name} is empty");
            name
        })
        .collect();
    names.sort();
    names.join(" ")
}

#[tokio::test]
async fn distribute_counts_every_request_and_draws() {
    let folder = TempDir::new().unwrap();
    let arguments =
        ["distribute", "--requests", "300", "--n", "2,3", "--hash", "given", "--placement", "rendezvous"];
    let said = tester(folder.path(), &arguments).await;
    let report: Distribution = load(folder.path(), Distribution::NAME).unwrap();
    let runs: Vec<_> = report.runs.iter().map(|run| (run.placement.as_str(), run.n)).collect();
    assert_eq!(runs, [("given", 2), ("given", 3), ("rendezvous", 2), ("rendezvous", 3)], "{said}");
    for run in &report.runs {
        assert_eq!((run.answered(), run.failed()), (300, 0), "{said}");
        assert_eq!(run.replicas.len(), run.n as usize, "{said}");
        let test = run.balance.chi_squared_placement.expect("the shares of these placements are known");
        assert!(test.p_value > 1e-6, "{} is not as it promises:\n{said}", run.placement);
    }
    assert_eq!(
        files(folder.path()),
        "balance.csv distribution.csv distribution.json mean.png mean.svg requests-n2.png requests-n2.svg \
         requests-n3.png requests-n3.svg stddev.png stddev.svg"
    );
}

#[tokio::test]
async fn failure_kills_a_replica_and_sees_it_come_back() {
    let folder = TempDir::new().unwrap();
    let said = tester(folder.path(), &["failure", "--seconds", "3", "--rate", "200"]).await;
    let report: FailureRun = load(folder.path(), "failure").unwrap();
    assert_eq!((report.requests.len(), report.figures.answered), (600, 600), "{said}");
    assert!(report.figures.recovered_at.is_some() && report.fleet_complete_at.is_some(), "{said}");
    assert_eq!(files(folder.path()), "failure.csv failure.json failure.png failure.svg");
}
