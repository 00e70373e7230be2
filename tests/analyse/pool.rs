//! Workers as replicas of an appliance: killed in the middle of a run they are started again, and the run ends exact.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use slipring_tests::{Balancer, Event, Events, Http, Process, Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(120);
const FILES: u64 = 8;
/// So many that none of the workers is through when another is killed.
const LINES: u64 = 150_000;

fn slipring(folder: &Path) -> Command {
    let mut command = Command::new(SLIPRING);
    command.arg("analyse").current_dir(folder).stdin(Stdio::null());
    command
}

/// A coordinator without workers of its own. Dropped, it is killed.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().expect("it was killed");
        }
    }
}

struct Site {
    setup: Setup,
    balancer: Balancer,
    /// What is in the logs.
    expected: String,
}

impl Site {
    async fn new() -> Self {
        let setup = Setup::new(SLIPRING).set("fleet.replicas", 0);
        let place = setup.folder().to_owned();
        let made = slipring(&place)
            .args(["generate", "logs", "--files", &FILES.to_string(), "--lines", &LINES.to_string()])
            .output();
        let made = made.expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let out = String::from_utf8_lossy(&made.stdout).into_owned();
        let expected = out.lines().skip(1).collect::<Vec<_>>().join("\n");
        let store = format!("sqlite:{}", place.join("store.db").display());
        let pool = format!(
            "[pool.analyse]\nanalyse.store = \"{store}\"\nanalyse.lease = \"3s\"\nfleet.replicas = 2\n\
             fleet.heartbeat_interval = \"200ms\"\n"
        );
        let setup = setup.file(&pool);
        let balancer = setup.start().await;
        Self { setup, balancer, expected }
    }

    fn place(&self) -> &Path {
        self.setup.folder()
    }

    /// What the coordinator said.
    fn said(&self) -> std::path::PathBuf {
        self.place().join("said")
    }

    fn coordinate(&self) -> Coordinator {
        let store = format!("sqlite:{}", self.place().join("store.db").display());
        let mut command = slipring(self.place());
        // Its own office is nothing that is tested here: a busy machine takes it from nobody.
        command.args(["logs", "--workers", "0", "--split", "8KiB", "--lease", "20s", "--ledger", "ledger"]);
        command.args(["--store", &store, "-o", "result", "-v"]).stdout(Stdio::null());
        let said = std::fs::File::create(self.said()).expect("the folder is ours");
        Coordinator(command.stderr(said).spawn().expect("it starts"))
    }

