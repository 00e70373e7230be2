//! A client that speaks HTTP/1, as an exchange sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use httparse::{EMPTY_HEADER, Header};
use tokio::io::AsyncWrite;

use super::buffer::{Buffer, Outbox};
use super::exchange::{Client, ClientFailure, Departure, Manner, TOGETHER, TRAILERS};
use super::stream::Stream;
use super::upstream::Upstream;
use super::wire::body::{BodyReader, Next};
use super::wire::fields::MOST_FIELDS;
use super::wire::response::Response;
use super::wire::{Framing, Version, chunked, emit};

/// A client's connection.
#[derive(Debug)]
pub struct Http1 {
    /// Its bytes.
    pub stream: Stream,
    /// What has arrived.
    pub input: Buffer,
    /// What is to be sent.
    pub out: Outbox,
    /// Where the present request's body stands.
    pub body: BodyReader,
    /// Bytes of the present request's body that may still come.
    pub allowance: u64,
    /// What the present request was sent as.
    pub version: Version,
    /// Whether another request may follow.
    pub keep_alive: bool,
    answer: Framing,
    trailers: usize,
}

impl Http1 {
    /// A connection on which nothing has happened yet.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: Buffer::default(),
            out: Outbox::default(),
            body: BodyReader::Length(0),
            allowance: u64::MAX,
            version: Version::Http11,
            keep_alive: true,
            answer: Framing::None,
            trailers: 0,
        }
    }

    /// How the present answer's body is sent.
    fn framing_for(&self, response: &Response<'_>) -> Framing {
        match (response.framing, self.version) {
            (framing @ (Framing::None | Framing::Length(_)), _) => framing,
            (_, Version::Http10) => Framing::UntilClose,
            _ => Framing::Chunked,
        }
    }

    /// The next piece of the present request's body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, ClientFailure>> {
        loop {
            match self.body.next(self.input.data(), TRAILERS).map_err(|_| ClientFailure::Garbled)? {
                Next::Data { skip, len } => {
                    self.input.consume(skip);
                    if len as u64 > self.allowance {
                        return Poll::Ready(Err(ClientFailure::TooLarge));
                    }
                    return Poll::Ready(Ok(Some(len)));
                }
                Next::More { skip } => {
                    self.input.consume(skip);
                    match ready!(self.input.poll_fill(cx, &mut self.stream)) {
                        Ok(count) if count > 0 => {}
                        _ => return Poll::Ready(Err(ClientFailure::Gone)),
                    }
                }
                Next::End { skip, trailers } => {
                    self.input.consume(skip);
                    self.trailers = trailers;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

impl Client for Http1 {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<usize>, ClientFailure>> {
        let polled = self.poll_piece(cx);
        // Nobody knows where its next request would begin.
        self.keep_alive &= !matches!(polled, Poll::Ready(Err(_)));
        polled
    }

    fn body(&self) -> &[u8] {
        self.input.data()
    }

    fn took(&mut self, count: usize) {
        self.allowance -= count as u64;
        self.body.took(count);
        self.input.consume(count);
    }

    fn put_last_chunk(&mut self, out: &mut Vec<u8>) {
        let mut storage = [EMPTY_HEADER; MOST_FIELDS];
        let section = &self.input.data()[..self.trailers];
        let fields = match self.trailers {
            0..=2 => Vec::new(),
            _ => chunked::parse_trailers(section, &mut storage).expect("the decoder has looked at them"),
        };
        emit::last_chunk(out, &fields);
        self.input.consume(std::mem::take(&mut self.trailers));
    }

    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure> {
        // What comes now is the rest of the body, or the next request already. It waits here as far as there is room,
        // so that an end behind it is news as well.
        while !self.input.is_full() {
            match ready!(self.input.poll_fill(cx, &mut self.stream)) {
                Ok(0) => return Poll::Ready(Departure::Ended),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Departure::Gone),
            }
        }
        Poll::Pending
    }

    fn inform(&mut self, response: &Response<'_>) {
        if self.version == Version::Http11 {
            emit::informational(self.out.bytes(), response);
        }
    }

    fn answer(&mut self, response: &Response<'_>, replica: &Upstream, how: Manner) {
        let framing = self.framing_for(response);
        let upgraded = response.status == 101;
        self.keep_alive &= !how.last && !upgraded && framing != Framing::UntilClose;
        self.answer = framing;
        let departure = emit::Departure {
            replica: replica.header.as_bytes(),
            framing,
            version: self.version,
            keep_alive: self.keep_alive || upgraded,
            upgraded,
            panic: how.panic,
        };
        emit::response(self.out.bytes(), response, &departure);
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let chunked = self.answer == Framing::Chunked;
        let queued = self.out.len();
        if chunked && queued <= TOGETHER || queued > 0 && queued + data.len() <= TOGETHER {
            let out = self.out.bytes();
            if chunked {
                emit::chunk_size(out, data.len());
            }
            out.extend_from_slice(data);
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
            return Poll::Ready(Ok(data.len()));
        }
        ready!(self.out.poll_flush(cx, &mut self.stream))?;
        if chunked {
            return self.poll_data(cx, data);
        }
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, data))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(sent))
    }

    fn end(&mut self, trailers: &[Header<'_>]) {
        if self.answer == Framing::Chunked {
            emit::last_chunk(self.out.bytes(), trailers);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.poll_flush(cx, &mut self.stream)
    }
}
