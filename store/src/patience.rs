//! Waiting out a database that is away for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is reported while the database is away.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// Why it is waited.
    pub error: &'a Error,
    /// How long already.
    pub waited: Duration,
    /// When it is tried again.
    pub again_in: Duration,
}

/// Repeats a call as long as it is [`Error::Unavailable`] and `patience` is left, in growing intervals (50 ms to 2 s).
/// The call must be safe to repeat; those of [`crate::Store`] are, see the crate's documentation.
///
/// # Errors
/// Its last one.
pub async fn with_patience<T, F: Future<Output = Result<T, Error>>>(
    patience: Duration,
    mut report: impl FnMut(Waiting<'_>),
    mut call: impl FnMut() -> F,
) -> Result<T, Error> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match call().await {
            Err(error) if error.is_temporary() => error,
            answer => return answer,
        };
        let waited = start.elapsed();
        let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return Err(error);
        };
        // Those who lost the same database do not come back all at once.
        let again_in = pause.mul_f64(rand::random_range(0.5..1.0)).min(left);
        report(Waiting { error: &error, waited, again_in });
        sleep(again_in).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
