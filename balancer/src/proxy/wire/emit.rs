//! Heads as they are sent on: what is for the next hop, and what every hop adds.

use std::io::Write as _;
use std::net::IpAddr;

use super::fields::{Known, known, named_by_connection};
use super::forwarded::Forwarded;
use super::request::Request;
use super::response::Response;
use super::{Framing, Version};
use crate::proxy::trace::Onward;

/// What a replica is told about a request besides what the client sent.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who asked, as text.
    pub client: &'a ClientName,
    /// Whether the client is a proxy whose word about its own clients counts.
    pub trusted: bool,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The name of the request, if it came without one.
    pub request_id: &'a [u8],
    /// Which span it is sent on from, if from one of ours.
    pub onward: Onward<'a>,
}

/// Who a client is, as it stands in headers, made once a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName {
    node: Box<str>,
    is_unknown: bool,
}

/// Whom nobody knows (RFC 7239 section 6.3).
const UNKNOWN: &str = "unknown";

impl ClientName {
    /// The address, an IPv4 one that was mapped into IPv6 as what it is. If the client `is_unknown`, it is only that of
    /// the proxy that does not know it, and no replica is told that it were the client's.
    pub fn new(client: IpAddr, is_unknown: bool) -> Self {
        let client = client.to_canonical();
        let node = if client.is_ipv6() { format!("\"[{client}]\"") } else { client.to_string() };
        Self { node: node.into(), is_unknown }
    }

    /// The address; the proxy's, for whom it does not know.
    pub fn address(&self) -> &str {
        self.node.strip_prefix("\"[").and_then(|name| name.strip_suffix("]\"")).unwrap_or(&self.node)
    }

    /// As in `X-Forwarded-For`.
    pub fn forwarded_for(&self) -> &str {
        if self.is_unknown { UNKNOWN } else { self.address() }
    }

    /// As in `Forwarded`: an address of IPv6 is quoted there.
    pub fn node(&self) -> &str {
        if self.is_unknown { UNKNOWN } else { &self.node }
    }
}

/// Writes the head of `request` for a replica into `out`. `framing`: how the body will be sent.
pub fn request(out: &mut Vec<u8>, request: &Request<'_>, arrival: &Arrival<'_>, framing: Framing) {
    put(out, &[request.method.as_bytes(), b" ", request.target.path_and_query.as_bytes(), b" HTTP/1.1\r\n"]);
    let host = request.host();
    put(out, &[b"Host: ", host, b"\r\n"]);
    for field in request.fields {
        let passes = matches!(known(field.name), None | Some(Known::Expect));
        if !passes || request.said.names_fields && named_by_connection(request.fields, field.name) {
            continue;
        }
        if arrival.onward.replaces(field.name) {
            continue;
        }
        put(out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
    }
    if let Some(traceparent) = arrival.onward.traceparent() {
        put(out, &[b"traceparent: ", traceparent, b"\r\n"]);
    }
    if framing == Framing::None && request.said.length.is_some() {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    write_framing(out, framing);
    Forwarded::of(request, arrival).write(out);
    put(out, &[b"X-Request-Id: ", request.said.request_id.unwrap_or(arrival.request_id)]);
    put(out, &[b"\r\nVia: ", received_as(request.version), b" slipring\r\n"]);
    if let Some(protocol) = request.said.upgrade {
        put(out, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// What an answer is sent with.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'a> {
    /// The name of the replica.
    pub replica: &'a [u8],
    /// How the body will be sent.
    pub framing: Framing,
    /// What the client speaks.
    pub version: Version,
    /// Whether the connection stays.
    pub keep_alive: bool,
    /// Whether the connection now belongs to another protocol.
    pub upgraded: bool,
    /// Whether it is a sick replica's, because none is well.
    pub panic: bool,
}

/// Writes the head of `response` for a client into `out`.
pub fn response(out: &mut Vec<u8>, response: &Response<'_>, departure: &Departure<'_>) {
    status_line(out, response.status, response.reason);
    let bodyless = matches!(departure.framing, Framing::None);
    for field in response.fields {
        match known(field.name) {
            None | Some(Known::Host | Known::Expect | Known::RequestId) => {}
            Some(Known::Forwarded | Known::ForwardedFor | Known::ForwardedHost | Known::ForwardedProto) => {}
            // The length of a body that does not come (an answer to HEAD, a 304) is news; of one that comes it is
            // written below.
            Some(Known::ContentLength) if bodyless && !is_bodyless_status(response.status) => {
                put(out, &[b"Content-Length: ", field.value, b"\r\n"]);
                continue; // even if `Connection` names it: the client would wait for a body
            }
            Some(_) => continue,
        }
        if response.said.names_fields && named_by_connection(response.fields, field.name) {
            continue;
        }
        put(out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
    }
    write_framing(out, departure.framing);
    put(out, &[b"Via: ", received_as(response.version), b" slipring\r\n"]);
    put(out, &[b"x-slipring-replica: ", departure.replica, b"\r\n"]);
    if departure.panic {
        out.extend_from_slice(b"x-slipring-panic: 1\r\n");
    }
    match (departure.upgraded, response.said.upgrade, departure.keep_alive, departure.version) {
        (true, Some(protocol), ..) => put(out, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]),
        (_, _, true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (_, _, false, Version::Http11) => out.extend_from_slice(b"Connection: close\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an informational answer (1xx other than 101) on its way to the client.
pub fn informational(out: &mut Vec<u8>, response: &Response<'_>) {
    status_line(out, response.status, response.reason);
    for field in response.fields {
        if known(field.name).is_none()
            && !(response.said.names_fields && named_by_connection(response.fields, field.name))
        {
            put(out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk of `length` bytes.
pub fn chunk_size(out: &mut Vec<u8>, length: usize) {
    // A `Vec` takes everything that is written into it.
    write!(out, "{length:x}\r\n").expect("writing into memory");
}

/// Writes the last chunk and the trailers behind it.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &[httparse::Header<'_>]) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers {
        put(out, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Status codes whose answers never have a body nor a length of one (RFC 9110 section 8.6).
fn is_bodyless_status(status: u16) -> bool {
    status == 204 || status < 200
}

fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    let digits =
        [b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
    put(out, &[b"HTTP/1.1 ", &digits, b" ", reason.as_bytes(), b"\r\n"]);
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => write!(out, "Content-Length: {length}\r\n").expect("writing into memory"),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
}

fn received_as(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0",
        Version::Http11 => b"1.1",
        Version::Http2 => b"2",
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
