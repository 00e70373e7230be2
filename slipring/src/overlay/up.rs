//! `slipring overlay up`: every process whose host is this one, as a child of this one.
//!
//! A child that dies is started again, later each time, and one that was asked to end is not; the balancer does the same and more for an overlay that is a
//! pool of its own.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use slipring_overlay::topology::{Process, Topology};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Settings, here};
use crate::report::complain;
use crate::signals::Signals;

/// This executable, also after its file was replaced.
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// How long a child that ends at once is left alone, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// One that ran so long has not ended at once.
const SETTLED: Duration = Duration::from_secs(30);
/// How long children may take to end.
const STOPPING: Duration = Duration::from_secs(8);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The overlay's file.
    config: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let topology = match super::read(&arguments.config) {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    let here: Vec<_> = topology.processes.values().filter(|process| here::is_here(&process.host)).collect();
    if here.is_empty() {
        eprintln!("slipring: no process of {} is on this host", arguments.config.display());
        return ExitCode::FAILURE;
    }
    // One thread, which lives as long as the program: children end with the thread that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(all(arguments, &topology, &here))
}

async fn all(arguments: &Arguments, topology: &Topology, here: &[&Process]) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    println!("{} of {} processes are on this host:", here.len(), topology.processes.len());
    for process in here {
        println!("  {} {} {} http://{}", process.id, process.role.name(), process.team, process.authority());
    }
    let mut lives = JoinSet::new();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    for process in here {
        let start = command(arguments, process);
        lives.spawn(live(process.id.to_string(), start, stopping.clone()));
    }
    signals.next().await;
    stop.send_replace(true);
    let ended = async { while lives.join_next().await.is_some() {} };
    tokio::select! {
        () = ended => {
            println!("stopped");
            ExitCode::SUCCESS
        }
        () = signals.next() => ExitCode::from(crate::signals::ENDED_AT_ONCE),
    }
}

fn command(arguments: &Arguments, process: &Process) -> impl Fn() -> std::io::Result<Child> + Send + 'static {
    let config = arguments.config.clone();
    let (id, settings) = (process.id.to_string(), arguments.settings.arguments());
    let parent = std::process::id().to_string();
    move || {
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0("slipring").args(["overlay", "node"]).arg(&config).arg(&id).args(&settings);
        // Its first line says where it listens, which was just said.
        command.args(["--parent", &parent]).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.process_group(0).spawn()
    }
}

/// Keeps one process alive until it is to stop.
async fn live(
    id: String,
    start: impl Fn() -> std::io::Result<Child>,
    mut stopping: tokio::sync::watch::Receiver<bool>,
) {
    let mut pause = PAUSES.0;
    loop {
        let began = Instant::now();
        let why = match start() {
            Err(error) => error.to_string(),
            Ok(mut child) => tokio::select! {
                ended = child.wait() => match ended {
                    Ok(status) if status.success() => {
                        println!("{id} was asked to end, and has");
                        return;
                    }
                    ended => ended.map_or_else(|error| error.to_string(), |status| status.to_string()),
                },
                () = told(&mut stopping) => return end(&mut child).await,
            },
        };
        if began.elapsed() >= SETTLED {
            pause = PAUSES.0;
        }
        tracing::warn!(process = id, why, "it ended and is started again after {pause:?}");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told(&mut stopping) => return,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Also when nobody is left to say so.
async fn told(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::TERM)
    {
        tracing::debug!(%error, "it ended by itself");
    }
    if tokio::time::timeout(STOPPING, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::debug!(%error, "it ended by itself");
    }
}
