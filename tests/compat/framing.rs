//! Where messages begin and end, in bytes: what is ambiguous, broken off or old is neither passed on as whole nor
//! asked for twice.

use std::time::Duration;

use serde_json::Value;
use slipring_tests::bare::{self, Bare};
use slipring_tests::{Balancer, Http, RawAnswer, Setup, Wire, skipped, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// No test by itself: what the replicas of the tests here run.
#[test]
fn bare_program() {
    bare::serve_if_asked();
}

fn setup() -> Setup {
    bare::program(Setup::new(SLIPRING)).set("fleet.replicas", 1)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

async fn ask(server: Http, request: &str) -> RawAnswer {
    Wire::sending(server, request).await.answer().await.unwrap_or_else(|| panic!("no answer to {request:?}"))
}

/// RFC 9112 section 6.3: of two lengths the chunks count; a proxy that believes the other one tells a lie.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_two_lengths_is_whole_or_refused() {
    let balancer = setup().start().await;
    for _ in 0..3 {
        let answer = ask(balancer.main, &get("/both")).await;
        if answer.status == 502 {
            continue;
        }
        assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "hello world", true));
        let lengths = answer.headers("content-length");
        assert!(lengths.is_empty() || answer.headers("transfer-encoding").is_empty(), "{}", answer.head);
    }
}

