//! As much of an HTTP/1.1 client as the harness itself needs: is it there, what do the counters say, and ten
//! thousand connections that have asked once and then say nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Everything that is asked here is answered at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Larger answers are a mistake.
const LIMIT: usize = 64 * 1024;

/// An answer with a length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One request on a connection of its own.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<Answer> {
    let mut stream = connect(Ipv4Addr::LOCALHOST, port).await?;
    exchange(&mut stream, path).await
}

/// A connection from one of this machine's many addresses.
pub(crate) async fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if from != Ipv4Addr::LOCALHOST {
        socket.bind(SocketAddr::from((from, 0)))?;
    }
    let connecting = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let stream = timeout(PATIENCE, connecting).await.map_err(|_| late("connect"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request; the connection can be used again afterwards.
pub(crate) async fn exchange(stream: &mut TcpStream, path: &str) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    timeout(PATIENCE, async {
        stream.write_all(request.as_bytes()).await?;
        read(stream).await
    })
    .await
    .map_err(|_| late("answer"))?
}

async fn read(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        if let Some(answer) = parse(&bytes)? {
            return Ok(answer);
        }
        if bytes.len() > LIMIT {
            return Err(io::Error::other("an answer that does not end"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The whole answer, once it is there.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let malformed = || io::Error::other(format!("not an answer with a length: {head}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(malformed)?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or_else(malformed)?;
    Ok(body.get(..length).map(|body| Answer { status, body: body.to_owned() }))
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no {what} within {} s", PATIENCE.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_in_pieces() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]).unwrap(), None, "{end} bytes");
        }
        let answer = parse(whole).unwrap();
        assert_eq!(answer, Some(Answer { status: 200, body: "hello".into() }));
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
