//! Coordinators and workers as processes on one store: killed and frozen while they count, the totals are exact and the
//! ledger adds up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use slipring_store::testing::Cluster;
use slipring_store::{Range, Store};
use slipring_tests::{Process, require, skipped, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(120);
/// SQLite's lock stays with whoever is frozen in the middle of a write, and nobody goes on before that one does.
const STUCK: Duration = Duration::from_secs(6);
/// Seeds of one run, and of one as long as it is meant to be; SEED=n runs that one alone, SEEDS=n that many.
const SEEDS: (u64, u64) = (3, 12);
/// Faults of one seed.
const FAULTS: usize = 5;
const WORKERS: usize = 3;
const LINES: u64 = 4000;
const FILES: u64 = 8;

/// A process of the analysis, whose words go to files. Dropped, it is killed.
struct Member {
    child: Child,
    process: Process,
    said: PathBuf,
    is_coordinator: bool,
    is_frozen: bool,
    is_over: bool,
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("it was killed");
        }
    }
}

impl Member {
    fn told(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    fn end(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was killed");
        self.is_over = true;
    }
}

/// An analysis of a folder in a store.
struct Site {
    place: tempfile::TempDir,
    store: String,
    lease: &'static str,
    members: Vec<Member>,
    expected: String,
}

impl Site {
    fn new(seed: u64, store: Option<String>) -> Self {
        let place = tempfile::TempDir::new().expect("a folder");
        let at = |name: &str| place.path().join(name).display().to_string();
        let logs = at("logs");
        let arguments = ["analyse", "generate", &logs, "--seed", &seed.to_string()];
        let (files, lines) = (FILES.to_string(), LINES.to_string());
        let made =
            Command::new(SLIPRING).args(arguments).args(["--files", &files, "--lines", &lines]).output();
        let made = made.expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let expected: Vec<String> =
            String::from_utf8_lossy(&made.stdout).lines().skip(1).map(str::to_owned).collect();
        let store = store.unwrap_or_else(|| format!("sqlite:{}", at("store.db")));
        let expected = expected.join("\n");
        Self { place, store, lease: "600ms", members: Vec::new(), expected }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn start(&mut self, is_coordinator: bool) {
        let said = self.path(&format!("said-{}", self.members.len()));
        let out = File::create(&said).expect("the folder is ours");
        let mut command = Command::new(SLIPRING);
        command.arg("analyse").current_dir(self.place.path());
        if is_coordinator {
            command.args(["logs", "--workers", "0", "--standby", "--split", "8KiB", "--ledger", "ledger"]);
        } else {
            command.args(["worker", "--workers", "1"]);
        }
        command.args(["--store", &self.store, "--lease", self.lease, "-v"]).stdin(Stdio::null());
        let child = command.stdout(out.try_clone().expect("a file")).stderr(out).spawn().expect("it starts");
        let process = Process::new(child.id());
        let (is_frozen, is_over) = (false, false);
        self.members.push(Member { child, process, said, is_coordinator, is_frozen, is_over });
    }

    /// How many parts workers have taken on.
    fn progress(&self) -> usize {
        let workers = self.members.iter().filter(|member| !member.is_coordinator);
        workers.map(|worker| worker.told().matches("] Processing").count()).sum()
    }

    /// The results of coordinators that ended well; a worker or a coordinator that ended otherwise is an error.
    fn results(&mut self) -> Vec<String> {
        let mut results = Vec::new();
        for member in &mut self.members {
            if !member.is_over
                && let Some(status) = member.child.try_wait().expect("it is ours")
            {
                member.is_over = true;
                let told = std::fs::read_to_string(&member.said).unwrap_or_default();
                let deposed = member.is_coordinator && told.contains("another coordinator has taken over");
                assert!(status.success() || deposed, "{status}: {told}");
            }
            let told = member.told();
            if member.is_over && told.contains("Files processed: ") {
                results.push(told);
            }
        }
        results
    }

    async fn until_progress(&mut self, more: usize) {
        let goal = self.progress() + more;
        let begin = Instant::now();
        wait_until("workers go on", LONG, async || {
            let now = self.progress();
            if begin.elapsed() > STUCK {
                self.thaw();
            }
            if now >= goal || !self.results().is_empty() { Ok(()) } else { Err(self.last_words(now)) }
        })
        .await;
    }

    fn last_words(&self, now: usize) -> String {
        let words = self.members.iter().map(|member| {
            let told = member.told();
            let last: Vec<&str> = told.lines().rev().take(3).collect();
            format!(
                "{} {:?} {last:?}",
                if member.is_coordinator { "coordinator" } else { "worker" },
                member.process.state()
            )
        });
        format!("{now} parts; {}", words.collect::<Vec<_>>().join("\n"))
    }

    /// One fault; what was killed has a successor at once.
    fn fault(&mut self, dice: &mut StdRng) {
        let alive: Vec<usize> = (0..self.members.len()).filter(|at| !self.members[*at].is_over).collect();
        let victim = alive[dice.random_range(0..alive.len())];
        let member = &mut self.members[victim];
        if member.is_frozen {
            member.process.resume();
            member.is_frozen = false;
        } else if dice.random_bool(0.5) {
            member.process.pause();
            member.is_frozen = true;
            // Somebody else has to be there.
            let is_coordinator = member.is_coordinator;
            let others = self
                .members
                .iter()
                .any(|other| !other.is_over && !other.is_frozen && other.is_coordinator == is_coordinator);
            if !others {
                self.start(is_coordinator);
            }
        } else {
            member.end();
            let is_coordinator = member.is_coordinator;
            self.start(is_coordinator);
        }
    }

    fn thaw(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.is_frozen && !member.is_over) {
            member.process.resume();
            member.is_frozen = false;
        }
    }

