//! Sockets that somebody else keeps open over our restarts (systemd's socket activation, `LISTEN_FDS`).
//!
//! Whoever connects between the end of one balancer and the beginning of the next waits in the socket's queue, which no
//! process of ours owns: nothing is lost, and nobody is refused.

use std::collections::HashMap;
use std::net::TcpListener;

use listenfd::ListenFd;

/// The names that a socket may be given (`FileDescriptorName=`); without names they come in this order.
const NAMES: [&str; 3] = ["listen", "tls.listen", "admin.listen"];

/// Sockets by the key of the configuration that they stand for.
#[derive(Debug, Default)]
pub struct Inherited(HashMap<&'static str, TcpListener>);

/// Sockets that were handed over and cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// It is no listening TCP socket.
    #[error(
        "socket {0} of those that were handed over (LISTEN_FDS) is no TCP socket: give ListenStream= an address"
    )]
    NoSocket(usize),
    /// Nobody knows what it is for.
    #[error("no socket is called {name:?}: FileDescriptorName= takes {known}", known = NAMES.join(", "))]
    NoName { name: String },
    /// Two for one.
    #[error("two sockets are called {0}: hand over one of each")]
    Twice(&'static str),
    /// Some with names, some without.
    #[error("{names} names for {sockets} sockets: give each a FileDescriptorName=, or none")]
    NotEach { names: usize, sockets: usize },
    /// Clients would wait there for ever.
    #[error("a socket for tls.listen was handed over, and tls.listen is not set")]
    NoTls,
    /// More than there are keys.
    #[error("{0} sockets were handed over, and there is use for {known}", known = NAMES.join(", "))]
    TooMany(usize),
}

impl Inherited {
    /// What this process was started with. `over_tls`: whether there is a `tls.listen`.
    ///
    /// # Errors
    /// When something was handed over that there is no use for: it would wait for clients for ever.
    pub fn from_environment(over_tls: bool) -> Result<Self, InheritError> {
        let mut handed = ListenFd::from_env();
        if handed.len() == 0 {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names = assign(&names, handed.len(), over_tls)?;
        let mut sockets = HashMap::new();
        for (index, name) in names.into_iter().enumerate() {
            let socket =
                handed.take_tcp_listener(index).ok().flatten().ok_or(InheritError::NoSocket(index))?;
            sockets.insert(name, socket);
        }
        Ok(Self(sockets))
    }

    /// The socket for this key.
    pub fn take(&mut self, key: &str) -> Option<TcpListener> {
        self.0.remove(key)
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Which socket is for which key. systemd calls those without a name `unknown`, or as their unit.
fn assign(names: &str, count: usize, over_tls: bool) -> Result<Vec<&'static str>, InheritError> {
    let given: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
    let named = |name: &str| NAMES.into_iter().find(|known| *known == name);
    if !given.iter().any(|name| named(name).is_some()) {
        let order: Vec<_> = NAMES.into_iter().filter(|name| over_tls || *name != "tls.listen").collect();
        return order.get(..count).map(<[_]>::to_vec).ok_or(InheritError::TooMany(count));
    }
    if given.len() != count {
        return Err(InheritError::NotEach { names: given.len(), sockets: count });
    }
    let mut assigned = Vec::new();
    for name in given {
        let known = named(name).ok_or_else(|| InheritError::NoName { name: name.to_owned() })?;
        if assigned.contains(&known) {
            return Err(InheritError::Twice(known));
        }
        if known == "tls.listen" && !over_tls {
            return Err(InheritError::NoTls);
        }
        assigned.push(known);
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_name_or_in_order() {
        assert_eq!(assign("", 1, false).unwrap(), ["listen"]);
        assert_eq!(assign("slipring.socket:slipring.socket", 2, false).unwrap(), ["listen", "admin.listen"]);
        assert_eq!(assign("unknown", 3, true).unwrap(), NAMES);
        assert_eq!(assign("admin.listen:listen", 2, true).unwrap(), ["admin.listen", "listen"]);
        for (names, count) in
            [("", 3), ("listen:listen", 2), ("listen:other", 2), ("listen", 2), ("listen:tls.listen", 2)]
        {
            assert!(assign(names, count, false).is_err(), "{names} {count}");
        }
    }
}
