//! A client that speaks in bytes: what it sends need not be HTTP, and it sees where an answer ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::Http;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Wire {
    /// The bytes' way.
    pub stream: TcpStream,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

/// An answer, and whether all of it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body, without its framing.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl RawAnswer {
    /// The values of a header.
    pub fn headers<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    /// A connection to a server.
    pub async fn to(server: Http) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("it listens");
        Self { stream, rest: Vec::new() }
    }

    /// A connection on which these bytes were sent.
    pub async fn sending(server: Http, bytes: impl AsRef<[u8]>) -> Self {
        let mut wire = Self::to(server).await;
        wire.send(bytes).await;
        wire
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("they are taken in time").expect("the connection is there");
    }

    /// More bytes; `false` at the connection's end, whatever kind of end.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.rest)).await;
        let read = read.unwrap_or_else(|_| {
            let rest = String::from_utf8_lossy(&self.rest);
            panic!("nothing came for {PATIENCE:?} and the connection did not end; before: {rest:?}")
        });
        read.is_ok_and(|bytes| bytes > 0)
    }

    /// Waits for the connection's end.
    pub async fn end(&mut self) {
        while self.more().await {
            self.rest.clear();
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.rest.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).expect("heads are text"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Takes so many bytes, or as many as there are.
    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.rest.len() < bytes && self.more().await {}
        let bytes = bytes.min(self.rest.len());
        self.rest.drain(..bytes).collect()
    }

    /// The head of the next answer; `None` if the connection ends before.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(head);
            }
            head += &line;
            head.push('\n');
        }
    }

    /// The next answer, to a request with a body in its answer.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        self.read(true).await
    }

    /// The next answer, to a HEAD.
    pub async fn answer_to_head(&mut self) -> Option<RawAnswer> {
        self.read(false).await
    }

    async fn read(&mut self, has_body: bool) -> Option<RawAnswer> {
        let head = self.head().await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = RawAnswer { status, head, body: Vec::new(), complete: true };
        if !has_body {
            return Some(answer);
        }
        let length = answer.headers("content-length").first().map(|length| length.parse().expect("a length"));
        if !answer.headers("transfer-encoding").is_empty() {
            answer.complete = self.chunks(&mut answer.body).await;
        } else if let Some(length) = length {
            answer.body = self.take(length).await;
            answer.complete = answer.body.len() == length;
        } else {
            answer.body = self.take(usize::MAX).await;
        }
        Some(answer)
    }

    /// Whether the last chunk came.
    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(size) = self.line().await else { return false };
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
            if size == 0 {
                return self.head().await.is_some(); // trailers
            }
            let piece = self.take(size).await;
            body.extend_from_slice(&piece);
            if piece.len() < size || self.take(2).await != b"\r\n" {
                return false;
            }
        }
    }
}
