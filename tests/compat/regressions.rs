//! Every bug that was fixed leaves a test named for it.

use std::time::Duration;

use hyper::Method;
use slipring_tests::{Answer, Balancer, Setup, replica, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of the tests here run.
#[test]
fn replica_program() {
    replica::serve_if_asked();
}

fn setup() -> Setup {
    replica::program(Setup::new(SLIPRING), "")
}

/// What comes back for these very bytes, until the connection ends.
async fn raw(balancer: &Balancer, request: &str) -> String {
    let mut stream = TcpStream::connect(balancer.main.address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.expect("it ends").expect("text");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunked_body_of_a_get_reaches_the_replica() {
    let balancer = setup().start().await;
    let chunked = "GET /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answer = raw(&balancer, chunked).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n5"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_name_the_host_or_the_length() {
    let balancer = setup().start().await;
    let request = "POST /headers HTTP/1.1\r\nHost: shop.example\r\nConnection: close, host, content-length\r\nContent-Length: 2\r\n\r\nhi";
    let answer = raw(&balancer, request).await;
    assert!(answer.contains(r#""host":"shop.example""#), "{answer}");
    assert!(answer.contains(r#""content-length":"2""#), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_goes_before_the_host_header() {
    let balancer = setup().start().await;
    let request =
        "GET http://real.example/headers?a=1 HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
    let answer = raw(&balancer, request).await;
    assert!(answer.contains(r#""host":"real.example""#), "{answer}");
    assert!(answer.contains(r#""uri":"/headers?a=1""#), "{answer}");
}

/// The replica owes its answer from the end of the request: an upload may take longer than the first byte's timeout.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_makes_progress_may_take_its_time() {
    let balancer = setup().set("proxy.first_byte_timeout", "200ms").start().await;
    let mut stream = TcpStream::connect(balancer.main.address).await.expect("it listens");
    let head = "POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut ticks = tokio::time::interval(Duration::from_millis(50)); // paced: a slow upload
    for _ in 0..10 {
        ticks.tick().await;
        stream.write_all(b"x").await.expect("it reads on");
    }
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.expect("it ends").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("10"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_is_the_clients_failure() {
    let balancer = setup().set("proxy.idle_timeout", "200ms").start().await;
    let request = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nxyz";
    let answer = raw(&balancer, request).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("x-slipring-replica: Server-"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_answer_is_named() {
    let setup = setup().set("proxy.first_byte_timeout", "200ms");
    let balancer = setup.start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let answer = balancer.main.get(&format!("/hold?folder={}", folder.path().display())).await;
    assert_eq!(answer.status, 504);
    let held = std::fs::read_to_string(folder.path().join("held")).expect("it came to a replica");
    assert_eq!(answer.replica(), format!("Server-{held}"));
}

/// More replicas hang than a request may wait for in turn: those that were given up meanwhile cost no attempt.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_waited_for_the_dying_find_the_living() {
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 10).set("fleet.heartbeat_interval", "200ms");
    let balancer = setup.set("fleet.heartbeat_timeout", "200ms").start().await;
    let all = balancer.replicas().await;
    for replica in &all[..5] {
        replica.process().pause();
    }
    let get = || async { balancer.main.get("/home").await };
    let answers: Vec<Answer> = futures_util::future::join_all((0..200).map(|_| get())).await;
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).map(Answer::text).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let events = balancer.events().await;
    for replica in &all[..5] {
        events.next(0, "flatlined", &replica.name, LONG).await;
    }
}

/// Of what a removed replica has in flight nothing is lost, whoever comes while it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn no_post_is_lost_while_replicas_come_and_go() {
    let balancer = Setup::new(SLIPRING).set("proxy.paths", "/*").start().await;
    let address = balancer.main;
    let (done, running) = tokio::sync::watch::channel(false);
    let posts: Vec<_> = (0..8)
        .map(|_| {
            let running = running.clone();
            tokio::spawn(async move {
                let mut odd = Vec::new();
                while !*running.borrow() {
                    let answer = address.call(Method::POST, "/home", "body").await;
                    if answer.status != 405 {
                        odd.push(format!("{} {}", answer.status, answer.text()));
                    }
                }
                odd
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(balancer.add(3, &[] as &[&str]).await.status, 200);
        assert_eq!(balancer.remove(3, &[] as &[&str]).await.status, 200);
    }
    done.send_replace(true);
    for posts in posts {
        assert_eq!(posts.await.expect("it ends"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_forget_replicas_that_are_gone() {
    let balancer = Setup::new(SLIPRING).start().await;
    balancer.add(1, &["S9"]).await;
    assert!(balancer.admin.get("/metrics").await.text().contains("S9"));
    balancer.remove(1, &["S9"]).await;
    wait_until("the metrics without S9", LONG, async || {
        let metrics = balancer.admin.get("/metrics").await.text().to_owned();
        if metrics.contains("S9") { Err("S9 is there".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_beyond_the_room_is_refused_at_once() {
    let balancer = Setup::new(SLIPRING).start().await;
    let answer = balancer.admin.call(Method::POST, "/plan", r#"{"add":3000}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()["status"].as_str()), (400, Some("failure")));
    assert!(answer.text().contains("253 more replicas fit"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_balancers_do_not_share_one_memory() {
    let setup = Setup::new(SLIPRING);
    let first = setup.start().await;
    let output = setup.output().await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another balancer uses the membership file"), "{said}");
    assert_eq!(first.names().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_administer_by_a_name_that_points_here() {
    let balancer = Setup::new(SLIPRING).start().await;
    let rebound = "Host: evil.example:5000\r\nOrigin: http://evil.example:5000\r\n";
    let rm =
        format!("DELETE /rm HTTP/1.1\r\n{rebound}Connection: close\r\nContent-Length: 7\r\n\r\n{{\"n\":1}}");
    let answer = raw(&balancer, &rm).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(balancer.names().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn route_takes_digits_for_bytes_where_keys_are_bytes() {
    let balancer = Setup::new(SLIPRING).set("proxy.key", "header:x-user").start().await;
    for n in 0..20 {
        let key = (12_345 + n * 7919).to_string();
        let answer = balancer.main.with_headers(Method::GET, "/home", &[("x-user", &key)], "").await;
        assert_eq!(answer.replica(), balancer.owner(&key).await, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_are_bounded() {
    let balancer = Setup::new(SLIPRING).start().await;
    let mut streams = Vec::new();
    let refused = loop {
        let request =
            balancer.admin.request(Method::GET, "/events").body(http_body_util::Empty::<bytes::Bytes>::new());
        let mut connection = balancer.admin.connect().await.expect("a connection");
        let answer = connection.send_request(request.expect("valid")).await.expect("an answer");
        if answer.status() != 200 || streams.len() > 200 {
            break answer.status();
        }
        streams.push((connection, answer));
    };
    assert_eq!((refused.as_u16(), streams.len()), (503, 64));
}

/// RFC 9110 section 6.6.1: of its own answers the balancer is the origin.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_balancer_itself_answers_has_a_date() {
    let balancer = Setup::new(SLIPRING).set("fleet.replicas", 1).start().await;
    for path in ["/rep", "/nowhere", "/home"] {
        let answer = balancer.main.get(path).await;
        let date = answer.header("date").unwrap_or_else(|| panic!("{path}: {answer:?}"));
        assert!(date.ends_with(" GMT") && date.len() == 29, "{path}: {date}");
    }
}
