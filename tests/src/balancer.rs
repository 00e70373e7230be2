//! A balancer of a test's own: configured, started, watched, ended.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::docker::Fleet;
use crate::events::Events;
use crate::faults::Process;
use crate::http::{Answer, Http};
use crate::skip::check_required;
use crate::wait::wait_until;

/// From start to all members live, on a slow machine that may have to build an image first.
const START: Duration = Duration::from_secs(60);
/// An end that nothing holds up.
const END: Duration = Duration::from_secs(30);

/// How a balancer is to be started. Each start of the same setup finds the same folder.
#[derive(Clone, Debug)]
pub struct Setup {
    executable: PathBuf,
    wrapper: Vec<String>,
    role: Vec<String>,
    settings: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    folder: Arc<TempDir>,
    fleet: Option<Arc<Fleet>>,
}

impl Setup {
    /// The executable with three replicas as processes.
    ///
    /// # Panics
    /// When `SLIPRING_REQUIRE` holds something that there is not: also where nothing would be skipped.
    pub fn new(executable: &str) -> Self {
        check_required();
        let setup = Self {
            executable: executable.into(),
            wrapper: Vec::new(),
            role: vec!["balancer".to_owned()],
            settings: BTreeMap::new(),
            environment: BTreeMap::new(),
            folder: Arc::new(TempDir::new().expect("a temporary folder can be made")),
            fleet: None,
        };
        setup.set("listen", "127.0.0.1:0").set("admin.listen", "127.0.0.1:0").set("fleet.runtime", "process")
    }

    /// The executable with containers as replicas: none at first, because the first ones' names could be taken
    /// on this engine. [`Setup::start_with`] adds some.
    pub fn docker(executable: &str, fleet: Arc<Fleet>) -> Self {
        let mut setup = Self::new(executable).set("fleet.runtime", "docker").set("fleet.replicas", 0);
        setup = setup.set("docker.fleet", &fleet.label).set("docker.network", &fleet.network);
        setup.fleet = Some(fleet);
        setup
    }

    /// The executable in front of these addresses, on all paths.
    pub fn fixed(executable: &str, upstreams: &[std::net::SocketAddr]) -> Self {
        let upstreams: Vec<_> = upstreams.iter().map(ToString::to_string).collect();
        let setup = Self::new(executable).set("fleet.runtime", "static");
        setup.set("fleet.upstreams", upstreams.join(",")).set("proxy.paths", "/*")
    }

    /// Sets a key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.settings.insert(key.into(), value.to_string());
        self
    }

    /// Writes the configuration file.
    #[must_use]
    pub fn file(self, text: &str) -> Self {
        std::fs::write(self.folder().join("slipring.toml"), text).expect("the folder is ours");
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Display) -> Self {
        self.environment.insert(name.into(), value.to_string());
        self
    }

    /// The folder that the balancer runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the membership is remembered.
    pub fn state_file(&self) -> PathBuf {
        self.folder().join(".slipring/state.json")
    }

    fn command(&self) -> Command {
        let role = self.role.iter().map(Path::new);
        let mut words = self.wrapper.iter().map(Path::new).chain([self.executable.as_path()]).chain(role);
        let mut command = command(words.next().expect("at least the executable"));
        command.args(words).current_dir(self.folder.path());
        for (key, value) in &self.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// Starts it through another program, whose arguments the executable and its own are.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it by other words of the command line, which mean a balancer too.
    #[must_use]
    pub fn by(mut self, role: &[&str]) -> Self {
        self.role = role.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts it and waits until it says where it listens.
    ///
    /// # Panics
    /// When it does not.
    pub async fn launch(&self) -> Balancer {
        let mut child = self.command().spawn().expect("the executable can be started");
        let process = Process::new(child.id().expect("it was not waited for"));
        let log = Log::default();
        let (tell, told) = oneshot::channel();
        tokio::spawn(log.clone().listen(child.stderr.take().expect("it is piped"), None));
        tokio::spawn(log.clone().listen(child.stdout.take().expect("it is piped"), Some(tell)));
        let addresses = timeout(START, told).await;
        let Ok(Ok([main, admin])) = addresses else {
            panic!("the balancer did not say where it listens; it said:\n{}", log.text());
        };
        Balancer { main, admin, process, child, log, _setup: self.clone() }
    }

    /// Starts it and waits until every member is live.
    pub async fn start(&self) -> Balancer {
        let balancer = self.launch().await;
        balancer.ready().await;
        balancer
    }

    /// Starts it, adds replicas of these names, and waits until every member is live.
    pub async fn start_with(&self, names: &[String]) -> Balancer {
        let balancer = self.launch().await;
        let answer = balancer.add(names.len(), names).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), balancer.log());
        balancer.ready().await;
        balancer
    }

    /// Starts it and waits for its end, which is to come by itself.
    pub async fn output(&self) -> Output {
        let output = timeout(END, self.command().output()).await;
        output.unwrap_or_else(|_| panic!("it runs on after {END:?}")).expect("the executable can be started")
    }
}

