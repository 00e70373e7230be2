//! Headers that end here, and headers that begin here (RFC 9110 sections 7.6 and 7.6.3, RFC 7239).

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, Version};

/// Which replica answered.
pub const REPLICA: HeaderName = HeaderName::from_static("x-slipring-replica");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what speaks of one connection only: the hop-by-hop headers and those that `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH) // these speak of the message
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Tells the replica who asked: `Forwarded`, `X-Forwarded-*` and `Via`, appended to what earlier proxies said.
pub fn add_forwarded(headers: &mut HeaderMap, client: IpAddr, version: Version) {
    let client = client.to_canonical();
    let address = client.to_string();
    let node = if client.is_ipv6() { format!("\"[{address}]\"") } else { address.clone() };
    let host = headers.get(HOST).cloned();
    let forwarded = match host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| is_quotable(host)) {
        Some(host) => format!("for={node};host=\"{host}\";proto=http"),
        None => format!("for={node};proto=http"),
    };
    append_to_list(headers, FORWARDED, &forwarded);
    append_to_list(headers, X_FORWARDED_FOR, &address);
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    add_via(headers, version);
}

/// Notes that the message came through here.
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    let received = match version {
        Version::HTTP_10 => "1.0 slipring",
        Version::HTTP_2 => "2 slipring",
        _ => "1.1 slipring",
    };
    headers.append(VIA, HeaderValue::from_static(received));
}

/// Whether a request says that it came through another proxy.
pub fn came_through_a_proxy(headers: &HeaderMap) -> bool {
    [FORWARDED, X_FORWARDED_FOR, VIA, HeaderName::from_static("x-real-ip")]
        .iter()
        .any(|name| headers.contains_key(name))
}

/// Whether a request says which host it means, as RFC 9112 section 3.2 wants it: once, and validly.
pub fn names_its_host(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
        (Some(host), None) => host.is_empty() || http::uri::Authority::try_from(host.as_bytes()).is_ok(),
    }
}

fn is_quotable(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

fn append_to_list(headers: &mut HeaderMap, name: HeaderName, item: &str) {
    let earlier: Vec<&str> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let list = if earlier.is_empty() { item.to_owned() } else { format!("{}, {item}", earlier.join(", ")) };
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Private, Host, Content-Length"),
            ("host", "shop.example"),
            ("content-length", "0"),
            ("connection", "x-more,,"),
            ("x-private", "1"),
            ("x-more", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "secret"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut kept: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["content-length", "host", "trailer", "x-kept"]);
    }

    #[test]
    fn a_request_names_one_host() {
        for (host, valid) in [
            ("shop.example", true),
            ("[::1]:5000", true),
            ("a_b:80", true),
            ("", true),
            ("a b", false),
            ("a,b", true),
            ("a/b", false),
        ] {
            assert_eq!(names_its_host(&map(&[("host", host)]), Version::HTTP_11), valid, "{host:?}");
        }
        assert!(!names_its_host(&map(&[("host", "a"), ("host", "a")]), Version::HTTP_10));
        assert!(!names_its_host(&map(&[]), Version::HTTP_11));
        assert!(names_its_host(&map(&[]), Version::HTTP_10));
    }

    #[test]
    fn the_replica_learns_who_asked() {
        let mut headers =
            map(&[("host", "shop.example"), ("x-forwarded-for", "10.1.1.1"), ("x-forwarded-proto", "https")]);
        add_forwarded(&mut headers, "::ffff:192.0.2.7".parse().unwrap(), Version::HTTP_11);
        assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"shop.example\";proto=http");
        assert_eq!(headers["x-forwarded-for"], "10.1.1.1, 192.0.2.7");
        assert_eq!(headers["x-forwarded-host"], "shop.example");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["via"], "1.1 slipring");
        let mut headers = map(&[("host", "a\"b")]);
        add_forwarded(&mut headers, "2001:db8::1".parse().unwrap(), Version::HTTP_10);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(headers["via"], "1.0 slipring");
    }
}
