//! Being process 1, as in a container without an init: whoever is orphaned there becomes process 1's child, and stays a
//! zombie until it is waited for. The balancer waits for its own replicas only; so it runs as a child, and process 1
//! does nothing but pass signals on and bury the dead.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::complain;

/// Whether nobody else is there to do it.
pub(crate) fn is_needed() -> bool {
    std::process::id() == 1
}

/// Runs these very arguments as a child, to its end.
pub(crate) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.and_then(|runtime| runtime.block_on(supervise())).unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

async fn supervise() -> io::Result<ExitCode> {
    let mut ended = signal(SignalKind::child())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // In a group of its own: a terminal's signal reaches it once, from here.
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).process_group(0);
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == "1") {
        command.env_remove("LISTEN_PID"); // inherited sockets are the child's then
    }
    let child = command.spawn()?;
    let child = Pid::from_child(&child);
    loop {
        let passed_on = tokio::select! {
            _ = ended.recv() => match bury(child) {
                Some(code) => return Ok(code),
                None => continue,
            },
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
            _ = hangup.recv() => Signal::HUP,
        };
        if let Err(error) = kill_process(child, passed_on) {
            tracing::debug!(%error, "the balancer has ended already");
        }
    }
}

/// Waits for all that have ended; the exit code of `child` if it is among them.
fn bury(child: Pid) -> Option<ExitCode> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            let number =
                status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            code = Some(
                number.and_then(|number| u8::try_from(number).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
            );
        }
    }
    code
}
