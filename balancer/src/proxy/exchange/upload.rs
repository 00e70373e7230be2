//! The request on its way to the replica.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::{Client, ClientFailure, Exchange, Failure, Stage, TOGETHER};
use crate::proxy::connection::Connection;
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
        let (before, had) = (self.out.sent(), !self.out.is_empty());
        let polled = self.out.poll_flush(cx, &mut replica.stream);
        let sent = match &polled {
            Poll::Ready(Ok(())) => had,
            _ => self.out.sent() > before,
        };
        self.begun |= sent;
        self.moved |= sent;
        polled.map_err(|_| Upload::Replica)
    }
}
