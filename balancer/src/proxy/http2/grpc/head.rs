//! The head of a call as its replica gets it: the same hygiene as HTTP/1's, in HTTP/2's form.

use http::header::{HeaderMap, HeaderName, HeaderValue, TE, VIA};
use http::uri::{Authority, Scheme};
use http::{Uri, Version, request};

use crate::proxy::wire::emit::Arrival;
use crate::proxy::wire::fields::{Known, known};
use crate::proxy::wire::forwarded::Forwarded;
use crate::proxy::wire::request::Request;

/// `head`, which means `request`, for a replica that is spoken to `over_tls`, or is not.
pub(super) fn prepared(
    head: &request::Parts,
    request: &Request<'_>,
    arrival: &Arrival<'_>,
    over_tls: bool,
) -> request::Parts {
    let mut fields = HeaderMap::with_capacity(request.fields.len() + 8);
    let mut put = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.append(name, value);
        }
    };
    for field in request.fields {
        if matches!(known(field.name), None | Some(Known::ContentLength))
            && !arrival.onward.replaces(field.name)
            && let Ok(name) = HeaderName::from_bytes(field.name.as_bytes())
        {
            put(name, field.value);
        }
    }
    for (name, value) in Forwarded::of(request, arrival).fields() {
        put(HeaderName::from_static(name), &value);
    }
    put(HeaderName::from_static("x-request-id"), request.said.request_id.unwrap_or(arrival.request_id));
    if let Some(traceparent) = arrival.onward.traceparent() {
        put(HeaderName::from_static("traceparent"), traceparent);
    }
    put(TE, b"trailers");
    put(VIA, b"2 slipring");
    let (mut prepared, ()) = http::Request::new(()).into_parts();
    prepared.method = head.method.clone();
    prepared.version = Version::HTTP_2;
    prepared.headers = fields;
    // Whatever the client came over.
    let mut parts = head.uri.clone().into_parts();
    parts.scheme = Some(if over_tls { Scheme::HTTPS } else { Scheme::HTTP });
    let host = std::str::from_utf8(request.host()).ok().and_then(|host| host.parse().ok());
    parts.authority = Some(host.unwrap_or_else(|| Authority::from_static("slipring")));
    prepared.uri = Uri::from_parts(parts).unwrap_or_default();
    prepared
}
