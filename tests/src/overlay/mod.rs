//! The processes of an overlay, as a user starts them: each one of its own, on a port that is its own for the whole test,
//! so that one that was killed can be started again where the others look for it.

mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest, QueryResponse};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::timeout;

use crate::balancer::{Log, command};
use crate::faults::Process;
use crate::http::Http;
use crate::skip::check_required;
use crate::wait::wait_until;

pub use rows::{DAYS, Row, Rows};

/// From the start of a process until it serves, on a slow machine, in a build that is not optimised.
const START: Duration = Duration::from_secs(60);
/// An answer that takes longer is none; no question of a test may.
const ANSWER: Duration = Duration::from_secs(40);

/// The six of the contract, as the file of the profile `baseline` has them.
///
/// # Panics
/// Never: the file is part of this build.
pub fn six() -> Value {
    serde_json::from_str(include_str!("../../../overlay/topologies/baseline.json")).expect("it is JSON")
}

/// The six and one more worker, each day on two of the four, all of which both team leaders know.
pub fn ring() -> Value {
    let mut file = six();
    file["placement"] = "ring".into();
    file["replicas"] = 2.into();
    for parent in ["B", "E"] {
        file["processes"][parent]["neighbors"] = json!(["A", "C", "D", "F", "G"]);
    }
    file["processes"]["G"] = file["processes"]["D"].clone();
    file["processes"]["G"]["id"] = "G".into();
    file
}

/// See the module. Dropped, all of them are killed.
#[derive(Debug)]
pub struct Overlay {
    executable: String,
    folder: TempDir,
    arguments: BTreeMap<String, String>,
    strategies: Vec<String>,
    /// What a process is started through.
    wrappers: BTreeMap<String, Vec<String>>,
    addresses: BTreeMap<String, Http>,
    processes: BTreeMap<String, Running>,
    /// While these are bound the kernel gives their ports to nobody who does not ask for them.
    _places: Vec<Socket>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    child: Child,
    log: Log,
}

impl Overlay {
    /// The processes of `file` on this data set; nothing runs yet. Those without a host of their own listen on this
    /// machine's loopback.
    ///
    /// # Panics
    /// When the file is none, or `SLIPRING_REQUIRE` holds something that there is not.
    pub fn new(executable: &str, mut file: Value, data: &Path) -> Self {
        check_required();
        let folder = TempDir::new().expect("a temporary folder can be made");
        let (mut addresses, mut places) = (BTreeMap::new(), Vec::new());
        for (id, process) in file["processes"].as_object_mut().expect("the processes") {
            let host = process["host"].as_str().expect("a host").replace("localhost", "127.0.0.1");
            if host == "127.0.0.1" {
                let (place, port) = place();
                places.push(place);
                process["port"] = port.into();
            }
            let port = process["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
            let address = (host.parse::<std::net::IpAddr>().expect("an address"), port).into();
            process["host"] = host.into();
            addresses.insert(id.clone(), Http { address });
        }
        std::fs::write(folder.path().join("overlay.json"), file.to_string()).expect("the folder is ours");
        Self {
            executable: executable.to_owned(),
            folder,
            arguments: BTreeMap::new(),
            strategies: Vec::new(),
            wrappers: BTreeMap::new(),
            addresses,
            processes: BTreeMap::new(),
            _places: places,
        }
        .with("--dataset-root", &data.display().to_string())
        .with("--cache", "none")
    }

    /// Every process is told this.
    #[must_use]
    fn with(mut self, flag: &str, value: &str) -> Self {
        self.arguments.insert(flag.to_owned(), value.to_owned());
        self
    }

    /// This process is started through another program, whose arguments the executable and its own are.
    #[must_use]
    pub fn under(mut self, id: &str, wrapper: &[&str]) -> Self {
        self.wrappers.insert(id.to_owned(), wrapper.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// Where partitions are kept, if it is told [`Overlay::cached`].
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// With a folder for partitions that outlives each process.
    #[must_use]
    pub fn cached(self) -> Self {
        let cache = self.cache().display().to_string();
        self.with("--cache", &cache)
    }

    /// Kills those that run, and starts all of them with these strategies.
    pub async fn start_as(&mut self, strategies: &[&str]) {
        for id in self.processes.keys().cloned().collect::<Vec<_>>() {
            self.kill(&id).await;
        }
        self.strategies = strategies.iter().map(|&word| word.to_owned()).collect();
        self.start().await;
    }

    /// Starts all of them, and waits until each one serves and the leader knows what all workers hold.
    pub async fn start(&mut self) {
        let ids = self.ids();
        ids.iter().for_each(|id| self.spawn(id));
        for id in &ids {
            self.live(id).await;
        }
        self.complete().await;
    }

    /// Waits until the leader, A, answers completely.
    ///
    /// # Panics
    /// When it does not.
    pub async fn complete(&self) {
        let leader = self.grpc("A");
        wait_until("the leader answers completely", START, async || {
            match leader.ask(&json!({ "limit": 0 })).await {
                Ok(answer) if answer.status == "ready" => Ok(()),
                said => Err(format!("{said:?}")),
            }
        })
        .await;
    }

    /// Starts one of them.
    ///
    /// # Panics
    /// When the executable is none.
    pub fn spawn(&mut self, id: &str) {
        let wrapper = self.wrappers.get(id).into_iter().flatten().map(Path::new);
        let file = self.folder.path().join("overlay.json");
        let own = [Path::new(&self.executable), "overlay".as_ref(), "node".as_ref(), &file, id.as_ref()];
        let mut words = wrapper.chain(own);
        let mut command = command(words.next().expect("at least the executable"));
        command.args(words).args(self.arguments.iter().flat_map(|(flag, value)| [flag, value]));
        command.args(&self.strategies).stdin(Stdio::null());
        let mut child = command.spawn().expect("the executable can be started");
        let process = Process::new(child.id().expect("it was not waited for"));
        let log = Log::default();
        tokio::spawn(log.clone().listen(child.stderr.take().expect("it is piped"), None));
        tokio::spawn(log.clone().listen(child.stdout.take().expect("it is piped"), None));
        self.processes.insert(id.to_owned(), Running { process, child, log });
    }

    /// Waits until one serves: its partitions are loaded.
    ///
    /// # Panics
    /// When it does not, or has ended.
    pub async fn live(&self, id: &str) {
        let http = self.http(id);
        wait_until(&format!("process {id} serves"), START, async || {
            let request = http.request(Method::GET, "/heartbeat").body(Default::default());
            match http.send(request.expect("a valid request")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                said => Err(format!("{said:?}; it said:\n{}", self.log(id))),
            }
        })
        .await;
    }

    /// `kill -9`; it has ended then.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn kill(&mut self, id: &str) {
        self.processes[id].process.kill();
        self.ended(id, START).await;
    }

    /// Waits for the end of one.
    ///
    /// # Panics
    /// When it does not end `within` the time.
    pub async fn ended(&mut self, id: &str, within: Duration) -> ExitStatus {
        let mut running = self.processes.remove(id).expect("it runs");
        match timeout(within, running.child.wait()).await {
            Ok(status) => status.expect("it can be waited for"),
            Err(_) => panic!("process {id} runs on after {within:?}; it said:\n{}", running.log.text()),
        }
    }

    /// One of those that run, as the kernel knows it.
    pub fn process(&self, id: &str) -> Process {
        self.processes[id].process
    }

    /// Processor time that those which run have used.
    pub fn cpu(&self) -> Duration {
        self.processes.values().map(|running| running.process.cpu()).sum()
    }

    /// Their names.
    pub fn ids(&self) -> Vec<String> {
        self.addresses.keys().cloned().collect()
    }

    /// One of them, over HTTP.
    pub fn http(&self, id: &str) -> Http {
        self.addresses[id]
    }

    /// One of them, over gRPC.
    pub fn grpc(&self, id: &str) -> Grpc {
        Grpc { url: format!("http://{}", self.http(id).address) }
    }

    /// Everything that one printed up to now.
    pub fn log(&self, id: &str) -> String {
        self.processes.get(id).map(|running| running.log.text()).unwrap_or_default()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (id, running) in &self.processes {
                eprintln!("{id} said:\n{}", running.log.text());
            }
        }
    }
}

/// A port that is nobody else's while the socket lives: whoever names it can listen there, because both let others
/// use their address and this one does not listen.
fn place() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.set_reuse_address(true).expect("it is ours");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a port is free");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    (socket, address.port())
}

