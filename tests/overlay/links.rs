//! Links between processes: cycles in the graph, and two hosts whose link is cut and healed.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use slipring_overlay::wire::{QueryRequest, QueryResponse};
use slipring_tests::overlay::{DAYS, Grpc, Overlay, Rows, filter, six};
use slipring_tests::{measured, skipped, wait_until};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// Rows of a file; there are three a day.
const ROWS: u64 = 20;
/// Whatever is waited for takes no longer.
const LONG: Duration = Duration::from_secs(60);
/// How soon a healed link is used again.
const SOON: Duration = Duration::from_secs(10);

async fn loops(overlay: &Overlay) {
    for id in overlay.ids() {
        let hops = vec!["Z".to_owned(), id.clone(), "Y".to_owned()];
        let answer = overlay.grpc(&id).query(QueryRequest { hops: hops.clone(), ..filter() }).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, "loop_detected", "{answer:?}");
        assert_eq!(answer.hops, [hops, vec![id]].concat());
    }
}

/// Everybody is everybody's neighbor: each way could go in circles for ever.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_graph_full_of_cycles_each_answer_is_complete_and_a_loop_is_told() {
    let data = TempDir::new().expect("a temporary folder can be made");
    let rows = Rows::write(data.path(), ROWS);
    let mut file = six();
    let all = ["A", "B", "C", "D", "E", "F"];
    for id in all {
        let others: Vec<_> = all.into_iter().filter(|other| *other != id).collect();
        file["processes"][id]["neighbors"] = others.into();
    }
    let mut overlay = Overlay::new(SLIPRING, file, data.path());
    overlay.start().await;
    loops(&overlay).await;
    let everything = rows.records(|_| true).join(",");
    let leader = overlay.grpc("A");
    let ask = async |hops: &[&str]| {
        let hops = hops.iter().map(|&hop| hop.to_owned()).collect();
        timeout(LONG, leader.query(QueryRequest { hops, ..filter() }))
            .await
            .expect("no hang")
            .expect("an answer")
    };
    let answer = ask(&[]).await;
    assert_eq!(answer.status, "ready", "{answer:?}");
    assert_eq!(leader.records(&answer).await, Ok(everything.clone()), "each row once");
    // Over B already: the other ways are left, and there are enough.
    let answer = ask(&["B"]).await;
    assert_eq!((answer.status.as_str(), answer.matched as usize), ("ready", rows.0.len()), "{answer:?}");
    // And if the shortest ones break, a longer one is found, but never a circle.
    for victim in ["B", "E"] {
        overlay.kill(victim).await;
    }
    let answer = leader.ask(&json!({ "lat_min": -90 })).await.expect("an answer");
    assert_eq!(answer.status, "ready", "{answer:?}");
    assert_eq!(leader.records(&answer).await, Ok(everything), "each row once");
}

/// Two hosts in namespaces of their own with one link between them: dropped, they are gone with everything in them.
struct Hosts {
    names: [String; 2],
}

const ADDRESSES: [&str; 2] = ["10.60.0.1", "10.60.0.2"];

impl Hosts {
    /// Makes them, if this user may.
    fn new() -> Result<Self, String> {
        let names = ["a", "b"].map(|side| format!("slipring-{}-{side}", std::process::id()));
        let hosts = Self { names };
        let [a, b] = &hosts.names;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["-n", a, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", b])?;
        for (name, address) in hosts.names.iter().zip(ADDRESSES) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "wire"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "wire", "up"])?;
        }
        Ok(hosts)
    }

    /// Cuts or heals the link at one end: the other end only notices that nothing comes any more.
    fn link(&self, side: usize, state: &str) {
        ip(&["-n", &self.names[side], "link", "set", "wire", state]).expect("it could be made");
    }

    /// Runs a test's future on a host: this process's thread of it, and all that is started from there.
    fn on<T: Send>(&self, side: usize, future: impl AsyncFnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.names[side])).expect("it was made");
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("we may");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(future())
        };
        let name = thread::current().name().unwrap_or("a test").to_owned();
        let thread = thread::Builder::new().name(name);
        thread::scope(|scope| thread.spawn_scoped(scope, inside).expect("a thread can be made").join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            drop(ip(&["netns", "delete", name])); // it may not have come to be
        }
    }
}

