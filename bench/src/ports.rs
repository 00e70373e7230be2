//! Ports to listen on, each given out once.
//!
//! Port 0 would take one from the range of ephemeral ports, where tens of thousands of client connections look for
//! theirs between our asking and the proxy's binding. Below that range nobody looks.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::Error;

/// Not below: privileged ports and common services.
const LEAST: u16 = 10_000;
/// Where the ephemeral range begins when the kernel does not say.
const EPHEMERAL: u16 = 32_768;

/// Gives out ports of 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
    end: u16,
}

impl Ports {
    /// Two runs at a time begin at different ports.
    pub(crate) fn new() -> Self {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let end = range.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(EPHEMERAL);
        let end = if end > LEAST + 1000 { end } else { u16::MAX };
        let offset = std::process::id() * 97 % (u32::from(end - LEAST) / 2);
        Self { next: LEAST + u16::try_from(offset).expect("less than a range of ports"), end }
    }

    /// The next one that is free now.
    pub(crate) fn take(&mut self) -> Result<u16, Error> {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(Error::Ports)
    }

    /// So many of them.
    pub(crate) fn take_many(&mut self, count: u32) -> Result<Vec<u16>, Error> {
        (0..count).map(|_| self.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once_and_can_be_bound() {
        let mut ports = Ports::new();
        let first = ports.take().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let more = ports.take_many(3).unwrap();
        assert!(!more.contains(&first), "{more:?}");
        drop(listener);
    }
}
