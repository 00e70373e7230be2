//! What is measured: the cases of a table, how often and how long.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::arguments::{Flags, Setting, Table};
use crate::error::Error;
use crate::peer::Peer;

/// The usual number of clients.
pub(crate) const CONNECTIONS: u32 = 64;
/// The usual number of replicas.
const REPLICAS: u32 = 3;
/// The usual number of clients that say nothing.
const IDLE_CONNECTIONS: u32 = 10_000;
/// As networks count.
const MEGABYTE: usize = 1_000_000;

/// What one client does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// `GET /home/<six digits>`, a 60-byte answer.
    Get,
    /// `POST` with a body of so many bytes.
    Post { bytes: usize },
    /// `GET` of a file of so many bytes.
    Download { bytes: usize },
    /// `GET` over HTTP/2, so many at a time on each connection.
    Http2 { streams: u32 },
    /// A unary call of gRPC, 60 bytes each way, so many at a time on each connection.
    Grpc { streams: u32 },
    /// Nothing, after one request.
    Idle,
}

/// One row of conditions, under which every peer is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) setting: Setting,
    pub(crate) workload: Workload,
    pub(crate) connections: u32,
    pub(crate) replicas: u32,
    /// The peers are tuned for large answers, which they are not by default.
    pub(crate) tuned: bool,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) table: Table,
    pub(crate) peers: Vec<Peer>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) warmup: u32,
    pub(crate) patience: u32,
    pub(crate) quick: bool,
}

impl Plan {
    pub(crate) fn new(flags: &Flags) -> Result<Self, Error> {
        let idle = flags.table == Table::Idle;
        let (rounds, seconds) = match (flags.quick, idle) {
            (true, _) => (2, 3),
            (false, true) => (3, 10),
            (false, false) => (5, 5),
        };
        let mut peers: Vec<Peer> = Vec::new();
        for peer in &flags.peers {
            if peers.contains(peer) {
                return Err(Error::Arguments("--peers names a peer twice"));
            }
            peers.push(*peer);
        }
        if idle && peers.contains(&Peer::Direct) {
            return Err(Error::Arguments("idle clients of the replicas themselves say nothing of a proxy"));
        }
        if flags.table == Table::Grpc && !peers.contains(&Peer::Direct) {
            peers.push(Peer::Direct);
        }
        Ok(Self {
            table: flags.table,
            peers,
            cases: cases(flags),
            rounds: flags.rounds.unwrap_or(rounds),
            seconds: flags.seconds.unwrap_or(seconds),
            warmup: flags.warmup,
            patience: flags.patience,
            quick: flags.quick,
        })
    }

    /// The command that repeats it, without what belongs to this machine.
    pub(crate) fn command(&self) -> String {
        fn list(items: impl Iterator<Item = String>) -> String {
            let mut distinct: Vec<String> = Vec::new();
            for item in items {
                if !distinct.contains(&item) {
                    distinct.push(item);
                }
            }
            distinct.join(",")
        }
        format!(
            "bench-proxy --table {} --peers {} --settings {} --connections {} --rounds {} --seconds {} --warmup {}",
            name(&self.table),
            list(self.peers.iter().map(name)),
            list(self.cases.iter().map(|case| name(&case.setting))),
            list(self.cases.iter().map(|case| case.connections.to_string())),
            self.rounds,
            self.seconds,
            self.warmup,
        )
    }
}

/// What a value is called on the command line.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Who is where × how many clients × what the table varies.
fn cases(flags: &Flags) -> Vec<Case> {
    let (workloads, replicas): (Vec<Workload>, Vec<u32>) = match flags.table {
        Table::Proxy => (vec![Workload::Get], vec![REPLICAS]),
        Table::Bodies => (vec![Workload::Download { bytes: MEGABYTE }], vec![REPLICAS]),
        Table::Posts => ([1000, 100_000].map(|bytes| Workload::Post { bytes }).into(), vec![REPLICAS]),
        Table::Replicas => (vec![Workload::Get], vec![1, 3, 30, 300]),
        Table::Idle => (vec![Workload::Idle], vec![REPLICAS]),
        Table::Grpc => ([1, 8].map(|streams| Workload::Grpc { streams }).into(), vec![REPLICAS]),
        Table::Http2 => ([1, 8].map(|streams| Workload::Http2 { streams }).into(), vec![REPLICAS]),
    };
    let settings = match flags.settings.as_slice() {
        [] if flags.table == Table::Proxy && !flags.quick => &[Setting::Pinned, Setting::Unpinned],
        [] => [Setting::Pinned].as_slice(),
        chosen => chosen,
    };
    let connections = match flags.connections.as_slice() {
        [] if flags.table == Table::Idle => &[IDLE_CONNECTIONS],
        [] => [CONNECTIONS].as_slice(),
        chosen => chosen,
    };
    let mut cases = Vec::new();
    for &setting in settings {
        for &connections in connections {
            for &workload in &workloads {
                for &replicas in &replicas {
                    let case = Case { setting, workload, connections, replicas, tuned: false };
                    cases.push(case);
                    if flags.table == Table::Bodies {
                        cases.push(Case { tuned: true, ..case });
                    }
                }
            }
        }
    }
    cases
}

