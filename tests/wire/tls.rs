//! TLS towards clients: HTTP/2 by ALPN, and a certificate that changes under a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Request, Version};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use slipring_tests::upstream::{Upstream, whole};
use slipring_tests::{Http, Setup, Streams, wait_until};
use tokio::net::TcpStream;
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

async fn connect(
    server: Http,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn get(streams: &mut Streams) {
    let request = Request::builder().method(Method::GET).uri("https://localhost/a").body(whole(""));
    let response = streams.send_request(request.expect("valid")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_agreed_on_and_a_new_certificate_drops_no_connection() {
    let upstream = Upstream::serve(|_| async { hyper::Response::new(whole("ok")) }).await;
    let setup = Setup::new(SLIPRING).upstreams([&upstream]);
    let first = certificate(setup.folder());
    let setup = setup.set("tls.listen", "127.0.0.1:0").set("tls.certificate", "certificate.pem");
    let setup = setup.set("tls.key", "key.pem");
    let balancer = setup.start().await;
    let said = wait_until("it says where", LONG, async || {
        let log = balancer.log();
        let line = log.lines().find_map(|line| line.strip_prefix("TLS on https://")).map(str::to_owned);
        line.ok_or(log)
    })
    .await;
    let server = Http { address: said.parse().expect("an address") };
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
