//! What one caller after the other sees.

use std::time::Duration;

use futures_util::FutureExt as _;
use slipring_store::{
    Campaign, Change, Counts, Effect, Error, Expect, LONGEST_KEY, LONGEST_VALUE, NewTask, Outcome, Range,
    Store, Verdict, Why,
};
use tokio::time::timeout;

use super::site::{GONE, LONG, SOON, Site, claim_one, claimed, commit, complete, refusals, tasks};

fn put(key: &str, value: &str, expect: Expect) -> Change {
    Change::Put { key: key.into(), value: value.into(), expect }
}

async fn verdicts(store: &dyn Store) -> Vec<(String, Verdict)> {
    let finished = store.finished("q", None, 100).await.unwrap();
    finished.into_iter().map(|finished| (finished.key, finished.verdict)).collect()
}

fn done(result: &str) -> Verdict {
    Verdict::Done(result.into())
}

pub(crate) async fn a_late_result_of_a_lost_lease_changes_nothing(site: &Site) {
    let (slow, fast) = (site.open().await, site.open().await);
    let late = claimed(&*slow, "slow", GONE).await;
    let taken = claim_one(&*fast, "fast", LONG).await.expect("the lease has run out");
    assert!(taken.claim.epoch > late.claim.epoch && taken.attempt == 2, "{taken:?}");
    assert_eq!(taken.payload, b"payload of t");
    let with_record = || vec![put("r", "late", Expect::Any), complete(&late, "late")];
    assert_eq!(refusals(&*slow, with_record()).await, [(1, Why::Fenced)]);
    assert_eq!(fast.get("r").await.unwrap(), None);
    assert_eq!(verdicts(&*fast).await, []);
    assert_eq!(slow.renew(std::slice::from_ref(&late.claim), LONG).await.unwrap(), [0]);
    commit(&*fast, vec![complete(&taken, "in time")]).await;
    assert_eq!(refusals(&*slow, with_record()).await, [(1, Why::Fenced)]);
    let fail = Change::Fail { claim: late.claim.clone(), reason: "late".into(), retry_after: None };
    assert_eq!(refusals(&*slow, vec![fail]).await, [(0, Why::Fenced)]);
    let release = Change::Release { claim: late.claim };
    assert_eq!(refusals(&*slow, vec![release]).await, [(0, Why::Fenced)]);
    assert_eq!(verdicts(&*slow).await, [("t".to_owned(), done("in time"))]);
    assert_eq!(claim_one(&*slow, "slow", LONG).await, None);
    let finished = &slow.finished("q", None, 1).await.unwrap()[0];
    assert_eq!((finished.worker.as_str(), finished.attempt), ("fast", 2));
    assert_eq!(finished.epoch, taken.claim.epoch);
}

pub(crate) async fn an_expired_lease_that_nobody_took_over_counts(site: &Site) {
    let store = site.open().await;
    let late = claimed(&*store, "slow", GONE).await;
    commit(&*store, vec![complete(&late, "late, and alone")]).await;
    assert_eq!(verdicts(&*store).await, [("t".to_owned(), done("late, and alone"))]);
}

pub(crate) async fn a_completion_that_is_repeated_was_done_already(site: &Site) {
    let store = site.open().await;
    let task = claimed(&*store, "w", LONG).await;
    let changes = || vec![complete(&task, "r"), put("r", "r", Expect::Absent)];
    let Outcome::Committed(effects) = store.transact(changes()).await.unwrap() else { panic!() };
    let [Effect::Done, Effect::Version(version)] = effects[..] else { panic!("{effects:?}") };
    let again = refusals(&*store, changes()).await;
    assert_eq!(again, [(0, Why::AlreadyDone), (1, Why::Conflict { found: Some(version) })]);
}

