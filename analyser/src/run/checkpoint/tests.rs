use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use slipring_store::{Clock, Memory};

use super::super::plan::Plan;
use super::super::{Checkpoints, Ended, Options, Tell, analyse};
use super::{FILE, Subject, newest, parse, read};
use crate::fold::Query;
use crate::generate::{Amount, write_folder};

fn plan(logs: &Path) -> Plan {
    Plan::make(logs, Query::default(), None, NonZeroU64::new(1 << 20), 1).unwrap()
}

fn subject(logs: &Path) -> Subject {
    Subject { folder: logs.to_owned(), query: Query::default(), format: None, is_followed: false }
}

async fn run(logs: &Path, checkpoints: &Path) {
    let every = Duration::from_secs(3600);
    let options = Options {
        folder: logs.to_owned(),
        query: Query::default(),
        format: None,
        workers: 1,
        size: NonZeroU64::new(1 << 20),
        lease: Duration::from_secs(5),
        patience: Duration::from_secs(5),
        standby: false,
        is_shared: false,
        checkpoints: Some(Checkpoints { folder: checkpoints.to_owned(), every, fresh: false }),
    };
    let ended = analyse(Arc::new(Memory::new(Clock::system())), options, Tell::nobody()).await.unwrap();
    assert!(matches!(ended, Ended::Here(..)));
}

fn found(checkpoints: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The loss of power may leave of the last write any beginning, and of what was not brought to the disk anything.
#[tokio::test]
async fn a_checkpoint_cut_at_any_byte_is_used_whole_or_the_one_before_is() {
    let logs = tempfile::tempdir().unwrap();
    write_folder(logs.path(), 5, 2, Amount::Lines(30)).unwrap();
    let place = tempfile::tempdir().unwrap();
    run(logs.path(), place.path()).await;
    let add = |name: &str| std::fs::copy(logs.path().join("node1.log"), logs.path().join(name)).unwrap();
    add("node3.log");
    run(logs.path(), place.path()).await;
    add("node4.log");
    let all = found(place.path());
    let [before, last] = &all[..] else { panic!("{all:?}") };
    let (subject, plan) = (subject(logs.path()), plan(logs.path()));
    let file = last.join(FILE);
    let bytes = std::fs::read(&file).unwrap();
    let used = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let (resumed, skipped) = newest(place.path(), &subject, &plan);
        (resumed.unwrap().path, skipped.len())
    };
    assert_eq!(used(&bytes), (last.clone(), 0));
    for length in 0..bytes.len() {
        assert_eq!(used(&bytes[..length]), (before.clone(), 1), "cut at {length}");
        let mut zeros = bytes[..length].to_vec();
        zeros.resize(bytes.len(), 0);
        assert_eq!(used(&zeros), (before.clone(), 1), "zeros from {length}");
    }
    // The file itself, and the folder's entry for it, are part of the write.
    std::fs::remove_file(&file).unwrap();
    let (resumed, skipped) = newest(place.path(), &subject, &plan);
    assert_eq!((resumed.unwrap().path, skipped.len()), (before.clone(), 1));
    std::fs::write(before.join(FILE), "{}").unwrap();
    let (resumed, skipped) = newest(place.path(), &subject, &plan);
    assert!(resumed.is_none() && skipped.len() == 2, "{skipped:?}");
}

#[tokio::test]
async fn what_another_analysis_saved_is_not_used_and_not_removed() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = tempfile::tempdir().unwrap();
    for (logs, seed) in [(&one, 1), (&other, 2)] {
        write_folder(logs.path(), seed, 3, Amount::Lines(10)).unwrap();
    }
    run(one.path(), place.path()).await;
    for _ in 0..5 {
        run(other.path(), place.path()).await;
    }
    let subjects: Vec<_> = found(place.path()).iter().map(|path| read(path).unwrap().subject()).collect();
    let of = |logs: &Path| subjects.iter().filter(|own| **own == subject(logs)).count();
    assert_eq!((of(one.path()), of(other.path())), (1, 3));
    write_folder(one.path(), 9, 4, Amount::Lines(11)).unwrap();
    let (resumed, skipped) = newest(place.path(), &subject(one.path()), &plan(one.path()));
    assert!(resumed.is_none() && skipped.len() == 1, "{skipped:?}");
}

#[test]
fn a_checkpoint_of_another_program_is_told_apart() {
    let foreign = br#"{"timestamp":"2025-10-29T14:30:00","counts":{"INFO":152},"processed_files":["node1.log"],"pending_files":["node3.log"],"failed_workers":[2]}"#;
    assert!(parse(foreign).unwrap_err().contains("another program"));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_in_words(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
    }
}