/// `ip`, which touches nothing but the kernel.
fn ip(arguments: &[&str]) -> Result<(), String> {
    let said =
        Command::new("ip").args(arguments).output().map_err(|error| format!("there is no ip: {error}"))?;
    match said.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr))),
    }
}

/// A question that was not asked before.
fn another(number: &mut u32) -> Value {
    *number += 1;
    json!({ "max_value": 1000 + *number })
}

/// Complete and right, or an error that names days of the far host and no others.
fn complete(answer: &QueryResponse, rows: &Rows) -> bool {
    let coverage = answer.coverage.as_ref().expect("it says how complete it is");
    if answer.status == "ready" {
        let known = rows.records(|row| row.value.is_some()).len();
        assert_eq!((answer.matched as usize, coverage.answered), (known, 9), "{answer:?}");
        return true;
    }
    assert!(answer.status.starts_with("incomplete:") && !coverage.missing.is_empty(), "{answer:?}");
    for missing in &coverage.missing {
        assert!(DAYS[3..].iter().any(|day| day.to_string() == missing.name), "{answer:?}");
    }
    false
}

async fn until(wanted: bool, within: Duration, leader: &Grpc, rows: &Rows, number: &mut u32) -> Duration {
    let began = Instant::now();
    let what = if wanted { "complete answers" } else { "answers that are not complete" };
    wait_until(what, within, async || {
        let answer = leader.ask(&another(number)).await.expect("the leader answers");
        if complete(&answer, rows) == wanted { Ok(()) } else { Err(answer.status) }
    })
    .await;
    began.elapsed()
}

#[test]
fn two_hosts_whose_link_is_cut_answer_completely_or_name_what_is_missing() {
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(why) => return skipped("netns", &why),
    };
    let data = TempDir::new().expect("a temporary folder can be made");
    let rows = Rows::write(data.path(), ROWS);
    let mut file = six();
    for (side, ids) in [["A", "B", "C"], ["D", "E", "F"]].into_iter().enumerate() {
        for id in ids {
            file["processes"][id]["host"] = ADDRESSES[side].into();
        }
    }
    let mut overlay = Overlay::new(SLIPRING, file, data.path());
    for id in ["D", "E", "F"] {
        overlay = overlay.under(id, &["ip", "netns", "exec", &hosts.names[1]]);
    }
    hosts.on(0, async || {
        overlay.start().await;
        loops(&overlay).await;
        let (leader, mut number) = (overlay.grpc("A"), 0);
        // Each end: the one that loses its route, and the one whose packets are lost.
        for side in [1, 0] {
            hosts.link(side, "down");
            let noticed = until(false, LONG, &leader, &rows, &mut number).await;
            let began = Instant::now();
            let answer = leader.ask(&another(&mut number)).await.expect("the leader answers");
            assert!(!complete(&answer, &rows), "the link is cut: {answer:?}");
            let again = began.elapsed();
            let own = leader.ask(&json!({ "team": "green", "max_value": 2000 + side })).await.expect("an answer");
            assert_eq!(own.status, "ready", "its own host's days are not concerned: {own:?}");
            // The other half is as well as before.
            let far = hosts.on(1, async || {
                overlay.grpc("E").ask(&json!({ "max_value": 2000 + side })).await.expect("an answer")
            });
            assert_eq!(far.status, "ready", "{far:?}");
            hosts.link(side, "up");
            let healed = until(true, SOON, &leader, &rows, &mut number).await;
            // And it stays so.
            for _ in 0..10 {
                let answer = leader.ask(&another(&mut number)).await.expect("the leader answers");
                assert!(complete(&answer, &rows), "{answer:?}");
            }
            measured(&format!(
                "cut at {}: an error that names it after {noticed:.1?}, the next one after {again:.1?}; complete again \
                 {healed:.1?} after it was healed",
                ["the leader's end", "the far end"][side]
            ));
        }
        drop(overlay);
    });
}
