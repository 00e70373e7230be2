//! Heads: which are taken, as what, and which are not.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Framing::{self, Chunked, Length, None as Nothing, UntilClose};
use super::super::fields::FieldError;
use super::super::fields::room;
use super::super::request::RequestError::{self, Coding, Connect, Contradiction, Fields, Syntax, Version};
use super::super::request::{Request, head_end};
use super::super::response::{Response, ResponseError};
use super::{config, hostile};

/// Method, target, host, framing, whether the connection stays.
type Meaning = (String, String, String, Framing, bool);

fn request(text: &[u8]) -> Result<Option<Meaning>, RequestError> {
    let mut storage = room();
    Request::parse(text, &mut storage).map(|parsed| {
        parsed.map(|(request, length)| {
            assert!(length <= text.len());
            let host = String::from_utf8(request.host().to_vec()).unwrap();
            let target = request.target.path_and_query.to_owned();
            (request.method.to_owned(), target, host, request.framing, request.keeps_alive())
        })
    })
}

#[track_caller]
fn takes(text: &str, method: &str, target: &str, host: &str, framing: Framing, stays: bool) {
    let expected = (method.to_owned(), target.to_owned(), host.to_owned(), framing, stays);
    assert_eq!(request(text.as_bytes()), Ok(Some(expected)), "{text:?}");
}

#[test]
fn requests_that_are_taken() {
    takes("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "a", Nothing, true);
    takes("GET /a?b=c%20d HTTP/1.1\r\nhost:a:80\r\n\r\n", "GET", "/a?b=c%20d", "a:80", Nothing, true);
    takes("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", "GET", "/", "a", Nothing, false);
    takes("GET / HTTP/1.0\r\n\r\n", "GET", "/", "", Nothing, false);
    takes("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET", "/", "", Nothing, true);
    takes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "POST", "/", "a", Length(5), true);
    takes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\n", "POST", "/", "a", Length(5), true);
    takes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST", "/", "a", Nothing, true);
    takes("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "PUT", "/", "a", Chunked, true);
    takes("GET http://b:81/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/c", "b:81", Nothing, true);
    takes("GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "b", Nothing, true);
    takes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", "a", Nothing, true);
    takes("M-SEARCH!#$ / HTTP/1.1\r\nHost:\r\n\r\n", "M-SEARCH!#$", "/", "", Nothing, true);
    takes("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET", "/", "[::1]:8080", Nothing, true);
    let longest = format!("Content-Length: {}", 999_999_999_999_999_999_u64);
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{longest}\r\n\r\n");
    takes(&text, "POST", "/", "a", Length(999_999_999_999_999_999), true);
}

#[test]
fn requests_that_are_refused() {
    let contradiction = |error| Contradiction(error);
    let (length, both, host) = (FieldError::Length, FieldError::TwoFramings, FieldError::Host);
    for (text, expected) in [
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Version),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Version),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Syntax),
        ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Syntax),
        ("CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n", Connect),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", contradiction(host)),
        ("GET / HTTP/1.1\r\nHost: a]\r\n\r\n", contradiction(host)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            contradiction(length),
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", contradiction(length)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", contradiction(length)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", contradiction(length)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", contradiction(length)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", contradiction(length)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", contradiction(length)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            contradiction(both),
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Coding),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Coding),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Coding,
        ),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Coding),
    ] {
        assert_eq!(request(text.as_bytes()), Err(expected), "{text:?}");
    }
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: b\r\n".repeat(128));
    assert_eq!(request(many.as_bytes()), Err(Fields));
    let method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33));
    assert_eq!(request(method.as_bytes()), Err(Syntax));
}

fn response(text: &[u8], to_head: bool) -> Result<Option<(u16, Framing, bool)>, ResponseError> {
    let mut storage = room();
    Response::parse(text, &mut storage, to_head).map(|parsed| {
        parsed.map(|(response, length)| {
            assert!(length <= text.len());
            (response.status, response.framing, response.keeps_alive())
        })
    })
}

#[test]
fn answers() {
    for (text, to_head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", false, Some((200, UntilClose, false))),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", false, Some((200, Length(5), true))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Some((200, Nothing, true))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, Some((200, Nothing, true))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Some((200, Chunked, true))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, Some((200, Nothing, true))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, Some((200, Length(5), false))),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            false,
            Some((200, Length(5), true)),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, Some((204, Nothing, true))),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Some((304, Nothing, true))),
        ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", false, Some((103, Nothing, true))),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            false,
            Some((200, Length(5), false)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, None),
        ("HTTP/1.1 099 Low\r\n\r\n", false, None),
        ("HTTP/1.1 20 OK\r\n\r\n", false, None),
        ("HTTP/2.0 200 OK\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\nX : b\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\nX: b\r\n c\r\n\r\n", false, None),
        ("hello\r\n\r\n", false, None),
    ] {
        assert_eq!(response(text.as_bytes(), to_head), expected.map(Some).ok_or(ResponseError), "{text:?}");
    }
}

#[test]
fn a_connection_is_not_reused_when_its_end_is_the_only_sure_end_of_an_answer() {
    for text in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let answer = response(text.as_bytes(), false);
        assert!(matches!(answer, Err(_) | Ok(Some((_, _, false)))), "{text:?}: {answer:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_panics(bytes in hostile(), to_head in any::<bool>()) {
        drop((request(&bytes), response(&bytes, to_head), head_end(&bytes, 0)));
    }

    #[test]
    fn the_end_of_a_head_is_where_its_parser_sees_it(bytes in hostile()) {
        let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        let bytes = &bytes[start..]; // empty lines before a request are dropped before
        let end = head_end(bytes, 0);
        let mut storage = room();
        if let Ok(Some((_, length))) = Request::parse(bytes, &mut storage) {
            prop_assert_eq!(end, Ok(Some(length)));
        }
    }

    #[test]
    fn the_end_of_a_head_is_where_it_is_however_it_comes(bytes in hostile(), cuts in vec(any::<usize>(), 0..9)) {
        let whole = head_end(&bytes, 0);
        let mut held = Vec::new();
        let mut found = Ok(None);
        for piece in super::cut(&bytes, &cuts) {
            let seen = held.len();
            held.extend_from_slice(piece);
            if found == Ok(None) {
                found = head_end(&held, seen);
            }
        }
        prop_assert_eq!(found, whole);
    }
}
