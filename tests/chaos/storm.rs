//! GETs, POSTs and WebSocket messages, 200 a second of each, while a replica is killed every five seconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use slipring_tests::raw::Raw;
use slipring_tests::replica::{self, MASKED};
use slipring_tests::{Balancer, Http, Load, Setup, measured, require};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const A_SECOND: u32 = 200;
const SOCKETS: u32 = 20;
const BETWEEN_KILLS: Duration = Duration::from_secs(5);
/// Between a kill and the end of whom it kills.
const THE_MOMENT: Duration = Duration::from_millis(200);
/// Kills of two minutes, and of a run that nobody made compulsory.
const KILLS: (u32, u32) = (24, 4);
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

/// POSTs, each with a number of its own; what became of them by number.
struct Posts {
    stop: oneshot::Sender<()>,
    task: JoinHandle<BTreeMap<u64, String>>,
}

impl Posts {
    fn start(target: Http, path: String) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut due = interval(Duration::from_secs(1) / A_SECOND); // paced: a constant load
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut flying, mut outcomes, mut number) = (JoinSet::new(), BTreeMap::new(), 0_u64);
            loop {
                tokio::select! {
                    _ = due.tick() => {
                        number += 1;
                        let body = Full::new(Bytes::from(number.to_string()));
                        let request = target.request(Method::POST, &path).body(body).expect("a valid request");
                        flying.spawn(async move { (number, target.send(request).await) });
                    }
                    Some(landed) = flying.join_next() => count(&mut outcomes, landed.expect("no panic")),
                    _ = &mut stopped => break,
                }
            }
            while let Some(landed) = flying.join_next().await {
                count(&mut outcomes, landed.expect("no panic"));
            }
            outcomes
        });
        Self { stop, task }
    }

    async fn stop(self) -> BTreeMap<u64, String> {
        self.stop.send(()).expect("the load runs until it is stopped");
        self.task.await.expect("no panic")
    }
}

fn count(
    outcomes: &mut BTreeMap<u64, String>,
    (number, outcome): (u64, Result<slipring_tests::Answer, String>),
) {
    outcomes.insert(number, outcome.map_or_else(|error| error, |answer| answer.status.as_u16().to_string()));
}

/// One WebSocket to whichever replica has its key: who it is with, and since when.
struct Socket {
    raw: Raw,
    replica: String,
    since: Instant,
}

