//! Waiting for the moment a request is due.
//!
//! tokio's clock ticks in milliseconds and rounds up, so a schedule kept by it is a millisecond late on
//! average: more than a proxy on the same machine takes for the whole request. [`Alarm`] lets a thread of
//! its own wait on the kernel's high-resolution clock instead and is late by tens of microseconds.
//! [`Ticks`] remains for tests, where the clock is paused. Rejected: spinning until the moment has come,
//! which takes a core from the server under test; a `timerfd`, whose registration with tokio is unsafe.

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Something that can wait for a moment.
///
/// An implementor never returns early and can be interrupted: a future that is dropped and asked for again
/// with the same moment (`select!` does that all the time) must neither lose the wake-up nor start over.
/// Right: arm a timer once for a moment, then wait for it as often as asked. Wrong: sleep for the
/// difference that was left when first asked.
pub trait Pace {
    /// Waits until `due`; returns at once when that has passed.
    fn until(&mut self, due: Instant) -> impl Future<Output = ()> + Send;
}

/// tokio's clock: late by up to a millisecond and a half, but it can be paused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks;

impl Pace for Ticks {
    fn until(&mut self, due: Instant) -> impl Future<Output = ()> + Send {
        sleep_until(due)
    }
}

/// A thread that waits. It ends when the alarm is dropped.
#[derive(Debug)]
pub struct Alarm {
    orders: Sender<std::time::Instant>,
    bell: watch::Receiver<()>,
    armed: Option<Instant>,
}

impl Alarm {
    /// Starts the thread; fails where the process may have no more of them.
    pub fn new() -> std::io::Result<Alarm> {
        let (orders, received) = channel();
        let (rope, bell) = watch::channel(());
        std::thread::Builder::new().name("alarm".to_owned()).spawn(move || keep_time(&received, &rope))?;
        Ok(Alarm { orders, bell, armed: None })
    }
}

/// Rings when the last moment that was ordered has come.
fn keep_time(orders: &Receiver<std::time::Instant>, rope: &watch::Sender<()>) {
    let Ok(mut due) = orders.recv() else { return };
    loop {
        let wait = due.saturating_duration_since(std::time::Instant::now());
        due = if wait.is_zero() {
            rope.send_replace(());
            let Ok(next) = orders.recv() else { return };
            next
        } else {
            match orders.recv_timeout(wait) {
                Ok(instead) => instead,
                Err(RecvTimeoutError::Timeout) => due,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
    }
}

impl Pace for Alarm {
    async fn until(&mut self, due: Instant) {
        while Instant::now() < due {
            if self.armed != Some(due) {
                self.armed = Some(due);
                // A thread that is gone shows in the bell.
                self.orders.send(due.into_std()).ok();
            }
            if self.bell.changed().await.is_err() {
                // No reason to stop a measurement: later, but it comes.
                return sleep_until(due).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_alarm_is_never_early_and_survives_interruption() {
        let mut alarm = Alarm::new().unwrap();
        let start = Instant::now();
        for moment in [3, 1, 5, 5, 9] {
            let due = start + Duration::from_millis(moment);
            // Dropped and asked again, as a select in a loop does.
            for _ in 0..3 {
                tokio::select! {
                    biased;
                    () = std::future::ready(()) => {}
                    () = alarm.until(due) => {}
                }
            }
            // Armed for another moment and never waited for.
            tokio::select! {
                biased;
                () = alarm.until(start + Duration::from_secs(3600)) => panic!("an hour early"),
                () = tokio::task::yield_now() => {}
            }
            alarm.until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}
