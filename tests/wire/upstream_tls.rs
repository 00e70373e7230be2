//! Replicas that are spoken to over TLS, or are told whose a connection is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use slipring_tests::raw::{Raw, replica};
use slipring_tests::upstream::{Answering, whole};
use slipring_tests::{Balancer, Http, Setup, Streams, wait_until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Who vouches for certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        Self::called("tests")
    }

    fn called(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Of another name than the others: who looks for an issuer looks for that.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// A certificate for these names: itself, as PEM, and its key.
    fn vouch(&self, names: &[&str]) -> (CertificateDer<'static>, String, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.der().clone(), certificate.pem(), key)
    }

    fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(name), &self.pem).expect("the folder is ours");
    }

    /// TLS for a server with these names; `clients`: who vouches for clients, if they have to show a certificate.
    fn server(&self, names: &[&str], protocols: &[&str], clients: Option<&Self>) -> Arc<ServerConfig> {
        let (certificate, _, key) = self.vouch(names);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let config = match clients {
            None => config.expect("versions").with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.expect("versions").with_client_cert_verifier(verifier.expect("roots"))
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = config.with_single_cert(vec![certificate], key).expect("they belong together");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// What a replica has seen of a connection.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The header of the PROXY protocol.
    header: Vec<u8>,
    /// The name that was asked for.
    name: Option<String>,
    protocol: Option<Vec<u8>>,
    /// The paths of requests, in their order.
    requests: Vec<String>,
    /// Whose they are, as their fields say: in `Forwarded`, and in `X-Forwarded-For`.
    forwarded: Vec<[String; 2]>,
}

impl Seen {
    fn is_heartbeat(&self) -> bool {
        self.requests.first().is_none_or(|path| path == "/heartbeat")
    }
}

type Connections = Arc<Mutex<Vec<Seen>>>;

/// A replica that notes its connections.
struct Recording {
    address: SocketAddr,
    connections: Connections,
    /// Handshakes that came to their end.
    handshakes: Arc<AtomicUsize>,
}

impl Recording {
    /// Over TLS unless there is none; behind a header of the PROXY protocol if there is to be one.
    async fn serve(tls: Option<Arc<ServerConfig>>, has_header: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (connections, handshakes) = (Connections::default(), Arc::<AtomicUsize>::default());
        let (noted, shaken) = (connections.clone(), handshakes.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, tls.clone(), has_header, noted.clone(), shaken.clone()));
            }
        });
        Self { address, connections, handshakes }
    }

    /// Connections that carried requests, but for heartbeats.
    fn carrying(&self) -> Vec<Seen> {
        let all = self.connections.lock().expect("no panic");
        all.iter().filter(|seen| !seen.is_heartbeat()).cloned().collect()
    }

    fn heartbeats(&self) -> Vec<Seen> {
        let all = self.connections.lock().expect("no panic");
        all.iter()
            .filter(|seen| seen.requests.first().is_some_and(|path| path == "/heartbeat"))
            .cloned()
            .collect()
    }

    fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    has_header: bool,
    connections: Connections,
    handshakes: Arc<AtomicUsize>,
) {
    let mut seen = Seen::default();
    if has_header {
        let mut header = vec![0; 16];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        let mut rest = vec![0; length];
        if !header.starts_with(SIGNATURE) || stream.read_exact(&mut rest).await.is_err() {
            return;
        }
        seen.header = [header, rest].concat();
    }
    let index = |seen: Seen| {
        let mut all = connections.lock().expect("no panic");
        all.push(seen);
        all.len() - 1
    };
    let Some(tls) = tls else {
        let mut beginning = [0; 3];
        while stream.peek(&mut beginning).await.is_ok_and(|count| (1..3).contains(&count)) {
            tokio::task::yield_now().await;
        }
        let index = index(seen);
        return serve(stream, &beginning == b"PRI", index, connections).await;
    };
    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
    handshakes.fetch_add(1, Ordering::SeqCst);
    let session = stream.get_ref().1;
    seen.name = session.server_name().map(str::to_owned);
    seen.protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    let is_http2 = seen.protocol.as_deref() == Some(b"h2");
    let index = index(seen);
    serve(stream, is_http2, index, connections).await;
}

