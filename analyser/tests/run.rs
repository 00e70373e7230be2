//! Runs: whoever counts, in however many parts, in whichever store, the bytes of the result are the same.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipring_analyser::Unit;
use slipring_analyser::fold::{Fold, Query};
use slipring_analyser::format::Format;
use slipring_analyser::generate::{Amount, write_folder};
use slipring_analyser::output::{Report, json, text};
use slipring_analyser::run::{
    Analysis, Checkpoints, Ended, Event, Options, RunError, Serving, Tell, analyse, ledger, serve,
};
use slipring_analyser::scan::scan;
use slipring_analyser::source::LogFile;
use slipring_analyser::{folder, ranges};
use slipring_store::{Clock, Memory, Store, open};
use tokio::sync::watch;

fn options(folder: &Path) -> Options {
    Options {
        folder: folder.to_owned(),
        query: Query::default(),
        format: None,
        workers: 2,
        size: None,
        lease: Duration::from_secs(5),
        patience: Duration::from_secs(20),
        standby: false,
        is_shared: false,
        checkpoints: None,
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new(Clock::system()))
}

async fn run(store: Arc<dyn Store>, options: Options) -> Result<Analysis, RunError> {
    run_telling(store, options, Tell::nobody()).await
}

async fn run_telling(store: Arc<dyn Store>, options: Options, tell: Tell) -> Result<Analysis, RunError> {
    match analyse(store, options, tell).await? {
        Ended::Here(analysis, conclusion) => {
            conclusion.conclude().await?;
            Ok(*analysis)
        }
        Ended::Elsewhere { who } => panic!("{who} finished it"),
    }
}

/// What a user sees, but for how long it took and how often it was saved.
fn shown(analysis: &Analysis) -> String {
    let mut run = analysis.run.clone();
    (run.took, run.checkpoints_saved) = (Duration::ZERO, 0);
    let report = Report { query: &analysis.query, fold: &analysis.fold, run: &run, top: 10 };
    text(&report) + &json(&report)
}

fn check_ledger(folder: &Path, analysis: &Analysis) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ledger");
    ledger::write(&path, folder, analysis).unwrap();
    let found = ledger::verify(&path).unwrap();
    assert_eq!(found.mistakes, Vec::<String>::new());
    assert_eq!((found.total.bytes, found.total.levels), (analysis.fold.bytes, analysis.fold.levels));
}

/// One after the other, without any of what is tested here.
fn sequential(path: &Path, query: &Query) -> Fold {
    let logs = folder::look_into(path).unwrap().logs;
    let mut sum = Fold::new(query);
    for log in &logs {
        let format = log.scores().unwrap().first().map_or_else(Format::seed, |best| best.format);
        for range in ranges::cut(std::slice::from_ref(log), NonZeroU64::MAX) {
            let mut go_on = |_| std::ops::ControlFlow::Continue(());
            sum.merge(scan(log, range, format, query, &mut go_on).unwrap().fold);
        }
    }
    sum
}

/// Logs of the seed's shape, one of another, and one without a newline at its end.
fn mixed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 7, 6, Amount::Lines(3000)).unwrap();
    let mut other = String::new();
    for number in 0..2000 {
        let level = if number % 3 == 0 { "error" } else { "info" };
        other += &format!("level={level} ts=2025-11-05T23:20:{:02}Z msg=\"number {number}\"\n", number % 60);
    }
    std::fs::write(folder.path().join("other.log"), other.trim_end()).unwrap();
    std::fs::write(folder.path().join("empty.log"), "").unwrap();
    folder
}

