use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const TIME: Duration = Duration::from_secs(10);

fn unit(port: u16) -> Tasks {
    Tasks::new(port, 2, 100, Journal::in_memory(u64::from(port)))
}

fn names(tasks: &Tasks) -> Vec<TaskId> {
    let ledger = tasks.ledger();
    let reserved =
        ledger.reserved.values().flat_map(|reserved| reserved.tasks.iter().map(|task| task.id.clone()));
    let mut all: Vec<_> =
        ledger.held.keys().cloned().chain(reserved).chain(ledger.recent.iter().cloned()).collect();
    all.sort();
    all
}

#[test]
fn as_many_run_as_there_are_cores_each_for_its_time() {
    let (mut tasks, start) = (unit(8000), Instant::now());
    for _ in 0..3 {
        tasks.add(None, TIME).expect("room");
    }
    assert_eq!(tasks.turn(start).expect("in memory"), Some(start + TIME));
    assert_eq!((tasks.counts().running, tasks.counts().queued), (2, 1));
    tasks.turn(start + TIME).expect("in memory");
    assert_eq!((tasks.counts().running, tasks.counts().queued, tasks.counts().finished), (1, 0, 2));
    assert_eq!(tasks.turn(start + 2 * TIME).expect("in memory"), None);
    assert_eq!(tasks.counts().finished, 3);
}

#[test]
fn a_task_that_runs_goes_on_elsewhere_with_the_time_it_had_left() {
    let (mut source, mut target, start) = (unit(8000), unit(8001), Instant::now());
    source.add(None, TIME).expect("room");
    source.turn(start).expect("in memory");
    let later = start + Duration::from_secs(4);
    let offer = source.reserve(8001, 1, later).expect("in memory").expect("one runs");
    assert_eq!(source.counts().running, 0);
    assert_eq!(target.take(8000, offer.clone()).expect("in memory"), Verdict::Accepted);
    source.settle(8001, offer.batch, Verdict::Accepted).expect("in memory");
    assert_eq!(target.turn(later).expect("in memory"), Some(later + Duration::from_secs(6)));
    assert_eq!(source.counts().load(), 0);
}

#[test]
fn a_repeated_offer_is_answered_as_the_first_time_also_after_its_tasks_are_gone() {
    let (mut source, mut target, start) = (unit(8000), unit(8001), Instant::now());
    source.add(None, TIME).expect("room");
    let offer = source.reserve(8001, 5, start).expect("in memory").expect("one waits");
    assert!(source.reserve(8001, 5, start).expect("in memory").is_none(), "an offer is open");
    assert_eq!(target.take(8000, offer.clone()).expect("in memory"), Verdict::Accepted);
    target.turn(start).expect("in memory");
    target.turn(start + TIME).expect("in memory");
    assert_eq!(target.take(8000, offer).expect("in memory"), Verdict::Accepted);
    assert_eq!((target.counts().load(), target.counts().finished), (0, 1));
}

#[test]
fn what_was_refused_is_not_taken_from_a_late_copy_of_the_offer() {
    let (mut source, start) = (unit(8000), Instant::now());
    let mut target = Tasks::new(8001, 1, 1, Journal::in_memory(1));
    target.add(None, TIME).expect("room for one");
    source.add(None, TIME).expect("room");
    let offer = source.reserve(8001, 1, start).expect("in memory").expect("one waits");
    assert_eq!(target.take(8000, offer.clone()).expect("in memory"), Verdict::Refused);
    source.settle(8001, offer.batch, Verdict::Refused).expect("in memory");
    target.turn(start).expect("in memory");
    target.turn(start + TIME).expect("in memory");
    assert_eq!(
        target.take(8000, offer.clone()).expect("in memory"),
        Verdict::Refused,
        "there would be room now"
    );
    let next = source.reserve(8001, 1, start).expect("in memory").expect("it is here again");
    assert_eq!(target.take(8000, next).expect("in memory"), Verdict::Accepted);
    assert!(target.take(8000, offer).is_err(), "an offer before the last");
}

#[test]
fn a_full_unit_says_so() {
    let mut tasks = Tasks::new(8000, 1, 2, Journal::in_memory(0));
    tasks.add(None, TIME).expect("room");
    tasks.add(Some("mine".into()), TIME).expect("room");
    assert!(matches!(tasks.add(None, TIME), Err(AddError::Full(2))));
}