    /// Wakes all, and waits for the result.
    async fn finish(&mut self) -> String {
        self.thaw();
        wait_until("a coordinator has the result", LONG, async || {
            let mut results = self.results();
            results.pop().ok_or_else(|| self.last_words(self.progress()))
        })
        .await
    }

    fn check(&mut self, what: &str) {
        let results = self.results();
        assert!(!results.is_empty(), "{what}");
        for result in results {
            assert!(result.contains(&self.expected), "{what}: {result}\nexpected {}", self.expected);
            assert!(result.contains(&format!("Files processed: {FILES}\n")), "{what}: {result}");
        }
        verify(&self.path("ledger"), what);
    }
}

fn verify(ledger: &Path, what: &str) {
    let verified = Command::new(SLIPRING).args(["analyse", "verify"]).arg(ledger).output().expect("it runs");
    assert!(verified.status.success(), "{what}: {}", String::from_utf8_lossy(&verified.stderr));
}

async fn schedule(seed: u64, store: Option<String>) -> usize {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut site = Site::new(seed, store);
    for _ in 0..2 {
        site.start(true);
    }
    for _ in 0..WORKERS {
        site.start(false);
    }
    let mut faults = 0;
    for _ in 0..FAULTS {
        site.until_progress(dice.random_range(5..25)).await;
        if !site.results().is_empty() {
            break;
        }
        site.fault(&mut dice);
        faults += 1;
    }
    site.finish().await;
    site.check(&format!("SEED={seed}"));
    faults
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    number("SEED").map_or_else(
        || (1..=number("SEEDS").unwrap_or(if require("long") { SEEDS.1 } else { SEEDS.0 })).collect(),
        |seed| vec![seed],
    )
}

#[tokio::test]
async fn whatever_is_killed_or_frozen_the_totals_are_exact_and_the_ledger_adds_up() {
    let (mut faults, seeds) = (0, seeds());
    for seed in &seeds {
        println!("SEED={seed}");
        faults += schedule(*seed, None).await;
    }
    assert!(faults >= seeds.len() * 2, "{faults} faults: the analyses are too short for them");
}

/// A worker is frozen while it holds parts, under leases of ten minutes: only a second reader ends this in time. The server
/// gives up a transaction that it froze in after half a minute.
#[tokio::test]
async fn what_a_frozen_worker_holds_is_doubled_long_before_its_lease_is_over() {
    let Some(cluster) = cluster() else { return };
    let url = cluster.database().await;
    let mut site = Site { lease: "10m", ..Site::new(1, Some(url.clone())) };
    let store = slipring_store::open(&url).await.expect("the server is there");
    site.start(true);
    site.start(false);
    let slow = site.members[1].process;
    loop {
        site.until_progress(1).await;
        assert!(site.results().is_empty(), "it was over before it held anything");
        slow.pause();
        wait_until("it is frozen", LONG, async || match slow.state() {
            Some('T') => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let told = site.members[1].told();
        let held = held_by(&*store, slow.pid).await;
        if held > 0 {
            println!("frozen with {held} parts after {} were begun", told.matches("] Processing").count());
            break;
        }
        slow.resume();
    }
    site.start(false);
    let result = wait_until("a coordinator has the result", LONG, async || {
        site.results().pop().ok_or_else(|| site.last_words(0))
    })
    .await;
    assert!(result.contains("Failed workers: 0\n"), "{result}");
    let fast = site.members[2].told();
    assert!(fast.contains("takes long - worker 1 reads it too"), "{fast}");
    site.check("with a frozen worker");
    // What it found is late, and changes nothing.
    slow.resume();
    wait_until("it goes on", LONG, async || match slow.state() {
        Some('T') => Err("it is frozen".to_owned()),
        Some(_) => Ok(()),
        None => Err(site.members[1].told()),
    })
    .await;
    site.check("when it has been woken");
}

/// Leases of a process.
async fn held_by(store: &dyn Store, pid: u32) -> usize {
    let open = store.range(Range::prefix("analyse-open/")).await.expect("the store answers");
    let [job] = &open[..] else { return 0 };
    let job: serde_json::Value = serde_json::from_slice(&job.value[1..]).expect("a job is JSON");
    let running = store.running(job["queue"].as_str().expect("a job has a queue")).await;
    let of_it = format!(":{pid}:");
    running.expect("the store answers").iter().filter(|lease| lease.worker.contains(&of_it)).count()
}

fn cluster() -> Option<Cluster> {
    match Cluster::start(false) {
        Ok(cluster) => Some(cluster),
        Err(missing) => {
            skipped("postgres", &missing.to_string());
            None
        }
    }
}

#[tokio::test]
async fn on_postgresql_too() {
    let Some(cluster) = cluster() else { return };
    for seed in [101, 102] {
        println!("SEED={seed}");
        schedule(seed, Some(cluster.database().await)).await;
    }
}

/// Stops PostgreSQL in the middle until everybody has waited for it so long.
async fn outage(seconds: f64) {
    let Some(mut cluster) = cluster() else { return };
    let mut site = Site::new(1, Some(cluster.database().await));
    site.start(true);
    site.start(false);
    site.until_progress(20).await;
    assert!(site.results().is_empty(), "it was over before the outage");
    cluster.crash();
    wait_until("both say that they wait", LONG, async || {
        let waited = |member: &Member| {
            let told = member.told();
            let last = told.rsplit("Waiting for the store, ").next().and_then(|text| text.split('s').next());
            last.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default()
        };
        let all: Vec<f64> = site.members.iter().map(waited).collect();
        if all.iter().all(|waited| *waited >= seconds) { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    cluster.resume();
    let result = site.finish().await;
    assert!(result.contains("The store is back"), "{result}");
    site.check("after the outage");
}

#[tokio::test]
async fn a_postgresql_that_is_stopped_for_ten_seconds_is_waited_for() {
    outage(10.0).await;
}