impl Case {
    /// The most requests that are under way at a time.
    pub(crate) fn concurrency(&self) -> u32 {
        match self.workload {
            Workload::Http2 { streams } | Workload::Grpc { streams } => self.connections * streams,
            // They ask one after the other; the usual number warms the proxy up.
            Workload::Idle => CONNECTIONS,
            _ => self.connections,
        }
    }

    /// The one that the last line is about.
    pub(crate) fn is_headline(&self) -> bool {
        self.setting == Setting::Pinned && self.workload == Workload::Get && self.replicas == REPLICAS
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { setting, workload, connections, replicas, tuned } = self;
        match setting {
            Setting::Pinned => write!(f, "pinned (one worker)")?,
            Setting::Unpinned => write!(f, "unpinned (two workers)")?,
        }
        match workload {
            Workload::Get => write!(f, ", GET")?,
            Workload::Post { bytes } => write!(f, ", POST of {bytes} bytes")?,
            Workload::Download { bytes } => write!(f, ", GET of {bytes} bytes")?,
            Workload::Http2 { streams } => write!(f, ", HTTP/2 with {streams} at a time on each connection")?,
            Workload::Grpc { streams } => {
                write!(f, ", gRPC with {streams} calls at a time on each connection")?;
            }
            Workload::Idle => write!(f, ", idle")?,
        }
        let plural = |count: &u32| if *count == 1 { "" } else { "s" };
        write!(
            f,
            ", {connections} connection{}, {replicas} replica{}",
            plural(connections),
            plural(replicas)
        )?;
        f.write_str(if *tuned { ", peers tuned for large answers" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Cli;
    use clap::Parser as _;

    fn plan(arguments: &[&str]) -> Plan {
        let cli = Cli::parse_from([&["bench-proxy"], arguments].concat());
        Plan::new(&cli.flags).unwrap()
    }

    #[test]
    fn quick_is_two_rounds_of_three_seconds_pinned_only() {
        let plan = plan(&["--quick"]);
        assert_eq!((plan.rounds, plan.seconds), (2, 3));
        let [case] = plan.cases.as_slice() else { panic!("{:?}", plan.cases) };
        assert_eq!((case.setting, case.connections, case.replicas), (Setting::Pinned, 64, 3));
        assert!(case.is_headline());
    }

    #[test]
    fn without_flags_it_is_five_rounds_pinned_and_unpinned() {
        let plan = plan(&[]);
        assert_eq!((plan.rounds, plan.seconds, plan.cases.len()), (5, 5, 2));
        assert_eq!(plan.peers, Peer::ALL);
    }

    #[test]
    fn the_command_repeats_the_plan() {
        let first = plan(&["--connections", "1,64", "--peers", "haproxy,slipring", "--rounds", "7"]);
        let command = first.command();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        assert_eq!(plan(&words).cases, first.cases, "{command}");
        assert_eq!(plan(&words).command(), command);
    }

    #[test]
    fn calls_are_measured_beside_the_replicas_themselves() {
        let first = plan(&["--table", "grpc"]);
        assert_eq!(first.peers.last(), Some(&Peer::Direct));
        let command = first.command();
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        assert_eq!(plan(&words).peers, first.peers, "{command}");
        let idle = Cli::parse_from(["bench-proxy", "--table", "idle", "--peers", "direct"]);
        assert!(matches!(Plan::new(&idle.flags), Err(Error::Arguments(_))));
    }

    #[test]
    fn a_peer_is_named_once() {
        let cli = Cli::parse_from(["bench-proxy", "--peers", "nginx,nginx"]);
        assert!(matches!(Plan::new(&cli.flags), Err(Error::Arguments(_))));
    }
}
