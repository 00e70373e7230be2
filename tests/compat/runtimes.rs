//! One suite for every runtime: what [`Runtime`]'s documentation promises, tried on processes and on containers.
//!
//! The process runtime starts its own executable again, which here is this one; so `main` becomes the real
//! `slipring` when it is called like it. That is why this file has a `main` of its own.

use std::future::Future;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bollard::query_parameters::KillContainerOptionsBuilder;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use slipring_balancer::config::DockerConfig;
use slipring_balancer::fleet::runtime::docker::DockerRuntime;
use slipring_balancer::fleet::runtime::process::ProcessRuntime;
use slipring_balancer::fleet::runtime::{Exit, Runtime};
use slipring_balancer::fleet::state::{Handle, Instance, Running};
use slipring_hashing::ReplicaId;
use slipring_tests::docker::{Fleet, SOCKET, engine_at_length};
use slipring_tests::{Http, wait_until};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

/// A process with this identity ends at once.
const NEVER_STARTS: ReplicaId = ReplicaId(4000);

/// A runtime, and how a test gets at what it runs.
struct Subject<R> {
    runtime: R,
    exits: mpsc::Receiver<Exit>,
    names: Vec<String>,
    docker: Option<(bollard::Docker, Arc<Fleet>)>,
}

impl<R: Runtime> Subject<R> {
    /// The next life of the n-th replica.
    fn instance(&self, n: u16) -> Instance {
        static INCARNATION: AtomicU64 = AtomicU64::new(1);
        let name = self.names[usize::from(n)].clone();
        Instance { id: ReplicaId(n), name, incarnation: INCARNATION.fetch_add(1, Ordering::Relaxed) }
    }

    async fn spawn(&self, n: u16) -> (Instance, Running) {
        let instance = self.instance(n);
        let running = self.runtime.spawn(&instance).await.expect("it starts");
        (instance, running)
    }

    async fn hurt(&self, running: &Running, signal: Signal) {
        match (&running.handle, &self.docker) {
            (Handle::Container(id), Some((docker, _))) => {
                let name = if signal == Signal::STOP { "SIGSTOP" } else { "SIGKILL" };
                let options = KillContainerOptionsBuilder::new().signal(name).build();
                docker.kill_container(id, Some(options)).await.expect("it runs");
            }
            (Handle::Pid(pid), _) => {
                let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).expect("a process id");
                kill_process(pid, signal).expect("it runs");
            }
            (handle, _) => panic!("{handle:?} is nothing that can be hurt here"),
        }
    }

    async fn ended(&mut self) -> Exit {
        timeout(LONG, self.exits.recv()).await.expect("the end is reported").expect("the channel is open")
    }

    /// What runs of this instance, by the runtime's own account.
    async fn runs(&self, instance: &Instance) -> Option<Running> {
        let found = self.runtime.list().await.expect("a list");
        found.into_iter().find(|found| found.instance == *instance).and_then(|found| found.running)
    }

    async fn serves(&self, running: &Running) -> String {
        let server = Http { address: running.address };
        let answer = wait_until("it answers", LONG, async || {
            let request =
                server.request(hyper::Method::GET, "/home").body(Default::default()).expect("valid");
            server.send(request).await
        });
        answer.await.text().to_owned()
    }
}

async fn what_is_spawned_runs_and_is_listed<R: Runtime>(subject: Subject<R>) {
    let (instance, running) = subject.spawn(2).await;
    assert!(
        subject.serves(&running).await.contains("Hello from Server: 3"),
        "SERVER_ID is the identity's number"
    );
    assert_eq!(subject.runs(&instance).await, Some(running));
    subject.runtime.stop(&instance, LONG).await.expect("it stops");
}

async fn an_end_is_reported_once<R: Runtime>(mut subject: Subject<R>) {
    let (first, running) = subject.spawn(0).await;
    subject.serves(&running).await;
    subject.hurt(&running, Signal::KILL).await;
    let exit = subject.ended().await;
    assert_eq!(exit.instance, first);
    assert!(exit.why.contains('9') || exit.why.contains("137"), "and why: {}", exit.why);
    assert_eq!(subject.runs(&first).await, None, "what has ended does not run");
    subject.runtime.stop(&first, Duration::ZERO).await.expect("what is left is removed");
    let (second, running) = subject.spawn(0).await;
    subject.hurt(&running, Signal::KILL).await;
    assert_eq!(subject.ended().await.instance, second, "nothing more of the first is reported");
    subject.runtime.stop(&second, Duration::ZERO).await.expect("it is removed");
}