/// A process as a client of the contract sees it; each call on a connection of its own.
#[derive(Clone, Debug)]
pub struct Grpc {
    url: String,
}

impl Grpc {
    /// Asks; `Err` is no answer at all.
    pub async fn ask(&self, params: &Value) -> Result<QueryResponse, String> {
        self.query(QueryRequest { query_params: params.to_string(), ..filter() }).await
    }

    /// Asks; `Err` is no answer at all.
    pub async fn query(&self, request: QueryRequest) -> Result<QueryResponse, String> {
        let answer = async {
            let mut client =
                OverlayNodeClient::connect(self.url.clone()).await.map_err(|error| error.to_string())?;
            client.query(request).await.map_err(|status| status.to_string())
        };
        let answer = timeout(ANSWER, answer).await.map_err(|_| format!("no answer within {ANSWER:?}"))??;
        Ok(answer.into_inner())
    }

    /// All records of an answer, read chunk by chunk: what is between the brackets of the chunks.
    pub async fn records(&self, answer: &QueryResponse) -> Result<String, String> {
        let reading = async {
            let client = OverlayNodeClient::connect(self.url.clone()).await;
            let mut client = client.map_err(|error| error.to_string())?.max_decoding_message_size(64 << 20);
            let mut records = String::new();
            for chunk_index in 0..answer.total_chunks {
                let request = ChunkRequest { uid: answer.uid.clone(), chunk_index };
                let chunk =
                    client.get_chunk(request).await.map_err(|status| status.to_string())?.into_inner();
                if chunk.status != "success" {
                    return Err(chunk.status);
                }
                assert_eq!(
                    (chunk.chunk_index, chunk.total_chunks, chunk.is_last),
                    (chunk_index, answer.total_chunks, chunk_index + 1 == answer.total_chunks)
                );
                let inside = chunk.data.strip_prefix('[').and_then(|data| data.strip_suffix(']'));
                let inside = inside.unwrap_or_else(|| panic!("no array: {}", chunk.data));
                if !records.is_empty() {
                    records.push(',');
                }
                records.push_str(inside);
            }
            Ok(records)
        };
        timeout(ANSWER, reading).await.map_err(|_| format!("not read within {ANSWER:?}"))?
    }
}

/// A question without conditions.
pub fn filter() -> QueryRequest {
    QueryRequest { query_type: "filter".into(), query_params: "{}".into(), ..QueryRequest::default() }
}