#[tokio::test]
async fn sequential_threads_splits_and_stores_give_equal_bytes() {
    let logs = mixed();
    for query in [
        Query::default(),
        Query {
            per: Some(Unit::Minute),
            templates: Some(100),
            conditions: vec!["level>=WARN".parse().unwrap()],
        },
    ] {
        let first = run(memory(), Options { query: query.clone(), workers: 1, ..options(logs.path()) })
            .await
            .unwrap();
        assert_eq!(first.fold, sequential(logs.path(), &query));
        assert_eq!((first.run.files_processed, first.run.failed_workers), (8, 0));
        let first = shown(&first);
        for (workers, size) in [(1, 1000), (2, 4096), (3, 77_777), (8, 1 << 20), (2, 313)] {
            if size < 1000 && query.templates.is_some() {
                continue;
            }
            let size = NonZeroU64::new(size);
            let options = Options { query: query.clone(), workers, size, ..options(logs.path()) };
            let again = run(memory(), options).await.unwrap();
            assert_eq!(shown(&again), first, "{workers} workers, {size:?}");
            check_ledger(logs.path(), &again);
        }
        let place = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", place.path().join("store.db").display());
        let size = NonZeroU64::new(20_000);
        let options = Options { query: query.clone(), size, is_shared: true, ..options(logs.path()) };
        let store = open(&url).await.unwrap();
        let again = run(store.clone(), options.clone()).await.unwrap();
        assert_eq!(shown(&again), first);
        check_ledger(logs.path(), &again);
        // And once more in the same store: nothing of the first time is in its way.
        assert_eq!(shown(&run(store.clone(), options).await.unwrap()), first);
        assert_eq!(store.contradictions().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn workers_of_other_processes_share_a_store() {
    let logs = mixed();
    let store = memory();
    let (end, ended) = watch::channel(false);
    let serving =
        Serving { workers: 2, lease: Duration::from_secs(5), patience: Duration::from_secs(5), once: false };
    let helper = tokio::spawn(serve(store.clone(), serving, Tell::nobody(), ended));
    let size = NonZeroU64::new(10_000);
    let alone = Options { workers: 0, is_shared: true, size, ..options(logs.path()) };
    let analysis = run(store, alone).await.unwrap();
    assert_eq!(analysis.fold, sequential(logs.path(), &Query::default()));
    check_ledger(logs.path(), &analysis);
    end.send_replace(true);
    assert_eq!(helper.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_counted() {
    let logs = mixed();
    let whole = run(memory(), options(logs.path())).await.unwrap();
    std::fs::create_dir(logs.path().join("folder.log")).unwrap();
    std::os::unix::fs::symlink("nowhere", logs.path().join("dangling.log")).unwrap();
    std::os::unix::fs::symlink("loop.log", logs.path().join("loop.log")).unwrap();
    let analysis = run(memory(), options(logs.path())).await.unwrap();
    assert_eq!(analysis.fold, whole.fold);
    let names: Vec<&str> = analysis.run.unread.iter().map(|unread| unread.path.as_str()).collect();
    assert_eq!(names, ["dangling.log", "folder.log", "loop.log"]);
    assert!(analysis.run.unread.iter().all(|unread| !unread.why.is_empty()));
    assert_eq!(analysis.run.files_processed, 8);
}

#[tokio::test]
async fn a_file_that_shrinks_is_named_and_the_ledger_says_so() {
    let logs = mixed();
    // It is cut when its second part is taken on: the first one was there.
    let path = logs.path().join("node1.log");
    let (cut, tasks) = (path.clone(), Mutex::new(0));
    let tell = Tell::new(move |event| {
        if let Event::Processing { file, .. } = event
            && file == "node1.log"
        {
            let mut tasks = tasks.lock().unwrap();
            *tasks += 1;
            if *tasks == 2 {
                std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(10).unwrap();
            }
        }
    });
    let options = Options { workers: 1, size: NonZeroU64::new(50_000), ..options(logs.path()) };
    let analysis = run_telling(memory(), options, tell).await.unwrap();
    let [unread] = &analysis.run.unread[..] else { panic!("{:?}", analysis.run.unread) };
    assert!(unread.path == "node1.log" && unread.why.contains("cut while it was read"), "{unread:?}");
    assert_eq!(analysis.run.files_processed, 7);
    let place = tempfile::tempdir().unwrap();
    let ledger = place.path().join("ledger");
    ledger::write(&ledger, logs.path(), &analysis).unwrap();
    let found = ledger::verify(&ledger).unwrap();
    assert!(found.mistakes.len() == 1 && found.mistakes[0].contains("node1.log"), "{found:?}");
}

#[tokio::test]
async fn no_folder_and_no_logs_are_errors() {
    let empty = tempfile::tempdir().unwrap();
    for path in [empty.path().to_owned(), empty.path().join("missing")] {
        let ended = run(memory(), options(&path)).await;
        assert!(matches!(ended, Err(RunError::Folder(_))), "{ended:?}");
    }
}

/// A ledger, changed line by line: each lie is found.
#[tokio::test]
async fn a_ledger_that_lies_is_found_out() {
    let logs = mixed();
    let analysis =
        run(memory(), Options { size: NonZeroU64::new(60_000), ..options(logs.path()) }).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ledger");
    ledger::write(&path, logs.path(), &analysis).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let check = |text: String, what: &str| {
        std::fs::write(&path, text).unwrap();
        let found = ledger::verify(&path);
        assert!(found.as_ref().map_or(true, |found| !found.mistakes.is_empty()), "{what}: {found:?}");
    };
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        check(less.join("\n"), &format!("without {}", lines[at]));
        let mut more = lines.clone();
        more.insert(at, lines[at]);
        check(more.join("\n"), &format!("twice {}", lines[at]));
    }
    check(good.replacen("\"lines\":", "\"lines\":1", 1), "another count");
    check(good.replacen("\"hash\":\"", "\"hash\":\"0", 1), "another hash");
    check(String::new(), "nothing");
    check("{}\n".to_owned(), "something else");
    std::fs::write(&path, &good).unwrap();
    let log = logs.path().join("node2.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let found = ledger::verify(&path).unwrap();
    assert!(found.mistakes.iter().all(|mistake| mistake.contains("node2.log")), "{found:?}");
    assert_eq!(found.mistakes.len(), 1);
    std::fs::remove_file(&log).unwrap();
    let found = ledger::verify(&path).unwrap();
    assert_eq!((found.mistakes.len(), found.missing), (0, vec![log]));
}

fn events() -> (Tell, Arc<Mutex<Vec<Event>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    (Tell::new(move |event| told.lock().unwrap().push(event)), seen)
}

/// Runs until something was saved with files pending, and drops the run there: as if the process had died.
async fn die_after_a_checkpoint(options: Options) {
    let (saved, mut told) = watch::channel(false);
    let tell = Tell::new(move |event| {
        if matches!(event, Event::Saved { .. }) {
            saved.send_replace(true);
        }
    });
    tokio::select! {
        _ = analyse(memory(), options, tell) => panic!("it ended"),
        _ = told.changed() => {}
    }
}

fn checkpointed(logs: &Path, checkpoints: &Path) -> Options {
    let every = Duration::from_secs(3600);
    let checkpoints = Checkpoints { folder: checkpoints.to_owned(), every, fresh: false };
    // Parts of their own, so that there is one to die in; and one at a time.
    let size = NonZeroU64::new(20_000);
    Options { workers: 1, size, checkpoints: Some(checkpoints), ..options(logs) }
}

#[tokio::test]
async fn a_run_that_died_is_gone_on_with_from_the_newest_valid_checkpoint() {
    let logs = tempfile::tempdir().unwrap();
    write_folder(logs.path(), 3, 40, Amount::Lines(4000)).unwrap();
    let whole = run(memory(), options(logs.path())).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("checkpoints");
    die_after_a_checkpoint(checkpointed(logs.path(), &folder)).await;
    // Whatever was being written when it died is in nobody's way.
    let (tell, seen) = events();
    let again = run_telling(memory(), checkpointed(logs.path(), &folder), tell).await.unwrap();
    let resumed = |seen: &Mutex<Vec<Event>>| {
        let seen = seen.lock().unwrap();
        let found = seen.iter().find_map(|event| match event {
            Event::Found { files: 40, done } => Some(*done),
            _ => None,
        });
        found.unwrap()
    };
    assert!(resumed(&seen).is_some_and(|done| (1..40).contains(&done)), "{:?}", seen.lock().unwrap());
    assert_eq!(shown(&again), shown(&whole));
    check_ledger(logs.path(), &again);
    // It is complete now: who asks again is counted for anew, and checkpoints do not pile up.
    let (tell, seen) = events();
    let anew = run_telling(memory(), checkpointed(logs.path(), &folder), tell).await.unwrap();
    assert_eq!((resumed(&seen), shown(&anew)), (None, shown(&whole)));
    let kept: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(kept.len() <= 3, "{kept:?}");
    for checkpoint in kept {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(checkpoint.join("checkpoint.json")).unwrap()).unwrap();
        let processed = json["processed_files"].as_array().unwrap();
        let pending = json["pending_files"].as_array().unwrap();
        assert_eq!(processed.len() + pending.len(), 40);
        assert!(
            json["counts"].is_object() && json["failed_workers"].is_array() && json["timestamp"].is_string()
        );
        for file in processed {
            assert!(checkpoint.join(file.as_str().unwrap()).exists(), "{file}");
        }
    }
}

#[tokio::test]
async fn a_run_goes_on_from_the_newest_checkpoint_or_from_the_one_before_if_that_is_broken() {
    let logs = tempfile::tempdir().unwrap();
    write_folder(logs.path(), 5, 2, Amount::Lines(30)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("checkpoints");
    let size = NonZeroU64::new(1 << 20);
    let asked = || Options { size, ..checkpointed(logs.path(), &folder) };
    run(memory(), asked()).await.unwrap();
    let add = |name: &str| std::fs::copy(logs.path().join("node1.log"), logs.path().join(name)).unwrap();
    add("node3.log");
    run(memory(), asked()).await.unwrap();
    add("node4.log");
    let whole = shown(&run(memory(), options(logs.path())).await.unwrap());
    let mut found: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert_eq!(found.len(), 2, "{found:?}");
    let last = found.pop().unwrap().join("checkpoint.json");
    let bytes = std::fs::read(&last).unwrap();
    let check = async |bytes: &[u8], expected: usize| {
        // A copy of the folder, as a run writes into it.
        let scratch = tempfile::tempdir().unwrap();
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let copy = scratch.path().join(path.file_name().unwrap());
            std::fs::create_dir(&copy).unwrap();
            let json = path.join("checkpoint.json");
            let whole = std::fs::read(&json).unwrap();
            let text = if json == last { bytes } else { &whole[..] };
            std::fs::write(copy.join("checkpoint.json"), text).unwrap();
        }
        let (tell, seen) = events();
        let checkpoints =
            Checkpoints { folder: scratch.path().to_owned(), every: Duration::from_secs(3600), fresh: false };
        let asked = Options { size, checkpoints: Some(checkpoints), ..options(logs.path()) };
        let analysis = run_telling(memory(), asked, tell).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(
            seen.contains(&Event::Found { files: 4, done: Some(expected) }),
            "{} bytes: {seen:?}",
            bytes.len()
        );
        let skipped = seen.iter().filter(|event| matches!(event, Event::Skipped { .. })).count();
        assert_eq!(skipped, usize::from(expected == 2), "{seen:?}");
        assert_eq!(shown(&analysis), whole, "{} bytes", bytes.len());
    };
    check(&bytes, 3).await;
    for length in [0, bytes.len() / 2, bytes.len() - 1] {
        check(&bytes[..length], 2).await;
    }
}

#[tokio::test]
async fn a_checkpoint_of_a_log_that_was_changed_is_not_used() {
    let logs = tempfile::tempdir().unwrap();
    write_folder(logs.path(), 5, 3, Amount::Lines(300)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let asked = || checkpointed(logs.path(), place.path());
    run(memory(), asked()).await.unwrap();
    let log = LogFile::look_at(&logs.path().join("node2.log")).unwrap();
    let mut bytes = std::fs::read(&log.path).unwrap();
    let at = bytes.windows(4).position(|four| four == b"INFO").unwrap();
    bytes[at..at + 4].copy_from_slice(b"WARN");
    std::fs::write(&log.path, bytes).unwrap();
    std::fs::copy(&log.path, logs.path().join("node9.log")).unwrap();
    let (tell, seen) = events();
    let analysis = run_telling(memory(), asked(), tell).await.unwrap();
    assert_eq!(analysis.fold, sequential(logs.path(), &Query::default()));
    let seen = seen.lock().unwrap();
    let told =
        seen.iter().any(|event| matches!(event, Event::Skipped { why, .. } if why.contains("node2.log")));
    assert!(told && seen.contains(&Event::Found { files: 4, done: None }), "{seen:?}");
}

#[tokio::test]
async fn where_no_checkpoint_can_be_written_it_is_said_and_the_run_goes_on() {
    let logs = mixed();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (tell, seen) = events();
    let analysis = run_telling(memory(), checkpointed(logs.path(), &file.join("below")), tell).await.unwrap();
    assert_eq!((analysis.run.files_processed, analysis.run.checkpoints_saved), (8, 0));
    let seen = seen.lock().unwrap();
    let told = seen.iter().filter(|event| matches!(event, Event::Unsaved { .. })).count();
    assert_eq!(told, 1, "{seen:?}");
}

#[tokio::test]
async fn a_second_coordinator_is_refused_and_a_standby_hears_that_it_is_finished() {
    let logs = mixed();
    let store = memory();
    let lease = Duration::from_millis(400);
    let asked = |standby| Options { lease, standby, workers: 0, is_shared: true, ..options(logs.path()) };
    let first = tokio::spawn(analyse(store.clone(), asked(false), Tell::nobody()));
    let office = async {
        loop {
            let open = store.range(slipring_store::Range::prefix("analyse-open/")).await.unwrap();
            if !open.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), office).await.unwrap();
    let second = analyse(store.clone(), asked(false), Tell::nobody()).await;
    assert!(matches!(second, Err(RunError::Taken { .. })), "{second:?}");
    let (tell, seen) = events();
    let standby = tokio::spawn(analyse(store.clone(), asked(true), tell));
    let waits = async {
        while !seen.lock().unwrap().iter().any(|event| matches!(event, Event::StandingBy { .. })) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap();
    let (_end, ended) = watch::channel(false);
    let serving = Serving { workers: 1, lease, patience: Duration::from_secs(5), once: true };
    let helper = tokio::spawn(serve(store.clone(), serving, Tell::nobody(), ended));
    let Ended::Here(analysis, conclusion) = first.await.unwrap().unwrap() else { panic!("it was alone") };
    assert_eq!(analysis.fold, sequential(logs.path(), &Query::default()));
    conclusion.conclude().await.unwrap();
    assert!(matches!(standby.await.unwrap().unwrap(), Ended::Elsewhere { .. }));
    assert_eq!(helper.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_coordinator_that_dies_is_followed_by_one_that_goes_on() {
    let logs = mixed();
    let store = memory();
    let asked = Options {
        lease: Duration::from_millis(400),
        workers: 1,
        is_shared: true,
        size: NonZeroU64::new(2000),
        ..options(logs.path())
    };
    let whole = run(memory(), options(logs.path())).await.unwrap();
    for _ in 0..3 {
        let (tell, seen) = events();
        let some = async {
            while seen
                .lock()
                .unwrap()
                .iter()
                .filter(|event| matches!(event, Event::Processing { .. }))
                .count()
                < 30
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = analyse(store.clone(), asked.clone(), tell) => panic!("it ended"),
            () = some => {}
        }
    }
    let (tell, seen) = events();
    let analysis = run_telling(store, asked, tell).await.unwrap();
    assert!(seen.lock().unwrap().contains(&Event::TookOver));
    assert_eq!(analysis.fold, whole.fold);
    check_ledger(logs.path(), &analysis);
}

/// The analysis that is under way in a store: its queue.
async fn queue_of(store: &dyn Store) -> String {
    let open = async {
        loop {
            let open = store.range(slipring_store::Range::prefix("analyse-open/")).await.unwrap();
            if let Some(record) = open.first() {
                let job: serde_json::Value = serde_json::from_slice(&record.value[1..]).unwrap();
                return job["queue"].as_str().unwrap().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), open).await.unwrap()
}

/// One worker stops in the middle of reading, and its leases last for ten minutes: only a second reader ends this in time.
#[tokio::test]
async fn what_a_slow_worker_holds_is_doubled_and_its_late_results_change_nothing() {
    const WAIT: Duration = Duration::from_secs(60);
    let logs = mixed();
    let store = memory();
    let lease = Duration::from_secs(600);
    let size = NonZeroU64::new(5_000);
    let asked = Options { workers: 0, is_shared: true, lease, size, ..options(logs.path()) };
    // It is not concluded before the slow one has told what it found: the analysis goes on for it.
    let coordinator = tokio::spawn(analyse(store.clone(), asked, Tell::nobody()));
    let queue = queue_of(&*store).await;
    let serving = Serving { workers: 1, lease, patience: WAIT, once: true };
    let (end, ended) = watch::channel(false);
    // The slow one: its reader waits where it takes on its first part.
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    let (told, mut late) = watch::channel(0);
    let gate = Mutex::new(Some(gate));
    let tell = Tell::new(move |event| match event {
        Event::Processing { .. } => {
            let gate = gate.lock().unwrap().take();
            if let Some(gate) = gate {
                gate.recv_timeout(WAIT).expect("the test lets it go on");
            }
        }
        Event::Late { parts, .. } => told.send_modify(|late| *late += parts),
        _ => {}
    });
    let slow = tokio::spawn(serve(store.clone(), serving.clone(), tell, ended.clone()));
    let held = async {
        // What it reads, and what it has claimed ahead meanwhile.
        while store.running(&queue).await.unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, held).await.expect("a worker that reads claims what it reads next");
    let (tell, seen) = events();
    let fast = tokio::spawn(serve(store.clone(), serving, tell, ended));
    let ended = tokio::time::timeout(WAIT, coordinator).await.expect("somebody else reads it too");
    let Ended::Here(analysis, conclusion) = ended.unwrap().unwrap() else { panic!("nobody else has it") };
    assert_eq!(analysis.fold, sequential(logs.path(), &Query::default()));
    check_ledger(logs.path(), &analysis);
    let doubled = seen.lock().unwrap().iter().filter(|event| matches!(event, Event::Doubled { .. })).count();
    assert!(doubled >= 2, "{doubled} parts were doubled");
    go_on.send(()).unwrap();
    let told = tokio::time::timeout(WAIT, late.wait_for(|parts| *parts > 0)).await;
    told.expect("the late result is refused, and that is said").unwrap();
    conclusion.conclude().await.unwrap();
    end.send_replace(true);
    slow.await.unwrap().unwrap();
    fast.await.unwrap().unwrap();
    assert_eq!(store.contradictions().await.unwrap(), Vec::<String>::new());
}

/// Messages that have nothing in common take more than a store keeps: that is said, with what to do, and the rest counts.
#[tokio::test]
async fn a_result_that_no_store_takes_is_refused_with_what_to_do() {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    let logs = tempfile::tempdir().unwrap();
    write_folder(logs.path(), 7, 1, Amount::Lines(10)).unwrap();
    let mut dice = StdRng::seed_from_u64(1);
    let mut text = Vec::new();
    for _ in 0..24_000 {
        text.extend_from_slice(b"[2025-11-05T23:20:11.594011] [INFO] ");
        let letter = |_| (if dice.random_bool(0.5) { b'a' } else { b'A' }) + dice.random_range(0..26_u8);
        text.extend((0..1200).map(letter));
        text.push(b'\n');
    }
    std::fs::write(logs.path().join("noise.log"), text).unwrap();
    let query = Query { templates: Some(30_000), ..Query::default() };
    let size = NonZeroU64::new(1 << 30);
    let analysis =
        run(memory(), Options { query: query.clone(), size, ..options(logs.path()) }).await.unwrap();
    let [unread] = &analysis.run.unread[..] else { panic!("{:?}", analysis.run.unread) };
    assert!(unread.path == "noise.log" && unread.why.contains("--split"), "{unread:?}");
    assert_eq!((analysis.fold.lines, analysis.run.files_processed), (10, 1));
    // In parts it can be handed over, and nothing else has to be kept where nobody shares it.
    let size = NonZeroU64::new(2 << 20);
    let analysis =
        run(memory(), Options { query: query.clone(), size, ..options(logs.path()) }).await.unwrap();
    assert_eq!((analysis.fold.lines, analysis.run.unread.len()), (24_010, 0));
    // Who would take over has to find it all.
    let asked = Options { query, size, is_shared: true, ..options(logs.path()) };
    let ended = run(memory(), asked).await;
    assert!(matches!(ended, Err(RunError::TooMuch { .. })), "{ended:?}");
}
