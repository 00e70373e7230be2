//! What many callers at a time see.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use slipring_store::{Campaign, Change, Claimed, Expect, NewTask, Outcome, Store};
use tokio::task::JoinSet;

use super::site::{GONE, LONG, Site, commit, complete};

const CLAIMERS: usize = 8;

async fn stores(site: &Site) -> Vec<Arc<dyn Store>> {
    // Two processes; a connection each for eight would only be slower.
    let two = [site.open().await, site.open().await];
    two.into_iter().cycle().take(CLAIMERS).collect()
}

fn many(number: usize) -> Vec<NewTask> {
    (0..number).map(|n| NewTask::new(format!("t{n:04}"), "")).collect()
}

pub(crate) async fn two_claimers_never_hold_one_task(site: &Site) {
    const TASKS: usize = 300;
    let stores = stores(site).await;
    stores[0].add("q", many(TASKS)).await.unwrap();
    let mut claimers = JoinSet::new();
    for (number, store) in stores.iter().cloned().enumerate() {
        claimers.spawn(async move {
            let worker = format!("w{number}");
            let mut mine = Vec::new();
            loop {
                let claimed = store.claim("q", &worker, LONG, 1 + number).await.unwrap();
                if claimed.is_empty() && store.counts("q").await.unwrap().pending == 0 {
                    return mine;
                }
                let done = claimed.iter().map(|task| complete(task, &worker)).collect();
                commit(&*store, done).await;
                mine.extend(claimed.into_iter().map(|task| task.claim));
            }
        });
    }
    let claims: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    let mut keys: Vec<_> = claims.iter().map(|claim| claim.key.as_str()).collect();
    let mut epochs: Vec<_> = claims.iter().map(|claim| claim.epoch).collect();
    keys.sort_unstable();
    keys.dedup();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!((claims.len(), keys.len(), epochs.len()), (TASKS, TASKS, TASKS));
    assert_eq!(stores[0].counts("q").await.unwrap().done, TASKS as u64);
}

/// Every lease is over at once, so that everybody takes everything from everybody, and speculates besides.
pub(crate) async fn tasks_that_are_stolen_all_the_time_end_once(site: &Site) {
    const TASKS: usize = 20;
    let stores = stores(site).await;
    stores[0].add("q", many(TASKS)).await.unwrap();
    let wins = Arc::new(Mutex::new(HashMap::<String, Vec<u64>>::new()));
    let fenced = Arc::new(Mutex::new(0));
    let mut workers = JoinSet::new();
    for (number, store) in stores.iter().cloned().enumerate() {
        let (wins, fenced) = (wins.clone(), fenced.clone());
        workers.spawn(async move {
            let worker = format!("w{number}");
            loop {
                let mut claimed = store.claim("q", &worker, GONE, 3).await.unwrap();
                if claimed.is_empty() && store.counts("q").await.unwrap().done == TASKS as u64 {
                    return;
                }
                if let Some(lease) = store.running("q").await.unwrap().first() {
                    claimed.extend(store.speculate("q", &lease.key, &worker, GONE).await.unwrap());
                }
                for Claimed { claim, .. } in claimed {
                    let once = Change::Put { key: claim.key.clone(), value: vec![], expect: Expect::Absent };
                    let result = claim.epoch.to_string().into_bytes();
                    let done = Change::Complete { claim: claim.clone(), result };
                    match store.transact(vec![once, done]).await.unwrap() {
                        Outcome::Committed(_) => {
                            wins.lock().unwrap().entry(claim.key).or_default().push(claim.epoch);
                        }
                        Outcome::Refused(_) => *fenced.lock().unwrap() += 1,
                    }
                }
            }
        });
    }
    workers.join_all().await;
    let wins = wins.lock().unwrap().clone();
    for finished in stores[0].finished("q", None, 100).await.unwrap() {
        assert_eq!(wins[&finished.key], [finished.epoch]);
    }
    assert_eq!(wins.len(), TASKS);
    if site.kind != super::Kind::Memory {
        assert!(*fenced.lock().unwrap() > 0, "nobody was in anybody's way");
    }
}

