//! The page of an analysis, on an appliance whose replicas are its workers.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use slipring_tests::{Process, Setup, wait_until};

use super::driver::{Browser, LONG};
use super::{SLIPRING, no_complaint};

/// Dropped, it is killed.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().expect("it was killed");
        }
    }
}

fn fact(name: &str) -> String {
    format!("Number(document.querySelector('[data-fact={name}] dd')?.textContent)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_seen_with_who_fails_who_takes_over_and_what_came_of_it() {
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 0);
    let place = setup.folder().to_owned();
    let slipring = || {
        let mut command = Command::new(SLIPRING);
        command.arg("analyse").current_dir(&place).stdin(Stdio::null());
        command
    };
    let made =
        slipring().args(["generate", "logs", "--files", "8", "--lines", "150000"]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let store = format!("sqlite:{}", place.join("store.db").display());
    let pool = format!(
        "[pool.analyse]\nanalyse.store = \"{store}\"\nanalyse.lease = \"3s\"\nfleet.replicas = 2\n\
         fleet.heartbeat_interval = \"200ms\"\n"
    );
    let balancer = setup.file(&pool).start().await;
    let Some(browser) = Browser::start(1400, 1000).await else { return };
    browser.prefers("dark", "no-preference").await;
    // From the page of the appliance by its link.
    browser.open(&format!("http://{}/", balancer.admin.address)).await;
    browser.click(".top nav a[href='/analyse']").await;
    let nothing = "document.getElementById('run')?.dataset.stage === 'waiting'";
    browser.until("no analysis yet", LONG, nothing).await;
    let live = "document.querySelectorAll('#replicas-table tr[data-state=live]').length === 2";
    browser.until("the replicas", LONG, live).await;

    let mut run = slipring();
    run.args([
        "logs",
        "--workers",
        "0",
        "--split",
        "8KiB",
        "--lease",
        "20s",
        "--store",
        &store,
        "-o",
        "result",
    ]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut run = Coordinator(run);
    let victim = balancer.replicas_of("analyse").await.remove(0);
    let reading = "document.querySelectorAll('#workers-table tr[data-state=reading]').length === 2 && \
                   document.querySelectorAll('#levels-plot .row').length === 4";
    browser.until("both read", LONG, reading).await;
    if let Ok(path) = std::env::var("ANALYSE_PICTURE") {
        std::fs::write(path, browser.picture().await).expect("a picture");
    }
    victim.process().kill();
    // While nobody adds up, no part is given to a second reader because it takes long: what is lost stays lost until its
    // lease runs out.
    let stands_still = Process::new(run.0.id());
    stands_still.pause_between_writes().await;
    let lost = format!(
        "document.getElementById('run').dataset.stage === 'running' && \
         [...document.querySelectorAll('#workers-table tr[data-state=reading]')]\
         .every((row) => !row.textContent.includes(':{}:'))",
        victim.pid.expect("it is a process")
    );
    browser.until("what it read is nobody's", LONG, &lost).await;
    stands_still.resume();
    browser.until("a failure", LONG, &format!("{} >= 1", fact("Failures"))).await;
    browser.until("a recovery", LONG, &format!("{} >= 1", fact("Recoveries"))).await;
    let restarted = "[...document.querySelectorAll('#replicas-table tr')].some((row) => row.cells[2].textContent === '1')";
    browser.until("its restart", LONG, restarted).await;
    browser.until("all live again", LONG, live).await;
    wait_until("the run is over", LONG, async || match run.0.try_wait().expect("it is ours") {
        Some(status) => {
            assert!(status.success(), "{status}");
            Ok(())
        }
        None => Err("it goes on".to_owned()),
    })
    .await;
    browser.until("the end", LONG, "document.getElementById('run').dataset.stage === 'finished'").await;
    let levels = "return Object.fromEntries([...document.querySelectorAll('#levels-plot .row')]\
                  .map((row) => [row.dataset.level, Number(row.lastChild.textContent.replaceAll(',', ''))]))";
    let mut expected = serde_json::Map::new();
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    for line in told.lines().skip(1) {
        let (level, count) = line.split_once(": ").expect("a level and a count");
        expected.insert(level.to_owned(), json!(count.parse::<u64>().expect("a count")));
    }
    assert_eq!(browser.js(levels).await, json!(expected));
    let happened =
        "return [...document.querySelectorAll('#events-list li')].map((line) => line.dataset.event)";
    let happened = browser.js(happened).await;
    for what in ["began", "failed", "recovered", "finished"] {
        assert!(happened.as_array().is_some_and(|all| all.contains(&json!(what))), "{what}: {happened}");
    }
    if let Ok(path) = std::env::var("ANALYSE_PICTURE") {
        std::fs::write(format!("{path}.end.png"), browser.picture().await).expect("a picture");
    }
    no_complaint(&browser.complaints().await);
}
