//! The request on its way to the replica.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::{Client, ClientFailure, Exchange, Failure, Stage, TOGETHER};
use crate::proxy::connection::Connection;
use crate::proxy::stream::Stream;
use crate::proxy::wire::{Framing, emit};

/// Who the rest of a request does not come from, or go to.
enum Upload {
    Client(ClientFailure),
    Replica,
}

impl<C: Client> Exchange<'_, C> {
    /// Moves the request.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
    ) -> Result<(), Failure> {
        let Some(framing) = self.upload.filter(|_| !self.refused) else { return Ok(()) };
        self.client_waits = false;
        match self.try_upload(cx, replica, framing) {
            Poll::Ready(Ok(())) => {
                self.upload = None;
                self.moved = true;
            }
            Poll::Ready(Err(Upload::Client(failure))) => {
                // Once the answer has begun there is no other that could say what was wrong.
                let told = self.stage == Stage::Head;
                return Err(Failure::Client(if told { failure } else { ClientFailure::Gone }));
            }
            // It may have answered before it stopped to listen.
            Poll::Ready(Err(Upload::Replica)) => self.refused = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    fn try_upload(
        &mut self,
        cx: &mut Context<'_>,
        replica: &mut Connection,
        framing: Framing,
    ) -> Poll<Result<(), Upload>> {
        loop {
            if framing == Framing::None {
                return self.flush_replica(cx, replica);
            }
            let count = match self.client.poll_body(cx) {
                Poll::Pending => {
                    ready!(self.flush_replica(cx, replica))?;
                    self.client_waits = true;
                    return Poll::Pending;
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(Upload::Client(failure))),
                Poll::Ready(Ok(None)) => {
                    if framing == Framing::Chunked {
                        self.client.put_last_chunk(self.out.bytes());
                        // Written once: from here on there is nothing but to send it.
                        self.upload = Some(Framing::None);
                    }
                    return self.flush_replica(cx, replica);
                }
                Poll::Ready(Ok(Some(count))) => count,
            };
            let queued = self.out.len();
            if framing == Framing::Chunked {
                if queued > TOGETHER {
                    ready!(self.flush_replica(cx, replica))?;
                }
                let out = self.out.bytes();
                emit::chunk_size(out, count);
                out.extend_from_slice(&self.client.body()[..count]);
                out.extend_from_slice(b"\r\n");
                self.client.took(count);
                self.received += count as u64;
            } else if queued > 0 && queued + count <= TOGETHER {
                self.out.bytes().extend_from_slice(&self.client.body()[..count]);
                self.client.took(count);
                self.received += count as u64;
            } else {
                ready!(self.flush_replica(cx, replica))?;
                let body = &self.client.body()[..count];
                match ready!(Pin::new(&mut replica.stream).poll_write(cx, body)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Upload::Replica)),
                    Ok(count) => {
                        self.begun = true;
                        self.client.took(count);
                        self.received += count as u64;
                    }
                }
            }
            self.moved = true;
        }
    }

    fn flush_replica(&mut self, cx: &mut Context<'_>, replica: &mut Connection) -> Poll<Result<(), Upload>> {
        let before = self.out.len();
        let polled = self.out.poll_flush(cx, &mut replica.stream);
        // TLS may have taken all of it while its socket takes nothing, and may fail with some of it gone.
        let failed = matches!(polled, Poll::Ready(Err(_))) && matches!(replica.stream, Stream::Tls(_));
        let sent = self.out.len() < before || failed;
        self.begun |= sent;
        self.moved |= sent;
        polled.map_err(|_| Upload::Replica)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use httparse::Header;

    use super::*;
    use crate::proxy::connection::tests::pair;
    use crate::proxy::exchange::{Departure, Manner, Patience, Terms};
    use crate::proxy::upstream::Upstream;
    use crate::proxy::watch::Watch;
    use crate::proxy::wire::response::Response;

    /// A client that has asked, and waits.
    struct Waits;

    impl Client for Waits {
        fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<usize>, ClientFailure>> {
            Poll::Ready(Ok(None))
        }
        fn body(&self) -> &[u8] {
            &[]
        }
        fn took(&mut self, _: usize) {}
        fn put_last_chunk(&mut self, _: &mut Vec<u8>) {}
        fn poll_departure(&mut self, _: &mut Context<'_>) -> Poll<Departure> {
            Poll::Pending
        }
        fn inform(&mut self, _: &Response<'_>) {}
        fn answer(&mut self, _: &Response<'_>, _: &Upstream, _: Manner) {}
        fn poll_data(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn end(&mut self, _: &[Header<'_>]) {}
        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What TLS has taken is gone, though its socket takes nothing: it must not be sent again as if it had never been.
    #[tokio::test]
    async fn what_tls_has_taken_is_begun_whether_or_not_it_has_left() {
        for ends in [false, true] {
            let (mut replica, mut served) = pair().await;
            let Stream::Tls(stream) = &replica.stream else { panic!("it is over TLS") };
            // Until the socket takes nothing more.
            let socket = stream.get_ref().0;
            socket.writable().await.unwrap();
            while socket.try_write(&[0; 64 * 1024]).is_ok() {}
            let (watch, draining) = (Watch::new(), Cell::new(None));
            let ticket = watch.ticket();
            let long = Duration::from_secs(20);
            let patience =
                Patience { first_byte: long, idle: long, min_rate: 0, grace: long, half_closed: long };
            let mut client = Waits;
            let terms = Terms {
                head: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                ticket: &ticket,
                patience,
                framing: Framing::None,
                to_head: false,
                may_upgrade: false,
                expects: false,
                began: Instant::now(),
                draining: &draining,
            };
            let mut exchange = Exchange::new(&mut client, terms);
            if ends {
                // A reset: the flush fails with what TLS has taken.
                served.get_mut().0.set_zero_linger().unwrap();
                drop(served);
                let Stream::Tls(stream) = &replica.stream else { panic!("it is over TLS") };
                stream.get_ref().0.readable().await.unwrap();
            }
            assert!(exchange.is_untouched());
            let polled = exchange.poll_upload(&mut Context::from_waker(Waker::noop()), &mut replica);
            assert!(polled.is_ok() && exchange.refused == ends);
            assert!(!exchange.is_untouched(), "ends: {ends}");
        }
    }
}
