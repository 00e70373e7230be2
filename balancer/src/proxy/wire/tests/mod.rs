//! The wire, with everything that may come over it.

mod body;
mod chunked;
mod emit;
mod head;
mod hyper_agrees;

use proptest::prelude::*;
use proptest::test_runner::Config;

/// No files beside the sources: a failure prints what replays it.
fn config() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

/// Bytes with what matters to a parser more often than chance has it.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => proptest::sample::select(b"\r\n\r\n\0\x0b\x7f\x80\xff \t:;,/*0123456789abcdefABCDEFxGET".to_vec())
            .prop_map(|byte| vec![byte]),
        2 => proptest::sample::select(PIECES.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

const PIECES: [&str; 22] = [
    "\r\n",
    "\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "GET http://b/ HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 304 \r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding : chunked\r\n",
    "Connection: close, upgrade, x-a\r\n",
    "Upgrade: websocket\r\n",
    "X-A: b\r\n",
    " folded\r\n",
    "Expect: 100-continue\r\n",
    "FFFFFFFFFFFFFFFF\r\n",
    "1;a=\"b\"\r\nx\r\n",
];

/// Cuts `bytes` at these places, wherever they fall.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces
}
