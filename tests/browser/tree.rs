//! A balancer inside the test with one pool of given members, which are one server of the test's own: it tells what units
//! once told (a recording), and whatever a test wants told, also what no unit says.
//!
//! The balancer, its stream and its relay are the real ones; only who is asked is not. `waves.rs` has real units.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use slipring_balancer::app::Balancer;
use slipring_balancer::config::{Config, Contained, FixedMember, Given, OverlayKeys, Sources};
use slipring_balancer::inherit::Inherited;
use slipring_tests::upstream::{Answering, Upstream, whole};
use slipring_tests::{Http, wait_until};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const FIXTURE: &str = include_str!("fixtures/waves.jsonl");

/// See the module. Dropped, everything of it ends.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The admin port.
    pub(crate) admin: Http,
    /// Who is asked.
    pub(crate) unit: Upstream,
    /// What that tells, from now on.
    pub(crate) tells: broadcast::Sender<String>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// How the units were when they were recorded.
pub(crate) fn units() -> Value {
    fixture().remove(0)
}

/// The waves of the recording: an Echo with its moves, a Finn, a Barrier.
pub(crate) fn waves() -> Vec<Value> {
    fixture().split_off(1)
}

fn fixture() -> Vec<Value> {
    FIXTURE.lines().map(|line| serde_json::from_str(line).expect("the fixture is JSON")).collect()
}

/// The one member of the pool, whose address the "file" is.
fn member(keys: OverlayKeys<'_>) -> Result<Vec<FixedMember>, Vec<(&'static str, String)>> {
    let address: SocketAddr = keys.topology.to_str().and_then(|path| path.parse().ok()).expect("an address");
    Ok(vec![FixedMember {
        name: "unit-8000".into(),
        role: "root".into(),
        is_routed: true,
        host: address.ip().to_string(),
        port: address.port(),
        is_here: false, // somebody else starts it: the test
        process: Vec::new(),
        container: Contained::default(),
        watch: Some("/waves/watch".into()),
        links: Vec::new(),
        digest: 0,
    }])
}

impl Tree {
    /// Starts everything; the pool is called `tree`, and these keys are set beside its own.
    pub(crate) async fn start(keys: &[(&str, &str)]) -> Self {
        let tells = broadcast::Sender::new(64);
        let unit = serve(tells.clone()).await;
        let mut flags = vec![
            ("listen", "127.0.0.1:0".to_owned()),
            ("admin.listen", "127.0.0.1:0".to_owned()),
            ("fleet.runtime", "process".to_owned()),
            ("fleet.replicas", "0".to_owned()),
            ("state", String::new()),
            ("pool.tree.routes", "/waves/*".to_owned()),
            ("pool.tree.overlay.topology", unit.address.to_string()),
        ];
        flags.extend(keys.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let flags = flags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let sources = Sources { flags, overlay: Some(member), ..Sources::default() };
        let config = Config::load(&sources).expect("the configuration is right");
        let given = Given { overlay: Some(member), ..Given::default() };
        let balancer = Balancer::start(config, given, Inherited::default()).await.expect("it starts");
        balancer.open().await.expect("nobody else listens there");
        let url = balancer.admin_url().expect("it is bound");
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        let admin = Http { address: address.expect("an address") };
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let running = tokio::spawn(async move {
            let left = Box::pin(balancer.run(async move { asked.cancelled().await })).await;
            let left = left.expect("its threads begin");
            assert!(left.is_empty(), "{left:?}");
        });
        let tree = Self { admin, unit, tells, stop, running };
        wait_until("the unit is live", Duration::from_secs(30), async || {
            let answer = tree.admin.get("/readyz").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
        tree
    }

    /// Stops the balancer in order.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(30), &mut self.running).await;
        ended.expect("it ends in time").expect("it ends in order");
    }
}

/// What a unit answers: its watch stream, and what tries a relay.
async fn serve(tells: broadcast::Sender<String>) -> Upstream {
    Upstream::serve(move |request| {
        let tells = tells.clone();
        async move { answer(request, &tells).await }
    })
    .await
}

async fn answer(request: Request<Incoming>, tells: &broadcast::Sender<String>) -> Response<Answering> {
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/waves/watch") => watch(tells),
        ("GET", "/large") => Response::new(whole(vec![b'x'; (1 << 20) + 1])),
        ("GET", "/never") => std::future::pending().await,
        ("POST", "/echo") => {
            let kind = request.headers().get("content-type").cloned();
            let body = request.into_body().collect().await.expect("the relay sends all of it").to_bytes();
            let mut response = Response::new(whole(body));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response.headers_mut().extend(kind.map(|kind| (hyper::header::CONTENT_TYPE, kind)));
            response.headers_mut().insert("x-other", "1".parse().expect("a header"));
            response
        }
        (_, path) => {
            let body = json!({ "status": "error", "reason": format!("{path} is not here") });
            said(StatusCode::NOT_FOUND, &body)
        }
    }
}

fn said(status: StatusCode, body: &Value) -> Response<Answering> {
    let mut response = Response::new(whole(body.to_string()));
    *response.status_mut() = status;
    response
}

/// The units and an Echo, and whatever is told from then on; something that is no object among them.
fn watch(tells: &broadcast::Sender<String>) -> Response<Answering> {
    let live = tells.subscribe();
    let first = [units().to_string(), "no object".to_owned(), waves()[0].to_string()];
    let live = stream::unfold(live, |mut live| async { Some((live.recv().await.ok()?, live)) });
    let lines = stream::iter(first).chain(live);
    let frames = lines.map(|line| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {line}\n\n")))));
    let body = StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", "text/event-stream".parse().expect("a header"));
    response
}
