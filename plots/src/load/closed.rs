//! Closed-loop load: so many requests in all, so many at once, the next when one is answered.
//!
//! Right for counting who answers, wrong for latency: a server that stalls is asked less. Use
//! [`super::open`] when the question is how long an answer takes.

use std::future::Future;

use futures_util::stream::{self, StreamExt};

/// Sends `count` requests, at most `concurrency` at once, and hands each outcome to `seen` as it arrives.
///
/// All requests run in the caller's task, so that dropping the returned future ends those in flight.
pub async fn run<T, Send_, Sent>(count: u64, concurrency: usize, send: Send_, mut seen: impl FnMut(T))
where
    T: Send + 'static,
    Send_: Fn(u64) -> Sent,
    Sent: Future<Output = T> + Send + 'static,
{
    let mut outcomes = stream::iter(0..count).map(send).buffer_unordered(concurrency.max(1));
    while let Some(outcome) = outcomes.next().await {
        seen(outcome);
    }
}
