//! Another implementation's client, generated from the contract's text, gets what the contract says.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use slipring_tests::overlay::{Overlay, Rows, six};
use slipring_tests::{run, skipped};
use tempfile::TempDir;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// Rows of a file; there are three a day.
const ROWS: u64 = 30;
/// An orderly end takes no longer.
const END: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_grpcio_asks_reads_every_chunk_and_asks_for_the_end() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/overlay/grpcio/round.py");
    let script = script.to_str().expect("paths here are text");
    let able = tokio::process::Command::new(&python).arg(script).output().await;
    if !able.is_ok_and(|said| said.status.success()) {
        return skipped("grpcio", &format!("{python} has no grpcio and grpcio-tools (PYTHON)"));
    }
    let data = TempDir::new().expect("a temporary folder can be made");
    let rows = Rows::write(data.path(), ROWS);
    let mut overlay = Overlay::new(SLIPRING, six(), data.path());
    overlay.start_as(&["--profile", "balanced"]).await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let address = |id: &str| overlay.http(id).address.to_string();
    let (worker, leader) = (address("C"), address("A"));
    let folder = folder.path().to_str().expect("paths here are text");
    let said = run(&python, &[script, folder, &worker, &leader], &[], "").await;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: Value = serde_json::from_slice(&said.stdout).expect("it prints JSON");

    let pm = rows.records(|row| {
        row.parameter == "PM2.5" && row.value.is_some_and(|value| (5.0..=35.0).contains(&value))
    });
    let pm: Vec<Value> = pm.iter().map(|record| serde_json::from_str(record).expect("JSON")).collect();
    assert_eq!(said["records"], Value::from(pm));
    let least = |least| rows.records(|row| row.value.is_some_and(|value| value >= f64::from(least))).len();
    assert_eq!(said["counts"], json!((0..40).map(least).collect::<Vec<_>>()));

    let [leader, worker] = [&said["metrics"][0], &said["metrics"][1]];
    let shown = |metrics: &Value| {
        ["process_id", "role", "team", "max_capacity", "is_healthy", "data_files_loaded"]
            .map(|name| metrics[name].clone())
    };
    assert_eq!(
        shown(leader),
        [json!("A"), json!("leader"), json!("green"), json!(100), json!(true), json!(0)]
    );
    assert_eq!(
        shown(worker),
        [json!("C"), json!("worker"), json!("green"), json!(100), json!(true), json!(9)]
    );
    let strategies = |metrics: &Value| {
        ["forwarding_strategy", "async_forwarding", "chunking_strategy", "fairness_strategy"]
            .map(|name| metrics[name].clone())
    };
    let balanced = [json!("capacity"), json!(true), json!("query_based"), json!("weighted")];
    assert_eq!((strategies(leader), strategies(worker)), (balanced.clone(), balanced));
    assert_eq!((leader["active_requests"].clone(), leader["queue_size"].clone()), (json!(0), json!(0)));
    assert!(leader["avg_processing_time_ms"].as_f64().is_some_and(|average| average > 0.0), "{leader}");
    let logs = leader["recent_logs"].as_array().expect("a list");
    assert!(logs.iter().any(|line| line.as_str().is_some_and(|line| line.contains("min_value"))), "{logs:?}");

    assert_eq!(said["shutdown"], "shutting_down");
    assert_eq!(overlay.ended("C", END).await.code(), Some(0), "an orderly end");
}
