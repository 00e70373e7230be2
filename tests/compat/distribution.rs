//! Ten thousand requests at once: all are answered, and the counts per replica are what the placement promises.
//!
//! As the original's tester sends them: every request has a connection of its own, which is opened for it, and no
//! request waits for another's answer. The later rounds use the same connections again, so that all requests are
//! in flight within milliseconds. The expectation is exact: the share of the request ids 100000..=999999 that each
//! replica owns.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use rustix::process::{Resource, getrlimit, setrlimit};
use slipring_hashing::stats::chi_squared_expected;
use slipring_hashing::{HashPair, Key, Member, Placement, ReplicaId, Weight};
use slipring_tests::{Answer, Balancer, Sending, Setup, skipped, wait_until};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const REQUESTS: usize = 10_000;
/// An honest balancer is accused this seldom, for each of the comparisons below.
const LEVEL: f64 = 1e-6;

/// For all of an exchange: ten thousand at once take a slow machine several seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The balancer keeps a quarter of its files for the connections to replicas.
const OPEN_FILES: u64 = 14_000;
/// What the kernel tracks if it does: each client's connection, and one to a replica for it.
const TRACKED: usize = 2 * REQUESTS;

/// Ten thousand connections leave no room for another test's.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Says that the test is skipped, and returns false, when there cannot be enough.
fn raise_file_limit() -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit can be raised as far as it goes");
    let enough = limit.current.is_none_or(|files| files >= OPEN_FILES);
    if !enough {
        let why = format!(
            "{REQUESTS} connections at once take {OPEN_FILES} open files: raise the hard limit (ulimit -Hn)"
        );
        skipped("files", &why);
    }
    enough
}

/// Docker's address translation makes the kernel track every connection, for two minutes after its end; when its
/// table is full it drops packets, and nobody can promise anything. Waits until there is room for a test; says that
/// the test is skipped, and returns false, when the table is too small for it ever to have room.
async fn room_for_connections() -> bool {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
        text.ok().and_then(|text| text.trim().parse::<usize>().ok())
    };
    let (Some(_), Some(max)) = (number("count"), number("max")) else { return true };
    if max < TRACKED {
        let why =
            format!("the kernel tracks {max} connections (nf_conntrack_max), this test opens {TRACKED}");
        skipped("connections", &why);
        return false;
    }
    wait_until("room in the kernel's table of connections", Duration::from_secs(150), async || match number(
        "count",
    ) {
        Some(count) if count + TRACKED > max => Err(format!("{count} of {max}")),
        _ => Ok(()),
    })
    .await;
    true
}

/// One `GET /home` on each of the connections, or on a new one for each client that has none, all at once; how
/// often each replica answered.
async fn ask(balancer: &Balancer, clients: &mut Vec<Option<Sending>>) -> BTreeMap<String, u64> {
    let mut flying = JoinSet::new();
    for connection in clients.drain(..) {
        let main = balancer.main;
        let request = main.request(Method::GET, "/home").body(Full::<Bytes>::default()).expect("valid");
        let exchange = async move {
            let mut connection = match connection {
                Some(connection) => connection,
                None => main.connect().await?,
            };
            let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
            let answer = Answer::read(answer).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((answer, connection))
        };
        flying.spawn(async move {
            timeout(PATIENCE, exchange)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
        });
    }
    let mut counts = BTreeMap::new();
    let mut refused = BTreeMap::<String, u64>::new();
    while let Some(landed) = flying.join_next().await {
        match landed.expect("a request does not panic") {
            Ok((answer, connection)) if answer.status == 200 => {
                *counts.entry(answer.replica().to_owned()).or_default() += 1;
                clients.push(Some(connection));
            }
            Ok((answer, _)) => {
                *refused.entry(format!("{} {}", answer.status, answer.text())).or_default() += 1;
            }
            Err(error) => *refused.entry(error).or_default() += 1,
        }
    }
    assert!(
        refused.is_empty(),
        "of {REQUESTS} requests at once some failed: {refused:?}\n{}",
        balancer.log()
    );
    assert_eq!(counts.values().sum::<u64>(), REQUESTS as u64);
    counts
}

/// The share of the request ids that each of the replicas 1 to `n` owns.
fn expected(placement: &Placement, n: u16) -> Vec<f64> {
    let member = |id| Member::new(ReplicaId(id), Weight::ONE, (id + 1).to_string());
    let members: Vec<_> = (0..n).map(member).collect();
    let table = placement.build(&members).expect("six replicas fit");
    table.shares_of((100_000..=999_999).map(Key::Id)).into_iter().map(|(_, share)| share).collect()
}

async fn check(setup: Setup, placement: &Placement) {
    let _alone = ALONE.lock().await;
    if !raise_file_limit() || !room_for_connections().await {
        return;
    }
    let balancer = setup.set("fleet.replicas", 2).start().await;
    let mut clients: Vec<Option<Sending>> = (0..REQUESTS).map(|_| None).collect();
    for n in 2..=6 {
        if n > 2 {
            assert_eq!(balancer.add(1, &[format!("Server-{n}")]).await.status, 200);
        }
        let counts = ask(&balancer, &mut clients).await;
        let observed: Vec<u64> =
            (1..=n).map(|id| counts.get(&format!("Server-{id}")).copied().unwrap_or(0)).collect();
        let shares = expected(placement, n);
        let test = chi_squared_expected(&observed, &shares);
        assert!(
            test.agrees(LEVEL),
            "{placement:?}, N = {n}: {observed:?} where {shares:?} is expected: p = {}; {} were offered again\n{}",
            test.p_value(),
            balancer.metric("slipring_retries_total", "").await,
            balancer.log(),
        );
    }
    let unanswered = balancer.replicas().await.into_iter().filter(|replica| replica.restarts > 0).count();
    assert_eq!(unanswered, 0, "no replica was given up under the load:\n{}", balancer.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn given() {
    check(Setup::new(SLIPRING).set("ring.hash", "given"), &Placement::contract(HashPair::Given)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modified() {
    check(Setup::new(SLIPRING).set("ring.hash", "modified"), &Placement::contract(HashPair::Modified)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sha256() {
    check(Setup::new(SLIPRING).set("ring.hash", "sha256"), &Placement::contract(HashPair::Sha256)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_placement() {
    check(Setup::new(SLIPRING), &Placement::Rendezvous).await;
}
