//! The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.6/doc/proxy-protocol.txt): whose connection it is
//! that a proxy before us passes on, and that we pass on to a replica (version 2).
//!
//! Who may speak it must speak it: a header that may be missing could as well be the client's own. The parser takes
//! bytes and needs nothing else; reading takes no byte more than the header, because TLS may begin behind it. What
//! [`header`] writes, [`parse`] reads.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Of version 1, with its line's end.
const LONGEST_LINE: usize = 107;
/// Of version 2, extensions included: more than anyone sends.
const LONGEST: usize = 4096;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header that is none, or longer than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a header of the PROXY protocol")]
pub struct Malformed;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose the connection is.
    pub said: Said,
    /// Its bytes.
    pub length: usize,
}

/// What a proxy says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is a client's.
    Ends(Ends),
    /// It is the proxy's own (LOCAL).
    Local,
    /// It is somebody's, and the proxy does not know whose, or has no address that means anything here.
    Unknown,
}

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// The address that it came to.
    pub here: SocketAddr,
    /// Whether that is only the last proxy's address, because it does not know the client.
    pub is_unknown: bool,
}

impl Ends {
    /// A client that is known, and the address that it came to.
    pub fn known(client: SocketAddr, here: SocketAddr) -> Self {
        Self { client, here, is_unknown: false }
    }
}

/// The header of version 2 that says whose connection it is; `None`: our own (LOCAL). An address of IPv4 that is
/// written as one of IPv6 (a listener for both sees such) is told as what it is; where the ends are of two kinds,
/// the header is in IPv6.
pub fn header(ends: Option<&Ends>) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let Some(Ends { client, here, is_unknown }) = ends else {
        bytes.extend([0x20, 0, 0, 0]);
        return bytes;
    };
    if *is_unknown {
        bytes.extend([0x21, 0, 0, 0]);
        return bytes;
    }
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (client.ip().to_canonical(), here.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend([0x21, 0x11, 0, 12]);
            bytes.extend([from.octets(), to.octets()].concat());
        }
        (from, to) => {
            bytes.extend([0x21, 0x21, 0, 36]);
            bytes.extend([v6(from).octets(), v6(to).octets()].concat());
        }
    }
    bytes.extend([client.port().to_be_bytes(), here.port().to_be_bytes()].concat());
    bytes
}

/// Parses the header at the beginning of `input`; `None` while it is incomplete.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let start = &input[..input.len().min(SIGNATURE.len())];
    if SIGNATURE.starts_with(start) && !start.is_empty() {
        return if start.len() < SIGNATURE.len() { Ok(None) } else { binary(input) };
    }
    let line = &input[..input.len().min(LONGEST_LINE)];
    let known = b"PROXY ";
    if !known.starts_with(&line[..line.len().min(known.len())]) {
        return Err(Malformed);
    }
    match memchr::memchr(b'\n', line) {
        Some(end) => {
            let text = std::str::from_utf8(&line[..=end]).map_err(|_| Malformed)?;
            let text = text.strip_suffix("\r\n").ok_or(Malformed)?;
            Ok(Some(Header { said: textual(text)?, length: end + 1 }))
        }
        None if line.len() == LONGEST_LINE => Err(Malformed),
        None => Ok(None),
    }
}

fn textual(line: &str) -> Result<Said, Malformed> {
    let mut words = line.split(' ');
    words.next().filter(|word| *word == "PROXY").ok_or(Malformed)?;
    let family = words.next().ok_or(Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Said::Unknown); // whatever follows is to be ignored
    }
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (from, to) = (address().ok_or(Malformed)?, address().ok_or(Malformed)?);
    let mut port =
        || words.next().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse::<u16>().ok();
    let (from_port, to_port) = (port().ok_or(Malformed)?, port().ok_or(Malformed)?);
    let fits = match family {
        "TCP4" => from.is_ipv4() && to.is_ipv4(),
        "TCP6" => from.is_ipv6() && to.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(Malformed);
    }
    Ok(Said::Ends(Ends::known((from, from_port).into(), (to, to_port).into())))
}

