//! What has arrived and was not used up yet.
//!
//! A connection that waits for its next request holds no memory for it: storage is taken from the thread's stock
//! when bytes come and goes back when they are used up. So ten thousand idle connections cost what their sockets
//! cost, and a busy one never allocates.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a buffer holds; a head must fit in one.
pub const CAPACITY: usize = 32 * 1024;
/// Buffers that a thread keeps for the next connection.
const STOCK: usize = 128;
/// An outbox larger than this is not kept either.
const KEPT_OUTBOX: usize = 64 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static OUTBOXES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes in the order in which they came; at most [`CAPACITY`].
#[derive(Debug, Default)]
pub struct Buffer {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is there.
    pub fn data(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no more fits.
    pub fn is_full(&self) -> bool {
        self.end - self.start == CAPACITY
    }

    /// The first `count` bytes are used up.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was used up than was there");
        if self.is_empty() {
            self.release();
        }
    }

    /// Reads what has arrived; 0 bytes: the end. Only when it is not full.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.storage.is_empty() {
            self.storage =
                BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; CAPACITY].into_boxed_slice());
        } else if self.end == CAPACITY {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut room = ReadBuf::new(&mut self.storage[self.end..]);
        let polled = Pin::new(stream).poll_read(cx, &mut room);
        let count = room.filled().len();
        self.end += count;
        if self.is_empty() {
            self.release();
        }
        ready!(polled)?;
        Poll::Ready(Ok(count))
    }

    fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        if !self.storage.is_empty() {
            let storage = std::mem::take(&mut self.storage);
            BUFFERS.with_borrow_mut(|stock| {
                if stock.len() < STOCK {
                    stock.push(storage);
                }
            });
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Where to put what is to be sent.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = OUTBOXES.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(2048));
        }
        &mut self.bytes
    }

    /// What was not sent yet.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes that were not sent yet.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends everything; how much was sent since the last call is progress.
    pub fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.clear();
        // TLS may hold a record back.
        Pin::new(stream).poll_flush(cx)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sent = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        if (1..=KEPT_OUTBOX).contains(&bytes.capacity()) {
            bytes.clear();
            OUTBOXES.with_borrow_mut(|stock| {
                if stock.len() < STOCK {
                    stock.push(bytes);
                }
            });
        }
    }

    /// How much was sent, for whoever watches progress.
    pub fn sent(&self) -> usize {
        self.sent
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.clear();
    }
}
