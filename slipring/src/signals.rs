//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Conventional: 128 + the number of SIGINT.
pub(crate) const ENDED_AT_ONCE: u8 = 130;

/// The two signals that end a program.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Runs `work`, which is told of the first signal, and is dropped at the second.
    pub(crate) async fn run_until<F: Future<Output = ExitCode>>(
        mut self,
        who: &str,
        work: impl FnOnce(Stop) -> F,
    ) -> ExitCode {
        let (tell, told) = oneshot::channel();
        let work = work(Stop(told));
        tokio::pin!(work);
        tokio::select! {
            code = &mut work => return code,
            () = self.next() => {}
        }
        tracing::info!(pid = std::process::id(), "{who} is stopping; a second signal ends it at once");
        if tell.send(()).is_err() {
            tracing::debug!("it was ending already");
        }
        tokio::select! {
            code = &mut work => code,
            () = self.next() => ExitCode::from(ENDED_AT_ONCE),
        }
    }
}

/// Resolves at the first signal.
pub(crate) struct Stop(oneshot::Receiver<()>);

impl Stop {
    pub(crate) async fn asked(&mut self) {
        // Without a sender nobody will ever ask: that is an end too.
        (&mut self.0).await.unwrap_or_default();
    }
}
