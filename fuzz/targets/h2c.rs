//! A connection that was upgraded to HTTP/2 reads the same however it comes, and loses nothing of what follows.
//!
//! The first byte says how much of the input is said in the request, and whether the rest begins as it should.
#![no_main]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::http2::PREFACE;
use slipring_balancer::proxy::http2::upgrade::{Upgrade, Upgraded};
use slipring_balancer::proxy::stream::Rewound;
use slipring_balancer::proxy::wire::fields::room;
use slipring_balancer::proxy::wire::request::Request;
use tokio::io::{AsyncRead, ReadBuf};

/// A frame of SETTINGS with nothing in it.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Bytes that arrive in pieces, each after a pause.
struct Pieces<'a> {
    left: &'a [u8],
    step: usize,
    paused: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.paused = !self.paused;
        if self.paused {
            return Poll::Pending;
        }
        let (piece, left) = self.left.split_at(self.left.len().min(self.step).min(room.remaining()));
        room.put_slice(piece);
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

/// All that the framing underneath is shown, where `held` came with the request.
fn shown(upgrade: &Upgrade, held: &[u8], left: &[u8], step: usize) -> Vec<u8> {
    let pieces = Pieces { left, step, paused: false };
    let mut stream = Upgraded::new(Rewound::new(held.to_vec(), pieces), upgrade.clone());
    let mut context = Context::from_waker(Waker::noop());
    let (mut all, mut room) = (Vec::new(), [0; 64]);
    loop {
        let mut buffer = ReadBuf::new(&mut room);
        match Pin::new(&mut stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return all,
            Poll::Ready(read) => {
                read.expect("the pieces do not fail");
                all.extend_from_slice(buffer.filled());
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, input)) = input.split_first() else { return };
    let (said, after) = input.split_at(input.len().min(usize::from(how & 0x7f)));
    let head = [
        &b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "[..],
        said,
        b"\r\n\r\n",
    ]
    .concat();
    let mut storage = room();
    let Ok(Some((request, _))) = Request::parse(&head, &mut storage) else { return };
    let Some(upgrade) = Upgrade::of(&request) else { return };
    let rest = if how & 0x80 == 0 { after.to_vec() } else { [PREFACE, SETTINGS, after].concat() };
    let whole = shown(&upgrade, &rest, &[], 1);
    let upgraded = whole != rest;
    if upgraded {
        assert!(rest.starts_with(PREFACE) && whole.starts_with(PREFACE), "only a right beginning is changed");
        let begun = PREFACE.len() + 9;
        let settings = usize::from(rest[begun - 8]) << 8 | usize::from(rest[begun - 7]);
        assert!(whole.ends_with(&rest[begun + settings..]), "what follows the settings is passed as it is");
        assert_eq!(whole[PREFACE.len() + 3..begun], SETTINGS[3..], "settings come first");
    } else {
        assert!(how & 0x80 == 0, "a right beginning is taken");
    }
    for step in [1, 2, 7, 600] {
        assert_eq!(shown(&upgrade, &[], &rest, step), whole, "in pieces of {step}");
    }
    let middle = rest.len() / 2;
    assert_eq!(shown(&upgrade, &rest[..middle], &rest[middle..], 3), whole, "half of it with the request");
});
