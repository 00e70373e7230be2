//! An overlay on two machines, each with a balancer of its own: the second is a network namespace.

use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use slipring_tests::overlay_pool::Overlay;
use slipring_tests::{Answer, Balancer, Setup, skipped, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(60);

/// A machine beside this one, at the other end of a cable. Unplugged and gone when it is dropped.
struct Machine {
    name: String,
    /// The addresses of this end and of the other.
    ends: [String; 2],
}

impl Machine {
    /// `None` where this user may make none.
    fn new() -> Option<Self> {
        let number = std::process::id() % 60_000;
        let (name, cable) = (format!("slipring-{number}"), [format!("sa{number}"), format!("sb{number}")]);
        // Of the networks for measurements: nobody's (RFC 2544).
        let ends = [1, 2].map(|end| format!("198.18.{}.{}", number / 250, number % 250 / 4 * 4 + end));
        let made = ip(&["netns", "add", &name]);
        let machine = Self { name, ends };
        let [a, b] = &cable;
        let [here, there] = machine.ends.each_ref().map(|address| format!("{address}/30"));
        let name = &*machine.name;
        let plugged = made
            && ip(&["link", "add", a, "type", "veth", "peer", "name", b, "netns", name])
            && ip(&["address", "add", &here, "dev", a])
            && ip(&["link", "set", a, "up"])
            && ip(&["-n", name, "address", "add", &there, "dev", b])
            && ip(&["-n", name, "link", "set", "lo", "up"])
            && ip(&["-n", name, "link", "set", b, "up"]);
        plugged.then_some(machine)
    }

    fn plug(&self, state: &str) {
        let number = self.name.rsplit('-').next().expect("it ends with a number");
        assert!(ip(&["-n", &self.name, "link", "set", &format!("sb{number}"), state]));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn setup(overlay: &Overlay, address: &str) -> Setup {
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 0).set("fleet.heartbeat_interval", "200ms");
    let setup = setup.set("listen", format!("{address}:0")).set("fleet.backoff_max", "500ms");
    setup.set("fleet.start_timeout", "60s").file(&overlay.pool("overlay"))
}

async fn ask(balancer: &Balancer, limit: usize) -> Answer {
    let question = json!({ "parameter": "PM2.5", "min_value": 5, "limit": limit }).to_string();
    balancer.main.call(Method::POST, "/overlay/query", question).await
}

async fn states(balancer: &Balancer, wanted: &[(&str, bool)]) {
    wait_until("they are live, or not", LONG, async || {
        let all = balancer.replicas_of("overlay").await;
        let is = |name: &str| all.iter().any(|replica| replica.name == name && replica.state == "live");
        if wanted.iter().all(|&(name, live)| is(name) == live) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
}

/// Through the leader, which is here.
async fn both_answer(here: &Balancer, there: &Balancer, matched: usize) {
    wait_until("both answer", LONG, async || {
        for balancer in [here, there] {
            let answer = ask(balancer, 1000).await;
            if answer.status != 200 {
                return Err(format!("{} {}", answer.status, answer.text()));
            }
            assert_eq!((answer.replica(), &answer.json()["matched"]), ("A", &json!(matched)));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_starts_its_own_and_a_cut_cable_is_told_and_healed() {
    let Some(machine) = Machine::new() else {
        return skipped("netns", "this user may not make a network namespace (ip netns)");
    };
    let overlay = Overlay::with(|file| {
        for (id, process) in file["processes"].as_object_mut().expect("an object") {
            process["host"] = machine.ends[usize::from("DEF".contains(&**id))].clone().into();
        }
    });
    let matched = overlay.matched("PM2.5", 5);
    let here = setup(&overlay, "127.0.0.1").launch().await;
    let there =
        setup(&overlay, &machine.ends[1]).under(&["ip", "netns", "exec", &machine.name]).launch().await;
    states(&here, &["A", "B", "C", "D", "E", "F"].map(|name| (name, true))).await;
    let own: Vec<_> = here.replicas_of("overlay").await.iter().map(|replica| replica.pid.is_some()).collect();
    assert_eq!(own, [true, true, true, false, false, false], "each starts what is its own");
    both_answer(&here, &there, matched).await;

    machine.plug("down");
    states(&here, &[("A", true), ("C", true), ("D", false), ("E", false), ("F", false)]).await;
    let cut = ask(&here, 1001).await;
    let told = cut.json();
    assert_eq!(cut.status, 503, "{told}");
    assert!(!told["coverage"]["missing"].as_array().expect("a list").is_empty(), "{told}");

    machine.plug("up");
    states(&here, &["A", "B", "C", "D", "E", "F"].map(|name| (name, true))).await;
    both_answer(&here, &there, matched).await;
    there.stop().await;
    here.stop().await;
}