pub(crate) async fn a_failure_is_tried_again_until_the_attempts_are_over(site: &Site) {
    let store = site.open().await;
    let task = NewTask { attempts: 3, ..NewTask::new("t", "") };
    assert_eq!(store.add("q", vec![task]).await.unwrap(), 1);
    let fail = |task: &slipring_store::Claimed, retry_after| Change::Fail {
        claim: task.claim.clone(),
        reason: format!("attempt {}", task.attempt),
        retry_after,
    };
    let first = claim_one(&*store, "w", LONG).await.unwrap();
    assert_eq!((first.attempt, first.attempts), (1, 3));
    commit(&*store, vec![fail(&first, Some(GONE))]).await;
    let second = claim_one(&*store, "w", LONG).await.unwrap();
    commit(&*store, vec![fail(&second, Some(GONE))]).await;
    assert_eq!(refusals(&*store, vec![complete(&second, "")]).await, [(0, Why::Fenced)]);
    let third = claim_one(&*store, "w", LONG).await.unwrap();
    commit(&*store, vec![fail(&third, Some(GONE))]).await;
    assert_eq!(claim_one(&*store, "w", LONG).await, None);
    let failed = Verdict::Failed("attempt 3".into());
    assert_eq!(verdicts(&*store).await, [("t".to_owned(), failed.clone())]);
    assert_eq!(refusals(&*store, vec![fail(&third, None)]).await, [(0, Why::AlreadyDone)]);

    store.add("q", tasks(["u", "v"])).await.unwrap();
    let last = claim_one(&*store, "w", LONG).await.unwrap();
    commit(&*store, vec![fail(&last, None)]).await;
    let later = claim_one(&*store, "w", LONG).await.unwrap();
    commit(&*store, vec![fail(&later, Some(LONG))]).await;
    assert_eq!(claim_one(&*store, "w", LONG).await, None);
    let expected = Counts { pending: 1, failed: 2, ..Counts::default() };
    assert_eq!(store.counts("q").await.unwrap(), expected);
}

pub(crate) async fn a_lease_that_runs_out_on_the_last_attempt_fails_the_task(site: &Site) {
    let store = site.open().await;
    let task = |key: &str| NewTask { attempts: 2, weight: 1, ..NewTask::new(key, "") };
    store.add("q", vec![task("a"), task("b")]).await.unwrap();
    store.add("q", tasks(["c", "d"])).await.unwrap();
    for attempt in 1..=2 {
        let claimed = store.claim("q", "crashes", GONE, 2).await.unwrap();
        assert!(claimed.iter().all(|task| task.attempt == attempt), "{claimed:?}");
    }
    // Those who have no attempt left do not take the places of those who have.
    let keys: Vec<_> = store.claim("q", "w", LONG, 2).await.unwrap();
    let keys: Vec<_> = keys.into_iter().map(|task| task.claim.key).collect();
    assert_eq!(keys, ["c", "d"]);
    let reason = Verdict::Failed("the lease of attempt 2 of 2 ran out, held by crashes".into());
    assert_eq!(verdicts(&*store).await, [("a".to_owned(), reason.clone()), ("b".to_owned(), reason)]);
}

pub(crate) async fn a_release_gives_the_attempt_back(site: &Site) {
    let store = site.open().await;
    store.add("q", vec![NewTask { attempts: 1, ..NewTask::new("t", "") }]).await.unwrap();
    for _ in 0..3 {
        let task = claim_one(&*store, "w", LONG).await.unwrap();
        assert_eq!(task.attempt, 1);
        commit(&*store, vec![Change::Release { claim: task.claim }]).await;
    }
    assert_eq!(store.counts("q").await.unwrap(), Counts { pending: 1, ..Counts::default() });
}

