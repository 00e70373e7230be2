//! A hundred new balancers, one after the other, each in the place of the last, under load: no request is lost.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Balancer, Load, Setup, measured};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const RESTARTS: u32 = 100;

async fn upstreams() -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        upstreams.push(Upstream::serve(|_| async { hyper::Response::new(whole("hello")) }).await);
    }
    upstreams
}

/// Puts one balancer after another in the first one's place, under load, and counts what became of it.
async fn restart(mut balancer: Balancer, mut replace: impl AsyncFnMut(Balancer) -> Balancer) -> Balancer {
    let (load, began) = (Load::start(balancer.main, "/get", 500), Instant::now());
    for _ in 0..RESTARTS {
        load.more(20).await;
        balancer = replace(balancer).await;
    }
    load.more(20).await;
    let report = load.stop().await;
    measured(&format!(
        "{RESTARTS} restarts in {:.0?}: {} requests, {:?}, the slowest {:?}",
        began.elapsed(),
        report.answered,
        report.failures,
        report.slowest
    ));
    report.assert_no_failure();
    balancer
}

async fn ended(balancer: &mut Balancer) {
    balancer.signal(Signal::TERM);
    let status = balancer.ended(LONG).await;
    assert_eq!(status.code(), Some(0), "an orderly end: {}", balancer.log());
}

/// Beside each other on shared addresses: the next one serves before the last one ends.
#[tokio::test(flavor = "multi_thread")]
async fn balancers_that_follow_each_other_on_one_port_lose_no_request() {
    let upstreams = upstreams().await;
    let setup = Setup::new(SLIPRING).upstreams(&upstreams).set("reuse_port", true);
    let first = setup.launch().await;
    let setup = setup.set("listen", first.main.address).set("admin.listen", first.admin.address);
    let replace = async |mut balancer| {
        let next = setup.launch().await;
        ended(&mut balancer).await;
        next
    };
    restart(first, replace).await.stop().await;
}

/// As systemd does it: the socket is open before, between and after.
#[tokio::test(flavor = "multi_thread")]
async fn an_inherited_socket_loses_no_request_over_restarts() {
    let upstreams = upstreams().await;
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    fcntl_setfd(&socket, FdFlags::empty()).expect("it is ours");
    let script = format!(
        "exec 3<&{}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=listen exec \"$0\" \"$@\"",
        socket.as_raw_fd()
    );
    let setup = Setup::new(SLIPRING).upstreams(&upstreams).under(&["bash", "-c", &script]);
    let first = setup.launch().await;
    assert_eq!(first.main.address, socket.local_addr().expect("it is bound"), "it is this socket");
    let replace = async |mut balancer| {
        ended(&mut balancer).await;
        setup.launch().await
    };
    let balancer = restart(first, replace).await;
    assert_eq!(balancer.main.call(Method::GET, "/get", "").await.status, 200);
    balancer.stop().await;
}