    async fn until_over(&self, coordinator: &mut Coordinator) {
        wait_until("the run is over", LONG, async || match coordinator.0.try_wait().expect("it is ours") {
            Some(status) => {
                let said = std::fs::read_to_string(self.said()).unwrap_or_default();
                let last = said.lines().rev().take(9).collect::<Vec<_>>().join("\n");
                assert!(status.success(), "{status}, and before that, the last first:\n{last}");
                Ok(())
            }
            None => Err("it goes on".to_owned()),
        })
        .await;
        let result = std::fs::read_to_string(self.place().join("result")).expect("it was written");
        assert!(result.contains(&self.expected), "{result}\nexpected {}", self.expected);
        assert!(result.contains(&format!("Files processed: {FILES}\n")), "{result}");
        let verified = slipring(self.place()).args(["verify", "ledger"]).output().expect("it runs");
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

/// What the page is told last of the analysis.
async fn until_told(stream: &Events, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let last = |told: &[Event]| {
        let told = told.iter().rev().find(|event| event.data["kind"] == "analyse")?;
        is_it(&told.data["data"]).then(|| told.data["data"].clone())
    };
    stream.until(what, LONG, last).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_pool_that_is_killed_is_back_and_the_run_ends_exact() {
    let site = Site::new().await;
    let stream = Events::follow_at(site.balancer.admin, "/stream").await;
    until_told(&stream, "nothing is analysed yet", |view| view["stage"] == "waiting").await;
    let mut coordinator = site.coordinate();
    let before = site.balancer.replicas_of("analyse").await;
    assert_eq!(before.len(), 2);
    let is_reading = |view: &Value| {
        let readers = view["workers"]
            .as_array()
            .map_or(0, |workers| workers.iter().filter(|worker| worker["reading"].is_string()).count());
        readers == 2 && view["bytes_done"].as_u64() > Some(0)
    };
    until_told(&stream, "both read", is_reading).await;
    before[1].process().kill();
    // While nobody adds up, the end does not come near, and no part is given to a second reader because it takes long:
    // what is lost stays lost until its lease runs out.
    let stands_still = Process::new(coordinator.0.id());
    stands_still.pause_between_writes().await;
    let life = format!(":{}:", before[1].pid.expect("it is a process"));
    let is_lost = |view: &Value| {
        let workers = view["workers"].as_array().into_iter().flatten();
        let mut lives =
            workers.filter(|worker| worker["name"].as_str().is_some_and(|name| name.contains(&life)));
        view["stage"] == "running" && lives.all(|worker| worker["reading"].is_null())
    };
    let view = until_told(&stream, "what it read is nobody's", is_lost).await;
    assert!(view["bytes_done"].as_u64() < view["bytes"].as_u64().map(|all| all / 4 * 3), "{view}");
    stands_still.resume();
    // Its heartbeat is missed, and its lease: another process has its name, another worker what it read.
    wait_until("it is back", LONG, async || {
        let now = site.balancer.replicas_of("analyse").await;
        let is_back = now[1].state == "live" && now[1].pid != before[1].pid;
        if is_back { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    // One more is as good as any.
    let added =
        site.balancer.admin.call(hyper::Method::POST, "/add?pool=analyse", r#"{"n":1,"hostnames":[]}"#).await;
    assert_eq!(added.status, 200, "{}", added.text());
    site.until_over(&mut coordinator).await;
    let last = until_told(&stream, "the end", |view| view["stage"] == "finished").await;
    assert_eq!((&last["files_done"], &last["bytes_done"]), (&FILES.into(), &last["bytes"]));
    assert_eq!(last["records"], FILES * LINES);
    assert!(last["failures"].as_u64() >= Some(1) && last["recoveries"].as_u64() >= Some(1), "{last}");
    let events = last["events"].as_array().expect("a list");
    for what in ["began", "failed", "recovered", "finished"] {
        assert!(events.iter().any(|event| event["what"] == what), "{what} is missing: {last}");
    }
    assert_eq!(site.balancer.replicas_of("analyse").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_shows_its_run_on_a_page_of_its_own() {
    let place = tempfile::TempDir::new().expect("a folder");
    let made = slipring(place.path()).args(["generate", "logs", "--lines", "100"]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = place.path().join("said");
    let err = std::fs::File::create(&said).expect("the folder is ours");
    let mut command = slipring(place.path());
    command.args(["logs", "--page", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(err);
    let run = Coordinator(command.spawn().expect("it starts"));
    let address = wait_until("it stays when the run is over", LONG, async || {
        let told = std::fs::read_to_string(&said).expect("it is there");
        let line = told.lines().find(|line| line.contains("the page stays at"));
        let address = line.and_then(|line| line.split("http://").nth(1)?.split('/').next()?.parse().ok());
        address.ok_or(told)
    })
    .await;
    let page = Http { address };
    for (path, kind) in [("/analyse", "text/html; charset=utf-8"), ("/page/analyse.js", "text/javascript")] {
        let answer = page.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(kind)), "{path}");
    }
    let stream = Events::follow_at(page, "/stream").await;
    let last = until_told(&stream, "the result", |view| view["stage"] == "finished").await;
    assert_eq!((&last["records"], &last["files_done"]), (&1000.into(), &10.into()));
    drop(run);
}