#[test]
fn a_journal_that_is_read_again_says_the_same() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("8000.journal");
    let start = Instant::now();
    let mut tasks = Tasks::new(8000, 2, 100, Journal::open(&path, 7).expect("new"));
    for _ in 0..5 {
        tasks.add(None, TIME).expect("room");
    }
    tasks.turn(start).expect("a disk");
    tasks.turn(start + TIME).expect("a disk");
    tasks.reserve(8001, 1, start + TIME).expect("a disk").expect("one waits");
    tasks
        .take(8002, Offer { journal: 1, batch: 1, tasks: vec![Task { id: "x".into(), left_ms: 5 }] })
        .expect("a disk");
    let before = (names(&tasks), tasks.ledger().clone());
    assert!(matches!(Journal::open(&path, 8), Err(JournalError::InUse(_))), "two processes of one unit");
    drop(tasks);
    let again = Tasks::new(8000, 2, 100, Journal::open(&path, 9).expect("ours"));
    assert_eq!((names(&again), again.ledger().clone()), before);
    assert_eq!(again.counts().running, 0);
    assert_eq!(again.counts().queued, 3);
    assert_eq!(again.open_offers().count(), 1);
}

#[test]
fn half_a_line_was_never_written_and_a_spoilt_one_is_told_with_its_number() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("8000.journal");
    let mut tasks = Tasks::new(8000, 2, 100, Journal::open(&path, 7).expect("new"));
    tasks.add(None, TIME).expect("room");
    drop(tasks);
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, format!("{text}{{\"added\":{{\"id\":\"8")).expect("a file");
    assert_eq!(names(&Tasks::new(8000, 2, 100, Journal::open(&path, 7).expect("half a line"))).len(), 1);
    std::fs::write(&path, format!("{text}rubbish\n{text}")).expect("a file");
    let error = Journal::open(&path, 7).expect_err("rubbish").to_string();
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn a_long_journal_is_written_anew_and_one_that_cannot_be_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("8000.journal");
    let mut tasks = Tasks::new(8000, 2, 100, Journal::open(&path, 7).expect("new"));
    let mut now = Instant::now();
    let mut finish = |tasks: &mut Tasks, count: usize| {
        for _ in 0..count {
            tasks.add(None, Duration::from_millis(1)).expect("room");
            tasks.turn(now).expect("a disk");
            now += Duration::from_millis(1);
            tasks.turn(now).expect("a disk");
        }
    };
    std::fs::create_dir(folder.path().join("8000.new")).expect("ours");
    finish(&mut tasks, 10_001);
    let lines = || std::fs::read_to_string(&path).expect("a file").lines().count();
    assert!(lines() > 20_000, "there was no way to make it shorter");
    assert_eq!((tasks.counts().finished, tasks.counts().load()), (10_001, 0));
    std::fs::remove_dir(folder.path().join("8000.new")).expect("ours");
    finish(&mut tasks, 10_001);
    assert!(lines() < 20_000, "it was written anew");
    drop(tasks);
    let again = Tasks::new(8000, 2, 100, Journal::open(&path, 8).expect("ours"));
    assert_eq!((again.counts().finished, again.ledger().recent.len()), (20_002, 10_000));
}

#[test]
fn only_what_a_unit_would_offer_is_answered() {
    let task = |id: &str| Task { id: id.into(), left_ms: 5 };
    let offer = |journal, tasks: Vec<Task>| Offer { journal, batch: 1, tasks };
    let many = |count: usize| (0..count).map(|number| task(&number.to_string())).collect();
    for sane in [offer(u64::MAX, vec![task("a"), task("b")]), offer(0, many(LARGEST_OFFER))] {
        assert!(Tasks::is_sane(&sane));
    }
    for (why, other) in [
        ("nothing", offer(1, vec![])),
        ("too much", offer(1, many(LARGEST_OFFER + 1))),
        ("twice the same", offer(1, vec![task("a"), task("a")])),
        ("no name", offer(1, vec![task("")])),
        ("a long name", offer(1, vec![task(&"x".repeat(65))])),
        ("a task of years", offer(1, vec![Task { id: "a".into(), left_ms: u64::MAX }])),
    ] {
        assert!(!Tasks::is_sane(&other), "{why}");
    }
}

/// An offer in a unit's name, from a journal that somebody made up: it may be of now, or of any other time.
fn made_up(journal: u64) -> Offer {
    Offer { journal, batch: 7, tasks: vec![Task { id: format!("made-up-{journal}"), left_ms: 5 }] }
}

