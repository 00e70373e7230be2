//! The head of a request.

use httparse::{Header, Status};

use super::fields::{FieldError, Room, Said, said};
use super::{Framing, Version, lines_end_in_crlf};
use crate::proxy::trace;

const LONGEST_METHOD: usize = 32;

/// Why a request is refused. One that is refused is the last of its connection: nobody knows where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not HTTP, or a way to write it that parsers read differently.
    #[error("the request is not well-formed HTTP/1")]
    Syntax,
    /// Neither 1.0 nor 1.1.
    #[error("the version of HTTP is not supported here")]
    Version,
    /// What HTTP/2 has for a path is none, or has bytes that a line of HTTP/1 has not.
    #[error("the path is not acceptable: it begins with / and has its other bytes in percent-encoding")]
    Target,
    /// Too many fields.
    #[error("the request has too many header fields")]
    Fields,
    /// What its fields say of its body or its host.
    #[error("{0}")]
    Contradiction(#[from] FieldError),
    /// A coding that is not understood.
    #[error("the Transfer-Encoding is not supported here")]
    Coding,
    /// `CONNECT`: this is not that kind of proxy.
    #[error("CONNECT is not supported here")]
    Connect,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// What a replica is asked for: path and query, or `*`.
    pub path_and_query: &'a str,
    /// The host that the target itself names; it goes before the field `Host`.
    pub authority: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The path alone.
    pub fn path(&self) -> &'a str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }
}

/// A request as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as it was written.
    pub method: &'a str,
    /// Where it goes.
    pub target: Target<'a>,
    /// What it was received as.
    pub version: Version,
    /// Every field, in order, as it was written.
    pub fields: &'a [Header<'a>],
    /// What they say.
    pub said: Said<'a>,
    /// How its body ends.
    pub framing: Framing,
}

impl<'a> Request<'a> {
    /// Parses the head at the beginning of `input`: the request and the head's length, or `None` while it is
    /// incomplete.
    pub fn parse(input: &'a [u8], room: &'a mut Room<'a>) -> Result<Option<(Self, usize)>, RequestError> {
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(input, room) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::Version) => return Err(RequestError::Version),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::Fields),
            Err(_) => return Err(RequestError::Syntax),
        };
        let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(RequestError::Syntax);
        };
        if !lines_end_in_crlf(&input[..length]) || method.len() > LONGEST_METHOD {
            return Err(RequestError::Syntax);
        }
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let fields: &'a [Header<'a>] = parsed.headers;
        let mut said = said(fields).map_err(|error| match error {
            FieldError::Coding => RequestError::Coding,
            other => RequestError::Contradiction(other),
        })?;
        if version == Version::Http10 {
            if said.chunked {
                return Err(RequestError::Coding); // RFC 9112 section 6.1: faulty framing
            }
            // RFC 9110 section 7.8: there is no upgrade from there.
            (said.upgrade, said.offers_h2c) = (None, false);
        }
        if method == "CONNECT" {
            return Err(RequestError::Connect);
        }
        let target = target(method, path)?;
        match said.host {
            None if version == Version::Http11 => return Err(FieldError::Host.into()),
            Some(host) if !is_host(host) => return Err(FieldError::Host.into()),
            _ => {}
        }
        let framing = match (said.chunked, said.length) {
            (true, _) => Framing::Chunked,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        Ok(Some((Self { method, target, version, fields, said, framing }, length)))
    }

    /// Whether the connection may carry another request afterwards.
    pub fn keeps_alive(&self) -> bool {
        !self.said.close && (self.version == Version::Http11 || self.said.keep_alive)
    }

    /// The host that is asked for: of the target, else of the field.
    pub fn host(&self) -> &'a [u8] {
        self.target.authority.map(str::as_bytes).or(self.said.host).unwrap_or_default()
    }

    /// The value of the field with this name, if there is one of it.
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let named = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        trace::only(named.map(|field| field.value))
    }

    /// The value of the first field with this name.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// Whether asking twice is as good as asking once (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

/// RFC 9112 section 3.2: origin-form, absolute-form, or `*` for OPTIONS.
fn target<'a>(method: &str, text: &'a str) -> Result<Target<'a>, RequestError> {
    if is_path(method, text) {
        return Ok(Target { path_and_query: text, authority: None });
    }
    if !is_visible(text) {
        return Err(RequestError::Syntax);
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(rest) = scheme.map(|scheme| &text[scheme.len()..]) else { return Err(RequestError::Syntax) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return Err(RequestError::Syntax);
    }
    // An absolute target without a path means `/`; with a query alone it would have to be rewritten.
    match path {
        "" => Ok(Target { path_and_query: "/", authority: Some(authority) }),
        path if path.starts_with('/') => Ok(Target { path_and_query: path, authority: Some(authority) }),
        _ => Err(RequestError::Syntax),
    }
}

/// Whether a request line may have it for its target, whoever wrote it: a path, or `*` for OPTIONS.
pub(crate) fn is_path(method: &str, text: &str) -> bool {
    is_visible(text) && (text.starts_with('/') || text == "*" && method == "OPTIONS")
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#')
}

/// A host and perhaps a port (RFC 9110 section 7.2); the userinfo of old is not one (section 4.2.4).
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let address = &rest[..end];
            if !address.iter().all(|&byte| byte == b':' || is_of_a_name(byte)) {
                return false;
            }
            (address, &rest[end + 1..])
        }
        None => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            if !text[..end].iter().all(|&byte| is_of_a_name(byte)) {
                return false;
            }
            text.split_at(end)
        }
    };
    match port {
        [] => text.is_empty() || !name.is_empty(),
        [b':', digits @ ..] => !name.is_empty() && is_port(digits),
        _ => false,
    }
}

fn is_port(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit)
        && digits.len() <= 5
        && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

/// Of a registered name or an address (RFC 3986 section 3.2.2), without the comma that would make a list of it.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'.' | b'-'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}

/// Where the head at the beginning of `input` ends, if its end is there; the first `seen` bytes were looked at
/// before. A line that ends in a lone LF is refused as soon as it is seen: its head might never end.
pub fn head_end(input: &[u8], seen: usize) -> Result<Option<usize>, RequestError> {
    for at in memchr::memchr_iter(b'\n', &input[seen..]).map(|at| at + seen) {
        match &input[..at] {
            [.., b'\r', b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(RequestError::Syntax),
        }
    }
    Ok(None)
}