fn binary(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(&[kind, family, high, low]) = input.get(12..16).and_then(|bytes| bytes.first_chunk::<4>())
    else {
        return Ok(None);
    };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if kind >> 4 != 2 || kind & 15 > 1 || length > LONGEST {
        return Err(Malformed);
    }
    let Some(body) = input.get(16..length) else { return Ok(None) };
    let said = match (kind & 15, family) {
        (0, _) => Said::Local,
        (_, 0x11) => Said::Ends(ends::<4>(body).ok_or(Malformed)?),
        (_, 0x21) => Said::Ends(ends::<16>(body).ok_or(Malformed)?),
        _ => Said::Unknown, // a family that is of no use here
    };
    Ok(Some(Header { said, length }))
}

/// Two addresses of so many bytes, and their ports.
fn ends<const WIDTH: usize>(body: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; WIDTH]>,
{
    let (from, rest) = body.split_first_chunk::<WIDTH>()?;
    let (to, rest) = rest.split_first_chunk::<WIDTH>()?;
    let (from_port, rest) = rest.split_first_chunk::<2>()?;
    let to_port = rest.first_chunk::<2>()?;
    let address =
        |ip: &[u8; WIDTH], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
    Some(Ends::known(address(from, from_port), address(to, to_port)))
}

/// Reads the header, and nothing behind it.
///
/// # Errors
/// When there is none, or the connection ends.
pub async fn read(stream: &mut TcpStream) -> io::Result<Said> {
    let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
    let (mut seen, mut piece) = (Vec::new(), [0; LONGEST]);
    loop {
        let before = seen.len();
        let count = stream.peek(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&piece[..count]);
        let parsed = parse(&seen).map_err(malformed)?;
        // What is seen of a header that is incomplete belongs to it.
        let mine = parsed.map_or(count, |header| header.length - before);
        stream.read_exact(&mut piece[..mine]).await?;
        if let Some(header) = parsed {
            return Ok(header.said);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    fn told(client: &str, here: &str, length: usize) -> Result<Option<Header>, Malformed> {
        let ends = Ends::known(client.parse().unwrap(), here.parse().unwrap());
        Ok(Some(Header { said: Said::Ends(ends), length }))
    }

    #[test]
    fn the_examples_of_the_specification() {
        let line = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
        let most = "255.255.255.255:65535";
        assert_eq!(parse(line.as_bytes()), told(most, most, line.len()));
        let line = "PROXY TCP6 2001:db8::1 ::2 7 80\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(line.as_bytes()), told("[2001:db8::1]:7", "[::2]:80", 33));
        let unknown = b"PROXY UNKNOWN whatever this may be\r\n";
        assert_eq!(parse(unknown), Ok(Some(Header { said: Said::Unknown, length: unknown.len() })));
        let four = v2(1, 0x11, &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80, 3, 0, 0]);
        assert_eq!(parse(&four), told("10.0.0.1:4660", "10.0.0.2:80", four.len()));
        let six =
            v2(1, 0x21, &[[1; 16], [2; 16]].concat().into_iter().chain([0, 7, 0, 80]).collect::<Vec<_>>());
        let (one, two) = ("[101:101:101:101:101:101:101:101]:7", "[202:202:202:202:202:202:202:202]:80");
        assert_eq!(parse(&six), told(one, two, six.len()));
        assert_eq!(parse(&v2(0, 0, b"")), Ok(Some(Header { said: Said::Local, length: 16 })));
        for (family, body) in [(0, &[][..]), (0x31, &[b'/'; 216]), (0x12, &[1; 12])] {
            let header = v2(1, family, body);
            assert_eq!(parse(&header), Ok(Some(Header { said: Said::Unknown, length: header.len() })));
        }
    }

    #[test]
    fn what_is_no_header() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
            "PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
            "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "proxy TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Malformed), "{line}");
        }
        assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(100)).as_bytes()), Err(Malformed));
        assert_eq!(parse(&v2(1, 0x11, &[0; 11])), Err(Malformed));
        assert_eq!(parse(&v2(2, 0x11, &[0; 12])), Err(Malformed));
        assert_eq!(parse(&v2(1, 0x11, &[0; 5000])), Err(Malformed));
    }

    /// Of IPv4, of IPv6, and of IPv4 in the words of IPv6.
    fn address() -> impl proptest::strategy::Strategy<Value = SocketAddr> {
        use proptest::prelude::*;
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from(ip).to_ipv6_mapped().into()),
        ];
        (ip, any::<u16>()).prop_map(SocketAddr::from)
    }

    #[test]
    fn what_is_sent_is_what_the_specification_shows() {
        let ends = |client: &str, here: &str| Ends::known(client.parse().unwrap(), here.parse().unwrap());
        let four = v2(1, 0x11, &[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
        assert_eq!(header(Some(&ends("10.0.0.1:4660", "10.0.0.2:80"))), four);
        assert_eq!(header(Some(&ends("[::ffff:10.0.0.1]:4660", "[::ffff:10.0.0.2]:80"))), four);
        let six = [&[0; 15][..], &[1], &[0; 10], &[0xff, 0xff, 10, 0, 0, 2], &[0, 7, 0, 80]].concat();
        assert_eq!(header(Some(&ends("[::1]:7", "10.0.0.2:80"))), v2(1, 0x21, &six));
        assert_eq!(header(None), v2(0, 0, b""));
        // Whom we were not told of, we do not make up either: the next one would take him for the proxy.
        let unknown = Ends { is_unknown: true, ..ends("127.0.0.1:7", "127.0.0.1:80") };
        assert_eq!(header(Some(&unknown)), v2(1, 0, b""));
        assert_eq!(parse(&header(Some(&unknown))).unwrap().unwrap().said, Said::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn what_is_sent_is_understood(client in address(), here in address(), rest in proptest::collection::vec(0_u8.., 0..20)) {
            let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let sent = header(Some(&Ends::known(client, here)));
            let read = parse(&[&sent[..], &rest].concat()).unwrap().unwrap();
            let Said::Ends(ends) = read.said else { panic!("{read:?}") };
            let told = (canonical(ends.client), canonical(ends.here), read.length);
            proptest::prop_assert_eq!(told, (canonical(client), canonical(here), sent.len()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..200), signed in proptest::bool::ANY) {
            let input = if signed { [&SIGNATURE[..], &bytes].concat() } else { [b"PROXY ", &bytes[..]].concat() };
            if let Ok(Some(header)) = parse(&input) {
                proptest::prop_assert!(header.length <= input.len());
            }
        }

        #[test]
        fn a_header_that_comes_in_pieces_is_the_same(address in proptest::array::uniform4(0_u8..), port in 0_u16.., text in proptest::bool::ANY) {
            let client = SocketAddr::from((address, port));
            let said = Said::Ends(Ends::known(client, SocketAddr::from(([10, 0, 0, 1], 80))));
            let whole = if text {
                format!("PROXY TCP4 {} 10.0.0.1 {port} 80\r\n", client.ip()).into_bytes()
            } else {
                let [high, low] = port.to_be_bytes();
                v2(1, 0x11, &[&address[..], &[10, 0, 0, 1, high, low, 0, 80]].concat())
            };
            for end in 0..whole.len() {
                proptest::prop_assert_eq!(parse(&whole[..end]), Ok(None));
            }
            let length = whole.len();
            proptest::prop_assert_eq!(parse(&[&whole[..], b"GET"].concat()), Ok(Some(Header { said, length })));
        }
    }
}
