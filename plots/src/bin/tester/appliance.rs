//! A balancer of the tester's own: started on free ports, with replicas as processes, and always stopped.
//!
//! It runs in an empty folder and without our environment, so that neither a `slipring.toml` lying about
//! nor an exported variable changes what is compared; and in a process group of its own, because a Ctrl-C
//! that reached it beside our polite signal would count as the second one and cut its stop short.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use slipring_plots::report::PlacementName;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::Error;
use crate::interrupt::Interrupt;

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How many of its last lines are kept for an error message.
const LAST_WORDS: usize = 12;

/// A balancer that this process started; dropped without [`Appliance::stop`], it is killed.
#[derive(Debug)]
pub(crate) struct Appliance {
    child: Child,
    /// The main port.
    pub(crate) url: String,
    /// The admin port.
    pub(crate) admin_url: String,
    _folder: TempDir,
}

impl Appliance {
    /// Starts a balancer with `n` replicas and waits until it has said where it listens.
    pub(crate) async fn start(
        executable: Option<&Path>,
        placement: PlacementName,
        n: u16,
    ) -> Result<Appliance, Error> {
        let path = find(executable)?;
        let folder = TempDir::new().map_err(Error::Folder)?;
        let mut command = Command::new(&path);
        command.args(["balancer", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let replicas = format!("fleet.replicas={n}");
        for setting in ["state=", "fleet.runtime=process", &replicas, &placement.setting()] {
            command.args(["--set", setting]);
        }
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SLIPRING_") || name == "HASH_NUM" {
                command.env_remove(name.as_ref());
            }
        }
        command.current_dir(folder.path()).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| Error::Spawn { path, source })?;
        let words = LastWords::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(words.clone().listen(BufReader::new(stderr).lines()));
        }
        let (url, admin_url) = match child.stdout.take() {
            Some(stdout) => addresses(stdout, &words).await?,
            None => return Err(Error::Ended { words: words.text() }),
        };
        Ok(Appliance { child, url, admin_url, _folder: folder })
    }

    /// Stops it politely; impolitely after a while, or when the user insists.
    pub(crate) async fn stop(mut self, interrupt: &Interrupt) {
        // A child that has been waited for has no id any more, and its number may be somebody else's.
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok()) {
            let gone = timeout(STOP_WITHIN, self.child.wait());
            if tokio::select! { gone = gone => gone.is_ok(), () = interrupt.repeated() => false } {
                return;
            }
        }
        if let Err(error) = self.child.kill().await {
            eprintln!("tester: the balancer could not be stopped: {error}");
        }
    }
}

/// The executable to start: the one that was named, or `slipring` beside this one. Absolute, because it
/// is started in another folder.
fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map(|own| own.with_file_name("slipring"))
            .unwrap_or_else(|_| PathBuf::from("slipring")),
    };
    match path.canonicalize() {
        Ok(absolute) if absolute.is_file() => Ok(absolute),
        _ => Err(Error::NoExecutable(path)),
    }
}

/// Reads the two addresses, and leaves somebody reading what may follow.
async fn addresses(stdout: ChildStdout, words: &LastWords) -> Result<(String, String), Error> {
    let mut lines = BufReader::new(stdout).lines();
    let found = timeout(START_WITHIN, async {
        let (mut url, mut admin) = (None, None);
        while let Ok(Some(line)) = lines.next_line().await {
            url = url.or_else(|| line.trim().strip_prefix("listening on ").map(str::to_owned));
            admin = admin.or_else(|| line.trim().strip_prefix("admin on ").map(str::to_owned));
            words.hear(line);
            if let (Some(url), Some(admin)) = (&url, &admin) {
                return Some((url.clone(), admin.clone()));
            }
        }
        None
    })
    .await
    .map_err(|_| Error::Silent { within: START_WITHIN, words: words.text() })?
    .ok_or_else(|| Error::Ended { words: words.text() })?;
    tokio::spawn(words.clone().listen(lines));
    Ok(found)
}

/// The last lines that the balancer printed.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn hear(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_WORDS {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Reads to the end, so that the balancer never waits for a reader.
    async fn listen<R: AsyncRead + Unpin>(self, mut lines: Lines<BufReader<R>>) {
        while let Ok(Some(line)) = lines.next_line().await {
            self.hear(line);
        }
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return "(it said nothing)".to_owned();
        }
        lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}
