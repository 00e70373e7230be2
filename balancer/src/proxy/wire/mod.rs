//! HTTP/1 as bytes: heads parsed and written, bodies framed (RFC 9112). No I/O, no clock, no allocation that a
//! peer can size.
//!
//! Strict where leniency has been a weapon: one reading of a message or none. Whatever two parsers could read
//! differently (a bare LF, a fold, two lengths, a length beside a coding, a coding that is not exactly `chunked`)
//! is refused, so that a replica never sees a request that the balancer did not.
//! The tokens of a head are found by `httparse`; what they mean is decided here.

pub mod body;
pub mod chunked;
pub mod emit;
pub mod fields;
pub mod forwarded;
pub mod path;
pub mod request;
pub mod response;
#[cfg(test)]
mod tests;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, then trailers.
    Chunked,
    /// Everything until the connection ends: answers only.
    UntilClose,
}

/// The versions that HTTP/1 messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, closed unless asked.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2: a request that came in frames and goes on as text.
    Http2,
}

/// Whether every line of a head ends in CRLF: `httparse` takes a lone LF for an end as well.
fn lines_end_in_crlf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r')
}
