//! Where a request's key comes from: the first configured source that the request has.

use std::num::NonZeroU8;

use http::header::HeaderName;
use httparse::Header;
use rand::Rng;
use slipring_hashing::Key;

use super::wire::emit::ClientName;
use super::wire::request::Request;

/// Request ids of the original: six digits.
pub const REQUEST_IDS: std::ops::RangeInclusive<u32> = 100_000..=999_999;

/// One place to look for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A number drawn anew for every request: spread, not sticky.
    Random,
    /// The path, without the query.
    Path,
    /// The path and the query, as they were sent: nginx's `$request_uri`.
    Uri,
    /// A piece of the path between its slashes, counted from one.
    Segment(NonZeroU8),
    /// The client's address as text, without the port.
    Client,
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query, as it is written there.
    Query(String),
}

impl KeySource {
    /// `random`, `path`, `uri`, `client`, `segment:N`, `header:NAME`, `cookie:NAME` or `query:NAME`.
    pub fn parse(text: &str) -> Option<Self> {
        let token = |name: &str| !name.is_empty() && !name.contains([';', '=', '&', ',', ' ']);
        Some(match text.split_once(':') {
            None if text == "random" => Self::Random,
            None if text == "path" => Self::Path,
            None if text == "uri" => Self::Uri,
            None if text == "client" => Self::Client,
            Some(("segment", number)) => Self::Segment(number.parse().ok()?),
            Some(("header", name)) => Self::Header(name.parse().ok()?),
            Some(("cookie", name)) if token(name) => Self::Cookie(name.to_owned()),
            Some(("query", name)) if token(name) => Self::Query(name.to_owned()),
            _ => return None,
        })
    }

    fn find(&self, request: &Request<'_>, client: &ClientName) -> Option<Found> {
        let bytes = |bytes: &[u8]| Some(Found::Bytes(bytes.into()));
        match self {
            Self::Random => Some(Found::Id(rand::rng().random_range(REQUEST_IDS))),
            Self::Path => bytes(request.target.path().as_bytes()),
            Self::Uri => bytes(request.target.path_and_query.as_bytes()),
            Self::Segment(number) => bytes(segment(request.target.path(), *number)?.as_bytes()),
            Self::Client => bytes(client.address().as_bytes()),
            Self::Header(name) => bytes(request.field(name.as_str())?),
            Self::Cookie(name) => bytes(cookie(request.fields, name)?),
            Self::Query(name) => bytes(parameter(request.target.query()?, name)?.as_bytes()),
        }
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Path => f.write_str("path"),
            Self::Uri => f.write_str("uri"),
            Self::Client => f.write_str("client"),
            Self::Segment(number) => write!(f, "segment:{number}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// A key that was found, or drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A request id.
    Id(u32),
    /// Bytes of the request.
    Bytes(Box<[u8]>),
}

impl Found {
    /// As the ring takes it.
    pub fn key(&self) -> Key<'_> {
        match self {
            Self::Id(id) => Key::Id(*id),
            Self::Bytes(bytes) => Key::Bytes(bytes),
        }
    }
}

/// The key of a request: of the first source that has one, else drawn.
pub fn of(sources: &[KeySource], request: &Request<'_>, client: &ClientName) -> Found {
    let found = sources.iter().find_map(|source| source.find(request, client));
    found.unwrap_or_else(|| Found::Id(rand::rng().random_range(REQUEST_IDS)))
}

/// One that is empty is none.
fn segment(path: &str, number: NonZeroU8) -> Option<&str> {
    path.split('/').nth(number.get().into()).filter(|segment| !segment.is_empty())
}

fn cookie<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let cookies = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    let mut pairs = cookies.flat_map(|field| field.value.split(|&byte| byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::wire::fields::room;

    fn found(sources: &[KeySource], text: &str) -> Found {
        let mut storage = room();
        let (request, _) = Request::parse(text.as_bytes(), &mut storage).unwrap().unwrap();
        of(sources, &request, &ClientName::new([10, 0, 0, 7].into(), false))
    }

    #[track_caller]
    fn check(sources: &[&str], expected: &[u8]) {
        let text = "GET /home/7?user=ann&users=bob&empty= HTTP/1.1\r\nHost: a\r\nX-User: carl\r\n\
            Cookie: other=1; session=abc\r\nCookie: late=2\r\n\r\n";
        let sources: Vec<_> = sources.iter().map(|source| KeySource::parse(source).unwrap()).collect();
        assert_eq!(found(&sources, text), Found::Bytes(expected.into()));
    }

    #[test]
    fn each_source_and_the_fallback_to_the_next() {
        check(&["path"], b"/home/7");
        check(&["uri"], b"/home/7?user=ann&users=bob&empty=");
        check(&["segment:1"], b"home");
        check(&["segment:2"], b"7");
        check(&["segment:3", "segment:255", "client"], b"10.0.0.7");
        check(&["client"], b"10.0.0.7");
        check(&["header:x-user"], b"carl");
        check(&["cookie:session"], b"abc");
        check(&["cookie:late"], b"2");
        check(&["query:user"], b"ann");
        check(&["query:empty"], b"");
        check(&["header:x-none", "cookie:none", "query:none", "query:users"], b"bob");
    }

    #[test]
    fn without_a_source_an_id_of_the_contracts_range_is_drawn() {
        for sources in [vec![], vec![KeySource::Random], vec![KeySource::Query("a".into())]] {
            let Found::Id(id) = found(&sources, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") else {
                panic!("{sources:?}")
            };
            assert!(REQUEST_IDS.contains(&id));
        }
    }

    #[test]
    fn nonsense_is_no_source() {
        for text in [
            "",
            "header:",
            "header:a b",
            "cookie:",
            "query:a=b",
            "host",
            "random:1",
            "segment:0",
            "segment:-1",
            "segment:256",
        ] {
            assert_eq!(KeySource::parse(text), None, "{text}");
        }
    }
}
