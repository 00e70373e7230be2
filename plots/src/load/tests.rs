//! The generators on a paused clock, and the client against a server that misbehaves on request.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::client::{Client, TargetError};
use super::closed;
use super::open::{self, Plan, PlanError, Sample};
use super::pace::{Alarm, Ticks};

const SECOND: Duration = Duration::from_secs(1);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn plan(rate: f64, timeout: Duration, in_flight: usize) -> Plan {
    Plan::new(rate, SECOND, timeout, in_flight).unwrap()
}

async fn samples<F>(plan: &Plan, send: impl Fn(u64) -> F) -> Vec<Sample<u64>>
where
    F: Future<Output = u64> + Send + 'static,
{
    let mut samples = Vec::new();
    open::run(plan, &mut Ticks, Instant::now(), send, |sample| samples.push(sample)).await;
    samples.sort_by_key(|sample| sample.n);
    samples
}

#[tokio::test(start_paused = true)]
async fn requests_leave_when_they_are_due_not_when_others_are_answered() {
    let plan = plan(100.0, SECOND, 1000);
    let samples = samples(&plan, |n| async move {
        sleep(ms(250)).await; // paused clock
        n
    })
    .await;
    assert_eq!(samples.len(), 100);
    for sample in &samples {
        assert_eq!(sample.outcome, Some(sample.n));
        assert_eq!(sample.due, ms(10 * sample.n));
        assert!(sample.lateness() <= ms(1), "{sample:?}");
        assert!(sample.latency() >= ms(250) && sample.latency() <= ms(252), "{sample:?}");
    }
}

/// Counts requests in flight, those that are given up included.
struct Flight {
    flying: Arc<AtomicUsize>,
    others: usize,
}

impl Flight {
    fn begin(flying: &Arc<AtomicUsize>) -> Flight {
        let others = flying.fetch_add(1, Ordering::SeqCst);
        Flight { flying: Arc::clone(flying), others }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flying.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_in_the_generator_is_latency_and_not_hidden() {
    let flying = Arc::new(AtomicUsize::new(0));
    let plan = plan(100.0, ms(500), 2);
    let samples = samples(&plan, |n| {
        let flight = Flight::begin(&flying);
        async move {
            assert!(flight.others < 2, "more in flight than allowed");
            sleep(ms(100)).await; // paused clock
            n
        }
    })
    .await;
    // 100 a second arrive, 20 a second can be served: the queue grows until the deadline cuts it.
    assert_eq!(samples.len(), 100, "every request that was due is accounted for");
    let (answered, given_up): (Vec<_>, Vec<_>) = samples.iter().partition(|sample| sample.outcome.is_some());
    assert!((8..20).contains(&answered.len()), "{} answered", answered.len());
    let slowest = answered.iter().map(|sample| sample.latency()).max().unwrap();
    assert!(slowest > ms(400) && slowest <= ms(500), "{slowest:?}");
    for sample in given_up {
        assert!(sample.latency() >= ms(500) && sample.latency() <= ms(502), "{sample:?}");
    }
    assert!(samples[99].lateness() > ms(400), "{:?}", samples[99]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_ends_at_its_deadline() {
    let plan = plan(10.0, ms(300), 100);
    let samples = samples(&plan, |_| pending::<u64>()).await;
    assert_eq!(samples.len(), 10);
    for sample in &samples {
        assert_eq!(sample.outcome, None);
        assert!(sample.latency() >= ms(300) && sample.latency() <= ms(302), "{sample:?}");
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let refused = |rate, seconds, in_flight| {
        Plan::new(rate, Duration::from_secs(seconds), SECOND, in_flight).unwrap_err()
    };
    assert_eq!(refused(0.0, 1, 1), PlanError::Rate(0.0));
    assert_eq!(refused(-5.0, 1, 1), PlanError::Rate(-5.0));
    assert_eq!(refused(0.1, 1, 1), PlanError::Requests(0.0));
    assert_eq!(refused(1e6, 86_400, 1), PlanError::Requests(86.4e9));
    assert_eq!(refused(10.0, 1, 0), PlanError::InFlight);
    assert_eq!(plan(500.0, SECOND, 1).requests(), 500);
}

#[tokio::test(start_paused = true)]
async fn the_closed_loop_keeps_so_many_in_flight_and_no_more() {
    let flying = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let mut seen = Vec::new();
    let send = |n| {
        let flight = Flight::begin(&flying);
        most.fetch_max(flight.others + 1, Ordering::SeqCst);
        async move {
            sleep(ms(10 + n % 7)).await; // paused clock
            drop(flight);
            n
        }
    };
    closed::run(1000, 25, send, |n| seen.push(n)).await;
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<u64>>());
    assert_eq!(most.load(Ordering::SeqCst), 25);
}

/// A server that does what the path says.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(behave));
                // A client that goes away is none of the server's concern.
                tokio::spawn(async move { drop(serve.await) });
            }
        });
        Server { url, connections, task }
    }

    fn client(&self) -> Client {
        Client::new(&self.url, Some("secret"), Duration::from_secs(10)).unwrap()
    }
}

