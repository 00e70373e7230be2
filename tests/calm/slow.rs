//! The four attacks of slowhttptest, made by that very tool: others notice nothing, and what they hold is freed.

use std::process::Stdio;
use std::time::Duration;

use slipring_tests::replica;
use slipring_tests::{Load, Setup, measured, skipped, wait_until};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const CONNECTIONS: &str = "400";
/// Answers, half a second's worth, of which a p99 is one figure: so few that a pause of the machine is in few of them.
const WINDOW: usize = 100;
/// Below this a p99 is the machine's.
const NOISE: Duration = Duration::from_millis(10);

/// Times are measured here: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// No test by itself: what the replicas of the tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

/// `holds`: whether its connections last.
async fn attack(name: &str, path: &str, holds: bool, flags: &[&str]) {
    let _alone = ALONE.lock().await;
    if let Err(error) = Command::new("slowhttptest").arg("-h").output().await {
        return skipped("slowhttptest", &format!("slowhttptest cannot be run: {error}"));
    }
    // The defaults, but for times that a test cannot wait.
    let setup = replica::program(Setup::new(SLIPRING), "")
        .set("proxy.header_timeout", "2s")
        .set("proxy.idle_timeout", "3s")
        .set("proxy.body_grace", "2s");
    let balancer = setup.start().await;
    // Beside it one like it that nobody attacks: what the machine does to both at the same time is not the attack's.
    let calm = replica::program(Setup::new(SLIPRING), "").start().await;

    let url = format!("http://{}{path}", balancer.main.address);
    // Behind everybody else: what is measured is what it costs the balancer, not whose turn it is on the machine.
    let mut attacker = Command::new("nice")
        .args(["-n", "19", "slowhttptest", "-c", CONNECTIONS, "-r", "200", "-l", "8", "-u", &url])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("nice is everywhere");
    let load = Load::start(balancer.main, "/home", 200);
    let control = Load::start(calm.main, "/home", 200);
    let most = wait_until("the attack is felt", LONG, async || {
        let held = balancer.metric("slipring_connections", "").await;
        if !holds || held > 200.0 { Ok(held) } else { Err(format!("{held} connections")) }
    })
    .await;
    // While the attacker still holds its ends.
    wait_until("what it held is freed", LONG, async || {
        let held = balancer.metric("slipring_connections", "").await;
        if held < 50.0 { Ok(()) } else { Err(format!("{held} connections")) }
    })
    .await;
    let holds_on = attacker.try_wait().expect("it is ours").is_none();
    let report = timeout(LONG, attacker.wait_with_output()).await.expect("it ends by itself");
    let report = report.expect("it can be waited for");
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    // Freed by us: the attacker still held its ends (one that reads slowly has much to read yet), or had none left.
    assert!((holds && holds_on) || report.contains("No open connections left"), "{report}");
    let (attacked, control) = (load.stop().await, control.stop().await);
    attacked.assert_no_failure();
    control.assert_no_failure();
    let (attacked, usual) = (attacked.usual_p99(WINDOW), control.usual_p99(WINDOW));
    measured(&format!(
        "{name}: p99 of others {attacked:?}, beside it {usual:?}; {most} connections at once, all freed"
    ));
    assert!(attacked <= (usual * 2).max(NOISE), "others' p99 is {attacked:?}, beside it {usual:?}\n{report}");
    balancer.stop().await;
    calm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_cost_others_nothing() {
    attack("slow headers", "/home", true, &["-H", "-i", "1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_cost_others_nothing() {
    attack("slow bodies", "/upload", true, &["-B", "-i", "1", "-s", "8192"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reads_cost_others_nothing() {
    let flags = ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "1"];
    attack("slow read", "/download?bytes=500000", true, &flags).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_cost_others_nothing() {
    attack("ranges", "/home", false, &["-R", "-a", "1", "-b", "3000"]).await;
}
