//! How a connection with a client is ended: so that it gets everything that was said, and knows that nothing more
//! comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::Buffer;
use super::stream::Stream;
use super::watch::Ticket;

/// After an answer that ends the connection, what the client still sends is read and forgotten for this long, so
/// that it sees the answer and not a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// Ends a connection on which something was said last.
pub(super) async fn linger<S>(stream: &mut S, input: &mut Buffer, ticket: &Ticket)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut told, mut heard) = (false, 0);
    within(ticket, |cx| {
        if !told {
            if ready!(Pin::new(&mut *stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            told = true;
        }
        loop {
            let held = input.data().len();
            input.consume(held);
            match ready!(input.poll_fill(cx, stream)) {
                Ok(count) if count > 0 && heard < LINGER_BYTES => heard += count,
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Ends an idle connection. TLS has a word for that; without it the client could not tell our end from somebody
/// else's (RFC 8446 section 6.1).
pub(super) async fn leave(stream: &mut Stream, ticket: &Ticket) {
    if matches!(stream, Stream::Tls(_)) {
        within(ticket, |cx| Pin::new(&mut *stream).poll_shutdown(cx).map(drop)).await;
    }
}

/// A client that takes nothing holds nobody up, not even while it is told.
async fn within(ticket: &Ticket, mut step: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    ticket.set(LINGER);
    std::future::poll_fn(|cx| match step(cx) {
        Poll::Pending if !ticket.has_expired(cx) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::ReadBuf;
    use tokio::task::LocalSet;
    use tokio::time::Instant;

    use super::*;
    use crate::proxy::watch::Watch;

    /// A client that takes nothing any more, not even the end.
    struct Deaf;

    impl AsyncRead for Deaf {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_the_end_is_left_in_time() {
        let watch = Watch::new();
        let (clock, ticket) = (watch.clone(), watch.ticket());
        let began = Instant::now();
        let lingering = async {
            tokio::task::spawn_local(async move { clock.run().await });
            linger(&mut Deaf, &mut Buffer::default(), &ticket).await;
        };
        let ended = tokio::time::timeout(LINGER * 10, LocalSet::new().run_until(lingering)).await;
        assert!(ended.is_ok(), "it waits for ever");
        assert!(began.elapsed() >= LINGER);
    }
}
