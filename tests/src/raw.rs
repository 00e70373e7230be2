//! Bytes on a connection, on either side of the balancer: nothing is hidden, nothing is mended.
//!
//! [`Message`] reads HTTP/1 by the letter and takes no other form of it: what the balancer sends is measured with
//! it, so it shares no code with the balancer's own reader.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// No step of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    held: Vec<u8>,
}

/// Which side sent a message, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A request.
    Request,
    /// An answer to anything but HEAD.
    Answer,
    /// An answer to HEAD.
    AnswerToHead,
}

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names, in lower case, and values.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer section, as it was.
    pub trailers: String,
}

/// Why there is no whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    /// The connection ended between two messages.
    Ended,
    /// It ended within one.
    CutOff(String),
    /// It is not as the RFCs say.
    Malformed(String),
}

impl Message {
    /// The value of a field that is there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own == name);
        let only = values.next().filter(|_| values.next().is_none());
        only.map(|(_, value)| value.as_str())
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// A request's target.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    /// Connects to a server.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("it listens"))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connection");
        Self { stream, held: Vec::new() }
    }

    /// Sends these bytes. Whether the other side took them.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the other side reads").is_ok()
    }

    /// Ends this side, and listens on.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await); // it may have ended already
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().expect("a connection");
    }

    /// What has come and was not read yet, without reading it; nothing: the end.
    pub async fn peek(&self) -> Vec<u8> {
        if !self.held.is_empty() {
            return self.held.clone();
        }
        let mut bytes = vec![0; 4096];
        let count = self.stream.peek(&mut bytes).await.unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    /// Reads on; whether anything came.
    async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes)).await;
        let Ok(read) = read else {
            panic!("nothing came for {PATIENCE:?}; before: {:?}", String::from_utf8_lossy(&self.held));
        };
        let count = read.unwrap_or(0);
        self.held.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// Reads at least `count` bytes and takes so many; fewer at the end.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.held.len() < count && self.more().await {}
        self.held.drain(..count.min(self.held.len())).collect()
    }

    /// Reads up to and with `mark`; `None` at the end.
    pub async fn take_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.held[from..].windows(mark.len()).position(|window| window == mark) {
                return Some(self.held.drain(..from + at + mark.len()).collect());
            }
            from = (self.held.len() + 1).saturating_sub(mark.len());
            if !self.more().await {
                return None;
            }
        }
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.held)
    }

    /// Waits for the end, however it comes.
    pub async fn ended(mut self) {
        while self.more().await {}
    }

    /// Reads a message's head and no more of it.
    pub async fn head(&mut self) -> Result<Message, Odd> {
        let Some(head) = self.take_until(b"\r\n\r\n").await else {
            let held = String::from_utf8_lossy(&self.held).into_owned();
            return Err(if held.is_empty() { Odd::Ended } else { Odd::CutOff(held) });
        };
        parse(&head)
    }

    /// Reads a whole message.
    pub async fn message(&mut self, sent: Sent) -> Result<Message, Odd> {
        let mut message = self.head().await?;
        let values = |name: &str| -> Vec<&str> {
            message.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
        };
        let status = if sent == Sent::Request { 200 } else { message.status() };
        let bodyless = sent == Sent::AnswerToHead || matches!(status, 100..=199 | 204 | 304);
        let cut_off = |message: &Message| Odd::CutOff(message.start.clone());
        match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
            _ if bodyless => {}
            ([], []) if sent == Sent::Request => {}
            ([], []) => message.body = self.rest().await,
            ([], ["chunked"]) => loop {
                let line = self.take_until(b"\r\n").await.ok_or_else(|| cut_off(&message))?;
                let size = std::str::from_utf8(&line[..line.len() - 2]).unwrap_or("?");
                let hexadecimal = !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit());
                let size = usize::from_str_radix(size, 16).ok().filter(|_| hexadecimal);
                let size = size.ok_or_else(|| Odd::Malformed(format!("a chunk of {line:?}")))?;
                if size == 0 {
                    break;
                }
                let mut data = self.take(size + 2).await;
                if data.len() < size + 2 {
                    return Err(cut_off(&message));
                }
                if data.split_off(size) != b"\r\n" {
                    return Err(Odd::Malformed(format!("a chunk of {size} bytes ends elsewhere")));
                }
                message.body.extend_from_slice(&data);
            },
            ([length], []) if !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit()) => {
                let length = length.parse().map_err(|_| Odd::Malformed(format!("a length of {length}")))?;
                message.body = self.take(length).await;
                if message.body.len() < length {
                    return Err(cut_off(&message));
                }
            }
            framing => return Err(Odd::Malformed(format!("framed as {framing:?}"))),
        }
        if !bodyless && message.field("transfer-encoding").is_some() {
            let mut section = String::new();
            while !section.ends_with("\r\n\r\n") && section != "\r\n" {
                let line = self.take_until(b"\r\n").await.ok_or_else(|| cut_off(&message))?;
                section.push_str(&String::from_utf8_lossy(&line));
            }
            message.trailers = section;
        }
        Ok(message)
    }

    /// Reads an answer.
    pub async fn answer(&mut self) -> Message {
        self.message(Sent::Answer).await.expect("an answer")
    }

    /// Asks, and reads the answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        assert!(self.say(request).await, "it took the request");
        self.answer().await
    }
}

fn parse(head: &[u8]) -> Result<Message, Odd> {
    let malformed = |why: &str| Odd::Malformed(format!("{why}: {:?}", String::from_utf8_lossy(head)));
    // Latin-1: each byte a character, so that nothing is lost.
    let text: String = head[..head.len() - 4].iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    if text.contains('\0') || text.split("\r\n").any(|line| line.contains(['\r', '\n'])) {
        return Err(malformed("a control character"));
    }
    if start.split(' ').take(3).filter(|word| !word.is_empty()).count() < 2 || !start.contains("HTTP/1.1") {
        return Err(malformed("a first line"));
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("no colon"))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(malformed("a name"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Message { start, fields, body: Vec::new(), trailers: String::new() })
}

/// A replica of one's own: answers heartbeats, and leaves every other connection to `script`, which gets it before
/// anything was read, with what came first.
pub async fn replica<F>(script: impl Fn(Raw, String) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let script = std::sync::Arc::new(script);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = script.clone();
            tokio::spawn(async move {
                let mut raw = Raw::new(stream);
                let first = String::from_utf8_lossy(&raw.peek().await).into_owned();
                if first.starts_with("GET /heartbeat ") {
                    if raw.head().await.is_ok() {
                        raw.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                    }
                } else if !first.is_empty() {
                    script(raw, first).await;
                }
            });
        }
    });
    address
}