pub(crate) async fn of_those_who_make_one_record_one_wins(site: &Site) {
    let stores = stores(site).await;
    for round in 0..20 {
        let mut makers = JoinSet::new();
        for (number, store) in stores.iter().cloned().enumerate() {
            makers.spawn(async move {
                let value = number.to_string().into_bytes();
                let put = |key: String| Change::Put { key, value: value.clone(), expect: Expect::Absent };
                // In another order for each.
                let mut changes = vec![put(format!("a{round}")), put(format!("b{round}"))];
                changes.rotate_left(number % 2);
                matches!(store.transact(changes).await.unwrap(), Outcome::Committed(_)).then_some(value)
            });
        }
        let winners: Vec<_> = makers.join_all().await.into_iter().flatten().collect();
        let [winner] = &winners[..] else { panic!("{winners:?}") };
        for key in [format!("a{round}"), format!("b{round}")] {
            assert_eq!(&stores[0].get(&key).await.unwrap().unwrap().value, winner);
        }
    }
}

pub(crate) async fn counting_with_versions_loses_no_count(site: &Site) {
    const EACH: usize = 10;
    let stores = stores(site).await;
    let mut counters = JoinSet::new();
    for store in stores.clone() {
        counters.spawn(async move {
            let mut counted = 0;
            while counted < EACH {
                let (number, expect) = match store.get("n").await.unwrap() {
                    None => (0, Expect::Absent),
                    Some(record) => (record.value.len(), Expect::Version(record.version)),
                };
                let put = Change::Put { key: "n".into(), value: vec![1; number + 1], expect };
                if let Outcome::Committed(_) = store.transact(vec![put]).await.unwrap() {
                    counted += 1;
                }
            }
        });
    }
    counters.join_all().await;
    assert_eq!(stores[0].get("n").await.unwrap().unwrap().value.len(), EACH * CLAIMERS);
}

pub(crate) async fn transactions_in_any_order_do_not_stop_each_other(site: &Site) {
    let stores = stores(site).await;
    stores[0].add("q", many(10)).await.unwrap();
    let held = stores[0].claim("q", "w", LONG, 10).await.unwrap();
    let claims: Vec<_> = held.into_iter().map(|task| task.claim).collect();
    let mut writers = JoinSet::new();
    for (number, store) in stores.iter().cloned().enumerate() {
        let claims = claims.clone();
        writers.spawn(async move {
            for round in 0..10 {
                let mut changes: Vec<_> = (0..10)
                    .map(|n| Change::Put { key: format!("r{n}"), value: vec![], expect: Expect::Any })
                    .collect();
                let new = |n: usize| NewTask::new(format!("{round}-{}", (n + number) % 10), "");
                changes.push(Change::Add { queue: "new".into(), tasks: (0..10).map(new).collect() });
                changes.rotate_left((number + round) % 11);
                commit(&*store, changes).await;
                let mut claims = claims.clone();
                claims.rotate_left((number * 3 + round) % 10);
                assert_eq!(store.renew(&claims, LONG).await.unwrap(), [0; 0]);
            }
        });
    }
    writers.join_all().await;
    assert_eq!(stores[0].counts("new").await.unwrap().pending, 100);
}

pub(crate) async fn there_is_one_leader_at_a_time(site: &Site) {
    let stores = stores(site).await;
    let mut candidates = JoinSet::new();
    for (number, store) in stores.iter().cloned().enumerate() {
        candidates.spawn(async move { store.campaign("o", &format!("c{number}"), LONG).await.unwrap() });
    }
    let results = candidates.join_all().await;
    let held = results.iter().filter(|result| matches!(result, Campaign::Held { .. })).count();
    assert_eq!(held, 1, "{results:?}");
}
