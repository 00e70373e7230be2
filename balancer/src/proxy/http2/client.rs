//! A stream of HTTP/2, as an exchange sees its client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response as Answer, StatusCode};
use http_body::Body;
use http_body_util::Either;
use httparse::Header;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::AnswerBody;
use super::pipe::{PipeWriter, pipe};
use crate::proxy::error::{PANIC, REPLICA};
use crate::proxy::exchange::{Client, ClientFailure, Departure, Manner};
use crate::proxy::upstream::{Flight, Upstream};
use crate::proxy::watch::Ticket;
use crate::proxy::wire::fields::{Known, known, named_by_connection};
use crate::proxy::wire::response::Response;
use crate::proxy::wire::{Version, emit};

/// See the module.
pub(super) struct Http2 {
    body: Incoming,
    data: Bytes,
    trailers: Option<HeaderMap>,
    allowance: u64,
    head: Option<oneshot::Sender<Answer<AnswerBody>>>,
    pipe: Option<PipeWriter>,
}

impl Http2 {
    /// A request with `body`, whose answer goes to `head`.
    pub(super) fn new(body: Incoming, allowance: u64, head: oneshot::Sender<Answer<AnswerBody>>) -> Self {
        Self { body, data: Bytes::new(), trailers: None, allowance, head: Some(head), pipe: None }
    }

    /// Answers in the place of a replica.
    pub(super) fn refuse(mut self, answer: Answer<AnswerBody>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer<AnswerBody>) {
        if let Some(head) = self.head.take()
            && head.send(answer).is_err()
        {
            tracing::debug!("a stream was reset before its answer");
        }
    }

    /// Waits until the client has got everything, for at most `idle`.
    pub(super) async fn delivered(self, ticket: &Ticket, idle: Duration, flight: Flight) {
        let Some(pipe) = &self.pipe else { return };
        ticket.set(idle);
        std::future::poll_fn(|cx| match pipe.poll_empty(cx) {
            Poll::Pending if !ticket.has_expired(cx) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
        drop(flight);
    }
}

impl Client for Http2 {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, ClientFailure>> {
        loop {
            if !self.data.is_empty() {
                if self.data.len() as u64 > self.allowance {
                    return Poll::Ready(Err(ClientFailure::TooLarge));
                }
                return Poll::Ready(Ok(Some(self.data.len())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                // The framing below takes a stream that was reset with NO_ERROR for one that has ended.
                None if !self.body.is_end_stream() => return Poll::Ready(Err(ClientFailure::Gone)),
                None => return Poll::Ready(Ok(None)),
                Some(Err(_)) => return Poll::Ready(Err(ClientFailure::Gone)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.data = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn body(&self) -> &[u8] {
        &self.data
    }

    fn took(&mut self, count: usize) {
        self.allowance -= count as u64;
        self.data.advance(count);
    }

    fn put_last_chunk(&mut self, out: &mut Vec<u8>) {
        let trailers = self.trailers.take().unwrap_or_default();
        let fields =
            trailers.iter().map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() });
        let fields: Vec<_> = fields.filter(|field| known(field.name).is_none()).collect();
        emit::last_chunk(out, &fields);
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        match (&mut self.head, &self.pipe) {
            (Some(head), _) => head.poll_closed(cx),
            (None, Some(pipe)) => pipe.poll_deserted(cx),
            (None, None) => Poll::Pending,
        }
        .map(|()| Departure::Gone)
    }

    fn inform(&mut self, _response: &Response<'_>) {
        // The framing below knows no informational answers; they are not owed to anybody.
    }

    fn answer(&mut self, response: &Response<'_>, replica: &Upstream, how: Manner) {
        let (writer, body) = pipe();
        let mut answer = Answer::new(Either::Left(body));
        *answer.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = answer.headers_mut();
        // RFC 9110 section 8.6: no length where there is no body; that of an answer to HEAD or of a 304 is news.
        let no_length = response.status == 204;
        for field in response.fields {
            if no_length && known(field.name) == Some(Known::ContentLength) {
                continue;
            }
            if !matches!(known(field.name), None | Some(Known::ContentLength | Known::RequestId))
                || response.said.names_fields && named_by_connection(response.fields, field.name)
            {
                continue;
            }
            let name = HeaderName::from_bytes(field.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
                headers.append(name, value);
            }
        }
        let via = if response.version == Version::Http10 { "1.0 slipring" } else { "1.1 slipring" };
        headers.append(http::header::VIA, HeaderValue::from_static(via));
        headers.insert(REPLICA, replica.header.clone());
        if how.panic {
            headers.insert(PANIC, HeaderValue::from_static("1"));
        }
        self.pipe = Some(writer);
        self.send(answer);
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(pipe) = &self.pipe else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        pipe.poll_write(cx, data).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&mut self, trailers: &[Header<'_>]) {
        let mut map = HeaderMap::new();
        for field in trailers {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
                map.append(name, value);
            }
        }
        if let Some(pipe) = &self.pipe {
            pipe.end(Some(map).filter(|map| !map.is_empty()));
        }
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // what lies in the pipe is bounded, and goes by itself
    }
}
