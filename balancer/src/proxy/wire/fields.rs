//! What the fields of a head say about the message and the connection, gathered in one pass.

use std::mem::MaybeUninit;

use httparse::Header;

/// Fields of a head at the very most; a configuration may allow fewer.
pub const MOST_FIELDS: usize = 128;

/// Room for the fields of a head.
pub type Room<'a> = [MaybeUninit<Header<'a>>; MOST_FIELDS];

/// Room for the fields of a head, with nothing in it: to fill 4 kB with nothing twice a request takes time.
pub const fn room<'a>() -> Room<'a> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// A field that the balancer acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Expect`.
    Expect,
    /// `Forwarded`.
    Forwarded,
    /// `Host`.
    Host,
    /// Fields of one hop that nothing here reads: `Keep-Alive`, `Proxy-*`, `HTTP2-Settings`.
    Hop,
    /// `TE`.
    Te,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `X-Forwarded-Host`.
    ForwardedHost,
    /// `X-Forwarded-Proto`.
    ForwardedProto,
    /// `X-Request-Id`.
    RequestId,
    /// The balancer's own: `x-slipring-replica`, `x-slipring-panic`.
    Replica,
    /// One of these with an underscore for a hyphen, like `X_Forwarded_For`. A replica behind CGI, WSGI or the like
    /// cannot tell the two apart (RFC 3875 section 4.1.18), so that a client would speak in our name. It is left out;
    /// other names with underscores pass. (nginx leaves out all of them, which costs honest users their fields,
    /// HAProxy none.)
    Alias,
}

/// Which of them `name` is.
pub fn known(name: &str) -> Option<Known> {
    // By length first: most names are none of these, and are told apart by one comparison.
    let among = |names: &[(&str, Known)]| {
        let found = names.iter().find(|(own, _)| is_like(name, own));
        found.map(|&(_, known)| if name.contains('_') { Known::Alias } else { known })
    };
    match name.len() {
        2 => among(&[("te", Known::Te)]),
        4 => among(&[("host", Known::Host)]),
        6 => among(&[("expect", Known::Expect)]),
        7 => among(&[("upgrade", Known::Upgrade)]),
        9 => among(&[("forwarded", Known::Forwarded)]),
        10 => among(&[("connection", Known::Connection), ("keep-alive", Known::Hop)]),
        12 => among(&[("x-request-id", Known::RequestId)]),
        14 => among(&[("content-length", Known::ContentLength), ("http2-settings", Known::Hop)]),
        15 => among(&[("x-forwarded-for", Known::ForwardedFor)]),
        16 => among(&[
            ("x-forwarded-host", Known::ForwardedHost),
            ("proxy-connection", Known::Hop),
            ("x-slipring-panic", Known::Replica),
        ]),
        17 => among(&[
            ("transfer-encoding", Known::TransferEncoding),
            ("x-forwarded-proto", Known::ForwardedProto),
        ]),
        18 => among(&[("proxy-authenticate", Known::Hop), ("x-slipring-replica", Known::Replica)]),
        19 => among(&[("proxy-authorization", Known::Hop)]),
        _ => None,
    }
}

/// Whether `name` is `own`, but for case and underscores in the place of hyphens.
fn is_like(name: &str, own: &str) -> bool {
    let like = |(byte, own): (u8, u8)| byte.to_ascii_lowercase() == own || byte == b'_' && own == b'-';
    name.len() == own.len() && name.bytes().zip(own.bytes()).all(like)
}

/// Why the fields of a message contradict each other or themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Not a number, or more than one.
    #[error("the Content-Length is not one number")]
    Length,
    /// Something else than `chunked`, once.
    #[error("the Transfer-Encoding is not `chunked`")]
    Coding,
    /// Both of them.
    #[error("a Content-Length and a Transfer-Encoding contradict each other")]
    TwoFramings,
    /// More than one, or nonsense.
    #[error("the Host is not one host")]
    Host,
}

/// What the fields say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// Bytes of the body.
    pub length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// The connection ends after this message.
    pub close: bool,
    /// The connection stays: HTTP/1.0 says so.
    pub keep_alive: bool,
    /// The connection changes its protocol, to this.
    pub upgrade: Option<&'a [u8]>,
    /// It may change to HTTP/2 in the clear, here and not at a replica.
    pub offers_h2c: bool,
    /// `Connection` names fields beyond the usual ones: they end here as well.
    pub names_fields: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The sender takes trailers.
    pub takes_trailers: bool,
    /// The host that is asked for.
    pub host: Option<&'a [u8]>,
    /// The name of the request that came with it.
    pub request_id: Option<&'a [u8]>,
    /// Somebody says on whose behalf it was sent.
    pub forwarded: bool,
}

/// Reads the fields.
pub fn said<'a>(fields: &[Header<'a>]) -> Result<Said<'a>, FieldError> {
    let mut said = Said::default();
    let mut upgrade = None;
    let mut asks_upgrade = false;
    for field in fields {
        match known(field.name) {
            Some(Known::ContentLength) => match said.length.replace(number(field.value)?) {
                None => {}
                Some(_) => return Err(FieldError::Length),
            },
            Some(Known::TransferEncoding) => {
                if said.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(FieldError::Coding);
                }
                said.chunked = true;
            }
            Some(Known::Connection) => {
                for option in list(field.value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        said.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        said.keep_alive = true;
                    } else if option.eq_ignore_ascii_case(b"upgrade") {
                        asks_upgrade = true;
                    } else if !option.eq_ignore_ascii_case(b"te") {
                        said.names_fields = true;
                    }
                }
            }
            Some(Known::Upgrade) => upgrade = Some(field.value),
            Some(Known::Expect) => said.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue"),
            Some(Known::Te) => {
                said.takes_trailers |=
                    list(field.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Some(Known::Host) => match said.host.replace(field.value) {
                None => {}
                Some(_) => return Err(FieldError::Host),
            },
            Some(Known::RequestId) if said.request_id.is_none() => said.request_id = Some(field.value),
            Some(Known::Forwarded | Known::ForwardedFor | Known::ForwardedHost | Known::ForwardedProto) => {
                said.forwarded = true;
            }
            _ => {}
        }
    }
    if said.chunked && said.length.is_some() {
        return Err(FieldError::TwoFramings);
    }
    let is_h2c = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"h2c");
    said.offers_h2c = asks_upgrade && upgrade.is_some_and(|protocols| list(protocols).any(is_h2c));
    said.upgrade = upgrade.filter(|protocols| asks_upgrade && !list(protocols).any(is_another_http));
    Ok(said)
}

/// Whether an upgrade would end in another version of HTTP, or hide it: what then comes through is requests, and
/// they would reach a replica unseen (`h2c` smuggling).
fn is_another_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Whether `Connection` among `fields` names `name`: then it ends here. What says where the message goes and where
/// it ends cannot be named away.
pub fn named_by_connection(fields: &[Header<'_>], name: &str) -> bool {
    let connections = fields.iter().filter(|field| known(field.name) == Some(Known::Connection));
    connections.flat_map(|field| list(field.value)).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

/// The members of a comma-separated list, without the white space around them.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// A number of bytes: digits and nothing else, not even a sign.
fn number(digits: &[u8]) -> Result<u64, FieldError> {
    if digits.is_empty() || digits.len() > 19 {
        return Err(FieldError::Length);
    }
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + u64::from(digit - b'0')),
        _ => Err(FieldError::Length),
    })
}
