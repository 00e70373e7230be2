//! Who is to blame for how a call ends: no replica for what its callers or its own good manners bring about, and no call for
//! another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use slipring_tests::frames::{Frames, Served, flag, frame, headers, kind};
use slipring_tests::raw::replica;
use slipring_tests::{Setup, wait_until};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    BEGUN, CANCEL, LONG, NO_ERROR, REFUSED_STREAM, before, call, channel, ended, frames, is_free, message,
    read, request, send, send_at_once,
};

/// More of a call than is kept to be sent again.
const MUCH: usize = 40_000;

/// One failure of the only replica would be an ejection.
fn strict(setup: Setup) -> Setup {
    setup.set("proxy.eject_failures", 1).set("proxy.max_ejected", 1).set("proxy.eject_success_rate", 0)
}

/// Sends a PING, and waits for its answer; what came before that is of no interest.
async fn settled(served: &mut Served) {
    served.raw.say(frame(kind::PING, 0, 0, &[0; 8])).await;
    loop {
        let head = served.raw.take(9).await;
        let Some([_, high, low, kind, flags]) = head.first_chunk::<5>().copied() else { return };
        served.raw.take(usize::from(u16::from_be_bytes([high, low]))).await;
        if kind == kind::PING && flags & flag::ACK != 0 {
            return;
        }
    }
}

/// A client that leaves takes its calls with it. What their replica has sent for them meanwhile is nobody's fault, and
/// ends no connection that others share.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_leaves_takes_nobody_elses_calls_with_it() {
    const CROWD: usize = 128;
    const ON_THEIR_WAY: usize = 20;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let (tell, mut told) = mpsc::channel(8);
    let address = replica(move |raw, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let tell = tell.clone();
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let (mut lasting, mut crowd, mut gone) = (None, Vec::new(), 0);
            while let Some(next) = served.next().await {
                match next.kind {
                    kind::HEADERS => {
                        served.raw.say(headers(next.stream, 0, &BEGUN)).await;
                        if lasting.is_some() {
                            crowd.push(next.stream);
                        }
                        lasting.get_or_insert(next.stream);
                    }
                    kind::DATA if lasting == Some(next.stream) => {
                        served.raw.say(frame(kind::DATA, 0, next.stream, &next.payload)).await;
                        if next.flags & flag::END_STREAM != 0 {
                            let status = [("grpc-status", "0")];
                            served.raw.say(headers(next.stream, flag::END_STREAM, &status)).await;
                        }
                    }
                    kind::RST_STREAM if next.error() == Some(CANCEL) => gone += 1,
                    _ => {}
                }
                if gone == CROWD {
                    for _ in 0..ON_THEIR_WAY {
                        let late = |&stream: &u32| frame(kind::DATA, 0, stream, &message("late"));
                        served.raw.say(crowd.iter().flat_map(late).collect::<Vec<_>>()).await;
                        settled(&mut served).await;
                    }
                    (crowd, gone) = (Vec::new(), 0);
                    tell.send(()).await.expect("the test listens");
                }
            }
        }
    })
    .await;
    let balancer = strict(before(address)).start().await;
    let mut streams = balancer.main.streams().await;
    let (pieces, body) = channel();
    let sent = streams.send_request(request(&balancer, "/a", body, ""));
    pieces.send(message("first")).await.expect("it is read");
    let lasting = timeout(LONG, sent).await.expect("in time").expect("its head");
    for _ in 0..3 {
        let mut caller = Frames::to(balancer.main).await;
        send_at_once(&mut caller, "/a", (0..128).map(|n| 2 * n + 1)).await;
        for _ in 0..CROWD {
            caller.until(|frame| frame.kind == kind::HEADERS).await.expect("it begins");
        }
        drop(caller);
        timeout(LONG, told.recv()).await.expect("they are taken back");
    }
    pieces.send(message("last")).await.expect("it is read");
    drop(pieces);
    let (text, status) = read(lasting).await;
    assert_eq!(status, "0");
    assert!(text.contains("first") && text.contains("last"), "{text}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
}

