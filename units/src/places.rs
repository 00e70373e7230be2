//! Where units are found: at one address at their ports, unless somebody says otherwise, as in containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// See the module.
#[derive(Clone, Debug)]
pub struct Places {
    host: IpAddr,
    elsewhere: BTreeMap<u16, String>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(Ipv4Addr::LOCALHOST.into(), BTreeMap::new())
    }
}

impl Places {
    /// At an address, but for those that are elsewhere: `host:port` by port.
    pub const fn new(host: IpAddr, elsewhere: BTreeMap<u16, String>) -> Self {
        Self { host, elsewhere }
    }

    /// `host:port` of a unit.
    pub fn authority(&self, port: u16) -> String {
        let elsewhere = self.elsewhere.get(&port).cloned();
        elsewhere.unwrap_or_else(|| SocketAddr::new(self.host, port).to_string())
    }
}