async fn a_polite_stop_is_obeyed<R: Runtime>(subject: Subject<R>) {
    let (instance, running) = subject.spawn(0).await;
    subject.serves(&running).await;
    let began = Instant::now();
    subject.runtime.stop(&instance, LONG).await.expect("it stops");
    assert!(began.elapsed() < LONG / 3, "it did not have to be killed: {:?}", began.elapsed());
    nothing_is_left(&subject, &instance, &running).await;
}

async fn the_impolite_is_killed_after_the_grace<R: Runtime>(subject: Subject<R>) {
    let (instance, running) = subject.spawn(0).await;
    subject.serves(&running).await;
    subject.hurt(&running, Signal::STOP).await;
    let (grace, began) = (Duration::from_millis(300), Instant::now());
    subject.runtime.stop(&instance, grace).await.expect("it stops");
    assert!(began.elapsed() >= grace, "it had its time");
    nothing_is_left(&subject, &instance, &running).await;
}

async fn nothing_is_left<R: Runtime>(subject: &Subject<R>, instance: &Instance, running: &Running) {
    let listed = subject.runtime.list().await.expect("a list");
    assert!(!listed.iter().any(|found| found.instance == *instance), "{listed:?}");
    let gone = Http { address: running.address }.connect::<http_body_util::Empty<bytes::Bytes>>().await;
    assert!(gone.is_err(), "nobody listens there");
    if let (Some((docker, _)), Handle::Container(id)) = (&subject.docker, &running.handle) {
        assert!(docker.inspect_container(id, None).await.is_err(), "the container is removed");
    }
}

async fn a_name_is_free_as_soon_as_its_stop_returns<R: Runtime>(subject: Subject<R>) {
    for round in 0..3 {
        let (instance, running) = subject.spawn(0).await;
        assert!(subject.serves(&running).await.contains("Server: 1"), "round {round}");
        let grace = if round == 1 { Duration::ZERO } else { LONG };
        subject.runtime.stop(&instance, grace).await.expect("it stops");
    }
}

async fn stopping_what_is_not_there_is_a_success<R: Runtime>(subject: Subject<R>) {
    let never = subject.instance(0);
    subject.runtime.stop(&never, LONG).await.expect("nothing was there");
    let (instance, _) = subject.spawn(0).await;
    for _ in 0..2 {
        subject.runtime.stop(&instance, Duration::ZERO).await.expect("nothing is there");
    }
    // Another life of the same name is not what was meant.
    let (living, running) = subject.spawn(0).await;
    subject.runtime.stop(&instance, Duration::ZERO).await.expect("nothing is there");
    assert_eq!(subject.runs(&living).await, Some(running));
    subject.runtime.stop(&living, LONG).await.expect("it stops");
}

async fn many_start_and_stop_at_once<R: Runtime>(subject: Subject<R>) {
    let instances: Vec<_> = (0..6).map(|n| subject.instance(n)).collect();
    subject.runtime.vet(&subject.names).await.expect("the names are free");
    let spawned =
        futures_util::future::join_all(instances.iter().map(|instance| subject.runtime.spawn(instance)));
    let running: Vec<_> = spawned.await.into_iter().map(|running| running.expect("it starts")).collect();
    let addresses: std::collections::BTreeSet<_> = running.iter().map(|running| running.address).collect();
    assert_eq!(addresses.len(), 6, "each has an address of its own");
    for (n, running) in running.iter().enumerate() {
        assert!(subject.serves(running).await.contains(&format!("Server: {}", n + 1)));
    }
    assert_eq!(subject.runtime.list().await.expect("a list").len(), 6);
    subject.runtime.vet(&subject.names).await.expect("names of its own are no obstacle");
    let stopped =
        futures_util::future::join_all(instances.iter().map(|instance| subject.runtime.stop(instance, LONG)));
    assert!(stopped.await.into_iter().all(|stopped| stopped.is_ok()));
    assert_eq!(subject.runtime.list().await.expect("a list"), []);
}

