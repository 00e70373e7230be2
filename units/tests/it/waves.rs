//! Waves over live units: closed forms, dead subtrees, the original's contract.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::cluster::{Cluster, SEED};

const CALM: &str = r#"{"rebalance_interval":0,"task_time":60}"#;

fn ports(tree: &Value) -> Vec<u64> {
    let mut all = vec![tree["port"].as_u64().expect("a port")];
    all.extend(tree["children"].as_array().expect("children").iter().flat_map(ports));
    all
}

#[tokio::test]
async fn a_thousand_waves_of_all_kinds_overlap_and_never_mix() {
    // A machine that others use may stand still for longer than a second.
    let cluster =
        Cluster::start(&SEED, r#"{"rebalance_interval":0,"task_time":60,"wave_deadline":15}"#).await;
    let (waves, at_once) = (1_000, 40);
    let mut done = 0;
    while done < waves {
        let wave = async |number: usize| {
            let initiator = cluster.ports[number % 8];
            let (algorithm, initiator) = match number % 5 {
                0 => ("finn", format!("&initiator={initiator}")),
                1 => ("barrier", String::new()),
                _ => ("echo", format!("&initiator={initiator}")),
            };
            let path = format!("/wave?algorithm={algorithm}{initiator}");
            let (status, record) = cluster.call("POST", cluster.balancer, &path).await;
            assert_eq!(status, 200, "{record}");
            assert_eq!(record["is_complete"], json!(true), "{record}");
            let messages = record["messages"].as_u64().expect("a count");
            match algorithm {
                "echo" => assert_eq!((messages, &record["expected"]), (14, &json!(14)), "{record}"),
                "barrier" => assert_eq!((messages, &record["expected"]), (7, &json!(7)), "{record}"),
                _ => {
                    assert_eq!(record["bound"], json!(2 * 8 * 14), "{record}");
                    assert!((14..=224).contains(&messages), "{record}");
                    assert_eq!(record["decided"].as_array().map(Vec::len), Some(8), "{record}");
                }
            }
            record["id"].as_str().expect("a name").to_owned()
        };
        let started: Vec<_> = (done..done + at_once).map(wave).collect();
        let mut names = futures_util::future::join_all(started).await;
        names.sort();
        names.dedup();
        assert_eq!(names.len(), at_once, "each wave has a name of its own");
        done += at_once;
    }
    // Of which there were too many at a time nobody was asked what happened: that is said, by unit.
    let kept = cluster.get(cluster.balancer, "/waves").await.expect("the last waves");
    let nodes = |list: &Value, port: fn(&Value) -> &Value| -> BTreeSet<u64> {
        list.as_array().into_iter().flatten().filter_map(|one| port(one).as_u64()).collect()
    };
    let all: BTreeSet<u64> = cluster.ports.iter().copied().map(u64::from).collect();
    let mut counts = [0, 0];
    for record in kept.as_array().expect("a list") {
        let told = nodes(&record["events"], |event| &event["node"]);
        let untold = nodes(&record["untold"], |port| port);
        assert!(told.is_disjoint(&untold) && &told | &untold == all, "{record}");
        counts[usize::from(told.is_empty())] += 1;
    }
    assert!(counts[0] > 0 && counts[1] > 0, "some were asked for and some were not: {counts:?}");
    let metrics = cluster.get(cluster.balancer, "/metrics").await.expect("metrics");
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("slipring_waves_wrong_total 0"), "{metrics}");
    assert!(!metrics.contains("slipring_waves_rejected_total{"), "{metrics}");
}

