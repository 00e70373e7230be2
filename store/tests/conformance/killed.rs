//! Calls that are dropped in the middle, and processes that are killed.

use std::future::poll_fn;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;

use slipring_store::{Answer, Change, Claimed, Clock, Expect, Outcome, Refusal, Sqlite, Store, Why};
use tokio::time::timeout;

use super::site::{GONE, Kind, LONG, SOON, Site, complete, tasks};

/// Polls so often, and then drops it.
async fn polled<T>(mut call: Answer<'_, T>, times: usize) -> Option<T> {
    let mut polls = 0;
    let answer = poll_fn(|context| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        call.as_mut().poll(context).map(Some)
    });
    answer.await.map(|answer| answer.expect("the database is there"))
}

/// Completes everything that is in a queue. Rows may be locked until the database has noticed that nobody is there.
async fn finish(store: &dyn Store, queue: &str) {
    let work = async {
        loop {
            let counts = store.counts(queue).await.unwrap();
            if counts.pending + counts.running == 0 {
                return counts.done;
            }
            for task in store.claim(queue, "finisher", GONE, 10).await.unwrap() {
                store.transact(vec![complete(&task, "")]).await.unwrap();
            }
        }
    };
    assert_eq!(timeout(SOON, work).await.expect("everything can be finished"), 3);
}

fn calls<'a>(store: &'a dyn Store, queue: &'a str, held: &'a Claimed) -> Vec<(&'static str, Answer<'a, ()>)> {
    fn quiet<'a, T: 'a>(call: Answer<'a, T>) -> Answer<'a, ()> {
        Box::pin(async { call.await.map(drop) })
    }
    let fail = Change::Fail { claim: held.claim.clone(), reason: "no".into(), retry_after: Some(GONE) };
    let release = Change::Release { claim: held.claim.clone() };
    vec![
        ("claim", quiet(store.claim(queue, "w2", GONE, 2))),
        ("speculate", quiet(store.speculate(queue, "a", "w2", GONE))),
        ("renew", quiet(store.renew(std::slice::from_ref(&held.claim), GONE))),
        ("fail", quiet(store.transact(vec![fail]))),
        ("release", quiet(store.transact(vec![release]))),
        ("campaign", quiet(store.campaign("o", queue, GONE))),
    ]
}

pub(crate) async fn a_call_that_is_dropped_at_any_await_happens_whole_or_not_at_all(site: &Site) {
    let store = site.open().await;
    for kind in 0..6 {
        let (mut times, mut ended) = (0, false);
        while !ended {
            let queue = format!("q{kind}-{times}");
            store.add(&queue, tasks(["a", "b", "c"])).await.unwrap();
            let held = store.claim(&queue, "w", GONE, 1).await.unwrap().remove(0);
            let (name, call) = calls(&*store, &queue, &held).remove(kind);
            ended = polled(call, times).await.is_some();
            assert_eq!(store.contradictions().await.unwrap(), [""; 0], "{name} after {times} polls");
            finish(&*store, &queue).await;
            times += 1;
        }
    }
    let (mut times, mut ended) = (0, false);
    while !ended {
        let queue = format!("q-{times}");
        store.add(&queue, tasks(["a", "b", "c"])).await.unwrap();
        let held = store.claim(&queue, "w", LONG, 1).await.unwrap().remove(0);
        let changes = || {
            let put = Change::Put { key: queue.clone(), value: b"r".into(), expect: Expect::Absent };
            let add = Change::Add { queue: format!("next of {queue}"), tasks: tasks(["x"]) };
            vec![put, complete(&held, "r"), add]
        };
        ended = polled(store.transact(changes()), times).await.is_some();
        // What a caller does who had no answer.
        match store.transact(changes()).await.unwrap() {
            Outcome::Committed(_) => assert!(!ended),
            Outcome::Refused(refusals) => {
                let version = store.get(&queue).await.unwrap().map(|record| record.version);
                let there = Refusal { change: 0, why: Why::Conflict { found: version } };
                assert!(version.is_some(), "the task is done without its record");
                assert_eq!(refusals, [there, Refusal { change: 1, why: Why::AlreadyDone }]);
            }
        }
        assert_eq!(store.counts(&format!("next of {queue}")).await.unwrap().pending, 1);
        assert_eq!(store.contradictions().await.unwrap(), [""; 0], "after {times} polls");
        finish(&*store, &queue).await;
        times += 1;
    }
    // How often a call is polled depends on how often the database has answered before it is waited for.
    let least = if site.kind == Kind::Memory { 1 } else { 2 };
    assert!(times > least, "{times} polls: it was never dropped in the middle");
}

/// The writer of SQLite is a task of its own, which a dropped call does not reach: so everything is dropped.
#[test]
fn sqlite_whose_runtime_ends_in_the_middle_of_a_transaction_has_it_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..30_usize {
        runtime().block_on(async {
            let store = Arc::new(Sqlite::open(&path, Clock::system()).await.unwrap());
            let worker = store.clone();
            tokio::spawn(async move {
                for step in 0.. {
                    let queue = format!("q{round}-{step}");
                    worker.add(&queue, tasks(["a", "b", "c"])).await.unwrap();
                    for task in worker.claim(&queue, "w", GONE, 3).await.unwrap() {
                        worker.transact(vec![complete(&task, "")]).await.unwrap();
                    }
                }
            });
            for _ in 0..round * round * 10 {
                tokio::task::yield_now().await;
            }
        });
        runtime().block_on(async {
            let store = Sqlite::open(&path, Clock::system()).await.unwrap();
            assert_eq!(store.contradictions().await.unwrap(), [""; 0], "round {round}");
        });
    }
}

