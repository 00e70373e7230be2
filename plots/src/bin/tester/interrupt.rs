//! Ctrl-C and SIGTERM: work stops, what was started is stopped, and the tester says so.
//!
//! A second signal ends the tester at once, as everybody who presses Ctrl-C twice expects; the balancer
//! is then killed by nobody but the kernel, which ends its replicas with it.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Error;

/// Knows whether a signal has come.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from now on.
    pub(crate) fn listen() -> Result<Interrupt, Error> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            for second in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if second {
                    std::process::exit(130);
                }
                sender.send_replace(true);
            }
        });
        Ok(Interrupt(receiver))
    }

    /// Does the work, unless a signal came or comes first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut receiver = self.0.clone();
        tokio::select! {
            biased;
            _ = receiver.wait_for(|interrupted| *interrupted) => Err(Error::Interrupted),
            done = work => done,
        }
    }
}
