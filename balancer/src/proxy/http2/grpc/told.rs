//! What is told of a call: one line and one span, when it has ended, however it does. A caller that leaves takes with it
//! whatever carries its call, so that this is what tells of it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

use super::super::pipe::BrokenOff;
use super::super::{AnswerBody, Peer, boxed};
use super::words::Code;
use crate::proxy::access_log::{Noted, Tally};
use crate::proxy::error::REPLICA;

/// See the module.
pub(in super::super) struct Account {
    pub(in super::super) peer: Rc<Peer>,
    pub(in super::super) noted: Box<Noted>,
    pub(in super::super) tally: Rc<Tally>,
    ended: bool,
}

impl Account {
    /// Of a call that has come.
    pub(in super::super) fn new(peer: Rc<Peer>, noted: Box<Noted>, tally: Rc<Tally>) -> Self {
        Self { peer, noted, tally, ended: false }
    }

    /// The answer has begun. What is told of it is known when it has ended.
    pub(in super::super) fn answered(self, response: Response<AnswerBody>) -> Response<AnswerBody> {
        let tally = &self.tally;
        tally.status.set(response.status().as_u16());
        if let Some(replica) = response.headers().get(REPLICA) {
            tally.replica.replace(Some(replica.clone()));
        }
        tally.grpc_status.set(status(response.headers()));
        response.map(|body| {
            let mut told = Told { body, account: self };
            told.look();
            boxed(told)
        })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.tally.grpc_status.get().is_none() {
            // What gRPC's callers make of the end: they left, or the replica said nothing.
            let code = if self.ended { Code::Unknown } else { Code::Cancelled };
            self.tally.grpc_status.set(Some(code as u32));
        }
        self.peer.log(&self.noted, &self.tally);
    }
}

struct Told {
    body: AnswerBody,
    account: Account,
}

impl Told {
    fn look(&mut self) {
        self.account.ended |= self.body.is_end_stream();
    }
}

fn status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

impl Body for Told {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let tally = &this.account.tally;
                if let Some(data) = frame.data_ref() {
                    tally.bytes.set(tally.bytes.get() + data.len() as u64);
                }
                if let Some(code) = frame.trailers_ref().and_then(status) {
                    tally.grpc_status.set(Some(code));
                }
                this.look();
            }
            Poll::Ready(_) => this.account.ended = true,
            Poll::Pending => {}
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|_| BrokenOff)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
