//! Both sides of HTTP/2 in frames: what they send need not be right, and they hide nothing of what comes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::Http;
use crate::raw::Raw;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The kinds of frames (RFC 9113 section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// What every connection of HTTP/2 begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The code of a RST_STREAM or GOAWAY.
    pub fn error(&self) -> Option<u32> {
        let at = match self.kind {
            kind::RST_STREAM => 0,
            kind::GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// A frame in bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("tests send short frames").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK has them without a table and without Huffman (RFC 7541 section 6.2.2).
pub fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(u8::try_from(value).expect("it is small"));
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value % 128).expect("it is small") | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).expect("it is small"));
}

/// The fields of a request without fault.
pub fn good(path: &str) -> Vec<(&'static str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "slipring.example")]
}

/// A request's head in one frame.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, &hpack(fields))
}

/// A connection.
#[derive(Debug)]
pub struct Frames {
    /// The bytes' way.
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Frames {
    /// A connection on which nothing was said.
    pub async fn silent(server: Http) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.set_nodelay(true).expect("it is connected");
        Self { stream, rest: Vec::new() }
    }

    /// A connection that has begun as it should.
    pub async fn to(server: Http) -> Self {
        let mut frames = Self::silent(server).await;
        frames.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await;
        frames
    }

    /// Sends bytes; whether the connection took them.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("they are taken or refused").is_ok()
    }

    /// Takes bytes off the connection; fewer at its end.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.rest)).await;
            if !read.expect("something comes, or the end").is_ok_and(|count| count > 0) {
                return None;
            }
        }
        Some(self.rest.drain(..count).collect())
    }

    /// The next frame; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<RawFrame> {
        let head = self.bytes(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(RawFrame { kind: head[3], flags: head[4], stream, payload: self.bytes(length).await? })
    }

    /// The next frame of which this holds; `None` when the connection ends before.
    pub async fn until(&mut self, is: impl Fn(&RawFrame) -> bool) -> Option<RawFrame> {
        loop {
            let frame = self.next().await?;
            if is(&frame) {
                return Some(frame);
            }
        }
    }
}

/// A server's side of a connection: it answers PINGs and SETTINGS by itself, and does nothing else.
#[derive(Debug)]
pub struct Served {
    /// The bytes' way.
    pub raw: Raw,
}

impl Served {
    /// Takes a client's preface, and says its own settings.
    pub async fn begin(mut raw: Raw, settings: &[(u16, u32)]) -> Option<Self> {
        if raw.take(PREFACE.len()).await != PREFACE {
            return None;
        }
        let pair = |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        raw.say(frame(kind::SETTINGS, 0, 0, &payload)).await;
        Some(Self { raw })
    }

    /// The next frame that is not about the connection itself; `None` at its end.
    pub async fn next(&mut self) -> Option<RawFrame> {
        loop {
            let head = self.raw.take(9).await;
            let [_, _, _, kind, flags, stream @ ..] = *head.first_chunk::<9>()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let payload = self.raw.take(length).await;
            let frame_is_ours = flags & flag::ACK != 0;
            match kind {
                kind::SETTINGS | kind::PING if frame_is_ours => {}
                kind::SETTINGS => {
                    self.raw.say(frame(kind, flag::ACK, 0, &[])).await;
                }
                kind::PING => {
                    self.raw.say(frame(kind, flag::ACK, 0, &payload)).await;
                }
                kind::WINDOW_UPDATE => {}
                _ => return Some(RawFrame { kind, flags, stream: u32::from_be_bytes(stream), payload }),
            }
        }
    }

    /// The stream of the next request, whose body has ended.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.flags & flag::END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// Answers a call with nothing but this status.
    pub async fn status(&mut self, stream: u32, status: &str) {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
        self.raw.say(headers(stream, flag::END_STREAM, &fields)).await;
    }

    /// Ends one stream.
    pub async fn reset(&mut self, stream: u32, error: u32) {
        self.raw.say(frame(kind::RST_STREAM, 0, stream, &error.to_be_bytes())).await;
    }

    /// Says that streams above `last` will not be looked at.
    pub async fn go_away(&mut self, last: u32, error: u32) {
        self.raw.say(frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), error.to_be_bytes()].concat())).await;
    }
}