/// Processes: one that ends before it says where it listens. Containers: the name is somebody else's.
async fn after_a_failed_spawn_nothing_is_left<R: Runtime>(subject: Subject<R>) {
    let mut instance = subject.instance(0);
    match &subject.docker {
        Some((docker, fleet)) => drop(fleet.run(docker, &instance.name, &["server"], false).await),
        None => instance.id = NEVER_STARTS,
    }
    let error = subject.runtime.spawn(&instance).await.expect_err("it cannot start").to_string();
    assert!(error.contains(&instance.name), "the subject is named: {error}");
    assert_eq!(subject.runtime.list().await.expect("a list"), []);
    subject.runtime.stop(&instance, LONG).await.expect("nothing is there");
    if let Some((docker, _)) = &subject.docker {
        assert!(docker.inspect_container(&instance.name, None).await.is_ok(), "the stranger is untouched");
        subject.runtime.vet(&[instance.name]).await.expect_err("and seen beforehand");
    }
}

async fn what_ends_at_once_is_a_failed_spawn_or_a_reported_end<R: Runtime>(mut subject: Subject<R>) {
    let mut instance = subject.instance(0);
    match &subject.docker {
        Some((docker, fleet)) => fleet.build_image_that_runs(docker, SLIPRING, "no-such-role").await,
        None => instance.id = NEVER_STARTS,
    }
    if subject.runtime.spawn(&instance).await.is_ok() {
        let exit = subject.ended().await;
        assert_eq!(exit.instance, instance);
        assert!(exit.why.contains("no-such-role"), "its last words are the reason: {}", exit.why);
        assert_eq!(subject.runs(&instance).await, None);
        subject.runtime.stop(&instance, Duration::ZERO).await.expect("what is left is removed");
    }
    assert_eq!(subject.runtime.list().await.expect("a list"), []);
}

fn process() -> Subject<ProcessRuntime> {
    let (report, exits) = mpsc::channel(64);
    let runtime = ProcessRuntime::new(Vec::new(), LONG, report).expect("a thread can be started");
    let names = (1..=6).map(|n| format!("Server-{n}")).collect();
    Subject { runtime, exits, names, docker: None }
}

async fn container() -> Option<Subject<DockerRuntime>> {
    let docker = engine_at_length().await?;
    let fleet = Fleet::new();
    fleet.build_image(&docker, SLIPRING).await;
    let (report, exits) = mpsc::channel(64);
    let config = DockerConfig {
        socket: SOCKET.into(),
        network: fleet.network.clone(),
        image: Some(fleet.image()),
        port: 5000,
        fleet: None,
    };
    let runtime =
        DockerRuntime::connect(config, fleet.label.clone(), report).await.expect("the engine answers");
    runtime.prepare().await.expect("image and network are there");
    Some(Subject { runtime, exits, names: fleet.names(6), docker: Some((docker, fleet)) })
}

/// On a thread that has the test's name, for whoever says what is skipped.
fn trial<F: Future<Output = ()>>(name: &'static str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(test());
        });
        thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, flag, ..] = &arguments[..]
        && matches!((role.as_str(), flag.as_str()), ("server", "--listen") | ("exec", "--parent"))
    {
        if std::env::var("SERVER_ID").is_ok_and(|id| id == NEVER_STARTS.number().to_string()) {
            return ExitCode::FAILURE;
        }
        let error = Command::new(SLIPRING).args(&arguments[1..]).exec();
        panic!("{SLIPRING} cannot be started: {error}");
    }
    let mut trials = Vec::new();
    macro_rules! suite {
        ($($case:ident)*) => {$(
            trials.push(trial(concat!("process::", stringify!($case)), async || $case(process()).await));
            trials.push(trial(concat!("docker::", stringify!($case)), async || {
                if let Some(subject) = container().await {
                    $case(subject).await;
                }
            }));
        )*};
    }
    suite! {
        what_is_spawned_runs_and_is_listed
        an_end_is_reported_once
        a_polite_stop_is_obeyed
        the_impolite_is_killed_after_the_grace
        a_name_is_free_as_soon_as_its_stop_returns
        stopping_what_is_not_there_is_a_success
        many_start_and_stop_at_once
        after_a_failed_spawn_nothing_is_left
        what_ends_at_once_is_a_failed_spawn_or_a_reported_end
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
