//! A program that we started: in a process group of its own, on a leash, killed when its handle is dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::error::Error;
use crate::leash;

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// From start to the first good answer.
const START: Duration = Duration::from_secs(20);
/// From the polite signal to the kill.
const STOP: Duration = Duration::from_secs(3);
/// Lines of its standard error that are worth showing.
const LINES: usize = 20;

/// What is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// What we call it: also the name of its files.
    pub(crate) name: String,
    /// The executable.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where it runs, and where its output goes.
    pub(crate) folder: PathBuf,
    /// Which CPU it stays on.
    pub(crate) cpu: Option<usize>,
}

/// It runs.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: u32,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn start(launch: &Launch) -> Result<Self, Error> {
        let failed = |source| Error::Start { name: launch.name.clone(), source };
        let stdout = launch.folder.join(format!("{}.out", launch.name));
        let stderr = launch.folder.join(format!("{}.err", launch.name));
        let harness = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(harness);
        command.args(leash::arguments(std::process::id(), launch.cpu));
        command.arg(&launch.program).args(&launch.arguments).current_dir(&launch.folder);
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).map_err(failed)?);
        command.stderr(File::create(&stderr).map_err(failed)?);
        // Settings of the person at the keyboard are not part of the experiment.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SLIPRING_") || name == "HASH_NUM" {
                command.env_remove(name);
            }
        }
        let child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        let pid = child.id().expect("it was not waited for");
        Ok(Self { name: launch.name.clone(), child, pid, stdout, stderr })
    }

    /// Its process id, which is its group's.
    pub(crate) fn group(&self) -> u32 {
        self.pid
    }

    /// Looks until `ready`; an `Err` says what is there instead.
    pub(crate) async fn wait_until<E: std::fmt::Display>(
        &mut self,
        mut ready: impl AsyncFnMut() -> Result<(), E>,
    ) -> Result<(), Error> {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = String::new();
        let waiting = async {
            loop {
                ticks.tick().await;
                if let Ok(Some(status)) = self.child.try_wait() {
                    return Err(format!("ended: {status}"));
                }
                match ready().await {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
            }
        };
        let waited = timeout(START, waiting).await;
        let what = match waited {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(what)) => what,
            Err(_) => format!("did not answer within {} s (last: {last})", START.as_secs()),
        };
        Err(self.complaint(what))
    }

    /// Waits for its end, which is to come by itself; returns its standard output.
    pub(crate) async fn finish(mut self, within: Duration) -> Result<String, Error> {
        let ended = timeout(within, self.child.wait()).await;
        let what = match ended {
            Ok(Ok(status)) if status.success() => {
                let bytes = fs::read(&self.stdout)
                    .map_err(|source| Error::Start { name: self.name.clone(), source })?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(Ok(status)) => format!("failed: {status}"),
            Ok(Err(error)) => format!("cannot be waited for: {error}"),
            Err(_) => format!("did not end within {} s", within.as_secs()),
        };
        Err(self.complaint(what))
    }

    /// Ends it and everything that it started: politely first, so that a master takes leave of its workers.
    pub(crate) async fn stop(mut self) {
        self.signal(|pid| kill_process(pid, Signal::TERM));
        if timeout(STOP, self.child.wait()).await.is_ok() {
            return;
        }
        self.kill();
        if let Err(error) = self.child.wait().await {
            eprintln!("{} cannot be waited for: {error}", self.name);
        }
    }

    fn kill(&self) {
        self.signal(|pid| kill_process_group(pid, Signal::KILL));
    }

    fn signal(&self, send: impl Fn(Pid) -> rustix::io::Result<()>) {
        // The number is still ours: the child has not been waited for while it has an id.
        if self.child.id().is_some()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && let Err(error) = send(pid)
        {
            eprintln!("{} cannot be signalled: {error}", self.name);
        }
    }

    fn complaint(&self, what: String) -> Error {
        Error::Process { name: self.name.clone(), what, said: last_lines(&self.stderr) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
