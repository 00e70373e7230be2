//! Units and their balancer in this process, each with a thread of its own, as they have as processes; on free ports of the
//! loopback.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use slipring_units::config::Config;
use slipring_units::{Places, balancer, unit};
use slipring_waves::topology::Tree;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc as unbounded, oneshot};

/// The tree of the contract: by place in depth-first order, its parent and cores.
pub(crate) const SEED: [(Option<usize>, u32); 8] = [
    (None, 4),
    (Some(0), 2),
    (Some(1), 6),
    (Some(1), 4),
    (Some(3), 6),
    (Some(3), 2),
    (Some(5), 8),
    (Some(0), 6),
];

/// The longest that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for clusters at a time. One that keeps the machine busy takes all of it: the links of the others would be too slow.
const ROOM: u32 = 64;
static PLACES: Semaphore = Semaphore::const_new(ROOM as usize);

struct Running {
    end: oneshot::Sender<()>,
    freeze: unbounded::UnboundedSender<Frozen>,
    thread: JoinHandle<()>,
}

/// A thread that stands still: it says so, and then waits for the other end of a channel to go.
struct Frozen(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>);

/// It stands still for as long as this is there.
pub(crate) struct Thaw(#[expect(dead_code, reason = "it is dropped")] std::sync::mpsc::Sender<()>);

impl Running {
    /// What serves on a listener until it is told to end.
    fn start<F: Future<Output = ()>>(
        listener: TcpListener,
        serve: impl FnOnce(tokio::net::TcpListener, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Self {
        let (end, ended) = oneshot::channel();
        let (freeze, mut freezing) = unbounded::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                listener.set_nonblocking(true).expect("a socket");
                let serving = serve(tokio::net::TcpListener::from_std(listener).expect("a socket"), ended);
                let freezing = async {
                    while let Some(Frozen(stands, thaw)) = freezing.recv().await {
                        stands.send(()).expect("the test waits");
                        // The whole thread, and so all of the unit; the end is that nobody is there any more.
                        thaw.recv().expect_err("nothing is sent");
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = serving => {}
                    () = freezing => {}
                }
            });
        });
        Self { end, freeze, thread }
    }

    /// It does nothing any more, as after a SIGSTOP: its connections are open, and nobody reads them.
    async fn freeze(&self) -> Thaw {
        let (stands, standing) = oneshot::channel();
        let (thaw, thawed) = std::sync::mpsc::channel();
        drop(self.freeze.send(Frozen(stands, thawed)));
        standing.await.expect("it runs");
        Thaw(thaw)
    }

    fn stop(self) {
        drop(self.end);
        self.thread.join().expect("it ended as it should");
    }
}

/// See the module.
pub(crate) struct Cluster {
    /// Ports of the units, in the order of the shape.
    pub ports: Vec<u16>,
    /// The balancer's.
    pub balancer: u16,
    pub tree: Arc<Tree>,
    config: Config,
    state: tempfile::TempDir,
    units: BTreeMap<u16, Running>,
    begun: Option<Running>,
    _place: SemaphorePermit<'static>,
}

fn nested(shape: &[(Option<usize>, u32)], ports: &[u16], place: usize) -> Value {
    let children = (0..shape.len()).filter(|child| shape[*child].0 == Some(place));
    let children: Vec<_> = children.map(|child| nested(shape, ports, child)).collect();
    json!({"name": format!("unit{place}"), "port": ports[place], "cpu": shape[place].1, "children": children})
}

impl Cluster {
    /// All of them linked.
    pub(crate) async fn start(shape: &[(Option<usize>, u32)], config: &str) -> Self {
        Self::start_with(shape, config, 1).await
    }

    /// The same, while no other test runs.
    pub(crate) async fn start_alone(shape: &[(Option<usize>, u32)], config: &str) -> Self {
        Self::start_with(shape, config, ROOM).await
    }

    async fn start_with(shape: &[(Option<usize>, u32)], config: &str, places: u32) -> Self {
        let place = PLACES.acquire_many(places).await.expect("never closed");
        let mut listeners = Vec::new();
        for _ in 0..=shape.len() {
            listeners.push(TcpListener::bind("127.0.0.1:0").expect("a free port"));
        }
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        let own = listeners.pop().expect("one more than units");
        let ports: Vec<_> = listeners.iter().map(port).collect();
        let tree = Tree::parse(&nested(shape, &ports, 0).to_string()).expect("a tree");
        let mut cluster = Self {
            balancer: port(&own),
            ports,
            tree: Arc::new(tree),
            config: Config::parse(config).expect("a configuration"),
            state: tempfile::TempDir::new().expect("a folder"),
            units: BTreeMap::new(),
            begun: None,
            _place: place,
        };
        for listener in listeners {
            cluster.unit(listener);
        }
        cluster.begin(own);
        cluster.linked().await;
        cluster
    }

