//! Every limit that somebody can run into, what it is called in the metrics, and the key that moves it.
//!
//! One list, so that none is met without being counted: `slipring_limits_hit_total{limit}` has a series for each from
//! the beginning, and a test holds README.md's table to it. Names given where each limit is met were the alternative;
//! half of them were forgotten.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No place for one more client: it waits.
    Connections,
    /// No more connections for this client.
    ConnectionsPerClient,
    /// The client asks too often.
    RequestsPerSecondPerClient,
    /// The connection has carried its requests.
    RequestsPerConnection,
    /// A connection's beginning, or a head, came too slowly.
    HeaderTime,
    /// A head was too long.
    HeaderBytes,
    /// A head had too many fields.
    HeaderFields,
    /// A body was too long.
    BodyBytes,
    /// A body came too slowly.
    BodyRate,
    /// An answer was taken too slowly.
    ReadRate,
    /// Nothing more of a body came.
    BodyTime,
    /// Nothing more of an answer was taken.
    ReadTime,
    /// Nothing was asked for too long.
    IdleTime,
    /// Nothing passed through an upgraded connection for too long.
    TunnelTime,
    /// No place at a replica came free in time.
    ConnectionsPerReplica,
    /// No room among those who wait for a place at a replica.
    WaitingPerReplica,
    /// A connection of HTTP/2 has as many streams as it may; more are refused. Counted once a connection.
    Streams,
    /// The client took back too many streams.
    Resets,
    /// Over HTTP/2: too many streams taken back before they were looked at, or a head in too many pieces.
    Floods,
    /// A proxy did not say whose connection it is.
    ProxyProtocol,
    /// No place for one more administrator: it waits.
    AdminConnections,
    /// No more connections for this administrator.
    AdminConnectionsPerClient,
}

impl Limit {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 22] = [
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::RequestsPerSecondPerClient,
        Self::RequestsPerConnection,
        Self::HeaderTime,
        Self::HeaderBytes,
        Self::HeaderFields,
        Self::BodyBytes,
        Self::BodyRate,
        Self::ReadRate,
        Self::BodyTime,
        Self::ReadTime,
        Self::IdleTime,
        Self::TunnelTime,
        Self::ConnectionsPerReplica,
        Self::WaitingPerReplica,
        Self::Streams,
        Self::Resets,
        Self::Floods,
        Self::ProxyProtocol,
        Self::AdminConnections,
        Self::AdminConnectionsPerClient,
    ];

    /// As the metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::RequestsPerSecondPerClient => "requests_per_second_per_client",
            Self::RequestsPerConnection => "requests_per_connection",
            Self::HeaderTime => "header_time",
            Self::HeaderBytes => "header_bytes",
            Self::HeaderFields => "header_fields",
            Self::BodyBytes => "body_bytes",
            Self::BodyRate => "body_rate",
            Self::ReadRate => "read_rate",
            Self::BodyTime => "body_time",
            Self::ReadTime => "read_time",
            Self::IdleTime => "idle_time",
            Self::TunnelTime => "tunnel_time",
            Self::ConnectionsPerReplica => "connections_per_replica",
            Self::WaitingPerReplica => "waiting_per_replica",
            Self::Streams => "streams",
            Self::Resets => "resets",
            Self::Floods => "floods",
            Self::ProxyProtocol => "proxy_protocol",
            Self::AdminConnections => "admin_connections",
            Self::AdminConnectionsPerClient => "admin_connections_per_client",
        }
    }

    /// The key that moves it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "proxy.max_connections",
            Self::ConnectionsPerClient => "proxy.max_connections_per_client",
            Self::RequestsPerSecondPerClient => "proxy.max_requests_per_second_per_client",
            Self::RequestsPerConnection => "proxy.max_requests_per_connection",
            Self::HeaderTime => "proxy.header_timeout",
            Self::HeaderBytes | Self::Floods => "proxy.max_header_bytes",
            Self::HeaderFields => "proxy.max_header_fields",
            Self::BodyBytes => "proxy.max_body_bytes",
            Self::BodyRate | Self::ReadRate => "proxy.min_body_rate",
            Self::BodyTime | Self::ReadTime | Self::IdleTime => "proxy.idle_timeout",
            Self::TunnelTime => "proxy.tunnel_timeout",
            Self::ConnectionsPerReplica => "proxy.max_connections_per_replica",
            Self::WaitingPerReplica => "proxy.max_waiting_per_replica",
            Self::Streams => "proxy.max_streams",
            Self::Resets => "proxy.max_resets",
            Self::ProxyProtocol => "proxy.accept_proxy_protocol",
            Self::AdminConnections | Self::AdminConnectionsPerClient => "admin.max_connections",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_limit_is_listed_once_has_a_key_that_is_there_and_a_line_in_the_readme() {
        let (readme, example) = (include_str!("../../README.md"), Config::example());
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
            let (section, key) = limit.key().split_once('.').expect("they are in sections");
            let section = example.split(&format!("\n[{section}]\n")).nth(1).expect("it is in the example");
            assert!(section.contains(&format!("\n{key} = ")), "{limit:?} has {key}");
            let line = readme.lines().find(|line| line.starts_with(&format!("| `{}` | ", limit.name())));
            let line = line.unwrap_or_else(|| panic!("README.md does not name {}", limit.name()));
            assert!(line.contains(&format!(" | `{}` | ", limit.key())), "{line}");
        }
    }
}