const VICTIM: &str = "SLIPRING_STORE_VICTIM";

/// Not a test of its own: what the next one kills.
#[tokio::test]
async fn victim() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let store = slipring_store::open(&url).await.unwrap();
    for number in 0..u64::MAX {
        let key = format!("{}-{number}", std::process::id());
        store.add("q", tasks([key.as_str()])).await.unwrap();
        for task in store.claim("q", "victim", GONE, 2).await.unwrap() {
            let key = task.claim.key.clone();
            let put = Change::Put { key: key.clone(), value: b"r".into(), expect: Expect::Absent };
            if let Outcome::Committed(_) = store.transact(vec![put, complete(&task, "r")]).await.unwrap() {
                println!("acknowledged {key}");
            }
        }
    }
}

async fn processes_that_are_killed_lose_nothing_that_was_acknowledged(kind: Kind) {
    let Some(site) = Site::of(kind).await else { return };
    let store = site.open().await;
    let mut acknowledged = Vec::new();
    for round in 1..=5 {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "killed::victim", "--nocapture"]).env(VICTIM, &site.url);
        let mut victim = victim.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The runner's own words stand before the first.
        let mut keys = lines.by_ref().filter_map(|line| Some(line.split_once("acknowledged ")?.1.to_owned()));
        acknowledged.extend(keys.by_ref().take(round * 7));
        victim.kill().unwrap();
        victim.wait().unwrap();
        acknowledged.extend(keys);
        assert_eq!(store.contradictions().await.unwrap(), [""; 0]);
    }
    assert!(acknowledged.len() >= 7 * 15, "{acknowledged:?}");
    let finished = store.finished("q", None, 10_000).await.unwrap();
    for key in &acknowledged {
        assert!(finished.binary_search_by(|task| task.key.cmp(key)).is_ok(), "{key} is lost");
        assert!(store.get(key).await.unwrap().is_some(), "{key} is lost");
    }
    let records = store.range(slipring_store::Range::prefix("")).await.unwrap();
    assert_eq!(records.len(), finished.len(), "a result without its record, or a record without its result");
}

#[tokio::test]
async fn processes_with_sqlite_that_are_killed_lose_nothing_that_was_acknowledged() {
    processes_that_are_killed_lose_nothing_that_was_acknowledged(Kind::Sqlite).await;
}

#[tokio::test]
async fn processes_with_postgresql_that_are_killed_lose_nothing_that_was_acknowledged() {
    processes_that_are_killed_lose_nothing_that_was_acknowledged(Kind::Postgres).await;
}
