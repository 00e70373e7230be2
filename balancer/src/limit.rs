//! Every limit that somebody can run into, what it is called in the metrics, and the key that moves it.
//!
//! One list, so that none has a name of its own making: `slipring_limits_hit_total{limit}` has a series for each from
//! the beginning, and a test holds README.md's table to it. Names given where each limit is met were the alternative;
//! half of them were forgotten. Whether each is counted where it is met is for the tests of those places.

macro_rules! limits {
    ($($(#[$words:meta])* $limit:ident = $name:literal moved by $key:literal;)*) => {
        /// See the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Limit {
            $($(#[$words])* $limit,)*
        }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$limit,)*];

            /// As the metrics name it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$limit => $name,)* }
            }

            /// The key that moves it.
            pub fn key(self) -> &'static str {
                match self { $(Self::$limit => $key,)* }
            }
        }
    };
}

limits! {
    /// No place for one more client: it waits.
    Connections = "connections" moved by "proxy.max_connections";
    /// No more connections for this client.
    ConnectionsPerClient = "connections_per_client" moved by "proxy.max_connections_per_client";
    /// The client asks too often.
    RequestsPerSecondPerClient = "requests_per_second_per_client" moved by "proxy.max_requests_per_second_per_client";
    /// The connection has carried its requests.
    RequestsPerConnection = "requests_per_connection" moved by "proxy.max_requests_per_connection";
    /// A connection's beginning, or a head, came too slowly.
    HeaderTime = "header_time" moved by "proxy.header_timeout";
    /// A head was too long.
    HeaderBytes = "header_bytes" moved by "proxy.max_header_bytes";
    /// A head had too many fields.
    HeaderFields = "header_fields" moved by "proxy.max_header_fields";
    /// A body was too long.
    BodyBytes = "body_bytes" moved by "proxy.max_body_bytes";
    /// A body came too slowly.
    BodyRate = "body_rate" moved by "proxy.min_body_rate";
    /// An answer was taken too slowly.
    ReadRate = "read_rate" moved by "proxy.min_body_rate";
    /// Nothing more of a body came.
    BodyTime = "body_time" moved by "proxy.idle_timeout";
    /// Nothing more of an answer was taken.
    ReadTime = "read_time" moved by "proxy.idle_timeout";
    /// Nothing was asked for too long.
    IdleTime = "idle_time" moved by "proxy.idle_timeout";
    /// Nothing passed through an upgraded connection for too long.
    TunnelTime = "tunnel_time" moved by "proxy.tunnel_timeout";
    /// No place at a replica came free in time.
    ConnectionsPerReplica = "connections_per_replica" moved by "proxy.max_connections_per_replica";
    /// No room among those who wait for a place at a replica.
    WaitingPerReplica = "waiting_per_replica" moved by "proxy.max_waiting_per_replica";
    /// A connection of HTTP/2 has as many streams as it may; more are refused. Counted once a connection.
    Streams = "streams" moved by "proxy.max_streams";
    /// The client took back too many streams.
    Resets = "resets" moved by "proxy.max_resets";
    /// Over HTTP/2: too many streams taken back before they were looked at, or a head in too many pieces.
    Floods = "floods" moved by "proxy.max_header_bytes";
    /// A proxy did not say whose connection it is.
    ProxyProtocol = "proxy_protocol" moved by "proxy.accept_proxy_protocol";
    /// No place for one more administrator: it waits.
    AdminConnections = "admin_connections" moved by "admin.max_connections";
    /// No more connections for this administrator.
    AdminConnectionsPerClient = "admin_connections_per_client" moved by "admin.max_connections";
    /// No place for one more page to be fed.
    PageWatchers = "page_watchers" moved by "admin.max_watchers";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_limit_has_a_key_that_is_there_and_a_line_in_the_readme_with_its_default() {
        let (readme, example) = (include_str!("../../README.md"), Config::example());
        for limit in Limit::ALL {
            let (section, key) = limit.key().split_once('.').expect("they are in sections");
            let section = example.split(&format!("\n[{section}]\n")).nth(1).expect("it is in the example");
            let lines = &mut section.lines();
            let set = lines.find_map(|line| line.strip_prefix(&format!("{key} = ")));
            let set = set.unwrap_or_else(|| panic!("{limit:?} has no {key}")).trim_matches('"');
            let line = readme.lines().find(|line| line.starts_with(&format!("| `{}` | ", limit.name())));
            let line = line.unwrap_or_else(|| panic!("README.md does not name {}", limit.name()));
            let columns: Vec<_> = line.split(" | ").collect();
            assert_eq!(columns[1], format!("`{}`", limit.key()), "{line}");
            let default = match limit {
                // Said in words.
                Limit::ReadRate | Limit::Floods | Limit::AdminConnectionsPerClient => continue,
                Limit::ProxyProtocol => {
                    if set == "false" {
                        "off"
                    } else {
                        "on"
                    }
                }
                _ if set == "0" => "none",
                _ => set,
            };
            assert_eq!(columns[2].split(' ').next(), Some(default), "{line}");
        }
    }
}
