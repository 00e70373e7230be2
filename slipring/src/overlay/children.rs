//! Processes of an overlay as children of this one. A child that dies is started again, later each time; one that was
//! asked to end is not.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use slipring_overlay::topology::Process;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Settings;

/// This executable, also after its file was replaced.
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// How long a child that ends at once is left alone, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// One that ran so long has not ended at once.
const SETTLED: Duration = Duration::from_secs(30);
/// How long children may take to end.
const STOPPING: Duration = Duration::from_secs(8);

/// See the module. They end with the thread that started them: it has to live as long as the program.
pub(super) struct Children {
    lives: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Children {
    /// What they log goes into a file, if there is one.
    pub(super) fn start(
        config: &Path,
        settings: &Settings,
        processes: &[&Process],
        log: Option<&File>,
    ) -> std::io::Result<Self> {
        let mut lives = JoinSet::new();
        let (stop, stopping) = watch::channel(false);
        for process in processes {
            let log = log.map(File::try_clone).transpose()?;
            let start = command(config, settings, process, log);
            lives.spawn(live(process.id.to_string(), start, stopping.clone()));
        }
        Ok(Self { lives, stop })
    }

    /// Asks all of them to end, and waits until they have.
    pub(super) async fn end(mut self) {
        self.stop.send_replace(true);
        while self.lives.join_next().await.is_some() {}
    }
}

fn command(
    config: &Path,
    settings: &Settings,
    process: &Process,
    log: Option<File>,
) -> impl Fn() -> std::io::Result<Child> + Send + 'static {
    let config = config.to_owned();
    let (id, settings) = (process.id.to_string(), settings.arguments());
    let parent = std::process::id().to_string();
    move || {
        let mut command = Command::new(OWN_EXECUTABLE);
        command.arg0("slipring").args(["overlay", "node"]).arg(&config).arg(&id).args(&settings);
        // Its first line says where it listens, which is known.
        command.args(["--parent", &parent]).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        if let Some(log) = &log {
            command.stderr(log.try_clone()?);
        }
        command.process_group(0).spawn()
    }
}

/// Keeps one process alive until it is to stop.
async fn live(id: String, start: impl Fn() -> std::io::Result<Child>, mut stopping: watch::Receiver<bool>) {
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
async fn told(stopping: &mut watch::Receiver<bool>) {
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
