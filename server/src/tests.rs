//! A polite stop: what is in flight is finished, what is not is let go, and the drain has an end.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);

struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

async fn start(drain: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap() };
    let ended = tokio::spawn(serve(listener, ServerId::new(3), shutdown, drain));
    Server { address, stop: Some(stop), ended }
}

impl Server {
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

/// A client that has sent the beginning of a second request: it was answered once, so it is known to be served.
async fn half_a_request(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: a\r\n\r\nGET /home HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(LONG, stream.read_u8()).await.expect("an answer").unwrap();
        answer.push(byte);
    }
    stream
}

async fn check_the_port_is_closed(server: &Server) {
    let closed = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, closed).await.expect("the port is closed");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let mut server = start(LONG).await;
    // A connection on which a request has begun and none has ended yet.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /home HTTP/1.1\r\n").await.unwrap();
    let served = half_a_request(&server).await; // accepted after the other
    server.stop();
    check_the_port_is_closed(&server).await;
    drop(served);
    stream.write_all(b"Host: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.expect("it ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hello from Server: 3"), "{answer}");
    timeout(LONG, server.ended).await.expect("the server ends with it").unwrap();
}

#[tokio::test]
async fn a_client_that_never_finishes_holds_nothing_up_for_longer_than_the_drain() {
    let mut server = start(Duration::from_millis(100)).await;
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    stuck.write_all(b"GET /home HTTP/1.1\r\n").await.unwrap();
    let idle = half_a_request(&server).await;
    server.stop();
    timeout(LONG, server.ended).await.expect("the drain has an end").unwrap();
    drop((stuck, idle));
}