pub(crate) async fn the_first_of_two_leases_wins(site: &Site) {
    let store = site.open().await;
    assert_eq!(store.speculate("q", "t", "b", LONG).await.unwrap(), None);
    let first = claimed(&*store, "a", GONE).await;
    assert_eq!(store.speculate("q", "t", "a", LONG).await.unwrap(), None);
    let second = store.speculate("q", "t", "b", LONG).await.unwrap().unwrap();
    assert!(second.claim.epoch > first.claim.epoch, "{second:?}");
    assert_eq!((second.attempt, &second.payload), (1, &first.payload));
    assert_eq!(store.speculate("q", "t", "c", LONG).await.unwrap(), None);
    let leases = store.running("q").await.unwrap();
    let holders: Vec<_> = leases.iter().map(|lease| (lease.epoch, lease.worker.as_str())).collect();
    assert_eq!(holders, [(first.claim.epoch, "a"), (second.claim.epoch, "b")]);
    // The first has run out; the second holds the task all the same.
    assert_eq!(claim_one(&*store, "c", LONG).await, None);
    commit(&*store, vec![complete(&first, "a's")]).await;
    assert_eq!(refusals(&*store, vec![complete(&second, "b's")]).await, [(0, Why::Fenced)]);
    assert_eq!(verdicts(&*store).await, [("t".to_owned(), done("a's"))]);
    assert_eq!(store.speculate("q", "t", "c", LONG).await.unwrap(), None);
}

pub(crate) async fn a_speculation_goes_on_when_the_first_fails(site: &Site) {
    let store = site.open().await;
    let first = claimed(&*store, "a", LONG).await;
    let second = store.speculate("q", "t", "b", LONG).await.unwrap().unwrap();
    let fail = Change::Fail { claim: first.claim.clone(), reason: "broken".into(), retry_after: None };
    commit(&*store, vec![fail]).await;
    assert_eq!(store.counts("q").await.unwrap(), Counts { running: 1, ..Counts::default() });
    assert_eq!(refusals(&*store, vec![complete(&first, "")]).await, [(0, Why::Fenced)]);
    // Takeover fences both.
    let third = store.speculate("q", "t", "c", GONE).await.unwrap().unwrap();
    assert_eq!(store.renew(&[second.claim.clone(), third.claim.clone()], GONE).await.unwrap(), [0; 0]);
    let over = claim_one(&*store, "d", LONG).await.expect("both have run out");
    let late = vec![complete(&second, "")];
    assert_eq!(refusals(&*store, late).await, [(0, Why::Fenced)]);
    assert_eq!(refusals(&*store, vec![complete(&third, "")]).await, [(0, Why::Fenced)]);
    commit(&*store, vec![complete(&over, "d's")]).await;
    assert_eq!(verdicts(&*store).await, [("t".to_owned(), done("d's"))]);
}

pub(crate) async fn adding_twice_adds_once(site: &Site) {
    let store = site.open().await;
    assert_eq!(store.add("q", tasks(["a", "b"])).await.unwrap(), 2);
    assert_eq!(store.add("q", tasks(["b", "c"])).await.unwrap(), 1);
    assert_eq!(store.add("other", tasks(["a"])).await.unwrap(), 1);
    let claimed = store.claim("q", "w", LONG, 10).await.unwrap();
    commit(&*store, claimed.iter().map(|task| complete(task, "")).collect()).await;
    let heavier = NewTask { weight: 9, ..NewTask::new("a", "another") };
    assert_eq!(store.add("q", vec![heavier]).await.unwrap(), 0);
    assert_eq!(store.counts("q").await.unwrap(), Counts { done: 3, ..Counts::default() });
    assert_eq!(store.add("q", vec![]).await.unwrap(), 0);
}

pub(crate) async fn the_heaviest_goes_first_and_delays_are_kept(site: &Site) {
    let store = site.open().await;
    let weights = [("a", 1), ("b", 3), ("B", 3), ("c", i64::MAX), ("d", i64::MIN), ("é", 3)];
    let tasks = weights.map(|(key, weight)| NewTask { weight, ..NewTask::new(key, "") });
    store.add("q", tasks.to_vec()).await.unwrap();
    let later = NewTask { weight: 5, delay: LONG, ..NewTask::new("later", "") };
    store.add("q", vec![later]).await.unwrap();
    let mut keys = Vec::new();
    for most in [2, 1, 9] {
        let claimed = store.claim("q", "w", LONG, most).await.unwrap();
        assert!(claimed.is_sorted_by_key(|task| task.claim.epoch), "{claimed:?}");
        keys.extend(claimed.into_iter().map(|task| task.claim.key));
    }
    assert_eq!(keys, ["c", "B", "b", "é", "a", "d"]);
}

