//! Two connections that became one: after a replica's 101 bytes pass both ways, and mean nothing here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::buffer::Buffer;
use super::stream::Stream;
use super::watch::Ticket;

/// Passes bytes until both sides have ended, one has failed, or nothing came for `idle`. What was read before
/// goes first.
pub async fn tunnel(one: End<'_>, other: End<'_>, ticket: &Ticket, idle: Duration) {
    let (mut one, mut other) = (one, other);
    ticket.set(idle);
    std::future::poll_fn(|cx| {
        let mut moved = false;
        let there = pass(cx, &mut one, &mut other, &mut moved);
        let back = pass(cx, &mut other, &mut one, &mut moved);
        if there.is_broken() || back.is_broken() || there.is_over() && back.is_over() {
            return Poll::Ready(());
        }
        if moved {
            ticket.set(idle);
        }
        if ticket.has_expired(cx) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// One end of it.
#[derive(Debug)]
pub struct End<'a> {
    /// Its bytes.
    pub stream: &'a mut Stream,
    /// What has arrived from there.
    pub input: &'a mut Buffer,
    /// Nothing more comes from there, and the other end knows.
    pub ended: bool,
}

trait Passed {
    fn is_over(&self) -> bool;
    fn is_broken(&self) -> bool;
}

impl Passed for Poll<std::io::Result<()>> {
    fn is_over(&self) -> bool {
        matches!(self, Self::Ready(Ok(())))
    }

    fn is_broken(&self) -> bool {
        matches!(self, Self::Ready(Err(_)))
    }
}

fn pass(
    cx: &mut Context<'_>,
    from: &mut End<'_>,
    to: &mut End<'_>,
    moved: &mut bool,
) -> Poll<std::io::Result<()>> {
    while !from.ended {
        if from.input.is_empty() {
            ready!(Pin::new(&mut *to.stream).poll_flush(cx))?;
        }
        if from.input.is_empty() && ready!(from.input.poll_fill(cx, from.stream))? == 0 {
            ready!(Pin::new(&mut *to.stream).poll_shutdown(cx))?;
            from.ended = true;
            break;
        }
        let sent = ready!(Pin::new(&mut *to.stream).poll_write(cx, from.input.data()))?;
        from.input.consume(sent);
        *moved = true;
    }
    Poll::Ready(Ok(()))
}
