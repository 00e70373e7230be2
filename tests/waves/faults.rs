//! Units as processes of the appliance: killed and frozen while their load is balanced, no task is lost, none is there twice.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use slipring_tests::units::Units;
use slipring_tests::{Balancer, Process, require, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);
/// Seeds of a run as long as it is meant to be, of which the suite has the first; SEED=n runs that one alone.
const SEEDS: u64 = 3;
/// Faults of one seed. The first two meet an open offer for certain, at one end of it and at the other; of what kind they are
/// follows from the seed, so that [`SEEDS`] have all.
const FAULTS: usize = 6;
const KINDS: [Fault; 3] = [Fault::Kill, Fault::Freeze, Fault::Pause];

async fn start(units: &Units) -> Balancer {
    let appliance = units.setup(SLIPRING).start().await;
    linked(units).await;
    appliance
}

/// Until each unit hangs on its parent and the balancer knows all of them.
async fn linked(units: &Units) {
    wait_until("all units linked", LONG, async || {
        let now = get(units, units.balancer, "/units").await?;
        let all = now["units"].as_array().cloned().unwrap_or_default();
        let hangs = |unit: &Value| unit["is_live"] == json!(true) && unit["link"] == unit["parent"];
        if !all.is_empty() && all.iter().all(hangs) { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

/// Every task by name with how often it is anywhere, finished or not; none if a unit does not answer, or tasks are on
/// their way.
async fn settled(units: &Units) -> Result<BTreeMap<String, usize>, String> {
    let mut all = BTreeMap::new();
    for port in &units.ports {
        let tasks = get(units, *port, "/tasks").await?;
        if tasks["reserved"].as_object().is_none_or(|reserved| !reserved.is_empty()) {
            return Err(format!("{port} waits for an answer: {}", tasks["reserved"]));
        }
        for list in ["running", "queued", "recent"] {
            for name in tasks[list].as_array().ok_or_else(|| format!("{port} has no {list}"))? {
                *all.entry(name.as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
    Ok(all)
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    /// It stands still until it is replaced.
    Freeze,
    /// It stands still for so long that its links are given up, and goes on with what it was doing: nobody replaces it.
    Pause,
}

/// Which of the two between whom an offer is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Source,
    Target,
}

/// One open offer, from whom and to whom.
async fn offer(units: &Units) -> Result<(u16, u16), String> {
    for source in &units.ports {
        let tasks = get(units, *source, "/tasks").await?;
        let open = tasks["reserved"].as_object().and_then(|reserved| reserved.keys().next().cloned());
        if let Some(target) = open {
            return Ok((*source, target.parse().expect("a port")));
        }
    }
    Err("nobody has offered anything".to_owned())
}

async fn get(units: &Units, port: u16, path: &str) -> Result<Value, String> {
    let unit = units.at(port);
    let request = unit.request(Method::GET, path).body(Default::default()).expect("valid");
    Ok(unit.send(request).await?.json())
}

/// It stands still: the signal has done what it does.
async fn stopped(process: Process) {
    process.pause();
    wait_until("it stands still", LONG, async || match process.state() {
        Some('T') => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// It is not there any more.
async fn ended(process: Process) {
    process.kill();
    wait_until("it has ended", LONG, async || match process.state() {
        None => Ok(()),
        Some(other) => Err(other.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_or_frozen_while_load_is_balanced_no_task_is_lost_and_none_is_twice() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=if require("long") { SEEDS } else { 1 }).collect(),
    };
    let mut met = BTreeMap::new();
    for seed in &seeds {
        let kind = KINDS[usize::try_from(seed % 3).expect("one of three")];
        println!("SEED={seed}");
        let mut dice = StdRng::seed_from_u64(*seed);
        let config =
            json!({"task_time": 0.4, "rebalance_interval": 0.05, "wave_deadline": 0.3, "max_cpu": 1});
        let units = Units::new(&config);
        // Whoever stands still for three seconds is not replaced yet; also if it did before, until it held an offer open.
        let failures = if kind == Fault::Pause { 40 } else { 25 };
        let appliance = units.setup(SLIPRING).set("fleet.failures", failures).start().await;
        linked(&units).await;
        let mut added = 0;
        for number in 0..FAULTS {
            // A burst at one unit, so that there is something to move.
            let skewed = units.ports[dice.random_range(0..units.ports.len())];
            let burst = dice.random_range(20..80);
            // The first offers are held open by a target that stands still; others are met as they are made.
            let fixed = [End::Target, End::Source].get(number);
            let (source, target, held) = if fixed.is_some() {
                let target = *units.ports.iter().find(|port| **port != skewed).expect("eight of them");
                let held = units.replica(&appliance, target).await.process();
                stopped(held).await;
                added += add(&units, skewed, burst).await;
                // Its answer would come when the target has one, or in two seconds.
                let ordering = async {
                    loop {
                        let path = format!("/rebalance?target={target}&count=5");
                        units.at(skewed).call(Method::POST, &path, "").await;
                    }
                };
                let looking = wait_until("an offer is held open", LONG, async || {
                    let open = units.open_offers(skewed);
                    if open.contains(&target) { Ok(()) } else { Err(format!("{open:?}")) }
                });
                tokio::select! {
                    () = ordering => {}
                    () = looking => {}
                }
                (skewed, target, Some(held))
            } else {
                // An offer is open for a moment: when all that there were went by unseen, there is another burst.
                let mut looks = 0;
                let (source, target) = wait_until("an offer is open", LONG, async || {
                    if looks % 20 == 0 {
                        added += add(&units, skewed, burst).await;
                    }
                    looks += 1;
                    offer(&units).await
                })
                .await;
                (source, target, None)
            };
            let (fault, end) = match fixed {
                Some(end) => (kind, Some(*end)),
                None => {
                    let end =
                        [None, Some(End::Target), Some(End::Target), Some(End::Source), Some(End::Source)];
                    (KINDS[dice.random_range(0..KINDS.len())], end[dice.random_range(0..end.len())])
                }
            };
            let victim = match end {
                None => units.balancer,
                Some(End::Target) => target,
                Some(End::Source) => source,
            };
            let replica = units.replica(&appliance, victim).await;
            let process = replica.process();
            let is_written = || units.open_offers(source).contains(&target);
            // What a target that stands still was offered nobody can answer before it is replaced or goes on.
            let is_held = held.is_some() && is_written();
            match fault {
                Fault::Kill => ended(process).await,
                Fault::Freeze | Fault::Pause => stopped(process).await,
            }
            // What is written down of it now is what the fault has met.
            let is_open = is_held || is_written();
            if let Some(end) = end.filter(|_| is_open) {
                *met.entry((fault, end)).or_insert(0) += 1;
            }
            println!("{number}: {fault:?} of {victim}, {source} to {target}, which is open: {is_open}");
            if let Some(end) = fixed {
                assert!(is_open, "seed {seed}: {fault:?} has not met the {end:?} of an open offer");
            }
            if let Some(held) = held.filter(|held| *held != process) {
                held.resume();
            }
            match fault {
                Fault::Kill | Fault::Freeze => replaced(&units, &appliance, victim, replica.pid).await,
                Fault::Pause => {
                    let time = Duration::from_millis(dice.random_range(1_600..3_000));
                    tokio::time::sleep(time).await; // paced: a process that stands still for just so long
                    assert_eq!(process.state(), Some('T'), "seed {seed}: nobody has touched it");
                    process.resume();
                }
            }
            linked(&units).await;
            if fault == Fault::Pause {
                let now = units.replica(&appliance, victim).await;
                assert_eq!(now.pid, replica.pid, "seed {seed}: it goes on with what it was doing");
            }
        }
        wait_until("all is finished", LONG, async || {
            let finished = finished(&units).await;
            if finished == added { Ok(()) } else { Err(format!("{finished} of {added} finished")) }
        })
        .await;
        // Now nothing moves: a task that does while one unit is asked after the other may be seen nowhere.
        let last = wait_until("nothing is on its way", LONG, async || settled(&units).await).await;
        let doubled: Vec<_> = last.iter().filter(|(_, times)| **times != 1).collect();
        assert!(doubled.is_empty(), "seed {seed}: {doubled:?}");
        assert_eq!(last.len() as u64, added, "seed {seed}");
        assert_eq!(appliance.process.zombies_below(), 0, "seed {seed}");
        let metrics = units.at(units.balancer).get("/metrics").await;
        assert!(metrics.text().contains("slipring_waves_wrong_total 0"), "seed {seed}: {}", metrics.text());
        let all: Vec<_> =
            appliance.replicas_of("waves").await.iter().map(|replica| replica.process()).collect();
        appliance.stop().await;
        let left = all.iter().filter(|process| process.state().is_some()).count();
        assert_eq!(left, 0, "seed {seed}: processes that outlive the appliance, or are zombies");
    }
    // Two for each seed, of a kind of its own.
    println!("have met an open offer: {met:?}");
    let all = 2 * seeds.len().min(KINDS.len());
    assert!(met.len() >= all, "{} of {all} faults have met an open offer: {met:?}", met.len());
}

/// Until another process has the victim's place: the appliance has noticed.
async fn replaced(units: &Units, appliance: &Balancer, victim: u16, was: Option<u32>) {
    wait_until("the victim is replaced", LONG, async || {
        let now = units.replica(appliance, victim).await;
        if now.state == "live" && now.pid != was { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

async fn add(units: &Units, port: u16, count: u64) -> u64 {
    let balancer = units.at(units.balancer);
    let answer = balancer.call(Method::POST, &format!("/tasks?unit={port}&n={count}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["added"].as_u64().expect("a count")
}

async fn finished(units: &Units) -> u64 {
    let mut all = 0;
    for port in &units.ports {
        all += units.at(*port).get("/specs").await.json()["finished"].as_u64().expect("a count");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_of_the_waves_is_killed_and_the_units_go_on() {
    let units = Units::new(&json!({"task_time": 60, "rebalance_interval": 0}));
    let appliance = start(&units).await;
    add(&units, units.ports[6], 9).await;
    let before: Vec<_> =
        appliance.replicas_of("waves").await.iter().filter(|r| r.name != "balancer").map(|r| r.pid).collect();
    let replica = units.replica(&appliance, units.balancer).await;
    replica.process().kill();
    assert_eq!(units.at(units.ports[6]).get("/specs").await.json()["load"], json!(9));
    replaced(&units, &appliance, units.balancer, replica.pid).await;
    linked(&units).await;
    let tree = units.at(units.balancer).get("/echo").await.json();
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)), "{tree}");
    let after: Vec<_> =
        appliance.replicas_of("waves").await.iter().filter(|r| r.name != "balancer").map(|r| r.pid).collect();
    assert_eq!(before, after, "the units are the same processes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_appliance_leaves_nobody_behind_and_its_tasks_are_there_again() {
    let units = Units::new(&json!({"task_time": 60, "rebalance_interval": 0}));
    let mut appliance = start(&units).await;
    add(&units, units.ports[2], 5).await;
    let all: Vec<_> = appliance.replicas_of("waves").await.iter().map(|replica| replica.process()).collect();
    assert_eq!(all.len(), 9);
    appliance.kill().await;
    wait_until("all of them are gone", LONG, async || {
        let left = all.iter().filter(|process| process.is_running()).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} run")) }
    })
    .await;
    let _again = start(&units).await;
    assert_eq!(units.at(units.ports[2]).get("/specs").await.json()["load"], json!(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_starts_the_tree_and_says_whose_tasks_it_leaves_alone() {
    let units = Units::new(&json!({"task_time": 60, "rebalance_interval": 0}));
    std::fs::create_dir_all(units.state()).expect("the folder is ours");
    let stray = units.state().join("1.journal");
    std::fs::write(&stray, "").expect("the folder is ours");
    let appliance = units.up(SLIPRING).start().await;
    linked(&units).await;
    let tree = units.at(units.balancer).get("/echo").await.json();
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)), "{tree}");
    assert_eq!(appliance.replicas_of("waves").await.len(), 9);
    let named = stray.display().to_string();
    wait_until("the journal of no unit is named", LONG, async || {
        let log = appliance.log();
        if log.contains(&named) { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(appliance.log().matches(&named).count(), 1, "once, and not by each unit");
    let all: Vec<_> = appliance.replicas_of("waves").await.iter().map(|replica| replica.process()).collect();
    appliance.stop().await;
    let left = all.iter().filter(|process| process.state().is_some()).count();
    assert_eq!(left, 0, "all of them end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tree_is_refused_with_every_mistake_before_anything_starts() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path.display().to_string()
    };
    let many: Vec<_> = (0..10_000)
        .map(|n| format!(r#"{{"name":"n{n}","port":{},"cpu":1,"children":[]}}"#, 10_000 + n))
        .collect();
    let many = format!(r#"{{"name":"root","port":9000,"cpu":1,"children":[{}]}}"#, many.join(","));
    let twice =
        r#"{"name":"a","port":8000,"cpu":0,"children":[{"name":"b","port":8000,"cpu":2,"children":[]}]}"#;
    let cases: [(&str, &str, &[&str]); 6] = [
        ("twice.json", twice, &["8000", "cpu"]),
        ("none.json", "{}", &["no root"]),
        ("list.json", "[]", &["no root"]),
        ("many.json", &many, &["1000"]),
        ("cycle.txt", "a -- b\nb -- c\nc -- a\n", &["cycle"]),
        ("rubbish.json", "{\"name\":", &["JSON"]),
    ];
    let config = file("config.json", r#"{"max_cpu":0,"task_time":-1}"#);
    for (name, text, words) in cases {
        let topology = file(name, text);
        let output = slipring_tests::run(SLIPRING, &["waves", "up", &topology, &config], &[], "").await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        for word in words.iter().copied().chain(["max_cpu", "task_time"]) {
            assert!(told.contains(word), "{name}: {word} is not in: {told}");
        }
        let unit =
            slipring_tests::run(SLIPRING, &["waves", "unit", &topology, "--port", "8000"], &[], "").await;
        assert_eq!(unit.status.code(), Some(2), "{name}");
    }
}
