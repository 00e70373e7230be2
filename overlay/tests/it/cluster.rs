//! The processes of an overlay.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use slipring_overlay::node::{self, Options};
use slipring_overlay::topology::{Overrides, Profile, Topology};
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest, QueryResponse};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;

use crate::data::{self, Row};

/// What a process is started with otherwise than the rest.
type Change = Box<dyn Fn(&str, &mut Options)>;

/// See the module. Dropped, all of them are ended.
pub(crate) struct Cluster {
    pub(crate) rows: Vec<Row>,
    folder: tempfile::TempDir,
    topology: Topology,
    overrides: Overrides,
    change: Change,
    processes: BTreeMap<String, Option<Runtime>>,
    own: Runtime,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for runtime in std::mem::take(&mut self.processes).into_values().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// The six of the contract.
pub(crate) fn six() -> Value {
    serde_json::from_str(include_str!("../../topologies/baseline.json")).expect("it is JSON")
}

/// The six, with two more workers below both team leaders, and each day on two workers.
pub(crate) fn ring() -> Value {
    let mut file = six();
    file["placement"] = "ring".into();
    file["replicas"] = 2.into();
    for parent in ["B", "E"] {
        let all = json!(["A", "C", "D", "F", "G"]);
        file["processes"][parent]["neighbors"] = all;
    }
    file["processes"]["G"] = file["processes"]["D"].clone();
    file["processes"]["G"]["id"] = "G".into();
    file
}

impl Cluster {
    /// Starts all processes of a file on free ports, on a data set of its own, beside which the file is
    /// `overlay.json`.
    pub(crate) fn start(file: Value, profile: Option<Profile>) -> Self {
        Self::start_with(file, profile, |_, _| ())
    }

    /// The same, and `change` says what each of them does not do as the rest.
    pub(crate) fn start_with(
        mut file: Value,
        profile: Option<Profile>,
        change: impl Fn(&str, &mut Options) + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let rows = data::write(folder.path(), 7);
        let mut listeners = BTreeMap::new();
        for (id, process) in file["processes"].as_object_mut().expect("an object") {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
            process["port"] = listener.local_addr().expect("it is bound").port().into();
            listeners.insert(id.clone(), listener);
        }
        std::fs::write(folder.path().join("overlay.json"), file.to_string()).expect("a file can be written");
        let topology = Topology::parse(&file.to_string()).expect("the file is right");
        let overrides = Overrides { profile, ..Overrides::default() };
        let own = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let (change, processes) = (Box::new(change), BTreeMap::new());
        let mut cluster = Self { rows, folder, topology, overrides, change, processes, own };
        for (id, listener) in listeners {
            cluster.run(&id, listener);
        }
        cluster
    }