#[tokio::test]
async fn the_contract_of_the_original_holds() {
    let cluster = Cluster::start(&SEED, CALM).await;
    let [root, first, ..] = cluster.ports[..] else { unreachable!() };
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!(tree["name"], json!("unit0"));
    assert_eq!((&tree["load"], &tree["cpu"], &tree["port"]), (&json!(0), &json!(4), &json!(root)));
    let names: Vec<_> =
        tree["children"].as_array().expect("children").iter().map(|child| child["name"].clone()).collect();
    assert_eq!(names, [json!("unit1"), json!("unit7")], "sorted by name");
    assert_eq!(ports(&tree).len(), 8);

    let below = cluster.get(first, "/echo").await.expect("a tree");
    assert_eq!(ports(&below).len(), 6, "a unit tells of those below it: {below}");
    assert!(below.get("missing").is_none(), "nobody is missing below: {below}");

    let specs = cluster.get(first, "/specs").await.expect("specs");
    assert_eq!((&specs["name"], &specs["cpu"], &specs["port"]), (&json!("unit1"), &json!(2), &json!(first)));
    let added = cluster.get(first, "/add_task").await.expect("room");
    assert_eq!(added["status"], json!("ok"));
    assert_eq!(cluster.get(first, "/specs").await.expect("specs")["load"], json!(1));
    let average = cluster.get(cluster.balancer, "/avg-disbalance").await.expect("an average");
    assert_eq!(average, json!({"load": 1.0 / 38.0}));

    let (status, moved) = cluster.call("POST", first, &format!("/rebalance?target={root}")).await;
    assert_eq!((status, &moved["status"], &moved["moved"]), (200, &json!("ok"), &json!(1)));
    let (status, moved) = cluster.call("POST", first, &format!("/rebalance?target={root}")).await;
    assert_eq!(
        (status, &moved["status"], &moved["moved"]),
        (200, &json!("ok"), &json!(0)),
        "it is no error that none is left"
    );
    let (status, refused) = cluster.call("POST", first, "/rebalance?target=1").await;
    assert_eq!((status, &refused["status"]), (409, &json!("error")));

    let spread = cluster.get(cluster.balancer, "/finn_ws").await.expect("all of them");
    assert_eq!(spread["status"], json!("ok"));
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!((&tree["load"], &tree["children"][0]["load"]), (&json!(2), &json!(1)), "one more each");

    let there = cluster
        .get(cluster.balancer, &format!("/echo_ws?receiver=ws://localhost:{first}/ws"))
        .await
        .expect("a wave");
    assert_eq!(there["status"], json!("ok"));
    assert_eq!(there["payload"]["port"], json!(first), "it began there");
    let (status, _) = cluster.call("GET", cluster.balancer, "/echo_ws?receiver=ws://192.0.2.1:8000/ws").await;
    assert_eq!(status, 400, "another machine is not connected to");
}

#[tokio::test]
async fn a_dead_subtree_is_named_in_time_its_orphans_hang_higher_up_and_return() {
    let mut cluster = Cluster::start(&SEED, CALM).await;
    let (middle, orphans, above) = (cluster.ports[3], [cluster.ports[4], cluster.ports[5]], cluster.ports[1]);
    cluster.stop(middle);
    cluster
        .wait("orphans hang on their grandparent", async || {
            let units = cluster.get(cluster.balancer, "/units").await?;
            let link = |port: u16| {
                units["units"]
                    .as_array()?
                    .iter()
                    .find(|unit| unit["port"] == json!(port))
                    .map(|unit| unit["link"].clone())
            };
            orphans.iter().all(|orphan| link(*orphan) == Some(json!(above))).then_some(())
        })
        .await;
    let started = std::time::Instant::now();
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert!(started.elapsed() < std::time::Duration::from_millis(1_500), "in time: {:?}", started.elapsed());
    assert_eq!(tree["is_complete"], json!(false));
    assert_eq!(tree["missing"], json!([middle]));
    assert_eq!(tree["missing_subtrees"], json!({ middle.to_string(): [middle] }));
    assert_eq!(ports(&tree).len(), 7, "the orphans are there: {tree}");
    cluster.restart(middle).await;
    cluster.linked().await;
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)));
}

/// Who stands still says nothing, not even that it goes: only the deadline ends the wave.
#[tokio::test]
async fn a_subtree_that_stands_still_is_named_in_time() {
    let cluster = Cluster::start(&SEED, CALM).await;
    let place =
        |range: std::ops::RangeInclusive<usize>| range.map(|place| cluster.ports[place]).collect::<Vec<_>>();
    for (victim, below) in [(1, place(1..=6)), (5, place(5..=6)), (7, place(7..=7))] {
        let victim = cluster.ports[victim];
        let frozen = cluster.freeze(victim).await;
        let (status, record) = cluster.call("POST", cluster.balancer, "/wave?algorithm=echo").await;
        drop(frozen);
        assert_eq!((status, &record["is_complete"]), (200, &json!(false)), "{record}");
        // The deadline is a second; what comes after a quarter of it more, the balancer does not wait for.
        assert!(record["took_us"].as_u64().is_some_and(|took| took < 2_000_000), "{record}");
        assert_eq!(record["missing"], sorted(&below), "{record}");
        assert_eq!(record["missing_subtrees"], json!({ victim.to_string(): sorted(&below) }), "{record}");
        let others = cluster.ports[1..].iter().filter(|port| !below.contains(port));
        let heard: Vec<_> = others.map(|port| record["fathers"].get(port.to_string()).is_some()).collect();
        assert_eq!(heard, vec![true; 8 - 1 - below.len()], "everybody else is there: {record}");
        cluster.linked().await;
        let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
        assert_eq!((&tree["is_complete"], &tree["messages"]), (&json!(true), &json!(14)));
    }
}