pub(crate) async fn a_renewal_keeps_the_lease_and_says_what_is_lost(site: &Site) {
    let store = site.open().await;
    store.add("q", tasks(["a", "b", "c"])).await.unwrap();
    let held = store.claim("q", "w", GONE, 3).await.unwrap();
    let claims: Vec<_> = held.iter().map(|task| task.claim.clone()).collect();
    assert_eq!(store.renew(&claims[..1], LONG).await.unwrap(), [0; 0]);
    let taken = store.claim("q", "thief", LONG, 3).await.unwrap();
    assert_eq!(taken.len(), 2, "a is held: {taken:?}");
    assert_eq!(store.renew(&claims, LONG).await.unwrap(), [1, 2]);
    let mut wrong = claims[0].clone();
    wrong.key = "b".into();
    assert_eq!(store.renew(&[wrong], LONG).await.unwrap(), [0]);
    assert_eq!(store.renew(&[], LONG).await.unwrap(), [0; 0]);
    commit(&*store, vec![complete(&held[0], "")]).await;
    assert_eq!(store.renew(&claims[..1], LONG).await.unwrap(), [0]);
}

pub(crate) async fn a_transaction_is_whole_or_nothing(site: &Site) {
    let store = site.open().await;
    store.add("q", tasks(["a", "b"])).await.unwrap();
    let held = store.claim("q", "w", LONG, 2).await.unwrap();
    commit(&*store, vec![put("x", "1", Expect::Any)]).await;
    let version = store.get("x").await.unwrap().unwrap().version;
    let changes = |expect| {
        vec![
            complete(&held[0], "r"),
            put("x", "2", expect),
            Change::Delete { key: "none".into(), expect: Expect::Version(7) },
            Change::Holds { office: "o".into(), epoch: 1 },
            Change::Add { queue: "q".into(), tasks: tasks(["new"]) },
            Change::Forget { queue: "q".into(), key: "b".into() },
        ]
    };
    let missing = Why::Conflict { found: None };
    assert_eq!(
        refusals(&*store, changes(Expect::Absent)).await,
        [(1, Why::Conflict { found: Some(version) }), (2, missing), (3, Why::Deposed)]
    );
    assert_eq!(refusals(&*store, changes(Expect::Any)).await, [(2, missing), (3, Why::Deposed)]);
    assert_eq!(store.counts("q").await.unwrap(), Counts { running: 2, ..Counts::default() });
    assert_eq!(store.get("x").await.unwrap().unwrap().value, b"1");

    let Campaign::Held { epoch, .. } = store.campaign("o", "me", LONG).await.unwrap() else { panic!() };
    let mut good = changes(Expect::Version(version));
    good[2] = Change::Delete { key: "none".into(), expect: Expect::Any };
    good[3] = Change::Holds { office: "o".into(), epoch };
    let effects = store.transact(good).await.unwrap().committed().unwrap();
    let Effect::Version(newer) = effects[1] else { panic!("{effects:?}") };
    assert!(newer > version);
    let (none, one) = (Effect::Count(0), Effect::Count(1));
    assert_eq!(effects, [Effect::Done, Effect::Version(newer), none, Effect::Done, one, one]);
    let expected = Counts { pending: 1, done: 1, ..Counts::default() };
    assert_eq!(store.counts("q").await.unwrap(), expected);
    assert_eq!(store.transact(vec![]).await.unwrap(), Outcome::Committed(vec![]));
}