    fn run(&mut self, id: &str, listener: std::net::TcpListener) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        listener.set_nonblocking(true).expect("it is ours");
        let mut options = Options {
            topology: self.topology.clone(),
            id: id.to_owned(),
            overrides: self.overrides,
            dataset_root: Some(self.folder.path().to_owned()),
            threads: std::num::NonZeroUsize::MIN,
            cache: None,
            limits: node::Limits::default(),
        };
        (self.change)(id, &mut options);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener");
            node::serve(options, listener, std::future::pending()).await.expect("it serves");
        });
        self.processes.insert(id.to_owned(), Some(runtime));
    }

    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Ends a process without a word: its sockets are closed by then.
    pub(crate) fn kill(&mut self, id: &str) {
        let runtime = self.processes.get_mut(id).and_then(Option::take).expect("it runs");
        runtime.shutdown_timeout(Duration::from_secs(10));
    }

    /// Puts something in a process's place that accepts connections and never says a word.
    pub(crate) fn silence(&mut self, id: &str) -> std::net::TcpListener {
        self.kill(id);
        self.listen(id)
    }

    /// Starts one again that was killed.
    pub(crate) fn respawn(&mut self, id: &str) {
        let listener = self.listen(id);
        self.run(id, listener);
    }

    /// Where one listened that was killed.
    fn listen(&self, id: &str) -> std::net::TcpListener {
        let port = self.topology.process(id).expect("it is in the file").port;
        let began = Instant::now();
        loop {
            match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => return listener,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn url(&self, id: &str) -> String {
        format!("http://{}", self.topology.process(id).expect("it is in the file").authority())
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.own
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time") })
    }

    /// What a process answers over HTTP.
    pub(crate) async fn get(&self, id: &str, path: &str) -> Got {
        let (head, body) = open(&self.url(id), path).await.into_parts();
        Got { status: head.status, body: body.collect().await.expect("a whole body").to_bytes() }
    }

    /// Follows what a process, or whoever is before it, says of all; dropped, the connection is ended.
    pub(crate) async fn watch(&self, url: &str) -> (StatusCode, Watcher) {
        let answer = open(url, "/overlay/watch").await;
        (answer.status(), Watcher { body: answer.into_body() })
    }

    pub(crate) async fn client(&self, id: &str) -> OverlayNodeClient<Channel> {
        let url = self.url(id);
        OverlayNodeClient::connect(url).await.expect("it listens").max_decoding_message_size(64 << 20)
    }

    /// Asks a process.
    pub(crate) fn query(&self, id: &str, params: &Value) -> QueryResponse {
        self.block_on(self.ask(id, params, Duration::from_secs(30)))
    }

    /// Asks a process that may take so long.
    pub(crate) async fn ask(&self, id: &str, params: &Value, within: Duration) -> QueryResponse {
        let mut request = tonic::Request::new(question(params));
        request.set_timeout(within);
        self.client(id).await.query(request).await.expect("an answer, before the deadline").into_inner()
    }

    /// Reads all chunks; their texts.
    pub(crate) fn chunks(&self, id: &str, response: &QueryResponse) -> Vec<String> {
        self.block_on(async {
            let mut client = self.client(id).await;
            let mut chunks = Vec::new();
            for chunk_index in 0..response.total_chunks {
                let request = ChunkRequest { uid: response.uid.clone(), chunk_index };
                let chunk = client.get_chunk(request).await.expect("an answer").into_inner();
                assert_eq!((chunk.status.as_str(), chunk.total_chunks), ("success", response.total_chunks));
                assert_eq!(chunk.is_last, chunk_index + 1 == response.total_chunks);
                chunks.push(chunk.data);
            }
            chunks
        })
    }

    /// All records of an answer.
    pub(crate) fn records(&self, id: &str, response: &QueryResponse) -> Vec<Value> {
        let parse = |chunk: &String| serde_json::from_str::<Vec<Value>>(chunk).expect("a JSON array");
        self.chunks(id, response).iter().flat_map(parse).collect()
    }

    /// The rows of the data that `meets` takes, as records show them.
    pub(crate) fn expected(&self, meets: impl Fn(&Row) -> bool) -> Vec<Value> {
        let shown = |row: &Row| {
            json!([row.date.to_string(), row.latitude, row.longitude, row.parameter, row.value, row.site])
        };
        self.rows.iter().filter(|row| meets(row)).map(shown).collect()
    }
}

async fn open(url: &str, path: &str) -> Response<Incoming> {
    let authority = url.trim_start_matches("http://").to_owned();
    let stream = tokio::net::TcpStream::connect(&authority).await.expect("it listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let request = Request::get(path).header("host", authority).body(Empty::<Bytes>::new());
    sender.send_request(request.expect("a request")).await.expect("an answer")
}

/// An answer over HTTP.
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

pub(crate) struct Watcher {
    body: Incoming,
}

impl Watcher {
    /// The next event, which comes in one piece; `None`: there are no more.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        let data = self.body.frame().await?.expect("it ends in order").into_data().expect("data");
        let event = data.strip_prefix(b"data: ").and_then(|data| data.strip_suffix(b"\n\n"));
        Some(serde_json::from_slice(event.expect("one line of data")).expect("JSON"))
    }
}

/// As a client sends it.
pub(crate) fn question(params: &Value) -> QueryRequest {
    QueryRequest { query_type: "filter".into(), query_params: params.to_string(), ..QueryRequest::default() }
}

/// A record, as far as a test's row knows it.
pub(crate) fn shown(record: &Value) -> Value {
    let field = |name: &str| record[name].clone();
    json!([
        field("date"),
        field("latitude"),
        field("longitude"),
        field("parameter"),
        field("value"),
        field("site_name")
    ])
}
