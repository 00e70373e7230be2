//! Two connections that became one: after a replica's 101 bytes pass both ways, and mean nothing here.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::Buffer;
use super::watch::Ticket;

/// Why a tunnel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Everything that there was, or all that one side took.
    All,
    /// Nothing, for too long.
    Nothing,
}

/// Passes bytes until both sides have ended, one has failed, or nothing came for `idle`. What was read before
/// goes first. Bytes from the other side to the one are counted.
pub async fn tunnel<A, B>(
    mut one: End<'_, A>,
    mut other: End<'_, B>,
    ticket: &Ticket,
    idle: Duration,
    back: &Cell<u64>,
) -> Passed
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    ticket.set(idle);
    std::future::poll_fn(|cx| {
        let (mut sent, mut received) = (0, 0);
        let there = pass(cx, &mut one, &mut other, &mut sent);
        let here = pass(cx, &mut other, &mut one, &mut received);
        back.set(back.get() + received);
        if there.is_broken() || here.is_broken() || there.is_over() && here.is_over() {
            return Poll::Ready(Passed::All);
        }
        if sent + received > 0 {
            ticket.set(idle);
        }
        if ticket.has_expired(cx) { Poll::Ready(Passed::Nothing) } else { Poll::Pending }
    })
    .await
}

/// One end of it.
#[derive(Debug)]
pub struct End<'a, S> {
    /// Its bytes.
    pub stream: &'a mut S,
    /// What has arrived from there.
    pub input: &'a mut Buffer,
    ended: bool,
}

impl<'a, S> End<'a, S> {
    /// An end from which something may have arrived already.
    pub fn new(stream: &'a mut S, input: &'a mut Buffer) -> Self {
        Self { stream, input, ended: false }
    }
}

trait Half {
    fn is_over(&self) -> bool;
    fn is_broken(&self) -> bool;
}

impl Half for Poll<io::Result<()>> {
    fn is_over(&self) -> bool {
        matches!(self, Self::Ready(Ok(())))
    }

    fn is_broken(&self) -> bool {
        matches!(self, Self::Ready(Err(_)))
    }
}

fn pass<A, B>(
    cx: &mut Context<'_>,
    from: &mut End<'_, A>,
    to: &mut End<'_, B>,
    passed: &mut u64,
) -> Poll<io::Result<()>>
where
    A: AsyncRead + Unpin,
    B: AsyncWrite + Unpin,
{
    while !from.ended {
        if from.input.is_empty() {
            ready!(Pin::new(&mut *to.stream).poll_flush(cx))?;
        }
        if from.input.is_empty() && ready!(from.input.poll_fill(cx, from.stream))? == 0 {
            ready!(Pin::new(&mut *to.stream).poll_shutdown(cx))?;
            from.ended = true;
            break;
        }
        match ready!(Pin::new(&mut *to.stream).poll_write(cx, from.input.data()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => {
                from.input.consume(sent);
                *passed += sent as u64;
            }
        }
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use tokio::io::ReadBuf;

    use super::*;
    use crate::proxy::watch::Watch;

    /// Says something, and takes nothing without saying so.
    struct Full;

    impl AsyncRead for Full {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(b"hello");
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(0))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// It went round for ever, and nothing else of the thread went on. (Before the mending this test never ends.)
    #[tokio::test]
    async fn an_end_that_takes_nothing_ends_the_tunnel() {
        let (mut one, mut other) = (Full, Full);
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        let ticket = Watch::new().ticket();
        let ends = (End::new(&mut one, &mut from), End::new(&mut other, &mut to));
        let passed = tunnel(ends.0, ends.1, &ticket, Duration::from_secs(1), &Cell::default()).await;
        assert_eq!(passed, Passed::All);
    }
}