/// What one of two lengths would hide must not become a request of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_lengths_hides_no_other() {
    let balancer = setup().start().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let length = hidden.len();
        let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
        let request = format!("POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lengths}\r\n{chunk}");
        let answer = ask(balancer.main, &request).await;
        assert!(matches!(answer.status, 200 | 400), "{}", answer.head);
        if answer.status == 200 {
            let seen: Value = serde_json::from_slice(&answer.body).expect("the replica's words");
            assert_eq!(seen["body"], hidden, "all of the chunk, and nothing else");
        }
    }
    for lengths in
        ["Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: 5, 6\r\n", "Content-Length: +5\r\n"]
    {
        let request = format!("POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lengths}\r\nhello!");
        assert_eq!(ask(balancer.main, &request).await.status, 400, "{lengths}");
    }
    assert_eq!(Bare::only(&balancer).await.seen("/hidden").await.came, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_seen_to_and_counted() {
    let balancer = setup().start().await;
    for (n, path) in ["/cut", "/cut-chunked"].into_iter().enumerate() {
        let answer = ask(balancer.main, &get(path)).await;
        assert_eq!((answer.status, answer.complete), (200, false), "{path}: {}", answer.text());
        wait_until("it is counted", LONG, async || {
            let broken = balancer.metric("slipring_answers_broken_total", "replica=\"Server-1\"").await;
            if broken == (n + 1) as f64 { Ok(()) } else { Err(format!("{path}: {broken}")) }
        })
        .await;
    }
    assert_eq!(ask(balancer.main, &get("/chunked")).await.text(), "hello world");
    assert_eq!(balancer.metric("slipring_answers_broken_total", "").await, 2.0, "a whole one is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tunnel_is_made() {
    let balancer = setup().start().await;
    for request in [
        "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n",
        "CONNECT a.example:80 HTTP/1.0\r\n\r\n",
    ] {
        let answer = ask(balancer.main, request).await;
        assert_eq!(answer.status, 405, "{}", answer.head);
        assert!(answer.headers("allow").iter().any(|allow| allow.contains("GET")), "{}", answer.head);
        refusal(&answer);
    }
    assert_eq!(balancer.metric("slipring_requests_total", "").await, 0.0, "no replica was asked");
}

#[track_caller]
fn refusal(answer: &RawAnswer) {
    let body: Value = serde_json::from_slice(&answer.body).expect("the contract's shape");
    assert_eq!(body["status"], "failure", "{body}");
    assert!(body["message"].as_str().is_some_and(|message| message.starts_with("<Error> ")), "{body}");
}

/// RFC 9112 section 3.2.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_one_host_is_refused() {
    let balancer = setup().start().await;
    for path in ["/a", "/rep"] {
        for port in [balancer.main, balancer.admin] {
            for hosts in
                ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host: a/b\r\n"]
            {
                let answer = ask(port, &format!("GET {path} HTTP/1.1\r\n{hosts}\r\n")).await;
                assert_eq!(answer.status, 400, "{path} {hosts:?}: {}", answer.head);
                refusal(&answer);
            }
        }
    }
    assert_eq!(Bare::only(&balancer).await.seen("/a").await.came, 0);
    for hosts in ["Host: a\r\n", "Host: [::1]:80\r\n", "Host:\r\n", "Host: under_score:80\r\n"] {
        let answer = ask(balancer.main, &format!("GET /a HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(answer.status, 200, "{hosts:?}: {}", answer.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_1996_is_served() {
    let balancer = setup().start().await;
    let mut client = Wire::sending(balancer.main, "GET /chunked HTTP/1.0\r\n\r\n").await;
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello world"), "{}", answer.head);
    assert!(answer.headers("transfer-encoding").is_empty(), "it knows no chunks: {}", answer.head);
    client.end().await;
    let answer = ask(balancer.main, "GET /seen-by-the-replica HTTP/1.0\r\n\r\n").await;
    let seen: Value = serde_json::from_slice(&answer.body).expect("the replica's words");
    let head = seen["head"].as_str().expect("a head").to_lowercase();
    assert!(head.contains(" http/1.1\r\n") && head.contains("via: 1.0 slipring\r\n"), "{head}");
    assert!(head.contains("host:"), "an HTTP/1.1 request has one: {head}");
    let mut kept =
        Wire::sending(balancer.main, "GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(kept.answer().await.expect("an answer").text(), "hello world");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_length_of_what_it_leaves_out() {
    let balancer = setup().start().await;
    let mut client = Wire::to(balancer.main).await;
    for path in ["/plain", "/plain"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let head = client.answer_to_head().await.expect("an answer");
        assert_eq!((head.status, head.headers("content-length")), (200, vec!["11"]), "{}", head.head);
        client.send(get(path)).await;
        let whole = client.answer().await.expect("nothing is left over from HEAD");
        assert_eq!((whole.status, whole.text().as_str()), (200, "hello world"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_an_ipv6_address_is_named_in_brackets() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skipped("ipv6", "this machine has no IPv6 loopback");
    }
    let balancer = setup().set("listen", "[::1]:0").start().await;
    let answer = ask(balancer.main, &get("/a")).await;
    let seen: Value = serde_json::from_slice(&answer.body).expect("the replica's words");
    let head = seen["head"].as_str().expect("a head").to_lowercase();
    assert!(head.contains("forwarded: for=\"[::1]\";host=\"a\";proto=http\r\n"), "{head}");
    assert!(head.contains("x-forwarded-for: ::1\r\n"), "{head}");
}

async fn came(balancer: &Balancer, path: &str) -> u64 {
    Bare::only(balancer).await.seen(path).await.came
}

/// The replica let an idle connection go, and the balancer knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_has_ended_is_not_used() {
    let balancer = setup().start().await;
    let bare = Bare::only(&balancer).await;
    let mut client = Wire::to(balancer.main).await;
    let post = "POST /after HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".to_owned();
    for (round, request) in [post.clone(), get("/after"), post].into_iter().enumerate() {
        client.send(get("/farewell")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        bare.until("the balancer lets go as well", "/farewell", |seen| seen.open == 0).await;
        client.send(request).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200, "round {round}");
        assert_eq!(came(&balancer, "/after").await, round as u64 + 1);
    }
}

/// The replica ends a kept connection just when the next request comes over it. A GET may be sent again; whether a
/// POST was begun nobody knows, so that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_never_sent_twice() {
    let balancer = setup().start().await;
    let mut client = Wire::to(balancer.main).await;
    for round in 1..=3 {
        client.send(get("/last")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        client.send(get("/again")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200, "round {round}");
        assert!(came(&balancer, "/again").await <= 2 * round);

        client.send(get("/last")).await;
        assert_eq!(client.answer().await.expect("an answer").status, 200);
        client.send("POST /once HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        let answer = client.answer().await.expect("an answer");
        assert!(matches!(answer.status, 200 | 502), "{}", answer.head);
        assert_eq!(came(&balancer, "/once").await, round, "round {round}: {}", answer.head);
        if answer.headers("connection").contains(&"close") {
            client = Wire::to(balancer.main).await;
        }
    }
}