async fn behave(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let reply =
        |status: StatusCode, body: String| Response::builder().status(status).body(body.into()).unwrap();
    Ok(match request.uri().path() {
        "/home" => {
            let mut response = reply(StatusCode::OK, "hello".to_owned());
            response.headers_mut().insert("x-slipring-replica", "Server-2".parse().unwrap());
            response
        }
        "/foreign" => reply(
            StatusCode::OK,
            json!({"message": "Hello from Server: 3", "status": "successful"}).to_string(),
        ),
        "/once" => {
            let mut response = reply(StatusCode::OK, "bye".to_owned());
            response.headers_mut().insert("connection", "close".parse().unwrap());
            response
        }
        "/sick" => reply(StatusCode::SERVICE_UNAVAILABLE, "later".to_owned()),
        "/token" => {
            let token = request.headers().get("authorization").map(|value| value.to_str().unwrap());
            reply(StatusCode::OK, token.unwrap_or("none").to_owned())
        }
        "/huge" => reply(StatusCode::OK, "x".repeat(5 * 1024 * 1024)),
        "/cut" => return Err(std::io::Error::other("hung up")),
        "/hang" => pending::<Result<_, Infallible>>().await.unwrap_or_else(|never| match never {}),
        path => reply(StatusCode::NOT_FOUND, path.to_owned()),
    })
}

#[tokio::test]
async fn who_answered_is_read_from_the_header_or_the_greeting() {
    let server = Server::start().await;
    let client = server.client();
    let replica = async |path| client.get(path).await.unwrap().replica();
    assert_eq!(replica("/home").await.as_deref(), Some("Server-2"));
    assert_eq!(replica("/foreign").await.as_deref(), Some("Server-3"));
    assert_eq!(replica("/once").await, None);
}

#[tokio::test]
async fn a_connection_is_reused_until_the_server_closes_it() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..50 {
        assert_eq!(client.get("/home").await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    for _ in 0..10 {
        assert_eq!(client.get("/once").await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 10, "each closes one, the first of them the old");
}

#[tokio::test]
async fn failures_are_told_apart_and_nothing_is_retried() {
    let server = Server::start().await;
    let client = server.client();
    assert_eq!(client.get("/sick").await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(client.get("/huge").await.unwrap_err().kind(), "body");
    let before = server.connections.load(Ordering::SeqCst);
    assert_eq!(client.get("/cut").await.unwrap_err().kind(), "exchange");
    assert!(server.connections.load(Ordering::SeqCst) <= before + 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&nobody, None, SECOND).unwrap();
    assert_eq!(client.get("/home").await.unwrap_err().kind(), "connect");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_a_timeout() {
    let server = Server::start().await;
    let began = Instant::now();
    assert_eq!(server.client().get("/hang").await.unwrap_err().kind(), "timeout");
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn the_token_goes_to_the_admin_interface_and_nowhere_else() {
    let server = Server::start().await;
    let client = server.client();
    assert_eq!(client.get("/token").await.unwrap().body, "none");
    assert_eq!(client.call(Method::GET, "/token", None).await.unwrap().body, "Bearer secret");
}

#[test]
fn what_is_no_target_is_refused() {
    let refused = |url: &str, token| Client::new(url, token, SECOND).unwrap_err();
    assert!(matches!(
        refused("localhost:5000", None),
        TargetError::Malformed { .. } | TargetError::Scheme { .. }
    ));
    assert!(matches!(refused("https://localhost", None), TargetError::Scheme { .. }));
    assert!(matches!(refused("http:///home", None), TargetError::Malformed { .. }));
    assert_eq!(refused("http://localhost", Some("a\nb")), TargetError::Token);
}

#[tokio::test]
async fn open_load_over_http_accounts_for_every_request() {
    let server = Server::start().await;
    let client = Arc::new(server.client());
    let plan = Plan::new(2000.0, ms(100), Duration::from_secs(10), 64).unwrap();
    let mut kinds = [0; 3];
    let send = |n: u64| {
        let client = Arc::clone(&client);
        async move { client.get(["/home", "/sick", "/cut"][(n % 3) as usize]).await }
    };
    open::run(&plan, &mut Alarm::new().unwrap(), Instant::now(), send, |sample| {
        match sample.outcome.unwrap() {
            Ok(answer) if answer.status.is_success() => kinds[0] += 1,
            Ok(_) => kinds[1] += 1,
            Err(_) => kinds[2] += 1,
        }
    })
    .await;
    assert_eq!(kinds, [67, 67, 66]);
}
