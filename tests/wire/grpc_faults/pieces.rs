//! Messages that the replica does not take yet: none is lost, and they stop nobody but their own call.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use slipring_tests::Balancer;
use slipring_tests::frames::{Frames, flag, frame, headers, kind};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{before, ended, fields, good, is_free};

/// What a replica's window of one call takes before it has said anything (RFC 9113 section 6.9.2).
const WINDOW: usize = 65_535;
/// A window that nothing fills.
const WIDE: u32 = 1 << 24;

/// A replica that takes nothing of a call before it is told to, beyond what its window lets pass; it says then what it
/// has got. It answers before (`/begun`), or not before. `/small` is answered at once.
async fn takes_when_told(go: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let go = go.clone();
            tokio::spawn(async move {
                // Short messages that it leaves unread are to be no flood to it.
                let mut http = h2::server::Builder::new();
                let served = http.initial_connection_window_size(WIDE).handshake(stream);
                let mut served = served.await?;
                while let Some(asked) = served.accept().await {
                    let (request, answer) = asked?;
                    tokio::spawn(take(request, answer, go.clone()));
                }
                Ok::<(), h2::Error>(())
            });
        }
    });
    address
}

async fn take(
    request: hyper::Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
    go: Arc<Notify>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut begun = None;
    if head.uri.path() == "/begun" {
        begun = Some(answer.send_response(Response::new(()), false)?);
    }
    if head.uri.path() != "/small" {
        go.notified().await;
    }
    let mut send = match begun {
        Some(begun) => begun,
        None => answer.send_response(Response::new(()), false)?,
    };
    let mut got = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        got.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    send.send_data(got.into(), false)?;
    send.send_trailers(good())
}

/// A caller whose windows are wide, and who has heard of the balancer's.
async fn caller(balancer: &Balancer) -> Frames {
    let mut caller = Frames::to(balancer.main).await;
    caller.until(|frame| frame.kind == kind::SETTINGS && frame.flags == 0).await.expect("its settings");
    let own = [&4_u16.to_be_bytes()[..], &WIDE.to_be_bytes()].concat();
    let settings = [frame(kind::SETTINGS, flag::ACK, 0, &[]), frame(kind::SETTINGS, 0, 0, &own)].concat();
    caller.send(&[settings, frame(kind::WINDOW_UPDATE, 0, 0, &WIDE.to_be_bytes())].concat()).await;
    caller
}

/// Begins a call, hands over these pieces of it, and waits until they have come: another call that was begun after them
/// has its answer.
async fn hand_over(caller: &mut Frames, (path, stream): (&str, u32), pieces: &[&[u8]]) {
    let small = |stream| headers(stream, flag::END_STREAM, &fields("/small"));
    let mut call = headers(stream, 0, &fields(path));
    for (n, piece) in pieces.iter().enumerate() {
        let last = if n + 1 == pieces.len() { flag::END_STREAM } else { 0 };
        call.extend(frame(kind::DATA, last, stream, piece));
    }
    assert!(caller.send(&[call, small(stream + 2)].concat()).await);
    told(caller, stream + 2).await;
}

/// What comes of a call to its end.
async fn told(caller: &mut Frames, stream: u32) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let next = caller.until(|frame| frame.kind <= kind::HEADERS && frame.stream == stream).await;
        let next = next.expect("the connection lasts");
        if next.kind == kind::DATA {
            got.extend(next.payload);
        }
        if next.flags & flag::END_STREAM != 0 {
            return got;
        }
    }
}

fn text(size: usize) -> Vec<u8> {
    (0..size).map(|place| b'a' + u8::try_from(place / 7 % 26).expect("it is small")).collect()
}

/// What was waiting for the replica's window when its answer began is neither lost nor taken for the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_waits_when_the_answer_begins_is_sent() {
    let go = Arc::new(Notify::new());
    let balancer = before(takes_when_told(go.clone()).await).set("fleet.heartbeat_path", "").start().await;
    let mut caller = caller(&balancer).await;
    caller.send(&headers(1, flag::END_STREAM, &fields("/small"))).await;
    ended(&mut caller, 1).await; // there is a connection to the replica now
    for (n, size) in [(1, 200_000), (2, 70_000), (3, 65_536)] {
        // Five pieces fill the window to its last byte: the sixth waits.
        let (text, stream) = (text(size), 4 * n - 1);
        let pieces: Vec<_> = text.chunks(WINDOW / 5).collect();
        hand_over(&mut caller, ("/a", stream), &pieces).await;
        go.notify_one();
        let got = told(&mut caller, stream).await;
        assert!(got == text, "{} bytes of {size} came, or others", got.len());
    }
    is_free(&balancer).await;
}

/// Each frame costs more than it weighs while it lies where it came, and too many of them end their connection.
#[tokio::test(flavor = "multi_thread")]
async fn small_messages_wait_for_a_replica_without_harm_to_other_calls() {
    const SMALL: usize = 20;
    let go = Arc::new(Notify::new());
    let balancer = before(takes_when_told(go.clone()).await).set("fleet.heartbeat_path", "").start().await;
    for path in ["/a", "/begun"] {
        let mut caller = caller(&balancer).await;
        let text = text(WINDOW + 10_000 * SMALL);
        let pieces: Vec<_> = text.chunks(SMALL).collect();
        hand_over(&mut caller, (path, 1), &pieces).await;
        go.notify_one();
        let got = told(&mut caller, 1).await;
        assert!(got == text, "{path}: {} bytes of {} came, or others", got.len(), text.len());
        is_free(&balancer).await;
    }
}