/// Servers of gRPC know the deadline, and end what is late themselves, at the same moment as the balancer does.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_keeps_the_deadline_itself_is_not_to_blame() {
    const DEADLINE: Duration = Duration::from_millis(50);
    const EARLY: Duration = Duration::from_millis(3);
    for begins in [false, true] {
        let address = replica(move |raw, _| async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            while let Some(stream) = served.request().await {
                let late = Instant::now() + DEADLINE - EARLY;
                if begins {
                    served.raw.say(headers(stream, 0, &BEGUN)).await;
                }
                sleep_until(late).await; // paced: the replica keeps the deadline itself
                served.reset(stream, CANCEL).await;
            }
        })
        .await;
        let balancer = strict(before(address)).start().await;
        for _ in 0..20 {
            assert_eq!(call(&balancer, "/a", "50m").await.1, "4", "begins: {begins}");
        }
        assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0, "begins: {begins}");
        // Long before, it is the replica's own end.
        assert_eq!(call(&balancer, "/a", "10S").await.1, "1", "begins: {begins}");
    }
}

/// A server whose connections grow only so old has not failed those who were on their way, whatever they had sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_farewell_is_no_failure_however_much_was_sent() {
    let connections = Arc::new(AtomicUsize::new(0));
    let address = replica(move |raw, _| {
        let nth = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let mut sent = 0;
            while let Some(next) = served.next().await {
                sent += if next.kind == kind::DATA { next.payload.len() } else { 0 };
                if next.flags & flag::END_STREAM != 0 && next.kind != kind::RST_STREAM {
                    served.status(next.stream, "0").await;
                    sent = 0;
                }
                if nth == 0 && sent >= MUCH {
                    served.go_away(next.stream - 2, NO_ERROR).await;
                    return;
                }
            }
        }
    })
    .await;
    let balancer = strict(before(address)).start().await;
    assert_eq!(call(&balancer, "/a", "").await.1, "0");
    let (pieces, body) = channel();
    let mut streams = balancer.main.streams().await;
    pieces.send(Bytes::from(vec![0; MUCH])).await.expect("there is room");
    assert_eq!(send(&mut streams, request(&balancer, "/a", body, "")).await.1, "14");
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    assert_eq!(call(&balancer, "/a", "").await.1, "0");
}

/// How grpc-go ends a call early: with its status, and then it wants no more of what the caller sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_before_the_callers_end_is_no_failure() {
    for begins in [false, true] {
        let address = replica(move |raw, _| async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            while let Some(next) = served.next().await {
                if next.kind != kind::HEADERS {
                    continue;
                }
                let status = headers(next.stream, flag::END_STREAM, &[("grpc-status", "5")]);
                if begins {
                    served.raw.say([headers(next.stream, 0, &BEGUN), status].concat()).await;
                } else {
                    served.status(next.stream, "5").await;
                }
                served.reset(next.stream, NO_ERROR).await;
            }
        })
        .await;
        let balancer = strict(before(address)).start().await;
        for _ in 0..20 {
            let (_open, body) = channel();
            let mut streams = balancer.main.streams().await;
            let called = send(&mut streams, request(&balancer, "/a", body, "")).await;
            assert_eq!(called.1, "5", "begins: {begins}");
        }
        assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0, "begins: {begins}");
    }
}

/// A replica whose first connection holds its first call, refuses the second unread when so much of it has come, and
/// holds later ones; others are good. It tells which connection each call but the second came over.
async fn refuses_the_second(after: usize) -> (std::net::SocketAddr, mpsc::Receiver<usize>) {
    let (tell, told) = mpsc::channel(8);
    let connections = Arc::new(AtomicUsize::new(0));
    let address = replica(move |raw, _| {
        let (nth, tell) = (connections.fetch_add(1, Ordering::SeqCst), tell.clone());
        async move {
            let Some(mut served) = Served::begin(raw, &[]).await else { return };
            let (mut came, mut sent, mut refused) = (0, 0, None);
            while let Some(next) = served.next().await {
                if next.kind > kind::HEADERS || refused == Some(next.stream) {
                    continue;
                }
                came += usize::from(next.kind == kind::HEADERS);
                if nth == 0 && came == 2 && refused.is_none() {
                    sent += if next.kind == kind::DATA { next.payload.len() } else { 0 };
                    if sent >= after {
                        served.reset(next.stream, REFUSED_STREAM).await;
                        refused = Some(next.stream);
                    }
                } else if next.flags & flag::END_STREAM != 0 {
                    if nth > 0 {
                        served.status(next.stream, "0").await;
                    }
                    tell.send(nth).await.expect("the test listens");
                }
            }
        }
    })
    .await;
    (address, told)
}

