//! PostgreSQL is away for a while.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipring_store::testing::Cluster;
use slipring_store::{Change, Error, Expect, NewTask, Outcome, Store, Why, open, with_patience};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::site::{LONG, SOON, skip};

const TASKS: u64 = 400;

/// Works as the crate's documentation says that one can. Returns how often it had to wait.
async fn work(store: Arc<dyn Store>, worker: String, progress: watch::Sender<u64>) -> usize {
    let waits = Mutex::new(0);
    let patient = |_: slipring_store::Waiting<'_>| {
        *waits.lock().unwrap() += 1;
        progress.send_modify(|_| ());
    };
    loop {
        // A claim whose answer is lost is held until it runs out; here that is a moment.
        let lease = Duration::from_millis(200);
        let claimed = with_patience(SOON, patient, || store.claim("q", &worker, lease, 1));
        let claimed = claimed.await.unwrap();
        if claimed.is_empty() {
            let counts = with_patience(SOON, patient, || store.counts("q")).await.unwrap();
            if counts.done == TASKS {
                return waits.into_inner().unwrap();
            }
        }
        for task in claimed {
            let claim = task.claim;
            let once = Change::Put { key: claim.key.clone(), value: vec![], expect: Expect::Absent };
            let changes = vec![Change::Complete { claim, result: worker.clone().into() }, once];
            let outcome = with_patience(SOON, patient, || store.transact(changes.clone()));
            match outcome.await.unwrap() {
                Outcome::Committed(_) => progress.send_modify(|done| *done += 1),
                // The record is there only if the task was done: by this claim, or by another.
                Outcome::Refused(refusals) => {
                    assert!(matches!(refusals[0].why, Why::AlreadyDone | Why::Fenced), "{refusals:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn postgresql_that_stops_and_starts_again_doubles_nothing_and_loses_nothing() {
    let Some(mut cluster) = skip(Cluster::start(false)) else { return };
    let url = cluster.database().await;
    let store = open(&url).await.unwrap();
    store.add("q", (0..TASKS).map(|n| NewTask::new(format!("t{n:03}"), "")).collect()).await.unwrap();
    let (progress, mut seen) = watch::channel(0);
    let mut workers = JoinSet::new();
    for number in 0..4 {
        workers.spawn(work(store.clone(), format!("w{number}"), progress.clone()));
    }
    for at in [50, 150, 250] {
        timeout(SOON, seen.wait_for(|done| *done >= at)).await.expect("there is progress").unwrap();
        cluster.crash();
        let error = store.counts("q").await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        assert!(matches!(open(&url).await.unwrap_err(), Error::Unavailable { .. }));
        seen.mark_unchanged();
        timeout(SOON, seen.changed()).await.expect("somebody waits").unwrap();
        cluster.resume();
    }
    let waits: usize = timeout(SOON, workers.join_all()).await.expect("they finish").into_iter().sum();
    assert!(waits > 0, "the fault was not felt");
    assert_eq!(store.counts("q").await.unwrap().done, TASKS);
    let records = store.range(slipring_store::Range::prefix("t")).await.unwrap();
    assert_eq!(records.len() as u64, TASKS);
    assert_eq!(store.contradictions().await.unwrap(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_says_why() {
    let unavailable = || Error::Unavailable { doing: "a test", source: sqlx::Error::PoolTimedOut };
    let mut reports = 0;
    let start = tokio::time::Instant::now();
    let answer: Result<(), _> = with_patience(LONG, |_| reports += 1, || async { Err(unavailable()) }).await;
    assert!(answer.unwrap_err().is_temporary() && reports > 1000, "{reports}");
    assert_eq!(start.elapsed(), LONG);
    let mut tries = 0;
    let third = || {
        tries += 1;
        std::future::ready(if tries < 3 { Err(unavailable()) } else { Ok(tries) })
    };
    assert_eq!(with_patience(LONG, |_| (), third).await.unwrap(), 3);
    let full = || async { Err(Error::Full { doing: "a test", source: sqlx::Error::PoolTimedOut }) };
    let answer: Result<(), _> = with_patience(LONG, |_| panic!("no wait helps"), full).await;
    assert!(matches!(answer, Err(Error::Full { .. })));
}