    fn unit(&mut self, listener: TcpListener) {
        let port = listener.local_addr().expect("bound").port();
        let options = unit::Options {
            tree: Arc::clone(&self.tree),
            port,
            config: self.config.clone(),
            places: Places::default(),
            state: Some(self.state.path().to_owned()),
        };
        let running = Running::start(listener, async |listener, ended| {
            unit::serve(options, listener, async move { drop(ended.await) }).await.expect("it serves");
        });
        self.units.insert(port, running);
    }

    fn begin(&mut self, listener: TcpListener) {
        let options = balancer::Options {
            tree: Arc::clone(&self.tree),
            port: self.balancer,
            config: self.config.clone(),
            places: Places::default(),
        };
        self.begun = Some(Running::start(listener, async |listener, ended| {
            balancer::serve(options, listener, async move { drop(ended.await) }).await.expect("it serves");
        }));
    }

    /// Until every unit has its place and the balancer knows all of them.
    pub(crate) async fn linked(&self) {
        self.wait("all are linked", async || {
            let units = self.get(self.balancer, "/units").await?;
            let hangs = |unit: &Value| unit["is_live"] == json!(true) && unit["link"] == unit["parent"];
            units["units"].as_array()?.iter().all(hangs).then_some(())
        })
        .await;
    }

    /// Ends a unit; its tasks stay in its journal.
    pub(crate) fn stop(&mut self, port: u16) {
        self.units.remove(&port).expect("it runs").stop();
    }

    /// A unit stands still until what is returned is dropped.
    pub(crate) async fn freeze(&self, port: u16) -> Thaw {
        self.units[&port].freeze().await
    }

    /// A listener in the place of a unit that was stopped.
    pub(crate) async fn instead_of(&self, port: u16) -> tokio::net::TcpListener {
        let listener = listen(port).await;
        listener.set_nonblocking(true).expect("a socket");
        tokio::net::TcpListener::from_std(listener).expect("a socket")
    }

    /// Starts it again.
    pub(crate) async fn restart(&mut self, port: u16) {
        self.unit(listen(port).await);
    }

    pub(crate) async fn restart_balancer(&mut self) {
        self.begun.take().expect("it runs").stop();
        let listener = listen(self.balancer).await;
        self.begin(listener);
        self.linked().await;
    }

    /// A call without a body; its answer as JSON, whatever its status.
    pub(crate) async fn call(&self, method: &str, port: u16, path: &str) -> (u16, Value) {
        let (status, text) =
            http(method, port, path).await.unwrap_or_else(|| panic!("{port} does not answer {path}"));
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A GET that is answered by 200.
    pub(crate) async fn get(&self, port: u16, path: &str) -> Option<Value> {
        let (status, text) = http("GET", port, path).await?;
        (status == 200).then(|| serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What the balancer tells those who watch.
    pub(crate) async fn watch(&self) -> Lines {
        let mut stream = TcpStream::connect(("127.0.0.1", self.balancer)).await.expect("it listens");
        let request = "GET /watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("it reads");
        Lines(BufReader::new(stream))
    }

    /// Looks again and again; what it was waiting for is told when it is not seen in time.
    pub(crate) async fn wait<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(seen) = look().await {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(seen) => seen,
            Err(_) => {
                panic!("not within {PATIENCE:?}: {what}; {:?}", self.get(self.balancer, "/units").await)
            }
        }
    }

    /// Every task by name, wherever it is, and whether it is finished.
    pub(crate) async fn tasks(&self) -> Vec<String> {
        let mut all = Vec::new();
        for port in &self.ports {
            let tasks = self.get(*port, "/tasks").await.expect("a live unit");
            let reserved = tasks["reserved"].as_object().expect("by target").values();
            let lists = [&tasks["running"], &tasks["queued"], &tasks["recent"]];
            for list in lists.into_iter().chain(reserved) {
                all.extend(
                    list.as_array()
                        .expect("names")
                        .iter()
                        .map(|name| name.as_str().expect("a name").to_owned()),
                );
            }
        }
        all.sort();
        all
    }
}

/// A stream of JSON objects.
pub(crate) struct Lines(BufReader<TcpStream>);

impl Lines {
    /// The next one.
    pub(crate) async fn next(&mut self) -> String {
        let reading = async {
            let mut line = String::new();
            loop {
                line.clear();
                assert_ne!(self.0.read_line(&mut line).await.expect("text"), 0, "the stream ended");
                if let Some(object) = line.strip_prefix("data: ") {
                    return object.trim_end().to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("something is told in time")
    }
}

async fn listen(port: u16) -> TcpListener {
    // The last one's connections may not be gone yet.
    let binding = async {
        loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, binding).await.expect("the port is free again")
}

async fn http(method: &str, port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body.split("\r\n").skip(1).step_by(2).collect()
    } else {
        body.to_owned()
    };
    Some((status, body))
}
