//! Which hosts are this one.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use slipring_overlay::topology::{Process, Topology};

/// Those that run on this one. A host that cannot be found is another one.
pub(super) fn processes(topology: &Topology) -> Vec<&Process> {
    topology.processes.values().filter(|process| is_here(&process.host).unwrap_or(false)).collect()
}

/// Whether a name or an address is this machine's: what can be bound here is.
///
/// # Errors
/// When the name cannot be resolved.
pub(super) fn is_here(host: &str) -> std::io::Result<bool> {
    Ok((host, 0).to_socket_addrs()?.any(|address| is_own(address.ip())))
}

fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_a_documentation_address_is_not() {
        assert!(is_here("127.0.0.1").unwrap() && is_here("localhost").unwrap());
        assert!(!is_here("192.0.2.1").unwrap());
        is_here("no-such-host.invalid").unwrap_err();
    }
}
