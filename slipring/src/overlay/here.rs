//! Which hosts are this one.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use slipring_overlay::topology::{Process, Topology};

/// Those that run on this one.
pub(super) fn processes(topology: &Topology) -> Vec<&Process> {
    topology.processes.values().filter(|process| is_here(&process.host)).collect()
}

/// Whether a name or an address is this machine's: what can be bound here is.
pub(super) fn is_here(host: &str) -> bool {
    let addresses = (host, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    addresses.iter().any(|address| is_own(address.ip()))
}

fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_a_documentation_address_is_not() {
        assert!(is_here("127.0.0.1") && is_here("localhost"));
        assert!(!is_here("192.0.2.1") && !is_here("no-such-host.invalid"));
    }
}
