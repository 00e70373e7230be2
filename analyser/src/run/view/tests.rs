//! What somebody sees who looks on, from the beginning of an analysis to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use slipring_store::{Clock, Memory, Store, Timestamp};
use tokio::sync::watch;

use super::super::{Ended, Event, Options, Serving, Tell, analyse, serve};
use super::{Stage, Survey, View, What, leave};
use crate::fold::Query;
use crate::generate::{Amount, write_folder};

const FILES: u64 = 6;
const LINES: u64 = 400;

/// A store whose clock goes only when it is told to.
fn store() -> (Arc<dyn Store>, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(1_000_000_000));
    let clock = now.clone();
    (Arc::new(Memory::new(Clock::new(move || Timestamp(clock.load(Ordering::Relaxed))))), now)
}

fn happened(view: &View) -> Vec<What> {
    view.events.iter().map(|event| event.what).collect()
}

/// Looks until something is seen; what is not seen in time ends the test with the last that was.
async fn until(survey: &mut Survey, what: &str, is_it: impl Fn(&View) -> bool) -> View {
    let begin = std::time::Instant::now();
    loop {
        let view = survey.look(7).await.unwrap().clone();
        if is_it(&view) {
            return view;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} was not seen: {view:#?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_fails_who_takes_over_and_what_came_of_it_are_seen() {
    let logs = tempfile::tempdir().unwrap();
    let written = write_folder(logs.path(), 3, FILES, Amount::Lines(LINES)).unwrap();
    let (store, clock) = store();
    let mut survey = Survey::new(store.clone());
    assert_eq!(survey.look(7).await.unwrap(), &View::default());

    let lease = Duration::from_secs(5);
    let options = Options {
        folder: logs.path().to_owned(),
        query: Query::default(),
        format: None,
        workers: 0,
        size: std::num::NonZeroU64::new(4096),
        lease: Duration::from_secs(3600),
        patience: Duration::from_secs(20),
        standby: false,
        is_shared: true,
        checkpoints: None,
    };
    let (told, mut assigned) = watch::channel(false);
    let tell = Tell::new(move |event| {
        told.send_if_modified(|told| {
            matches!(event, Event::Assigned { .. }) && !std::mem::replace(told, true)
        });
    });
    let coordinating = tokio::spawn(analyse(store.clone(), options, tell));
    let view = until(&mut survey, "the beginning", |view| view.stage == Stage::Running).await;
    assert_eq!((view.files, view.files_done, view.bytes_done), (FILES as usize, 0, 0));
    assert_eq!(view.folder, logs.path().display().to_string());
    assert!(!view.coordinator.is_empty() && view.bytes > 0, "{view:#?}");

    // One takes a part, and is not heard of again.
    let queue = survey.now.as_ref().map(|(job, ..)| job.queue.clone()).unwrap();
    let dead = store.claim(&queue, "dead/1", lease, 1).await.unwrap();
    assert_eq!(dead.len(), 1);
    let view =
        until(&mut survey, "who reads", |view| view.workers.iter().any(|one| one.reading.is_some())).await;
    assert_eq!((view.workers[0].name.as_str(), view.workers[0].failed, view.failures), ("dead/1", false, 0));
    // The coordinator has seen it, too: a moment later the lease has run out.
    let seen = tokio::time::timeout(Duration::from_secs(60), assigned.wait_for(|told| *told)).await;
    seen.expect("it looks at leases").unwrap();
    clock.fetch_add(6_000_000, Ordering::Relaxed);
    let view = until(&mut survey, "the failure", |view| view.failures == 1).await;
    assert!(view.workers[0].failed && view.workers[0].reading.is_none(), "{view:#?}");
    assert_eq!(happened(&view), [What::Began, What::Joined, What::Failed]);

    // Another one does the rest.
    let (end, ended) = watch::channel(false);
    let serving = Serving { workers: 1, lease, patience: Duration::from_secs(20), once: true };
    let working = tokio::spawn(serve(store.clone(), serving, Tell::nobody(), ended));
    let Ended::Here(analysis, conclusion) = coordinating.await.unwrap().unwrap() else {
        panic!("it is alone")
    };
    let view = until(&mut survey, "all of it", |view| view.bytes_done == view.bytes).await;
    assert_eq!((view.stage, view.files_done, view.recoveries), (Stage::Running, FILES as usize, 1));
    let others: Vec<_> = view.workers.iter().filter(|one| !one.failed).collect();
    assert!(matches!(&others[..], [one] if one.bytes == view.bytes && one.parts > FILES), "{view:#?}");
    let levels =
        [("DEBUG", written.debug), ("ERROR", written.error), ("INFO", written.info), ("WARN", written.warn)];
    let levels: Vec<_> = levels.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(view.levels.clone().into_iter().collect::<Vec<_>>(), levels);

    leave(&*store, logs.path(), &analysis, 9).await.unwrap();
    conclusion.conclude().await.unwrap();
    let view = until(&mut survey, "the end", |view| view.stage == Stage::Finished).await;
    assert_eq!((view.records, view.failures, view.recoveries), (FILES * LINES, 1, 1));
    assert_eq!(happened(&view).last(), Some(&What::Finished));
    assert_eq!(survey.look(8).await.unwrap(), &view, "it is said once that it is over");
    // Whoever comes later sees the last result.
    let late = Survey::new(store).look(8).await.unwrap().clone();
    assert_eq!(
        (late.stage, late.records, late.levels, late.failures),
        (Stage::Finished, view.records, view.levels, 1)
    );
    end.send_replace(true);
    working.await.unwrap().unwrap();
}
