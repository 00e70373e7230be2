//! Tasks go from unit to unit: none is lost, none is twice.

use serde_json::json;

use crate::cluster::{Cluster, SEED};

#[tokio::test]
async fn a_skewed_start_is_balanced_and_all_tasks_are_still_there() {
    for strategy in ["tree", "heap", "stealing"] {
        let config = format!(r#"{{"rebalance_interval":0,"task_time":600,"strategy":"{strategy}"}}"#);
        let cluster = Cluster::start(&SEED, &config).await;
        let skewed = cluster.ports[6];
        let (status, added) =
            cluster.call("POST", cluster.balancer, &format!("/tasks?unit={skewed}&n=76")).await;
        assert_eq!((status, &added["added"]), (200, &json!(76)));
        let before = cluster.tasks().await;
        let rounds = if strategy == "tree" { 1 } else { 5 };
        let mut sum = 0;
        for _ in 0..rounds {
            let (status, moved) = cluster.call("POST", cluster.balancer, "/rebalance").await;
            assert_eq!(status, 200, "{moved}");
            sum += moved["moved"].as_u64().expect("a count");
        }
        assert!(sum > 0, "{strategy}");
        if strategy == "tree" {
            // Over each link what is below it has too much: 60 from the leaf of 8 cores, and so on to the root and beyond.
            assert_eq!(sum, 60 + 56 + 12 + 36 + 12 + 20 + 12, "the lower bound");
            let units = cluster.get(cluster.balancer, "/echo").await.expect("a tree");
            let far: Vec<_> = loads(&units).into_iter().filter(|(load, cpu)| *load != 2 * cpu).collect();
            assert!(far.is_empty(), "two tasks a core: {far:?}");
        }
        assert_eq!(cluster.tasks().await, before, "{strategy}");
    }
}

fn loads(tree: &serde_json::Value) -> Vec<(u64, u64)> {
    let number = |name: &str| tree[name].as_u64().expect("a number");
    let mut all = vec![(number("load"), number("cpu"))];
    all.extend(tree["children"].as_array().expect("children").iter().flat_map(loads));
    all
}

#[tokio::test]
async fn tasks_for_a_unit_that_is_gone_wait_and_reach_it_when_it_is_back() {
    let mut cluster = Cluster::start(&SEED, r#"{"rebalance_interval":0,"task_time":600}"#).await;
    let (source, target) = (cluster.ports[1], cluster.ports[3]);
    cluster.call("POST", cluster.balancer, &format!("/tasks?unit={source}&n=3")).await;
    let before = cluster.tasks().await;
    cluster.stop(target);
    let (status, moved) = cluster.call("POST", source, &format!("/rebalance?target={target}&count=2")).await;
    assert_eq!((status, &moved["status"]), (409, &json!("error")), "{moved}");
    let specs = cluster.get(source, "/specs").await.expect("specs");
    assert_eq!((&specs["reserved"], &specs["load"]), (&json!(2), &json!(3)), "set aside, not lost: {specs}");
    cluster.stop(source);
    cluster.restart(source).await;
    cluster.restart(target).await;
    cluster
        .wait("the target has them", async || {
            let there = cluster.get(target, "/specs").await?;
            let here = cluster.get(source, "/specs").await?;
            (there["load"] == json!(2) && here["load"] == json!(1)).then_some(())
        })
        .await;
    assert_eq!(cluster.tasks().await, before);
}
