//! The balancer itself in a container: where its host's own calls come from.
//!
//! A call from the host to a container on a bridge network comes from that network's gateway. On the host's own
//! network, on macvlan and on ipvlan the gateway is a router of the LAN, which speaks for anybody: there nobody but
//! loopback is this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Whether this process runs in a container.
pub(super) fn is_container() -> bool {
    Path::new("/.dockerenv").exists()
}

/// The id of the container that this process runs in, which the engine has in the paths of what it mounts.
pub(super) fn mounted_container() -> Option<String> {
    container_id(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// From lines like `… /var/lib/docker/containers/<id>/hostname /etc/hostname …`.
fn container_id(mounts: &str) -> Option<String> {
    let own = mounts.lines().filter(|line| line.split_whitespace().nth(4) == Some("/etc/hostname"));
    let id = |line: &str| {
        let id = line.split_whitespace().nth(3)?.rsplit('/').nth(1)?;
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    };
    own.filter_map(id).next()
}

/// The gateways of this container's bridge networks, as its routing table has them; none when this is no container.
pub(super) fn default_gateways() -> Vec<IpAddr> {
    if !is_container() {
        return Vec::new();
    }
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let routes = gateways(&table);
    routes.into_iter().filter(|(interface, _)| is_veth(interface)).map(|(_, gateway)| gateway).collect()
}

/// One end of a pair whose other end is in another network namespace: its link is another interface, and it is of
/// no type that shares a physical one.
fn is_veth(interface: &str) -> bool {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/sys/class/net/{interface}/{name}")).unwrap_or_default()
    };
    let (own, link) = (read("ifindex"), read("iflink"));
    let shared = ["macvlan", "ipvlan", "ipvtap", "macvtap", "vlan"];
    let kind = read("uevent");
    !own.is_empty() && own != link && !shared.iter().any(|shared| kind.contains(&format!("DEVTYPE={shared}")))
}

/// Interface and gateway of each line of the kernel's routing table: IPv4, in hexadecimal, as the machine stores it.
fn gateways(table: &str) -> Vec<(String, IpAddr)> {
    let gateway = |line: &str| {
        let mut columns = line.split_whitespace();
        let interface = columns.next()?.to_owned();
        let raw = u32::from_str_radix(columns.nth(1)?, 16).ok().filter(|&raw| raw != 0)?;
        Some((interface, IpAddr::V4(Ipv4Addr::from(raw.to_ne_bytes()))))
    };
    table.lines().skip(1).filter_map(gateway).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_mounts_tell_the_containers_id() {
        let id = "0123456789abcdef".repeat(4);
        let line =
            |path: &str, at: &str| format!("717 706 8:1 {path} {at} rw,relatime - ext4 /dev/sda1 rw\n");
        let own = line(&format!("/var/lib/docker/containers/{id}/hostname"), "/etc/hostname");
        let other = line(&format!("/var/lib/docker/containers/{}/hostname", "f".repeat(64)), "/mnt/hostname");
        assert_eq!(container_id(&format!("{other}{own}")), Some(id));
        for stranger in [other, line("/etc/hostname", "/etc/hostname"), "nonsense\n\n".into()] {
            assert_eq!(container_id(&stranger), None, "{stranger}");
        }
    }

    #[test]
    fn the_kernels_routing_table_is_read() {
        let table = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t010012AC\t0003\neth0\t000012AC\t00000000\t0001\nbad\n";
        assert_eq!(gateways(table), [("eth0".to_owned(), "172.18.0.1".parse::<IpAddr>().unwrap())]);
    }
}
