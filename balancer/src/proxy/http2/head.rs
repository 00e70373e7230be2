//! The head of a request of HTTP/2, read as one of HTTP/1.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap};
use http::{Method, Uri, request};
use http_body::Body;
use httparse::Header;
use hyper::body::Incoming;

use crate::proxy::error::ProxyError;
use crate::proxy::wire::fields::{FieldError, said};
use crate::proxy::wire::request::{Request, RequestError, Target, is_host, is_path};
use crate::proxy::wire::{Framing, Version};

/// Whether a request names one host (RFC 9113 section 8.3.1): in `:authority`, in `Host`, or the same in both. What
/// one reader would take for the host of one site and the next for another's is refused.
pub(super) fn names_one_host(uri: &Uri, headers: &HeaderMap) -> Result<(), ProxyError> {
    let mut fields = headers.get_all(HOST).iter().map(|host| host.as_bytes());
    let (field, another) = (fields.next(), fields.next());
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let port = match uri.scheme_str() {
        Some("https") => &b"443"[..],
        _ => b"80",
    };
    let right = match (authority, field) {
        (Some(authority), Some(field)) => {
            is_host(authority) && is_host(field) && normal(authority, port) == normal(field, port)
        }
        (Some(host), None) | (None, Some(host)) => is_host(host),
        (None, None) => false,
    };
    if right && another.is_none() { Ok(()) } else { Err(RequestError::from(FieldError::Host).into()) }
}

/// A host as RFC 3986 section 6.2 compares them, without the port that its scheme has anyhow.
fn normal(host: &[u8], port: &[u8]) -> Vec<u8> {
    let named = host.strip_suffix(port).and_then(|rest| rest.strip_suffix(b":"));
    named.or(host.strip_suffix(b":")).unwrap_or(host).to_ascii_lowercase()
}

pub(super) fn framing(headers: &HeaderMap, body: &Incoming) -> Framing {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        _ if body.is_end_stream() => Framing::None,
        Some(0) | None => Framing::Chunked,
        Some(length) => Framing::Length(length),
    }
}

/// RFC 9113 section 8.2.3: one field where HTTP/2 may have several.
pub(super) fn cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut cookies = headers.get_all(COOKIE).iter();
    let mut joined = cookies.next()?.as_bytes().to_vec();
    for cookie in cookies {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    Some(joined)
}

pub(super) fn fields<'a>(headers: &'a HeaderMap, cookies: Option<&'a [u8]>) -> Vec<Header<'a>> {
    let others = headers.iter().filter(|(name, _)| **name != COOKIE);
    let fields = others.map(|(name, value)| Header { name: name.as_str(), value: value.as_bytes() });
    fields.chain(cookies.map(|value| Header { name: "cookie", value })).collect()
}

/// Where a request goes: what would be no line of HTTP/1 reaches no replica as one.
pub(super) fn target<'a>(method: &Method, uri: &'a Uri) -> Result<Target<'a>, RequestError> {
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(http::uri::Authority::as_str);
    match is_path(method.as_str(), path_and_query) {
        true => Ok(Target { path_and_query, authority }),
        false => Err(RequestError::Target),
    }
}

pub(super) fn as_head<'a>(
    head: &'a request::Parts,
    fields: &'a [Header<'a>],
    framing: Framing,
) -> Result<Request<'a>, ProxyError> {
    let target = target(&head.method, &head.uri)?;
    let said = said(fields).map_err(RequestError::from)?;
    if head.method == Method::CONNECT {
        return Err(RequestError::Connect.into());
    }
    Ok(Request { method: head.method.as_str(), target, version: Version::Http2, fields, said, framing })
}
