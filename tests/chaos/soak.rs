//! Full load for a long time: memory and open files stay what they were. `make soak` runs it; CI does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slipring_plots::load::client::Client;
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Setup, measured};
use tokio::task::JoinSet;
use tokio::time::interval;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const CLIENTS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(20);
/// Looks at memory and files.
const LOOKS: u32 = 60;

fn mean(values: &[u64]) -> f64 {
    values.iter().sum::<u64>() as f64 / values.len().max(1) as f64
}

#[ignore = "takes ten minutes: make soak"]
#[tokio::test(flavor = "multi_thread")]
async fn memory_and_open_files_stay_flat_under_full_load() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        upstreams.push(Upstream::serve(|_| async { hyper::Response::new(whole([b'x'; 60].to_vec())) }).await);
    }
    let balancer = Setup::new(SLIPRING).upstreams(&upstreams).start().await;
    let client = Client::new(&format!("http://{}", balancer.main.address), None, PATIENCE);
    let client = Arc::new(client.expect("an address is a target"));
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, over, answered) = (client.clone(), over.clone(), answered.clone());
        clients.spawn(async move {
            let mut key = number;
            while !over.load(Ordering::Relaxed) {
                key = (key * 31 + 7) % 1_000_000;
                let answer = client.get(&format!("/home/{key}")).await.expect("an answer");
                assert_eq!(answer.status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (mut looks, began) = (interval(Duration::from_secs(seconds) / LOOKS), Instant::now()); // paced: samples
    looks.tick().await;
    let (mut memory, mut files) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        looks.tick().await;
        memory.push(balancer.process.memory() / 1024);
        files.push(balancer.process.open_files() as u64);
        eprintln!(
            "{:>4.0} s: {} requests, {} KiB, {} open files",
            began.elapsed().as_secs_f64(),
            answered.load(Ordering::Relaxed),
            memory.last().copied().unwrap_or_default(),
            files.last().copied().unwrap_or_default()
        );
    }
    over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("every request was answered 200");
    }
    let third = memory.len() / 3;
    let (middle, last) = (mean(&memory[third..2 * third]), mean(&memory[2 * third..]));
    let (files_middle, files_last) = (mean(&files[third..2 * third]), mean(&files[2 * third..]));
    measured(&format!(
        "{} requests in {seconds} s; memory {middle:.0} KiB, then {last:.0} KiB; open files {files_middle:.0}, then {files_last:.0}",
        answered.load(Ordering::Relaxed)
    ));
    assert!(last <= middle * 1.02 + 256.0, "memory grows: {memory:?}");
    assert!(files_last <= files_middle + 4.0, "open files grow: {files:?}");
    balancer.stop().await;
}