#[test]
fn what_a_stranger_offers_in_a_units_name_comes_neither_before_nor_after_its_own() {
    let (mut source, mut target, start) = (unit(8000), unit(8001), Instant::now());
    let mut moved = Vec::new();
    for journal in [u64::MAX, 0, 8001] {
        moved.push(source.add(None, TIME).expect("room"));
        assert_eq!(target.take(8000, made_up(journal)).expect("in memory"), Verdict::Accepted);
        let offer = source.reserve(8001, 1, start).expect("in memory").expect("one waits");
        for _ in 0..2 {
            assert_eq!(target.take(8000, offer.clone()).expect("the unit's own"), Verdict::Accepted);
            assert_eq!(target.take(8000, made_up(journal)).expect("a repetition"), Verdict::Accepted);
        }
        source.settle(8001, offer.batch, Verdict::Accepted).expect("in memory");
    }
    assert_eq!((source.counts().load(), target.counts().load()), (0, 6), "nothing lost, nothing twice");
    assert!(moved.iter().all(|id| target.ledger().has(id)));
}

#[test]
fn however_many_journals_somebody_makes_up_a_few_are_remembered_the_latest() {
    let (mut source, start) = (unit(8000), Instant::now());
    let mut target = Tasks::new(8001, 2, 10_000, Journal::in_memory(8001));
    let length = |tasks: &Tasks| serde_json::to_string(tasks.ledger()).expect("a ledger").len();
    for round in 0..100 {
        source.add(None, TIME).expect("room");
        let offer = source.reserve(8001, 1, start).expect("in memory").expect("one waits");
        assert_eq!(target.take(8000, offer.clone()).expect("in memory"), Verdict::Accepted);
        for journal in 0..6 {
            target.take(8000, made_up(10_000 + 6 * round + journal)).expect("in memory");
        }
        assert_eq!(target.take(8000, offer.clone()).expect("in memory"), Verdict::Accepted);
        source.settle(8001, offer.batch, Verdict::Accepted).expect("in memory");
    }
    assert_eq!(target.counts().load(), 700, "no repetition was taken for an offer of its own");
    target.turn(start).expect("in memory");
    let all: Vec<_> = target.ledger().held.keys().map(String::len).collect();
    let tasks = all.iter().sum::<usize>() + all.len() * 10;
    assert!(length(&target) < tasks + 1_000, "{} bytes, of them {tasks} for tasks", length(&target));
}

#[test]
fn what_was_refused_takes_no_room_on_the_disk() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("8000.journal");
    let mut tasks = Tasks::new(8000, 1, 1, Journal::open(&path, 7).expect("new"));
    let length = || std::fs::metadata(&path).expect("a file").len();
    let before = length();
    let all: Vec<_> =
        (0..LARGEST_OFFER).map(|number| Task { id: format!("{number:064}"), left_ms: 5 }).collect();
    for batch in 1..=10 {
        let offer = Offer { journal: 1, batch, tasks: all.clone() };
        assert_eq!(tasks.take(8001, offer).expect("a disk"), Verdict::Refused);
    }
    assert!(length() - before < 2_000, "{} bytes", length() - before);
    drop(tasks);
    let mut again = Tasks::new(8000, 1, 1, Journal::open(&path, 8).expect("ours"));
    let repeated = Offer { journal: 1, batch: 10, tasks: vec![Task { id: "x".into(), left_ms: 5 }] };
    assert_eq!(again.take(8001, repeated).expect("a disk"), Verdict::Refused, "as the first time");
}

#[test]
fn a_journal_of_few_long_lines_is_written_anew_as_well() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("8000.journal");
    let mut tasks = Tasks::new(8000, 1, 1_000_000, Journal::open(&path, 7).expect("new"));
    let length = || std::fs::metadata(&path).expect("a file").len();
    let mut longest = 0;
    for batch in 1..=100 {
        let name = |number: usize| format!("{batch:032}{number:032}");
        let all = (0..2_000).map(|number| Task { id: name(number), left_ms: 0 }).collect();
        let taken = tasks.take(8001, Offer { journal: 1, batch, tasks: all }).expect("a disk");
        assert_eq!(taken, Verdict::Accepted);
        // They come and go: the ledger is short, but for the names of those that were finished last.
        let offer = tasks.reserve(8002, 2_000, Instant::now()).expect("a disk").expect("they wait");
        tasks.settle(8002, offer.batch, Verdict::Accepted).expect("a disk");
        longest = longest.max(length());
    }
    assert_eq!(tasks.counts().load(), 0);
    assert!(longest < 9 << 20, "{longest} bytes, of a ledger that is empty");
}