impl Socket {
    async fn open(target: Http, key: u32) -> Self {
        let mut raw = Raw::connect(target.address).await;
        let request = format!(
            "GET /socket HTTP/1.1\r\nHost: a\r\nx-key: socket-{key}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        assert!(raw.say(request).await, "the balancer takes it");
        let answer = raw.head().await.expect("an answer");
        assert_eq!(answer.status(), 101, "{answer:?}");
        let replica = answer.field("x-slipring-replica").expect("who it is").to_owned();
        Self { raw, replica, since: Instant::now() }
    }

    /// One message there and back; whether it came back.
    async fn echo(&mut self, message: u64) -> bool {
        let mut frame = [0; MASKED];
        frame[..2].copy_from_slice(&[0x82, 0x88]);
        frame[6..].copy_from_slice(&message.to_be_bytes());
        if !self.raw.say(frame).await {
            return false;
        }
        let answer = self.raw.take(10).await;
        let whole = answer.len() == 10;
        assert!(!whole || answer == [&[0x82, 8][..], &message.to_be_bytes()].concat(), "{answer:?}");
        whole
    }
}

/// When each replica was killed.
type Killed = watch::Receiver<HashMap<String, Vec<Instant>>>;

/// Speaks over a socket until told to stop; counts messages. A socket may only break when its replica was killed.
async fn speak(
    target: Http,
    key: u32,
    killed: Killed,
    stopped: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
) -> u64 {
    let mut due = interval(Duration::from_secs(1) * SOCKETS / A_SECOND); // paced: a constant load
    let (mut socket, mut broken) = (Socket::open(target, key).await, 0);
    while !stopped.load(Ordering::Relaxed) {
        due.tick().await;
        let message = messages.fetch_add(1, Ordering::Relaxed);
        if socket.echo(message).await {
            continue;
        }
        let deaths = killed.borrow().get(&socket.replica).cloned().unwrap_or_default();
        assert!(
            deaths.iter().any(|death| *death >= socket.since),
            "a WebSocket with {} broke after {:?}, and nobody had killed it",
            socket.replica,
            socket.since.elapsed()
        );
        broken += 1;
        socket = Socket::open(target, key).await;
    }
    broken
}

async fn kill_one(balancer: &Balancer, name: &str, killed: &watch::Sender<HashMap<String, Vec<Instant>>>) {
    let events = balancer.events().await;
    let (past, process) = (events.seen().len(), balancer.replica(name).await.process());
    // Told before it is done, so that whoever sees the break finds its reason; a socket that opens in that moment may
    // still meet the dying one.
    killed.send_modify(|killed| killed.entry(name.to_owned()).or_default().push(Instant::now() + THE_MOMENT));
    process.kill();
    events.next(past, "live", name, LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_every_five_seconds_costs_no_get_no_second_post_and_no_other_replicas_socket() {
    let kills = if require("long") { KILLS.0 } else { KILLS.1 };
    if kills < KILLS.0 {
        measured(&format!("{kills} kills instead of {} (SLIPRING_REQUIRE=long makes it all)", KILLS.0));
    }
    let setup = replica::program(Setup::new(SLIPRING).set("fleet.replicas", 5), "");
    let balancer = setup.set("proxy.key", "header:x-key,random").start().await;
    let main = balancer.main;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("posts");

    let gets = Load::start(main, "/get", A_SECOND);
    let posts = Posts::start(main, format!("/record?file={}", file.display()));
    let (tell, killed) = watch::channel(HashMap::new());
    let (stopped, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut speakers = JoinSet::new();
    for key in 0..SOCKETS {
        speakers.spawn(speak(main, key, killed.clone(), stopped.clone(), messages.clone()));
    }
    let mut due = interval(BETWEEN_KILLS); // paced: a kill every five seconds
    due.tick().await;
    let began = Instant::now();
    for kill in 0..kills {
        due.tick().await;
        kill_one(&balancer, &format!("Server-{}", kill % 5 + 1), &tell).await;
    }
    due.tick().await;
    stopped.store(true, Ordering::Relaxed);
    let took = began.elapsed();

    let gets = gets.stop().await;
    gets.assert_no_failure();
    let mut broken = 0;
    while let Some(speaker) = timeout(LONG, speakers.join_next()).await.expect("speakers end") {
        broken += speaker.expect("no socket broke whose replica lived");
    }
    let posts = posts.stop().await;
    let recorded = std::fs::read_to_string(&file).expect("posts were recorded");
    let mut once = HashSet::new();
    for line in recorded.lines() {
        let number: u64 = line.parse().expect("a number");
        assert!(once.insert(number), "POST {number} was carried out twice");
    }
    let answered = posts.iter().filter(|(_, outcome)| *outcome == "200");
    assert!(answered.clone().all(|(number, _)| once.contains(number)), "an answer without an execution");
    let lost: BTreeMap<_, _> = posts.iter().filter(|(_, outcome)| *outcome != "200").collect();
    assert!(lost.values().all(|outcome| *outcome == "502"), "what cannot be repeated is 502: {lost:?}");
    let due = (took.as_secs_f64() * f64::from(A_SECOND)) as u64;
    let (posts, messages) = (posts.len() as u64, messages.load(Ordering::Relaxed));
    assert!(
        gets.answered > due * 9 / 10 && posts > due * 9 / 10 && messages > due * 8 / 10,
        "the load was a load"
    );
    assert!(broken > 0, "sockets of the killed did break");
    measured(&format!(
        "{kills} kills in {took:.0?}: {} GETs, none failed, the slowest {:?}; {posts} POSTs, none twice, {} lost (502); \
         {messages} messages, {broken} of the killed replicas' sockets broke, no other",
        gets.answered,
        gets.slowest,
        lost.len(),
    ));
    balancer.stop().await;
}
