//! TLS on the admin port: who is let in, who is not, what that costs, and certificates that change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use slipring_tests::{Answer, Balancer, Http, Setup, run, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const LONG: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef";

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Writes `NAME.pem`, its own certificate.
    fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), self.0.as_ref().pem())
            .expect("the folder is ours");
    }

    /// Writes `NAME.pem` and `NAME.key`, a certificate for this machine and its key.
    fn sign(&self, folder: &Path, name: &str) -> CertificateDer<'static> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("the folder is ours");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("the folder is ours");
        certificate.der().clone()
    }
}

/// A balancer whose admin port speaks TLS to those whom `clients` has signed, and files for such a client: `client`.
struct Secured {
    setup: Setup,
    servers: Authority,
}

fn secured() -> Secured {
    let setup = Setup::new(SLIPRING).set("fleet.replicas", 0);
    let (servers, clients) = (Authority::new(), Authority::new());
    servers.write(setup.folder(), "servers");
    clients.write(setup.folder(), "clients");
    servers.sign(setup.folder(), "server");
    clients.sign(setup.folder(), "client");
    Authority::new().sign(setup.folder(), "stranger");
    let setup = setup.set("admin.tls_certificate", "server.pem").set("admin.tls_key", "server.key");
    Secured { setup: setup.set("admin.client_ca", "clients.pem"), servers }
}

impl Secured {
    /// A connection with the certificate of these files, or with none; the server's own certificate. That it is refused
    /// may show only when it is used.
    async fn connect(
        &self,
        admin: Http,
        shown: Option<&str>,
    ) -> Result<(Talk, CertificateDer<'static>), String> {
        let folder = self.setup.folder();
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.0.as_ref().der().clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(name) => {
                let chain =
                    CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
                config.with_client_auth_cert(vec![chain], key).expect("a pair")
            }
        };
        let stream = TcpStream::connect(admin.address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let its_own = stream.get_ref().1.peer_certificates().expect("it shows one")[0].clone().into_owned();
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        Ok((Talk { sender, connection: tokio::spawn(connection) }, its_own))
    }

    /// One call.
    async fn get(&self, admin: Http, shown: Option<&str>, path: &str) -> Result<Answer, String> {
        let (mut talk, _) = self.connect(admin, shown).await?;
        talk.ask(path, None).await
    }
}

/// A connection.
struct Talk {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Talk {
    /// One call; why there is no answer.
    async fn ask(&mut self, path: &str, token: Option<&str>) -> Result<Answer, String> {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).expect("valid");
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        match sent.await {
            Ok(response) => Answer::read(response).await.map_err(|error| error.to_string()),
            // That the connection has ended; it knows why itself.
            Err(error) => Err(format!("{error:?}: {:?}", (&mut self.connection).await)),
        }
    }
}