#[derive(Clone, Debug)]
enum Act {
    Add(usize),
    Turn(u64),
    Offer {
        from: usize,
        to: usize,
        count: usize,
    },
    /// A copy of an open offer arrives; the answer may be lost.
    Deliver {
        from: usize,
        to: usize,
        is_answered: bool,
    },
    /// Any offer that was ever made arrives again.
    Late(usize),
    /// Somebody offers a task in a unit's name, from a journal that he made up.
    Stranger {
        from: usize,
        to: usize,
        journal: u64,
    },
    Kill(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let unit = 0..3_usize;
    prop_oneof![
        unit.clone().prop_map(Act::Add),
        (0..8_u64).prop_map(Act::Turn),
        (unit.clone(), unit.clone(), 1..4_usize).prop_map(|(from, to, count)| Act::Offer { from, to, count }),
        (unit.clone(), unit.clone(), any::<bool>()).prop_map(|(from, to, is_answered)| Act::Deliver {
            from,
            to,
            is_answered
        }),
        (0..20_usize).prop_map(Act::Late),
        (unit.clone(), unit.clone(), prop::sample::select(&[7, 1_000, u64::MAX][..]))
            .prop_map(|(from, to, journal)| Act::Stranger { from, to, journal }),
        unit.prop_map(Act::Kill),
    ]
}

proptest! {
    /// Whatever is killed, repeated, lost or late: each task that was ever added is at one place, or finished once.
    #[test]
    fn no_task_is_lost_and_none_is_twice(acts in prop::collection::vec(act(), 1..120)) {
        let folder = TempDir::new().expect("a folder");
        let path = |unit: usize| folder.path().join(format!("{unit}.journal"));
        let open = |unit: usize| {
            let journal = Journal::open(&path(unit), unit as u64).expect("ours");
            Tasks::new(unit as u16, 2, 6, journal)
        };
        let mut units: BTreeMap<usize, Tasks> = (0..3).map(|unit| (unit, open(unit))).collect();
        let (mut now, mut added, mut offers, mut strange) = (Instant::now(), Vec::new(), Vec::new(), 0);
        for act in acts {
            match act {
                Act::Add(unit) => added.extend(units.get_mut(&unit).expect("three").add(None, Duration::from_millis(5)).ok()),
                Act::Turn(by) => {
                    now += Duration::from_millis(by);
                    for unit in units.values_mut() {
                        unit.turn(now).expect("a disk");
                    }
                }
                Act::Offer { from, to, count } if from != to => {
                    let offer = units.get_mut(&from).expect("three").reserve(to as u16, count, now).expect("a disk");
                    offers.extend(offer.map(|offer| (from, to, offer)));
                }
                Act::Deliver { from, to, is_answered } if from != to => {
                    let open = units[&from].open_offers().find(|(target, _)| usize::from(*target) == to);
                    if let Some((_, offer)) = open {
                        let batch = offer.batch;
                        let verdict = units.get_mut(&to).expect("three").take(from as u16, offer).expect("the last one");
                        if is_answered {
                            units.get_mut(&from).expect("three").settle(to as u16, batch, verdict).expect("a disk");
                        }
                    }
                }
                Act::Late(which) => {
                    // An answer to it is late as well, and changes nothing unless it is the open offer's.
                    if let Some((from, to, offer)) = offers.get(which).cloned() {
                        let batch = offer.batch;
                        if let Ok(verdict) = units.get_mut(&to).expect("three").take(from as u16, offer) {
                            units.get_mut(&from).expect("three").settle(to as u16, batch, verdict).expect("a disk");
                        }
                    }
                }
                Act::Stranger { from, to, journal } => {
                    strange += 1;
                    let task = Task { id: format!("strange-{strange}"), left_ms: 5 };
                    let offer = Offer { journal, batch: strange, tasks: vec![task.clone()] };
                    let verdict = units.get_mut(&to).expect("three").take(from as u16, offer).expect("a later one");
                    added.extend((verdict == Verdict::Accepted).then_some(task.id));
                }
                Act::Kill(unit) => {
                    units.remove(&unit);
                    units.insert(unit, open(unit));
                }
                Act::Offer { .. } | Act::Deliver { .. } => {}
            }
        }
        // Everything is delivered in the end.
        for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
            let open = units[&from].open_offers().find(|(target, _)| usize::from(*target) == to);
            if let Some((_, offer)) = open {
                let batch = offer.batch;
                let verdict = units.get_mut(&to).expect("three").take(from as u16, offer).expect("the last one");
                units.get_mut(&from).expect("three").settle(to as u16, batch, verdict).expect("a disk");
            }
        }
        added.sort();
        let mut found: Vec<_> = units.values().flat_map(names).collect();
        found.sort();
        prop_assert_eq!(found, added);
    }
}
