//! Data sets that are not alike: nobody's rows are taken for another's, and no date falls between two hosts.

use std::path::Path;

use serde_json::json;
use slipring_overlay::topology::Profile;

use crate::cluster::{Cluster, ring, six};
use crate::data;

/// Another folder with the same data.
fn copy(without: Option<u32>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    drop(data::write(folder.path(), 7));
    if let Some(date) = without {
        std::fs::remove_dir_all(folder.path().join(date.to_string())).expect("it is there");
    }
    folder
}

fn missing(answer: slipring_overlay::wire::QueryResponse) -> Vec<String> {
    let missing = answer.coverage.expect("it says how complete it is").missing;
    missing
        .into_iter()
        .map(|missing| format!("{} {} {}", missing.name, missing.process, missing.why))
        .collect()
}

#[test]
fn a_date_that_one_host_does_not_have_is_missing_by_name() {
    // F sees all of pink's six dates and takes the last three; D sees five of them, and takes the first three of those.
    let other = copy(Some(20_200_821));
    let root = other.path().to_owned();
    let cluster = Cluster::start_with(six(), Some(Profile::Parallel), move |id, options| {
        if id == "D" {
            options.dataset_root = Some(root.clone());
        }
    });
    let answer = cluster.query("A", &json!({}));
    assert!(
        answer.status.starts_with("incomplete:20200821 (D: its data set does not have"),
        "{}",
        answer.status
    );
    let answer = cluster.query("A", &json!({"mode": "partial"}));
    assert_eq!(missing(answer), ["20200821 D its data set does not have this date, another process's does"]);
    assert_eq!(cluster.query("A", &json!({"team": "green"})).status, "ready");
}

#[test]
fn copies_that_differ_are_no_answer() {
    let other = copy(None);
    let change = |root: &Path| {
        for date in data::DAYS {
            let file = root.join(format!("{date}/{date}-00.csv"));
            let text = std::fs::read_to_string(&file).expect("it is there");
            std::fs::write(&file, text.replace("Agency", "Another")).expect("it is ours");
        }
    };
    change(other.path());
    let root = other.path().to_owned();
    let cluster = Cluster::start_with(ring(), Some(Profile::Parallel), move |id, options| {
        if id == "G" {
            options.dataset_root = Some(root.clone());
        }
    });
    let answer = cluster.query("A", &json!({"mode": "partial"}));
    let missing = missing(answer);
    assert!(!missing.is_empty(), "G holds some date together with another worker");
    for missing in missing {
        assert!(missing.ends_with("holds other data of this date") && missing.contains('G'), "{missing}");
    }
}
