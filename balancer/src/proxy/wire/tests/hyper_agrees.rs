//! What is taken here means the same to hyper, another reader of the same bytes.
//!
//! Where this side is stricter: white space between a chunk's size and its extension or the end of its line; more
//! than 15 digits of a size; more than 4 KiB of extensions; a coding beside a length; a second equal length; hosts
//! that are none, or two. Where hyper refuses what is taken here: targets with characters that RFC 3986 has not
//! (`<`, `>`, `` ` ``), which every other proxy passes on as well.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request as Asked, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Framing;
use super::super::fields::room;
use super::super::request::Request;
use super::body::read;
use super::chunked::written;
use super::config;

/// What hyper's server understood of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    method: String,
    target: String,
    length: Option<u64>,
    /// The body and the names of its trailers, if it was whole.
    body: Option<(Vec<u8>, Vec<String>)>,
}

/// The requests that hyper's server finds in these bytes, after which nothing comes.
fn hyper_hears(bytes: &[u8]) -> Vec<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Asked<Incoming>| {
        let heard = heard.clone();
        async move {
            let mut this = Heard {
                method: request.method().to_string(),
                target: request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
                length: request.body().size_hint().exact(),
                body: None,
            };
            if let Ok(collected) = request.into_body().collect().await {
                let names =
                    collected.trailers().map(|trailers| trailers.keys().map(ToString::to_string).collect());
                this.body = Some((collected.to_bytes().to_vec(), names.unwrap_or_default()));
            }
            heard.lock().unwrap().push(this);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        drop(http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await);
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
    });
    let heard = heard.lock().unwrap();
    heard.clone()
}

fn chunked(body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    hyper_hears(&[head.as_slice(), body].concat()).pop()?.body
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn on_valid_chunks(written in written()) {
        let ours = read(Framing::Chunked, &[&written.bytes], usize::MAX, 8192);
        let (data, trailers) = chunked(&written.bytes).expect("hyper takes it");
        prop_assert_eq!(&ours.data, &data);
        prop_assert_eq!(&ours.data, &written.data);
        let mut names: Vec<_> = written.trailers.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        let mut theirs = trailers;
        theirs.sort();
        prop_assert_eq!(theirs, names);
    }

    #[test]
    fn on_chunks_that_were_damaged(written in written(), at in any::<usize>(), byte in select(b"\r\n0;x \0".to_vec())) {
        let mut bytes = written.bytes;
        let at = at % bytes.len();
        bytes[at] = byte;
        let ours = read(Framing::Chunked, &[&bytes], usize::MAX, 8192);
        // Whatever is a whole body here is the same body there.
        if ours.trailers.is_some() {
            let (data, _) = chunked(&bytes).expect("hyper takes it");
            prop_assert_eq!(&ours.data, &data);
        }
    }

    #[test]
    fn on_requests_that_are_nearly_valid(
        method in select(vec!["GET", "POST", "get", "M-SEARCH", "G@T", "GE(T", "OPTIONS", ""]),
        space in select(vec![" ", " ", " ", "  ", "\t", ""]),
        target in prop_oneof![
            3 => select(vec!["/", "/a?b=c", "*", "http://b/c", "http://b", "//c", "/%zz", "a", "/a#b", "/a b", "/[x]"]),
            1 => Just("/;p=1,2:3@4&5=6+7!$'()*~-._"),
        ],
        version in select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"]),
        end in select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r", " \r\n"]),
        fields in subsequence(FIELDS.to_vec(), 0..6),
        at in any::<usize>(),
        byte in proptest::option::weighted(0.3, select(b"\r\n\0 \t:;,\x0b\x7f\xff".to_vec())),
    ) {
        let mut text = format!("{method}{space}{target} {version}{end}Host: a\r\n{}\r\n", fields.concat()).into_bytes();
        if let Some(byte) = byte {
            let at = at % text.len();
            text[at] = byte;
        }
        let mut storage = room();
        let Ok(Some((request, length))) = Request::parse(&text, &mut storage) else { return Ok(()) };
        let heard = hyper_hears(&text[..length]);
        let first = heard.first().cloned().unwrap_or_default();
        let target = request.target.path_and_query.to_owned();
        let expected = match request.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            _ => None,
        };
        prop_assert_eq!((first.method.as_str(), first.target, first.length), (request.method, target, expected));
    }
}

const FIELDS: [&str; 16] = [
    "Content-Length: 5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length : 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\tChunked \r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Connection: close\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "X: a\r\n b\r\n",
    "X\r\n",
    "X_y: \x7e\u{e4}\r\n",
    "Expect: 100-continue\r\n",
];

#[test]
fn what_hyper_takes_and_is_refused_here() {
    for body in
        ["5 \r\nhello\r\n0\r\n\r\n", "5\t\r\nhello\r\n0\r\n\r\n", "0000000000000005\r\nhello\r\n0\r\n\r\n"]
    {
        assert_eq!(chunked(body.as_bytes()).map(|(data, _)| data), Some(b"hello".to_vec()), "{body:?}");
        assert!(read(Framing::Chunked, &[body.as_bytes()], 9, 8192).error.is_some(), "{body:?}");
    }
    for field in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Host: b\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        assert_eq!(hyper_hears(text.as_bytes()).len(), 1, "{field:?}");
        let mut storage = room();
        assert!(Request::parse(text.as_bytes(), &mut storage).is_err(), "{field:?}");
    }
}

#[test]
fn what_hyper_refuses_and_is_taken_here() {
    for target in ["/<", "/>", "/`"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut storage = room();
        let (request, _) = Request::parse(text.as_bytes(), &mut storage).unwrap().unwrap();
        assert_eq!(request.target.path_and_query, target);
        assert_eq!(hyper_hears(text.as_bytes()), [], "{target}");
    }
}