/// The executable in an environment without settings of its own, to be killed when its handle is dropped.
pub(crate) fn command(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SLIPRING_") || text == "HASH_NUM" {
            command.env_remove(&name);
        }
    }
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the executable to its end, with this on its standard input.
pub async fn run(executable: &str, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = command(executable.as_ref());
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::piped());
    let mut child = command.spawn().expect("the executable can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads its input");
    drop(stdin);
    let output = timeout(END, child.wait_with_output()).await;
    output.unwrap_or_else(|_| panic!("{arguments:?} runs on after {END:?}")).expect("it can be waited for")
}

/// A balancer that runs. Dropped, it is killed; its replicas end with it, its containers are removed with the
/// last handle on their fleet.
#[derive(Debug)]
pub struct Balancer {
    /// The main port.
    pub main: Http,
    /// The admin port.
    pub admin: Http,
    /// The balancer itself.
    pub process: Process,
    child: Child,
    log: Log,
    _setup: Setup,
}

/// One line of `/replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Its state.
    pub state: String,
    /// Which start of the fleet it is.
    pub incarnation: u64,
    /// Its process id, if it is a process.
    pub pid: Option<u32>,
    /// Its container, if it is one.
    pub container: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
}

impl Replica {
    fn parse(view: &Value) -> Self {
        let text = |key: &str| view[key].as_str().map(str::to_owned);
        Self {
            name: text("name").expect("replicas have names"),
            id: view["id"].as_u64().expect("replicas have numbers"),
            state: text("state").expect("replicas have states"),
            incarnation: view["incarnation"].as_u64().expect("replicas have incarnations"),
            pid: view["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
            container: text("container"),
            restarts: view["restarts"].as_u64().unwrap_or_default(),
        }
    }

    /// The process that it is.
    pub fn process(&self) -> Process {
        Process::new(self.pid.unwrap_or_else(|| panic!("{self:?} is no process")))
    }
}

impl Balancer {
    /// Waits until every member is live.
    pub async fn ready(&self) {
        wait_until("all members live", START, async || {
            let answer = self.admin.get("/readyz?all=true").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text().to_owned()) }
        })
        .await;
    }

    /// The members' names in their order.
    pub async fn names(&self) -> Vec<String> {
        let rep = self.main.get("/rep").await.json();
        let names: Vec<String> =
            serde_json::from_value(rep["message"]["replicas"].clone()).expect("/rep lists names");
        assert_eq!(rep["message"]["N"], names.len(), "{rep}");
        names
    }

    /// All that runs or is about to.
    pub async fn replicas(&self) -> Vec<Replica> {
        let answer = self.admin.get("/replicas").await.json();
        answer["replicas"].as_array().expect("a list").iter().map(Replica::parse).collect()
    }

    /// The same of a pool with a name.
    pub async fn replicas_of(&self, pool: &str) -> Vec<Replica> {
        let answer = self.admin.get(&format!("/replicas?pool={pool}")).await.json();
        answer["replicas"].as_array().expect("a list").iter().map(Replica::parse).collect()
    }

    /// The replica of this name.
    pub async fn replica(&self, name: &str) -> Replica {
        let all = self.replicas().await;
        all.iter()
            .find(|replica| replica.name == name)
            .cloned()
            .unwrap_or_else(|| panic!("no {name} in {all:?}"))
    }

    /// `POST /add`.
    pub async fn add(&self, n: usize, names: &[impl AsRef<str>]) -> Answer {
        let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
        self.main.call(Method::POST, "/add", json!({ "n": n, "hostnames": names }).to_string()).await
    }

    /// `DELETE /rm`.
    pub async fn remove(&self, n: usize, names: &[impl AsRef<str>]) -> Answer {
        let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
        self.main.call(Method::DELETE, "/rm", json!({ "n": n, "hostnames": names }).to_string()).await
    }

    /// The name of the first replica in the order of preference for a key, whether or not it is live.
    pub async fn owner(&self, key: &str) -> String {
        let route = self.admin.get(&format!("/route?key={key}")).await.json();
        route["preference"][0]["name"]
            .as_str()
            .unwrap_or_else(|| panic!("nobody has {key}: {route}"))
            .to_owned()
    }

    /// The owners of many keys: bytes, ids, and what only looks like an id.
    pub async fn owners(&self) -> BTreeMap<String, String> {
        let ids = (0..200).map(|n| (100_000 + n * 4493).to_string());
        let words = (0..100).map(|n| format!("user-{n}"));
        let mut owners = BTreeMap::new();
        for key in ids.chain(words) {
            owners.insert(key.clone(), self.owner(&key).await);
        }
        owners
    }

    /// The number that a metric has at present, added up over its labels; 0 if nothing was counted yet.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let metrics = self.admin.get("/metrics").await;
        let lines = metrics.text().lines().filter_map(|line| line.rsplit_once(' '));
        let named =
            lines.filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(labels));
        named.map(|(_, value)| value.parse::<f64>().expect("metrics are numbers")).sum()
    }

    /// What the fleet told and tells.
    pub async fn events(&self) -> Events {
        Events::follow(self.admin).await
    }

    /// Everything that it printed up to now.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until a line that it printed has all of `pieces`, and returns it. What it does and what it says of that come
    /// on different ways.
    pub async fn said(&self, pieces: &[&str]) -> String {
        wait_until("its words", START, async || {
            let log = self.log();
            let line = log.lines().find(|line| pieces.iter().all(|piece| line.contains(piece)));
            line.map(str::to_owned).ok_or_else(|| format!("{pieces:?} is in no line of\n{log}"))
        })
        .await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// From now on it opens no file, socket or pipe whose number would not be below `most`.
    pub fn allow_open_files(&self, most: u64) {
        self.process.allow_open_files(most);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end `within` the time.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("it can be waited for"),
            Err(_) => panic!("the balancer runs on after {within:?}"),
        }
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.kill();
        self.ended(END).await;
    }

    /// Stops it in order.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended(END).await;
        assert_eq!(status.code(), Some(0), "an orderly stop");
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the balancer said:\n{}", self.log.text());
        }
    }
}

/// What a process printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads to the end, so that the process never waits for a reader; tells a balancer's addresses when both are known.
    pub(crate) async fn listen(
        self,
        from: impl AsyncRead + Unpin,
        mut tell: Option<oneshot::Sender<[Http; 2]>>,
    ) {
        let mut lines = BufReader::new(from).lines();
        let mut known = BTreeMap::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let prefixes = ["listening on http://", "admin on http://", "admin on https://"];
            for (index, prefix) in prefixes.into_iter().enumerate().map(|(at, prefix)| (at.min(1), prefix)) {
                if let Some(address) = line.strip_prefix(prefix).and_then(|address| address.parse().ok()) {
                    known.insert(index, Http { address });
                }
            }
            let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
            drop(text);
            if let (Some(main), Some(admin)) = (known.get(&0), known.get(&1))
                && let Some(tell) = tell.take()
                && tell.send([*main, *admin]).is_err()
            {
                return; // the test waits no more
            }
        }
    }
}
