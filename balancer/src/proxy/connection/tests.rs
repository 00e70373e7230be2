use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream as Served;

use super::*;
use crate::proxy::upstream_tls::{Trust, UpstreamTls};

/// Nothing here takes longer.
const LONG: Duration = Duration::from_secs(20);

/// An idle connection over TLS on which something was said, and its other side.
pub(in crate::proxy) async fn pair() -> (Connection, Served<TcpStream>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["replica.test".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let name = "replica.test".try_into().unwrap();
    let transport =
        Transport::new(Some(UpstreamTls::new(Trust::Roots(roots), Some(name), None).unwrap()), false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opening = Connection::open(address, (&transport, None), LONG, LONG);
    let serving = async {
        let mut served =
            TlsAcceptor::from(Arc::new(server)).accept(listener.accept().await.unwrap().0).await.unwrap();
        served.write_all(b"hello").await.unwrap();
        served
    };
    let (opened, served) = tokio::join!(opening, serving);
    let mut connection = opened.unwrap();
    connection.stream.read_exact(&mut [0; 5]).await.unwrap();
    (connection, served)
}

/// Until the reactor has seen something.
async fn news(connection: &Connection) {
    let Stream::Tls(stream) = &connection.stream else { panic!("it is over TLS") };
    stream.get_ref().0.ready(Interest::READABLE).await.unwrap();
}

#[tokio::test]
async fn new_keys_and_tickets_are_no_news() {
    let (mut connection, mut served) = pair().await;
    for look in [Connection::is_well, Connection::is_open] {
        for _ in 0..2 {
            served.get_mut().1.refresh_traffic_keys().unwrap();
            served.flush().await.unwrap();
            let (socket, session) = served.get_mut();
            while session.wants_write() {
                socket.writable().await.unwrap();
                session.write_tls(&mut Writing(socket)).unwrap();
            }
            news(&connection).await;
            assert!(look(&mut connection));
            assert!(look(&mut connection), "and nothing is left of it");
        }
    }
    served.write_all(b"more").await.unwrap();
    connection.stream.read_exact(&mut [0; 4]).await.unwrap();
    connection.stream.write_all(b"all of it").await.unwrap();
    connection.stream.flush().await.unwrap();
    served.read_exact(&mut [0; 9]).await.unwrap();
}

struct Writing<'a>(&'a TcpStream);

impl io::Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_end_is_news_with_a_word_and_without() {
    for look in [Connection::is_well, Connection::is_open] {
        let (mut connection, mut served) = pair().await;
        served.get_mut().1.send_close_notify();
        served.flush().await.unwrap();
        let (socket, session) = served.get_mut();
        while session.wants_write() {
            session.write_tls(&mut Writing(socket)).unwrap();
        }
        news(&connection).await;
        assert!(!look(&mut connection), "close_notify, the socket still open");
        let (mut connection, served) = pair().await;
        drop(served);
        news(&connection).await;
        assert!(!look(&mut connection), "no word at all");
    }
}

#[tokio::test]
async fn what_nobody_asked_for_is_news() {
    for look in [Connection::is_well, Connection::is_open] {
        let (mut connection, mut served) = pair().await;
        served.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        served.flush().await.unwrap();
        news(&connection).await;
        assert!(!look(&mut connection));
        assert!(!look(&mut connection), "also when it was read already");
    }
}

/// It would be the next client's answer.
#[tokio::test]
async fn what_came_behind_an_answer_in_the_same_packets_is_news() {
    for look in [Connection::is_well, Connection::is_open] {
        let (mut connection, mut served) = pair().await;
        served.write_all(b"answer").await.unwrap();
        served.write_all(b"EVIL").await.unwrap();
        served.flush().await.unwrap();
        news(&connection).await;
        connection.stream.read_exact(&mut [0; 6]).await.unwrap();
        let Stream::Tls(stream) = &connection.stream else { panic!("it is over TLS") };
        let more = stream.get_ref().0.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(more, Err(io::ErrorKind::WouldBlock), "the socket has nothing more to say");
        assert!(!look(&mut connection));
    }
}
