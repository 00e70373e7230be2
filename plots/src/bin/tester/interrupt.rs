//! Ctrl-C and SIGTERM: the first ends the work, and what was started is stopped politely; the second cuts
//! the politeness short; the third ends the tester where it stands.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;

/// Knows how many signals have come.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<u32>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Interrupt, Error> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let (sender, receiver) = watch::channel(0);
        tokio::spawn(async move {
            for nth in 1..=3 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                sender.send_replace(nth);
            }
            std::process::exit(130);
        });
        Ok(Interrupt(receiver))
    }

    /// Does the work, unless a signal came or comes first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.signals(1) => Err(Error::Interrupted),
            done = work => done,
        }
    }

    /// Does work that tidies up, unless a second signal came or comes first.
    pub(crate) async fn unless_repeated<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.repeated() => Err(Error::Interrupted),
            done = work => done,
        }
    }

    /// Waits for a second signal.
    pub(crate) async fn repeated(&self) {
        self.signals(2).await;
    }

    async fn signals(&self, count: u32) {
        let mut receiver = self.0.clone();
        // The sender lives as long as the runtime; were it gone, no signal could come.
        if receiver.wait_for(|came| *came >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
