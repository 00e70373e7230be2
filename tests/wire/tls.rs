//! TLS towards clients: HTTP/2 by ALPN, and a certificate that changes under a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Version};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use slipring_tests::frames::{PREFACE, frame, kind};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Balancer, Http, Setup, Streams, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);

fn certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key }: CertifiedKey<KeyPair> =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).expect("the folder is ours");
    std::fs::write(folder.join("certificate.pem"), cert.pem()).expect("the folder is ours");
    cert.der().clone()
}

async fn tcp(server: Http) -> TcpStream {
    TcpStream::connect(server.address).await.expect("it listens")
}

async fn connect(
    server: Http,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    agree(tcp(server).await, trusted, protocol).await
}

async fn agree(
    stream: TcpStream,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn get(streams: &mut Streams) {
    let request = Request::builder().method(Method::GET).uri("https://localhost/a").body(whole(""));
    let response = streams.send_request(request.expect("valid")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
}

/// Where TLS is spoken.
async fn listening(balancer: &Balancer) -> Http {
    let said = wait_until("it says where", LONG, async || {
        let log = balancer.log();
        let line = log.lines().find_map(|line| line.strip_prefix("TLS on https://")).map(str::to_owned);
        line.ok_or(log)
    })
    .await;
    Http { address: said.parse().expect("an address") }
}

/// In front of `upstream`, with a certificate.
fn encrypted(upstream: &Upstream) -> (Setup, CertificateDer<'static>) {
    let setup = Setup::new(SLIPRING).upstreams([upstream]);
    let certificate = certificate(setup.folder());
    let setup = setup.set("tls.listen", "127.0.0.1:0").set("tls.certificate", "certificate.pem");
    (setup.set("tls.key", "key.pem"), certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_agreed_on_and_a_new_certificate_drops_no_connection() {
    let upstream = Upstream::serve(|_| async { hyper::Response::new(whole("ok")) }).await;
    let (setup, first) = encrypted(&upstream);
    let balancer = setup.start().await;
    let server = listening(&balancer).await;
    let stream = connect(server, &first, "h2").await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut old = server.streams_over(stream).await;
    get(&mut old).await;
    let plain = connect(server, &first, "http/1.1").await.expect("TLS");
    assert_eq!(plain.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    let second = certificate(setup.folder());
    wait_until("the new certificate is shown", LONG, async || {
        connect(server, &second, "h2").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    assert!(connect(server, &first, "h2").await.is_err(), "the old one is shown no more");
    get(&mut old).await;
}

/// The handshake and the head had a time each, and who was too slow with the first was counted nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_is_part_of_the_time_for_a_first_request() {
    let upstream = Upstream::serve(|_| async { hyper::Response::new(whole("ok")) }).await;
    let (setup, trusted) = encrypted(&upstream);
    let balancer = setup.set("proxy.header_timeout", "3s").start().await;
    let server = listening(&balancer).await;
    for protocol in ["http/1.1", "h2"] {
        let began = Instant::now();
        let (client, mut silent) = (tcp(server).await, tcp(server).await);
        let early = timeout(Duration::from_secs(2), silent.read(&mut [0])).await;
        assert!(early.is_err(), "its time is not over: {early:?}");
        let mut stream = agree(client, &trusted, protocol).await.expect("TLS");
        if protocol == "h2" {
            stream.write_all(PREFACE).await.expect("it is taken");
            stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.expect("it is taken");
        }
        let mut said = Vec::new();
        let mut piece = [0; 1024];
        let goaway = [kind::GOAWAY, 0, 0, 0, 0, 0];
        let is_over =
            |said: &[u8]| said.starts_with(b"HTTP/1.1 408 ") || said.windows(6).any(|at| at == goaway);
        while !is_over(&said) {
            let count =
                timeout(LONG, stream.read(&mut piece)).await.expect("it is told").expect("it is open");
            assert!(count > 0, "it ended without a word: {said:?}");
            said.extend_from_slice(&piece[..count]);
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2) && took < Duration::from_millis(4500), "{protocol}: {took:?}");
        let ended = timeout(LONG, silent.read(&mut [0])).await.expect("it ends");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"header_time\"").await, 4.0);
}

/// Without a word, a client cannot tell our end from an attacker's (RFC 8446 section 6.1).
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_ended_with_close_notify() {
    let upstream = Upstream::serve(|_| async { hyper::Response::new(whole("ok")) }).await;
    let (setup, trusted) = encrypted(&upstream);
    let balancer = setup.set("proxy.idle_timeout", "300ms").start().await;
    let mut stream = connect(listening(&balancer).await, &trusted, "http/1.1").await.expect("TLS");
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it is taken");
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it ends");
    assert!(ended.is_ok(), "{ended:?} after {}", String::from_utf8_lossy(&answer));
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

/// A proxy's word comes before TLS, and before HTTP/2 in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_word_comes_first_whatever_follows() {
    let upstream = Upstream::serve(|request: Request<Incoming>| async move {
        let told =
            request.headers().get("x-forwarded-for").map_or("nobody", |from| from.to_str().unwrap_or("?"));
        hyper::Response::new(whole(told.to_owned()))
    })
    .await;
    let (setup, trusted) = encrypted(&upstream);
    let balancer = setup.set("proxy.accept_proxy_protocol", true).start().await;
    let server = listening(&balancer).await;
    let said = async |to: Http| {
        let mut stream = tcp(to).await;
        stream.write_all(b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n").await.expect("it is taken");
        stream
    };
    let mut plain = agree(said(server).await, &trusted, "http/1.1").await.expect("TLS");
    plain.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("it is taken");
    let mut answer = String::new();
    timeout(LONG, plain.read_to_string(&mut answer)).await.expect("it ends").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("2001:db8::1"), "{answer}");
    let over_tls = agree(said(server).await, &trusted, "h2").await.expect("TLS");
    let in_the_clear = said(balancer.main).await;
    for mut streams in [server.streams_over(over_tls).await, server.streams_over(in_the_clear).await] {
        let request = server.stream(Method::GET, "/a").body(whole("")).expect("valid");
        let answer = streams.send_request(request).await.expect("an answer");
        let told = answer.into_body().collect().await.expect("it is whole").to_bytes();
        assert_eq!(told, "2001:db8::1");
    }
    // One that says nothing, or begins with TLS, is not let in.
    assert!(connect(server, &trusted, "h2").await.is_err());
    assert_eq!(balancer.metric("slipring_limits_hit_total", "limit=\"proxy_protocol\"").await, 1.0);
}