/// How many handshakes have failed.
async fn failed(secured: &Secured, balancer: &Balancer) -> u64 {
    let metrics = secured.get(balancer.admin, Some("client"), "/metrics").await.expect("an answer");
    let line =
        metrics.text().lines().find_map(|line| line.strip_prefix("slipring_admin_handshakes_failed_total "));
    line.expect("it is there").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_certificate_of_the_authority_is_let_in_and_nobody_else() {
    let mut secured = secured();
    secured.setup = secured.setup.set("admin.max_connections", 2);
    let balancer = secured.setup.launch().await;
    assert!(balancer.log().contains("admin on https://127.0.0.1:"), "{}", balancer.log());
    let answer = secured.get(balancer.admin, Some("client"), "/replicas").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());

    for round in 0..3 {
        for (shown, alert) in [(None, "CertificateRequired"), (Some("stranger"), "UnknownCA")] {
            // Health is nobody's secret, and yet only told over a connection.
            let refused = secured.get(balancer.admin, shown, "/healthz").await.expect_err("no answer");
            assert!(
                refused.contains(alert) || refused.contains("DecryptError"),
                "{round} {shown:?}: {refused}"
            );
        }
    }
    let mut plain = TcpStream::connect(balancer.admin.address).await.expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is taken");
    let mut heard = Vec::new();
    tokio::time::timeout(LONG, plain.read_to_end(&mut heard)).await.expect("it ends").ok();
    assert!(!heard.starts_with(b"HTTP"), "it speaks TLS and nothing else");
    // None of them has kept a place, and every one was counted.
    assert_eq!(failed(&secured, &balancer).await, 7);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_begins_a_handshake_and_says_nothing_has_a_place_only_for_a_while() {
    let mut secured = secured();
    secured.setup = secured.setup.set("admin.max_connections", 1).set("proxy.header_timeout", "300ms");
    let balancer = secured.setup.launch().await;
    let mut silent = TcpStream::connect(balancer.admin.address).await.expect("a connection");
    let ended = tokio::time::timeout(LONG, silent.read(&mut [0; 8])).await.expect("it is ended");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(failed(&secured, &balancer).await, 1);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authorities_are_taken_anew_and_old_connections_stay() {
    let secured = secured();
    let balancer = secured.setup.launch().await;
    let (mut old, first) = secured.connect(balancer.admin, Some("client")).await.expect("a connection");
    assert_eq!(old.ask("/replicas", None).await.expect("an answer").status, 200);

    let second = secured.servers.sign(secured.setup.folder(), "server");
    assert_ne!(first, second);
    wait_until("the new certificate is shown", LONG, async || {
        let (_, shown) = secured.connect(balancer.admin, Some("client")).await?;
        if shown == second { Ok(()) } else { Err("the old one".to_owned()) }
    })
    .await;
    let others = Authority::new();
    others.sign(secured.setup.folder(), "other");
    assert!(secured.get(balancer.admin, Some("other"), "/replicas").await.is_err());
    others.write(secured.setup.folder(), "clients");
    wait_until("the new authority counts", LONG, async || {
        secured.get(balancer.admin, Some("other"), "/replicas").await.map(drop)
    })
    .await;
    let refused = secured.get(balancer.admin, Some("client"), "/replicas").await;
    assert!(refused.is_err(), "the old authority counts no more");
    assert_eq!(old.ask("/replicas", None).await.expect("an answer").status, 200);
    assert_eq!(old.ask("/reload", None).await.expect("an answer").status, 405);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_as_well_both_are_asked_also_of_this_machine() {
    let mut secured = secured();
    secured.setup = secured.setup.set("admin.token", TOKEN);
    let balancer = secured.setup.launch().await;
    let (mut sender, _) = secured.connect(balancer.admin, Some("client")).await.expect("a connection");
    let answer = sender.ask("/replicas", None).await.expect("an answer");
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("Authorization: Bearer"), "{}", answer.text());
    assert_eq!(sender.ask("/replicas", Some(TOKEN)).await.expect("an answer").status, 200);
    assert_eq!(sender.ask("/healthz", None).await.expect("an answer").status, 200);
    // The main port knows no certificates: there this machine is let in as ever.
    assert_eq!(balancer.main.get("/rep").await.status, 200);
    balancer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_speaks_tls_and_says_what_is_missing() {
    let secured = secured();
    let balancer = secured.setup.launch().await;
    let folder = secured.setup.folder();
    let file = |name: &str| folder.join(name).display().to_string();
    let url = format!("https://{}", balancer.admin.address);
    let reload = async |files: &[(&str, &str)]| {
        let mut arguments = vec!["client".to_owned()];
        for (flag, name) in files {
            arguments.extend([(*flag).to_owned(), file(name)]);
        }
        arguments.extend(["reload", "--admin-url", &url].map(str::to_owned));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = run(SLIPRING, &arguments, &[], "").await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let all = [("--ca", "servers.pem"), ("--cert", "client.pem"), ("--key", "client.key")];
    let (code, told, error) = reload(&all).await;
    assert_eq!(code, Some(0), "{told}{error}");
    assert!(told.contains("successful"), "{told}");

    for (files, code, words) in [
        (&[][..], 2, "https needs --ca FILE"),
        (&[("--ca", "none.pem")], 2, "none.pem is no readable PEM file"),
        (&[("--ca", "server.key")], 2, "holds no certificate"),
        (&[("--ca", "servers.pem"), ("--cert", "client.pem")], 2, "--key"),
        (
            &[("--ca", "servers.pem"), ("--cert", "client.pem"), ("--key", "server.key")],
            2,
            "does not go with",
        ),
        (&[("--ca", "clients.pem")], 3, "not of the authority of --ca"),
        (&[("--ca", "servers.pem")], 3, "give --cert and --key"),
        (
            &[("--ca", "servers.pem"), ("--cert", "stranger.pem"), ("--key", "stranger.key")],
            3,
            "does not take the certificate of --cert",
        ),
    ] {
        let (got, told, error) = reload(files).await;
        assert_eq!(got, Some(code), "{files:?}: {told}{error}");
        assert!(error.contains(words), "{files:?}: {words:?} is missing from\n{error}");
    }

    let ca = file("servers.pem");
    let [cert, key] = [file("client.pem"), file("client.key")];
    let environment = [
        ("SLIPRING_CA", &*ca),
        ("SLIPRING_CERT", &cert),
        ("SLIPRING_KEY", &key),
        ("SLIPRING_ADMIN_URL", &url),
    ];
    let output = run(SLIPRING, &["client", "reload"], &environment, "").await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let plain = format!("https://{}", balancer.main.address);
    let output = run(SLIPRING, &["client", "--url", &plain, "rep"], &environment, "").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("it speaks no TLS there"), "{error}");
    balancer.stop().await;
}