pub(crate) async fn records_have_versions_that_never_come_again(site: &Site) {
    let store = site.open().await;
    let mut last = 0;
    for value in ["a", "b", "c"] {
        let expect = if last == 0 { Expect::Absent } else { Expect::Version(last) };
        commit(&*store, vec![put("r", value, expect)]).await;
        let record = store.get("r").await.unwrap().unwrap();
        assert!(record.version > last && record.value == value.as_bytes(), "{record:?}");
        assert_eq!(refusals(&*store, vec![put("r", "x", expect)]).await.len(), 1);
        last = record.version;
    }
    let delete = |expect| vec![Change::Delete { key: "r".into(), expect }];
    assert_eq!(
        refusals(&*store, delete(Expect::Version(last - 1))).await,
        [(0, Why::Conflict { found: Some(last) })]
    );
    let gone = store.transact(delete(Expect::Version(last))).await.unwrap();
    assert_eq!(gone, Outcome::Committed(vec![Effect::Count(1)]));
    assert_eq!(store.get("r").await.unwrap(), None);
    commit(&*store, vec![put("r", "again", Expect::Absent)]).await;
    assert!(store.get("r").await.unwrap().unwrap().version > last);
}

pub(crate) async fn ranges_are_in_the_order_of_bytes_and_have_pages(site: &Site) {
    let store = site.open().await;
    let mut keys = ["a", "a/1", "a/1/x", "a/10", "a/2", "a/Z", "a/z", "a/é", "a/😀", "a0", "b/1", "B/1"];
    commit(&*store, keys.iter().map(|key| put(key, key, Expect::Absent)).collect()).await;
    keys.sort_unstable();
    let read = async |range: Range| -> Vec<String> {
        let records = store.range(range).await.unwrap();
        assert!(records.iter().all(|record| record.key.as_bytes() == record.value));
        records.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(read(Range::prefix("")).await, keys);
    let inside: Vec<_> = keys.iter().copied().filter(|key| key.starts_with("a/")).collect();
    assert_eq!(read(Range::prefix("a/")).await, inside);
    let backwards: Vec<_> = inside.iter().rev().copied().collect();
    assert_eq!(read(Range::prefix("a/").reverse()).await, backwards);
    assert_eq!(read(Range::new("a/10", "a/Z")).await, ["a/10", "a/2"]);
    assert_eq!(read(Range::new("b", "a")).await, [""; 0]);
    for (start, expected) in
        [(Range::prefix("a/").limit(3), &inside), (Range::prefix("a/").reverse().limit(3), &backwards)]
    {
        let (mut all, mut page) = (Vec::new(), start.clone());
        loop {
            let read = read(page).await;
            assert!(read.len() <= 3);
            let Some(last) = read.last().cloned() else { break };
            all.extend(read);
            page = start.clone().after(&last);
        }
        assert_eq!(&all, expected);
    }
}

pub(crate) async fn an_office_has_one_holder(site: &Site) {
    let (a, b) = (site.open().await, site.open().await);
    assert_eq!(a.tenure("o").await.unwrap(), None);
    let Campaign::Held { epoch, .. } = a.campaign("o", "a", LONG).await.unwrap() else { panic!() };
    let Campaign::Held { epoch: kept, .. } = a.campaign("o", "a", LONG).await.unwrap() else { panic!() };
    assert_eq!(kept, epoch, "who holds it keeps it under the same epoch");
    let Campaign::Taken(tenure) = b.campaign("o", "b", LONG).await.unwrap() else { panic!() };
    assert_eq!((tenure.who.as_str(), tenure.epoch), ("a", epoch));
    let holds = |epoch| Change::Holds { office: "o".into(), epoch };
    commit(&*a, vec![holds(epoch), put("r", "a's", Expect::Any)]).await;
    // It runs out, and counts until another takes over.
    a.campaign("o", "a", GONE).await.unwrap();
    commit(&*a, vec![holds(epoch)]).await;
    let Campaign::Held { epoch: newer, .. } = b.campaign("o", "b", LONG).await.unwrap() else { panic!() };
    assert!(newer > epoch);
    let late = vec![holds(epoch), put("r", "late", Expect::Any)];
    assert_eq!(refusals(&*a, late).await, [(0, Why::Deposed)]);
    assert_eq!(b.get("r").await.unwrap().unwrap().value, b"a's");
    assert!(!a.resign("o", epoch).await.unwrap());
    assert_eq!(a.tenure("o").await.unwrap().unwrap().who, "b");
    assert!(b.resign("o", newer).await.unwrap());
    assert_eq!(refusals(&*b, vec![holds(newer)]).await, [(0, Why::Deposed)]);
    let Campaign::Held { epoch: newest, .. } = a.campaign("o", "a", GONE).await.unwrap() else { panic!() };
    assert!(newest > newer);
    // Who let it run out has lost it, also against himself: another may have held it in between.
    let Campaign::Held { epoch: again, .. } = a.campaign("o", "a", LONG).await.unwrap() else { panic!() };
    assert!(again > newest);
}

pub(crate) async fn what_is_forgotten_does_not_come_back(site: &Site) {
    let store = site.open().await;
    let before = claimed(&*store, "w", LONG).await;
    let forget = || vec![Change::Forget { queue: "q".into(), key: "t".into() }];
    assert_eq!(store.transact(forget()).await.unwrap(), Outcome::Committed(vec![Effect::Count(1)]));
    assert_eq!(store.transact(forget()).await.unwrap(), Outcome::Committed(vec![Effect::Count(0)]));
    assert_eq!(refusals(&*store, vec![complete(&before, "")]).await, [(0, Why::Fenced)]);
    let after = claimed(&*store, "w", LONG).await;
    assert_eq!(after.attempt, 1);
    assert_eq!(refusals(&*store, vec![complete(&before, "")]).await, [(0, Why::Fenced)]);
    commit(&*store, vec![complete(&after, "")]).await;
    commit(&*store, forget()).await;
    assert_eq!(store.counts("q").await.unwrap(), Counts::default());
}

pub(crate) async fn a_queue_tells_how_far_it_is(site: &Site) {
    let store = site.open().await;
    store.add("q", tasks(["a", "b", "c", "d", "e", "f"])).await.unwrap();
    store.add("other", tasks(["a", "z"])).await.unwrap();
    let before = store.now().await.unwrap();
    let held = store.claim("q", "w", LONG, 4).await.unwrap();
    let fail = Change::Fail { claim: held[3].claim.clone(), reason: "no".into(), retry_after: None };
    commit(&*store, vec![complete(&held[2], "c"), complete(&held[0], "a"), fail]).await;
    let after = store.now().await.unwrap();
    let expected = Counts { pending: 2, running: 1, done: 2, failed: 1 };
    assert_eq!(store.counts("q").await.unwrap(), expected);
    let running = store.running("q").await.unwrap();
    let [lease] = &running[..] else { panic!("{running:?}") };
    assert_eq!((lease.key.as_str(), lease.worker.as_str()), ("b", "w"));
    assert!(lease.since >= before && lease.since <= after && lease.until == lease.since.plus(LONG));
    let keys = async |after, limit| -> Vec<String> {
        let finished = store.finished("q", after, limit).await.unwrap();
        finished.into_iter().map(|finished| finished.key).collect()
    };
    assert_eq!(keys(None, 2).await, ["a", "c"]);
    assert_eq!(keys(Some("c"), 2).await, ["d"]);
    assert_eq!(keys(Some("d"), 2).await, [""; 0]);
    let finished = &store.finished("q", None, 1).await.unwrap()[0];
    assert!(finished.at >= before && finished.at <= after, "{finished:?}");
}

pub(crate) async fn what_does_not_fit_is_refused_before_anything_happens(site: &Site) {
    let store = site.open().await;
    let long = "x".repeat(LONGEST_KEY + 1);
    let invalid = |answer: Result<Outcome, Error>| matches!(answer, Err(Error::Invalid(_)));
    let big = Change::Put { key: "k".into(), value: vec![0; LONGEST_VALUE + 1], expect: Expect::Any };
    for bad in [
        vec![put("fine", "", Expect::Any), put("a\0b", "", Expect::Any)],
        vec![put("fine", "", Expect::Any), put(&long, "", Expect::Any)],
        vec![put("fine", "", Expect::Any), put("fine", "", Expect::Any)],
        vec![put("fine", "", Expect::Any), big],
        vec![Change::Delete { key: "fine".into(), expect: Expect::Absent }],
        vec![Change::Add {
            queue: "q".into(),
            tasks: vec![NewTask { attempts: 0, ..NewTask::new("t", "") }],
        }],
    ] {
        assert!(invalid(store.transact(bad).await));
    }
    assert_eq!(store.get("fine").await.unwrap(), None);
    assert!(store.claim("q", "w", LONG, 0).await.is_err());
    assert!(store.claim("", "w", LONG, 1).await.is_err());
    assert!(store.claim("q", "w\n", LONG, 1).await.is_err());
    assert!(store.range(Range::prefix("a").limit(usize::MAX)).await.is_err());
    assert!(store.range(Range::prefix("\0")).await.is_err());
    assert!(store.get(&long).await.is_err());
    // The longest that fits does, and so does the longest time.
    let longest = "é".repeat(LONGEST_KEY / 2);
    let tasks = vec![NewTask::new(longest.clone(), "")];
    store.add(&"q".repeat(128), tasks).await.unwrap();
    let claimed = store.claim(&"q".repeat(128), "w", Duration::MAX, 1).await.unwrap();
    assert_eq!(claimed[0].claim.key, longest);
    let reason = "\0é".repeat(10_000);
    let fail = Change::Fail { claim: claimed[0].claim.clone(), reason, retry_after: None };
    commit(&*store, vec![fail]).await;
}

pub(crate) async fn payloads_are_any_bytes(site: &Site) {
    let store = site.open().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    store.add("q", vec![NewTask::new("t", bytes.clone()), NewTask::new("u", [])]).await.unwrap();
    let held = store.claim("q", "'; DROP TABLE slipring_task; --", LONG, 2).await.unwrap();
    assert!(held[0].payload == bytes && held[1].payload.is_empty());
    let result = Change::Complete { claim: held[0].claim.clone(), result: bytes.clone() };
    let record = Change::Put { key: "'\"$1?\\%_".into(), value: bytes.clone(), expect: Expect::Any };
    commit(&*store, vec![result, record, complete(&held[1], "")]).await;
    let finished = store.finished("q", None, 2).await.unwrap();
    assert_eq!(finished[0].verdict, Verdict::Done(bytes.clone()));
    assert_eq!(finished[1].verdict, Verdict::Done(vec![]));
    assert_eq!(store.get("'\"$1?\\%_").await.unwrap().unwrap().value, bytes);
}

pub(crate) async fn adding_and_failing_give_hints(site: &Site) {
    // Processes hear each other's hints on PostgreSQL only.
    let store = site.open().await;
    let other = if site.kind == super::Kind::Postgres { site.open().await } else { store.clone() };
    let mut hints = store.hints("q");
    let heard = async |hints: &mut slipring_store::Hints, what: &str| {
        timeout(SOON, hints.woken()).await.unwrap_or_else(|_| panic!("no hint of {what}"));
    };
    if site.kind == super::Kind::Postgres {
        // It listens from some moment on.
        let listens = async {
            loop {
                commit(&*other, vec![Change::Wake { queue: "q".into() }]).await;
                if timeout(Duration::from_millis(100), hints.woken()).await.is_ok() {
                    break;
                }
            }
        };
        timeout(SOON, listens).await.expect("it listens");
    }
    let held = claimed(&*other, "w", LONG).await;
    heard(&mut hints, "the task").await;
    commit(&*other, vec![Change::Release { claim: held.claim }]).await;
    heard(&mut hints, "the release").await;
    commit(&*other, vec![Change::Wake { queue: "q".into() }]).await;
    heard(&mut hints, "the word").await;
    if site.kind != super::Kind::Postgres {
        assert_eq!(hints.woken().now_or_never(), None, "there was no other");
    }
}