fn sorted(ports: &[u16]) -> Value {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    json!(ports)
}

#[tokio::test]
async fn who_was_to_begin_and_stands_still_is_a_gateway_that_times_out() {
    let cluster = Cluster::start(&SEED, CALM).await;
    for (place, path) in
        [(0, "/echo".to_owned()), (3, format!("/echo_ws?receiver=http://127.0.0.1:{}", cluster.ports[3]))]
    {
        let frozen = cluster.freeze(cluster.ports[place]).await;
        let (status, answer) = cluster.call("GET", cluster.balancer, &path).await;
        drop(frozen);
        assert_eq!((status, &answer["status"]), (504, &json!("error")), "{answer}");
        assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains("stands still")), "{answer}");
        cluster.linked().await;
    }
}

/// A listener that takes connections and never answers is nobody: whoever hung on it hangs higher up.
#[tokio::test]
async fn whoever_takes_connections_and_never_answers_is_missing() {
    let mut cluster = Cluster::start(&SEED, CALM).await;
    let (middle, orphans) = (cluster.ports[3], [cluster.ports[4], cluster.ports[5]]);
    cluster.stop(middle);
    let deaf = cluster.instead_of(middle).await;
    cluster
        .wait("all but one are reached", async || {
            let tree = cluster.get(cluster.balancer, "/echo").await?;
            (tree["missing"] == json!([middle]) && ports(&tree).len() == 7).then_some(())
        })
        .await;
    cluster
        .wait("the orphans are where they were looked for", async || {
            let units = cluster.get(cluster.balancer, "/units").await?;
            let hangs = |orphan: &u16| {
                units["units"].as_array().is_some_and(|units| {
                    units
                        .iter()
                        .any(|unit| unit["port"] == json!(orphan) && unit["link"] == json!(cluster.ports[1]))
                })
            };
            orphans.iter().all(hangs).then_some(())
        })
        .await;
    drop(deaf);
    cluster.restart(middle).await;
    cluster.linked().await;
}

#[tokio::test]
async fn the_balancer_ends_and_begins_again_and_the_units_go_on() {
    let mut cluster = Cluster::start(&SEED, CALM).await;
    let leaf = cluster.ports[6];
    cluster.get(leaf, "/add_task").await.expect("room");
    cluster.restart_balancer().await;
    let tree = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
    assert_eq!(tree["is_complete"], json!(true));
    assert_eq!(cluster.get(leaf, "/specs").await.expect("specs")["load"], json!(1));
}

/// Whoever reads the stream bounds its lines: longer than a MiB, and a page sees nothing of the units any more.
#[tokio::test]
async fn what_happened_in_a_long_wave_fits_into_one_line_and_says_how_much_does_not() {
    let shape: Vec<_> = (0..100_usize)
        .map(|place| match place {
            0 => (None, 1),
            1..=10 => (Some(0), 1),
            _ => (Some(1 + place % 10), 1),
        })
        .collect();
    let config = r#"{"rebalance_interval":0,"task_time":60,"wave_deadline":10}"#;
    let cluster = Cluster::start_alone(&shape, config).await;
    let told = cluster
        .wait("a wave of which something is left out", async || {
            let mut lines = cluster.watch().await;
            let (_, record) = cluster.call("POST", cluster.balancer, "/wave?algorithm=finn").await;
            let line = loop {
                let line = lines.next().await;
                if line.contains(record["id"].as_str()?) {
                    break line;
                }
            };
            assert!(line.len() < 600_000, "{} bytes", line.len());
            let told: Value = serde_json::from_str(&line).expect("JSON");
            // On a machine that stands still for long, links are given up, and not everybody is reached.
            (told["events_left_out"].as_u64()? > 1_000).then_some(told)
        })
        .await;
    assert_eq!(told["is_wrong"], json!(false));
    let mut of: BTreeMap<u64, u64> = BTreeMap::new();
    for event in told["events"].as_array().expect("events") {
        *of.entry(event["node"].as_u64().expect("a port")).or_default() += 1;
    }
    let decided = told["decided"].as_array().expect("ports");
    let heard =
        decided.iter().filter(|port| port.as_u64().is_some_and(|port| of.contains_key(&port))).count();
    assert!(heard * 2 > decided.len(), "{heard} of {} have a part", decided.len());
    if told["is_complete"] == json!(true) && of.len() == 100 {
        // Each message is sent and received, each unit decides, and one begins.
        let messages = told["messages"].as_u64().expect("a count");
        let all = of.values().sum::<u64>() + told["events_left_out"].as_u64().expect("a count");
        assert!(all > messages + 100 && all <= 2 * messages + 101, "{all} events of {messages} messages");
    }
}