async fn next(told: &mut mpsc::Receiver<usize>) -> Option<usize> {
    timeout(LONG, told.recv()).await.expect("it comes")
}

/// That a call cannot be sent again makes no difference to those after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_large_call_keeps_the_next_ones_off_a_full_connection() {
    let (address, mut told) = refuses_the_second(MUCH).await;
    let balancer = strict(before(address)).start().await;
    let mut caller = Frames::to(balancer.main).await;
    send_at_once(&mut caller, "/a", std::iter::once(1)).await;
    assert_eq!(next(&mut told).await, Some(0));
    let mut streams = balancer.main.streams().await;
    let large = frames(vec![Bytes::from(vec![0; MUCH])], None);
    assert_eq!(send(&mut streams, request(&balancer, "/a", large, "")).await.1, "14");
    send_at_once(&mut caller, "/a", std::iter::once(3)).await;
    assert_eq!(next(&mut told).await, Some(1), "the other is full");
    ended(&mut caller, 1).await;
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
}

/// However a call ends that was on the connection when another was refused: there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_taken_back_makes_room_after_a_refusal() {
    let (address, mut told) = refuses_the_second(0).await;
    let balancer = before(address).start().await;
    let mut caller = Frames::to(balancer.main).await;
    send_at_once(&mut caller, "/a", std::iter::once(1)).await;
    assert_eq!(next(&mut told).await, Some(0));
    send_at_once(&mut caller, "/a", std::iter::once(3)).await;
    assert_eq!(next(&mut told).await, Some(1), "the other is full");
    ended(&mut caller, 1).await;
    caller.send(&frame(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
    is_free(&balancer).await;
    send_at_once(&mut caller, "/a", [5, 7].into_iter()).await;
    assert_eq!((next(&mut told).await, next(&mut told).await), (Some(0), Some(0)), "it takes two again");
}

/// A machine that has died without a word, or a process that hangs: the kernel sees that nothing is taken any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_nothing_of_its_connection_loses_it() {
    const MOST: u32 = (1 << 31) - 1;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let (connections, full) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let filling = full.clone();
    let address = replica(move |raw, _| {
        let (nth, filling) = (connections.fetch_add(1, Ordering::SeqCst), filling.clone());
        async move {
            let Some(mut served) = Served::begin(raw, &[(INITIAL_WINDOW_SIZE, MOST)]).await else { return };
            let more = MOST - 65_535;
            served.raw.say(frame(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes())).await;
            while let Some(next) = served.next().await {
                if nth == 0 {
                    filling.notify_one();
                    return std::future::pending().await; // it reads no more
                }
                if next.kind <= kind::HEADERS && next.flags & flag::END_STREAM != 0 {
                    served.status(next.stream, "0").await;
                }
            }
        }
    })
    .await;
    let setup = before(address).set("proxy.idle_timeout", "1s").set("proxy.max_ejected", 0);
    let balancer = setup.start().await;
    let mut streams = balancer.main.streams().await;
    let large = frames(vec![Bytes::from(vec![0; 64 * 1024]); 512], None);
    let large = tokio::spawn(streams.send_request(request(&balancer, "/a", large, "")));
    timeout(LONG, full.notified()).await.expect("it comes");
    wait_until("another connection is used", LONG, async || {
        let called = call(&balancer, "/a", "300m").await;
        if called.1 == "0" { Ok(()) } else { Err(format!("{called:?}")) }
    })
    .await;
    drop(large.await.expect("no panic")); // it has had its end long before
}
