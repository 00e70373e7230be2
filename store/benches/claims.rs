//! Claims and completions a second, one at a time and a hundred at a time, by one caller and by eight, on each store; and
//! durable transactions that write a record and add a task, by 64 callers at once (what a submission costs).
//!
//! `cargo bench -p slipring-store`; PostgreSQL is a throw-away one with fsync, and is skipped when there is none.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_store::testing::Cluster;
use slipring_store::{Change, Clock, Expect, Memory, NewTask, Outcome, Store, open};
use tokio::task::JoinSet;

const LEASE: Duration = Duration::from_secs(600);
/// How long each figure is measured.
const LONG: Duration = Duration::from_secs(3);
const CALLERS: usize = 64;

async fn fill(store: &dyn Store, queue: &str, tasks: usize) {
    let keys: Vec<_> = (0..tasks).collect();
    for keys in keys.chunks(5000) {
        let tasks = keys.iter().map(|key| NewTask::new(format!("{key:08}"), [0; 100])).collect();
        store.add(queue, tasks).await.expect("the store adds");
    }
}

/// Claims and completes until the time is over or the queue is empty; how many.
async fn work(store: Arc<dyn Store>, queue: String, most: usize, until: Instant) -> usize {
    let mut done = 0;
    while Instant::now() < until {
        let claimed = store.claim(&queue, "bench", LEASE, most).await.expect("the store claims");
        if claimed.is_empty() {
            break;
        }
        done += claimed.len();
        let complete =
            |task: slipring_store::Claimed| Change::Complete { claim: task.claim, result: vec![0; 100] };
        let outcome = store.transact(claimed.into_iter().map(complete).collect()).await;
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    }
    done
}

async fn rate(store: &Arc<dyn Store>, workers: usize, most: usize) -> f64 {
    let queue = format!("{workers}-{most}");
    fill(&**store, &queue, if most == 1 { 30_000 } else { 150_000 }).await;
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..workers {
        all.spawn(work(store.clone(), queue.clone(), most, start + LONG));
    }
    let done: usize = all.join_all().await.into_iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

/// Submissions a second, and the time that one in a hundred takes longer than.
async fn submissions(store: &Arc<dyn Store>) -> (f64, Duration) {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = store.clone();
        callers.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < LONG {
                let key = format!("submission/{caller}/{}", times.len());
                let tasks = vec![NewTask::new(key.clone(), [])];
                let put = Change::Put { key, value: vec![0; 200], expect: Expect::Absent };
                let begin = Instant::now();
                let outcome = store.transact(vec![put, Change::Add { queue: "s".into(), tasks }]).await;
                assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
                times.push(begin.elapsed());
            }
            times
        });
    }
    let mut times: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() * 99 / 100])
}

async fn measure(name: &str, store: Arc<dyn Store>) {
    let mut rates = Vec::new();
    for (workers, most) in [(1, 1), (8, 1), (1, 100), (8, 100)] {
        rates.push(rate(&store, workers, most).await);
    }
    let (submitted, p99) = submissions(&store).await;
    let [one, eight, hundred, eight_hundred] = rates[..] else { unreachable!("there are four") };
    let p99 = p99.as_secs_f64() * 1e3;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name:<12}{one:>10.0}{eight:>12.0}{hundred:>12.0}{eight_hundred:>14.0}{submitted:>14.0}{p99:>9.1}"
    )
    .expect("standard output is there");
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut out = std::io::stdout();
    let head = ["tasks/s by", "1 single", "8 single", "1 × 100", "8 × 100", "submits/s", "p99 ms"];
    let [a, b, c, d, e, f, g] = head;
    writeln!(out, "{a:<12}{b:>10}{c:>12}{d:>12}{e:>14}{f:>14}{g:>9}").expect("standard output is there");
    runtime.block_on(async {
        measure("memory", Arc::new(Memory::new(Clock::system()))).await;
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        measure("sqlite", open(&url).await.expect("SQLite opens")).await;
        match Cluster::start(true) {
            Err(missing) => {
                writeln!(out, "postgresql  skipped: {missing}").expect("standard output is there");
            }
            Ok(cluster) => {
                let store = open(&cluster.database().await).await.expect("PostgreSQL opens");
                measure("postgresql", store).await;
            }
        }
    });
}