async fn serve<S>(stream: S, is_http2: bool, index: usize, connections: Connections)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let field = |name| request.headers().get(name).map_or("", |value| value.to_str().expect("text"));
        let forwarded = field("forwarded").split(';').next().unwrap_or_default();
        let forwarded = [forwarded, field("x-forwarded-for")].map(str::to_owned);
        let seen = &mut connections.lock().expect("no panic")[index];
        seen.requests.push(path);
        seen.forwarded.push(forwarded);
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    // How it ends is seen by the other side.
    if is_http2 {
        drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
    } else {
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        drop(served.await);
    }
}

async fn answer(request: Request<Incoming>) -> Response<Answering> {
    match request.uri().path() {
        "/heartbeat" => Response::new(whole("")),
        "/socket" => {
            tokio::spawn(async move {
                let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                drop(tokio::io::copy(&mut from, &mut to).await);
            });
            let mut response = Response::new(whole(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
        _ if request.version() == Version::HTTP_2 => {
            let scheme = request.uri().scheme_str().unwrap_or("none").to_owned();
            let sent = request.into_body().collect().await.expect("it is whole").to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let text = format!("{scheme}: {} bytes", sent.len());
            let frames = [Ok(Frame::data(message(&text))), Ok(Frame::trailers(trailers))];
            let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            response
        }
        _ => {
            let method = request.method().clone();
            let sent = request.into_body().collect().await.map(|body| body.to_bytes().len());
            Response::new(whole(format!("{method} {sent:?}")))
        }
    }
}

/// A message in gRPC's frame.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("it is short").to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

/// Calls over a connection of one's own; what came, and its status.
async fn call(streams: &mut Streams, server: Http) -> (Bytes, String) {
    let request = server.stream(Method::POST, "/test.Kinds/Unary").header("content-type", "application/grpc");
    let body = StreamBody::new(stream::iter([Ok(Frame::data(message("hello")))])).boxed_unsync();
    let sent = timeout(LONG, streams.send_request(request.body(body).expect("valid"))).await;
    let response = sent.expect("in time").expect("an answer");
    let head = response.headers().clone();
    let body = timeout(LONG, response.into_body().collect()).await.expect("it ends").expect("whole");
    let trailers = body.trailers().cloned().unwrap_or(head);
    (body.to_bytes(), trailers["grpc-status"].to_str().expect("a number").to_owned())
}

/// In front of these, with their authority in the folder.
fn before(replicas: &[&Recording], authority: &Authority) -> Setup {
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let setup = Setup::fixed(SLIPRING, &addresses).set("state", "").set("proxy.workers", 1);
    authority.write(setup.folder(), "ca.pem");
    setup.set("proxy.upstream_tls", "on").set("proxy.upstream_ca", "ca.pem")
}

/// What `/replicas` says of the only one.
async fn view(balancer: &Balancer) -> Value {
    balancer.admin.get("/replicas").await.json()["replicas"][0].clone()
}

/// Waits until its last error has all of these words.
async fn complains(balancer: &Balancer, words: &[&str]) {
    wait_until("its last error says why", LONG, async || {
        let seen = view(balancer).await;
        let error = seen["last_error"].as_str().unwrap_or_default();
        if words.iter().all(|word| error.contains(word)) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

/// Sends one request and checks its status.
#[track_caller]
fn check(answer: &slipring_tests::Answer, status: u16, text: &str) {
    assert_eq!((answer.status.as_u16(), answer.text().contains(text)), (status, true), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_carried_is_carried_over_tls() {
    let authority = Authority::new();
    let replica =
        Recording::serve(Some(authority.server(&["127.0.0.1"], &["h2", "http/1.1"], None)), false).await;
    let balancer = before(&[&replica], &authority).start().await;
    check(&balancer.main.get("/a").await, 200, "GET Ok(0)");
    let large = vec![b'x'; 1_000_000];
    check(&balancer.main.call(Method::POST, "/a", large).await, 200, "POST Ok(1000000)");
    assert_eq!(replica.carrying()[0].protocol.as_deref(), Some(&b"http/1.1"[..]));

    let mut streams = balancer.main.streams().await;
    let (told, status) = call(&mut streams, balancer.main).await;
    assert_eq!((told, status.as_str()), (message("https: 10 bytes"), "0"));
    let over = |seen: &Seen| seen.protocol.as_deref() == Some(&b"h2"[..]);
    assert_eq!(replica.carrying().iter().filter(|seen| over(seen)).count(), 1);

    let mut socket = Raw::connect(balancer.main.address).await;
    socket.say("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(socket.head().await.expect("an answer").status(), 101);
    for word in ["ping", "pong"] {
        assert!(socket.say(word).await);
        assert_eq!(socket.take(4).await, word.as_bytes());
    }
    assert!(!replica.heartbeats().is_empty(), "which are over TLS as well");
    assert!(replica.carrying().iter().all(|seen| seen.name.is_none()), "an address is no name");
}

/// A server sends tickets after the handshake: they are no reason to think that an idle connection has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_used_again_and_again() {
    let authority = Authority::new();
    let replica =
        Recording::serve(Some(authority.server(&["127.0.0.1"], &["h2", "http/1.1"], None)), false).await;
    let setup = before(&[&replica], &authority).set("fleet.heartbeat_interval", "1h");
    let balancer = setup.start().await;
    let before = replica.handshakes();
    for n in 0..30 {
        let method = if n % 2 == 0 { Method::GET } else { Method::POST };
        check(&balancer.main.call(method, "/a", "").await, 200, "Ok(0)");
    }
    let mut streams = balancer.main.streams().await;
    for _ in 0..10 {
        assert_eq!(call(&mut streams, balancer.main).await.1, "0");
    }
    assert_eq!(replica.handshakes() - before, 2, "one for HTTP/1, one for gRPC");
    let requests: Vec<_> = replica.carrying().iter().map(|seen| seen.requests.len()).collect();
    assert_eq!(requests, [30, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_vouched_for_is_no_replica_and_the_last_error_says_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::called("other"));
    let replica = Recording::serve(Some(authority.server(&["127.0.0.1"], &["http/1.1"], None)), false).await;
    let setup = before(&[&replica], &other).set("fleet.start_timeout", "500ms");
    let balancer = setup.launch().await;
    complains(&balancer, &["UnknownIssuer", "proxy.upstream_ca"]).await;
    check(&balancer.main.get("/a").await, 503, "no replica");
    assert_eq!((replica.handshakes(), replica.carrying().len()), (0, 0), "nothing was said to it");
}

/// Also the other way round: one that speaks no TLS, with and without a path to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_the_sign_of_life_where_no_path_is_asked() {
    let authority = Authority::new();
    let good = Recording::serve(Some(authority.server(&["127.0.0.1"], &["http/1.1"], None)), false).await;
    let setup =
        before(&[&good], &authority).set("fleet.heartbeat_path", "").set("fleet.heartbeat_interval", "50ms");
    let balancer = setup.set("fleet.heartbeat_timeout", "50ms").start().await;
    wait_until("heartbeats shake hands", LONG, async || {
        let count = good.handshakes();
        if count > 3 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    assert_eq!(good.heartbeats().len(), 0, "and ask nothing");
    drop(balancer);
    for path in ["", "/heartbeat"] {
        let plain = Recording::serve(None, false).await;
        let balancer = before(&[&plain], &authority).set("fleet.heartbeat_path", path).launch().await;
        complains(&balancer, &["no TLS with the replica", "see whether it speaks TLS"]).await;
    }
}

/// A reload changes whom new connections believe, and no old one is used after it.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_reload_no_connection_is_used_that_it_would_not_open() {
    let (authority, other) = (Authority::new(), Authority::called("other"));
    let replica =
        Recording::serve(Some(authority.server(&["127.0.0.1"], &["h2", "http/1.1"], None)), false).await;
    let setup =
        before(&[&replica], &authority).set("fleet.heartbeat_interval", "1h").set("proxy.eject_failures", 0);
    let balancer = setup.start().await;
    let mut streams = balancer.main.streams().await;
    check(&balancer.main.get("/a").await, 200, "GET");
    assert_eq!(call(&mut streams, balancer.main).await.1, "0");
    for (ca, status, code) in [(&other, 503, "14"), (&authority, 200, "0")] {
        ca.write(setup.folder(), "ca.pem");
        let reloaded = balancer.admin.call(Method::POST, "/reload", "").await;
        check(&reloaded, 200, "\"changed\":[\"default\"]");
        check(
            &balancer.main.get("/a").await,
            status,
            if status == 503 { "no replica could be reached" } else { "GET" },
        );
        check(&balancer.main.call(Method::POST, "/a", "body").await, status, "");
        assert_eq!(call(&mut streams, balancer.main).await.1, code);
    }
    let told = balancer.said(&["UnknownIssuer"]).await;
    assert!(told.contains("proxy.upstream_ca") && told.contains(&replica.address.to_string()), "{told}");

    std::fs::write(setup.folder().join("ca.pem"), "nothing").expect("the folder is ours");
    let refused = balancer.admin.call(Method::POST, "/reload", "").await;
    check(&refused, 400, "ca.pem holds no certificate");
    check(&balancer.main.get("/a").await, 200, "GET");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_and_checked() {
    let authority = Authority::new();
    let replica =
        Recording::serve(Some(authority.server(&["replica.test"], &["http/1.1"], None)), false).await;
    let named = |name: &str| before(&[&replica], &authority).set("proxy.upstream_name", name);
    let balancer = named("replica.test").start().await;
    check(&balancer.main.get("/a").await, 200, "GET");
    assert_eq!(replica.carrying()[0].name.as_deref(), Some("replica.test"));
    for wrong in ["other.test", ""] {
        complains(&named(wrong).launch().await, &["proxy.upstream_name"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_believes_everyone_is_told_so_at_the_start() {
    let authority = Authority::new();
    let replica = Recording::serve(Some(authority.server(&["else.test"], &["http/1.1"], None)), false).await;
    let setup = Setup::fixed(SLIPRING, &[replica.address]).set("proxy.upstream_tls", "insecure");
    let balancer = setup.start().await;
    check(&balancer.main.get("/a").await, 200, "GET");
    assert!(balancer.log().contains("whoever answers in the place of a replica is believed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_wants_a_certificate_gets_ours() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let tls = authority.server(&["127.0.0.1"], &["h2", "http/1.1"], Some(&clients));
    let replica = Recording::serve(Some(tls), false).await;
    let setup = before(&[&replica], &authority);
    let (_, pem, key) = clients.vouch(&["balancer.test"]);
    std::fs::write(setup.folder().join("own.pem"), pem).expect("the folder is ours");
    std::fs::write(setup.folder().join("own.key"), key.serialize_pem()).expect("the folder is ours");
    let known = setup.set("proxy.upstream_certificate", "own.pem").set("proxy.upstream_key", "own.key");
    let balancer = known.start().await;
    check(&balancer.main.get("/a").await, 200, "GET");
    assert_eq!(call(&mut balancer.main.streams().await, balancer.main).await.1, "0");
    drop(balancer);
    let refused = before(&[&replica], &authority).launch().await;
    complains(&refused, &["CertificateRequired", "proxy.upstream_certificate"]).await;
    drop(refused);
    // In TLS 1.3 the handshake is over before a server says so: a request that was not read is told apart from one
    // that was lost.
    let balancer = before(&[&replica], &authority).set("fleet.heartbeat_path", "").start().await;
    for method in [Method::GET, Method::POST] {
        check(&balancer.main.call(method, "/a", "body").await, 503, "no replica could be reached");
    }
    assert!(balancer.log().contains("proxy.upstream_certificate"), "{}", balancer.log());
    assert_eq!(replica.carrying().len(), 2, "those of the one that was known");
}

/// A header's source.
fn source(header: &[u8]) -> Option<SocketAddr> {
    match header.get(12..14)? {
        [0x21, 0x11] => {
            let ip: [u8; 4] = header[16..20].try_into().expect("four bytes");
            Some((ip, u16::from_be_bytes([header[24], header[25]])).into())
        }
        [0x20, _] => None,
        other => panic!("{other:?}"),
    }
}

/// Two clients never share a connection, over whatever they come; one client's is used again.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_told_whose_a_connection_is() {
    let authority = Authority::new();
    for tls in [false, true] {
        let config = tls.then(|| authority.server(&["127.0.0.1"], &["h2", "http/1.1"], None));
        let replica = Recording::serve(config, true).await;
        let mut setup = before(&[&replica], &authority).set("proxy.send_proxy_protocol", true);
        if !tls {
            setup = setup.set("proxy.upstream_tls", "off");
        }
        let balancer = setup.start().await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(balancer.main.address).await.expect("it listens");
            let from = stream.local_addr().expect("it is connected");
            clients.push((from, balancer.main.streams_over(stream).await));
        }
        for _ in 0..3 {
            for (_, streams) in &mut clients {
                assert_eq!(call(streams, balancer.main).await.1, "0");
            }
        }
        let mut plain =
            [Raw::connect(balancer.main.address).await, Raw::connect(balancer.main.address).await];
        for n in 0..3 {
            for client in &mut plain {
                let method = if n == 1 { "POST" } else { "GET" };
                let request = format!("{method} /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                assert_eq!(client.ask(request).await.status(), 200);
            }
        }
        let seen = replica.carrying();
        let own = |is: &dyn Fn(&Seen) -> bool| -> Vec<Option<SocketAddr>> {
            seen.iter().filter(|seen| is(seen)).map(|seen| source(&seen.header)).collect()
        };
        let calls = own(&|seen| seen.requests == ["/test.Kinds/Unary"; 3]);
        assert_eq!(calls, [Some(clients[0].0), Some(clients[1].0)], "{seen:?}");
        let requests = own(&|seen| seen.requests == ["/plain"; 3]);
        assert_eq!(requests.len(), 2, "{seen:?}");
        assert!(requests[0] != requests[1] && requests.iter().all(Option::is_some));
        assert_eq!(seen.len(), 4, "and no other: {seen:?}");
        for seen in &seen {
            let here = [&[127, 0, 0, 1][..], &balancer.main.address.port().to_be_bytes()].concat();
            assert_eq!([&seen.header[20..24], &seen.header[26..28]].concat(), here);
        }
        assert!(replica.heartbeats().iter().all(|seen| source(&seen.header).is_none()), "LOCAL");
        assert!(!replica.heartbeats().is_empty());
    }
}

/// A call goes to the next replica only as long as the budget for that lasts.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_offered_again_are_within_the_retry_budget() {
    let (authority, other) = (Authority::new(), Authority::called("other"));
    let both = &["h2", "http/1.1"];
    // Alive, and not believed any more.
    let half = Recording::serve(Some(other.server(&["127.0.0.1"], both, None)), false).await;
    let good = Recording::serve(Some(authority.server(&["127.0.0.1"], both, None)), false).await;
    let setup = before(&[&half, &good], &authority).set("fleet.heartbeat_interval", "1h");
    let pems = format!("{}{}", authority.pem, other.pem);
    std::fs::write(setup.folder().join("ca.pem"), pems).expect("the folder is ours");
    let balancer = setup.set("proxy.retry_budget", 0).set("proxy.eject_failures", 0);
    let balancer = balancer.set("proxy.eject_success_rate", 0);
    let folder = balancer.folder().to_owned();
    let balancer = balancer.start().await;
    authority.write(&folder, "ca.pem");
    check(&balancer.admin.call(Method::POST, "/reload", "").await, 200, "default");
    let mut streams = balancer.main.streams().await;
    let (mut good, mut refused) = (0, 0);
    for _ in 0..200 {
        match call(&mut streams, balancer.main).await.1.as_str() {
            "0" => good += 1,
            "14" => refused += 1,
            other => panic!("status {other}"),
        }
    }
    let denied = balancer.metric("slipring_retries_denied_total", "").await;
    let retries = balancer.metric("slipring_retries_total", "").await;
    assert!(refused > 0 && f64::from(refused) == denied, "{refused} refused, {denied} denied");
    assert!(
        (30.0..100.0).contains(&retries),
        "{retries}: at least what is always allowed, and not every one"
    );
    assert_eq!(good + refused, 200);
}

/// A handshake that fails has carried nothing out: whatever the request was, another replica may have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_one_that_is_not_believed_goes_to_the_next() {
    let (authority, other) = (Authority::new(), Authority::called("other"));
    let good = Recording::serve(Some(authority.server(&["127.0.0.1"], &["http/1.1"], None)), false).await;
    let bad = Recording::serve(Some(other.server(&["127.0.0.1"], &["http/1.1"], None)), false).await;
    let setup = before(&[&good, &bad], &authority).set("fleet.heartbeat_interval", "1h");
    let both = format!("{}{}", authority.pem, other.pem);
    std::fs::write(setup.folder().join("ca.pem"), both).expect("the folder is ours");
    let balancer = setup.start().await;
    authority.write(setup.folder(), "ca.pem");
    check(&balancer.admin.call(Method::POST, "/reload", "").await, 200, "default");
    for n in 0..20 {
        let method = if n % 2 == 0 { Method::GET } else { Method::POST };
        check(&balancer.main.call(method, "/a", "a body").await, 200, "Ok(6)");
    }
    assert_eq!(bad.carrying().len(), 0);
    assert!(balancer.metric("slipring_retries_total", "").await > 0.0, "some were meant for the other");
}

/// A replica for gRPC alone speaks no HTTP/1; a heartbeat that asks nothing need not ask for it either.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_speaks_http2_only_lives_and_is_called() {
    let authority = Authority::new();
    let replica = Recording::serve(Some(authority.server(&["127.0.0.1"], &["h2"], None)), false).await;
    let balancer = before(&[&replica], &authority).set("fleet.heartbeat_path", "").start().await;
    let mut streams = balancer.main.streams().await;
    assert_eq!(call(&mut streams, balancer.main).await, (message("https: 10 bytes"), "0".to_owned()));
    assert_eq!(view(&balancer).await["state"], "live");
}

/// Whoever calls a replica that speaks no HTTP/2 does not make it bad for those whom it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_http2_is_not_left_out_for_calls_over_tls() {
    let authority = Authority::new();
    let replica = Recording::serve(Some(authority.server(&["127.0.0.1"], &["http/1.1"], None)), false).await;
    let balancer = before(&[&replica], &authority).set("proxy.max_ejected", 1).start().await;
    let mut streams = balancer.main.streams().await;
    for _ in 0..30 {
        assert_eq!(call(&mut streams, balancer.main).await.1, "14");
    }
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    check(&balancer.main.get("/a").await, 200, "GET Ok(0)");
}

/// The other way round: whoever asks a replica for gRPC alone for a page does not make it bad for those who call it.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_http2_only_are_not_left_out_for_requests_of_http1() {
    let authority = Authority::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Recording::serve(Some(authority.server(&["127.0.0.1"], &["h2"], None)), false).await);
    }
    let all: Vec<_> = replicas.iter().collect();
    let setup = before(&all, &authority).set("fleet.heartbeat_path", "").set("proxy.max_ejected", 1);
    let balancer = setup.start().await;
    for _ in 0..30 {
        check(&balancer.main.get("/a").await, 503, "no replica could be reached");
    }
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    assert_eq!(call(&mut balancer.main.streams().await, balancer.main).await.1, "0");
}

/// What a replica that wants another certificate was sent it has not read: the next one may have it, if it is still at
/// hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_one_that_refuses_us_goes_to_the_next() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let protocols = &["h2", "http/1.1"];
    let wary =
        Recording::serve(Some(authority.server(&["127.0.0.1"], protocols, Some(&clients))), false).await;
    let good = Recording::serve(Some(authority.server(&["127.0.0.1"], protocols, None)), false).await;
    let setup = before(&[&wary, &good], &authority).set("fleet.heartbeat_path", "");
    let setup = setup.set("proxy.eject_failures", 0).set("proxy.eject_success_rate", 0);
    let balancer = setup.start().await;
    for n in 0..30 {
        let method = if n % 2 == 0 { Method::GET } else { Method::DELETE };
        check(&balancer.main.call(method, "/a", "").await, 200, "Ok(0)");
    }
    assert!(balancer.metric("slipring_retries_total", "").await > 0.0, "some were meant for the other");
    assert_eq!(wary.carrying().len(), 0);
}

/// Behind a proxy that says whose a connection is, replicas are told what it said, of both ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_before_us_says_goes_on_to_replicas() {
    let authority = Authority::new();
    let replica = Recording::serve(None, true).await;
    let setup = before(&[&replica], &authority).set("proxy.upstream_tls", "off");
    let setup = setup.set("proxy.send_proxy_protocol", true).set("proxy.accept_proxy_protocol", true);
    let balancer = setup.start().await;
    let said = ["PROXY TCP4 10.1.2.3 10.0.0.1 4660 80\r\n", "PROXY UNKNOWN\r\n"];
    for said in said {
        let mut plain = Raw::connect(balancer.main.address).await;
        plain.say(said).await;
        assert_eq!(plain.ask("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
        let mut stream = TcpStream::connect(balancer.main.address).await.expect("it listens");
        stream.write_all(said.as_bytes()).await.expect("it is taken");
        assert_eq!(call(&mut balancer.main.streams_over(stream).await, balancer.main).await.1, "0");
    }
    let told: Vec<_> = replica.carrying().into_iter().map(|seen| seen.header[12..].to_vec()).collect();
    let wanted = [0x21, 0x11, 0, 12, 10, 1, 2, 3, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    // Whom the proxy does not know it does not make up, and nor do we.
    let unknown = [0x21, 0, 0, 0];
    assert_eq!(told, [&wanted[..], &wanted, &unknown, &unknown]);
    let named: Vec<_> = replica.carrying().into_iter().flat_map(|seen| seen.forwarded).collect();
    let known = ["for=10.1.2.3", "10.1.2.3"].map(str::to_owned);
    let unknown = ["for=unknown", "unknown"].map(str::to_owned);
    assert_eq!(named, [known.clone(), known, unknown.clone(), unknown]);
}

/// A connection that nobody else may use is of no use when its client is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_connections_end_with_it() {
    let (tell, mut told) = mpsc::channel(8);
    let address = replica(move |mut connection: Raw, _| {
        let tell = tell.clone();
        async move {
            let header = connection.take(16).await;
            if header.get(12) != Some(&0x21) {
                return; // a heartbeat
            }
            connection.take(12).await;
            connection.head().await.expect("a request");
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            connection.ended().await;
            tell.send(()).await.expect("the test listens");
        }
    })
    .await;
    let setup = Setup::fixed(SLIPRING, &[address]).set("fleet.heartbeat_path", "");
    let setup = setup.set("proxy.send_proxy_protocol", true).set("proxy.replica_idle_timeout", "1h");
    let balancer = setup.start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
    drop(client);
    timeout(LONG, told.recv()).await.expect("it ends with its client");
    let mut streams = balancer.main.streams().await;
    let request = balancer.main.stream(Method::GET, "/a").body(whole("")).expect("valid");
    assert_eq!(streams.send_request(request).await.expect("an answer").status(), 200);
    drop(streams);
    timeout(LONG, told.recv()).await.expect("over HTTP/2 as well");
}

/// A balancer without a descriptor that is free blames nobody.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_want_is_not_the_replicas_fault() {
    let mut addresses = Vec::new();
    for _ in 0..3 {
        addresses.push(Recording::serve(None, false).await.address);
    }
    let setup = Setup::fixed(SLIPRING, &addresses).set("fleet.heartbeat_interval", "1h");
    let balancer = setup.set("proxy.workers", 1).set("proxy.max_ejected", 1).start().await;
    let mut client = Raw::connect(balancer.main.address).await;
    assert_eq!(client.ask("GET /rep HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
    balancer.allow_open_files(3);
    for _ in 0..30 {
        assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 503);
    }
    balancer.allow_open_files(1000);
    assert_eq!(balancer.metric("slipring_ejections_total", "").await, 0.0);
    assert_eq!(client.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
}
