//! Whose a client's connection is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::proxy_protocol::{Ends, Said};
use super::wire::emit::ClientName;
use crate::config::ProxyConfig;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The client; the proxy before us where that does not know.
    pub peer: SocketAddr,
    /// The address that the client came to, if a proxy has said so; `None`: the connection's own.
    pub here: Option<SocketAddr>,
    /// Somebody's whom a proxy does not know: it has nothing of the rights that the proxy has.
    pub is_unknown: bool,
}

impl Whose {
    /// Its peer's own.
    pub fn own(peer: SocketAddr) -> Self {
        Self { peer, here: None, is_unknown: false }
    }

    /// The same, with what its peer, a proxy, has said of it.
    #[must_use]
    pub fn told(self, said: Said) -> Self {
        match said {
            Said::Ends(Ends { client, here, .. }) => Self { here: Some(here), ..Self::own(client) },
            Said::Local => self,
            Said::Unknown => Self { is_unknown: true, ..self },
        }
    }

    /// Whether its word about its own clients counts.
    pub fn is_trusted(&self, config: &ProxyConfig) -> bool {
        !self.is_unknown && config.trusts(self.peer.ip())
    }

    /// Whose rate a request of its counts against. Of a proxy that is trusted: the last in `named`, the values of its
    /// `X-Forwarded-For` from the last to the first, who is no such proxy as well. What stands before that one anybody may
    /// have written. `None`: it names nobody, and brings many clients, whom we cannot count.
    pub fn charged<'a>(&self, config: &ProxyConfig, named: impl Iterator<Item = &'a [u8]>) -> Option<IpAddr> {
        if !self.is_trusted(config) {
            return Some(self.peer.ip());
        }
        let items = named.flat_map(|value| value.rsplit(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
        for item in items.filter(|item| !item.is_empty()) {
            let client = address(item)?;
            if !config.trusts(client) {
                return Some(client);
            }
        }
        None
    }

    /// As who it may administer: one who is unknown comes from nowhere.
    pub fn caller(&self) -> SocketAddr {
        match self.is_unknown {
            true => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            false => self.peer,
        }
    }

    /// As what its requests name it to a replica.
    pub fn name(&self) -> ClientName {
        ClientName::new(self.peer.ip(), self.is_unknown)
    }

    /// What a replica is told of it, over a connection that came to this address.
    pub fn ends(&self, here: impl FnOnce() -> Option<SocketAddr>) -> Option<Ends> {
        Some(Ends { client: self.peer, here: self.here.or_else(here)?, is_unknown: self.is_unknown })
    }
}

/// An address as proxies write it in `X-Forwarded-For`, some of them with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}
