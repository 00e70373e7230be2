//! From what the file says to what holds: every mistake is found before one is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::file::{Bounds, File, RawProcess, RawStrategies};
use super::{DataPlacement, Process, ProcessId, Role, Strategies, Topology, paths};
use crate::assignment::identity;
use crate::date::{Date, Span};

/// The most records that a chunk may be configured to have.
pub const LARGEST_CHUNK: usize = 1_000_000;

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// It is no JSON, or not of this form.
    #[error(
        "it is not of the form {{\"strategies\":{{…}},\"processes\":{{\"A\":{{\"id\",\"role\",\"team\",\"host\",\"port\",\"neighbors\"}}}}}}"
    )]
    Syntax(#[source] serde_json::Error),
    /// It says what cannot be.
    #[error("{0}")]
    Mistakes(Mistakes),
    /// Another process was asked for than it has.
    #[error("there is no process '{id}'; there are {there}")]
    NoProcess { id: String, there: String },
}

/// All that is wrong, each with what would be right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl Mistakes {
    fn note(&mut self, mistake: impl Display) {
        self.0.push(mistake.to_string());
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str, text: Option<&str>, default: T) -> T {
        let Some(text) = text else { return default };
        text.parse().unwrap_or_else(|error| {
            self.note(format_args!("{key}: {error}"));
            default
        })
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The dates of the teams of the contract.
fn contracts_teams() -> BTreeMap<String, Span> {
    let span = |first, last| {
        let day = |number| Date::from_number(number).expect("a day of 2020");
        Span::new(day(first), day(last)).expect("in order")
    };
    BTreeMap::from([
        ("green".into(), span(20_200_810, 20_200_820)),
        ("pink".into(), span(20_200_821, 20_200_924)),
    ])
}

pub(super) fn check(file: File) -> Result<Topology, TopologyError> {
    let mut mistakes = Mistakes::default();
    let strategies = strategies(&file.strategies, &mut mistakes);
    let placement = placement(&file, &mut mistakes);
    let mut teams = contracts_teams();
    for (key, doubled) in [("processes", &file.processes.doubled), ("teams", &file.teams.doubled)] {
        for name in doubled {
            mistakes.note(format_args!("{key}.{name}: it is there twice; one of them has to go"));
        }
    }
    for (team, bounds) in &file.teams.all {
        if let Some(span) = span(&format!("teams.{team}"), bounds, &mut mistakes) {
            teams.insert(team.clone(), span);
        }
    }
    for unknown in file.others.keys() {
        tracing::warn!(key = unknown, "the overlay's file has a key that means nothing here");
    }
    let leaders = file.leaders.unwrap_or(1);
    let processes =
        file.processes.all.into_iter().map(|(id, raw)| process(&id, raw, &mut mistakes)).collect();
    let topology = Topology { strategies, placement, processes, teams };
    doubled_ports(&topology, &mut mistakes);
    neighbors(&topology, &mut mistakes);
    roles(&topology, leaders, &mut mistakes);
    dates(&topology, &mut mistakes);
    if mistakes.0.is_empty() { Ok(topology) } else { Err(TopologyError::Mistakes(mistakes)) }
}

fn strategies(raw: &RawStrategies, mistakes: &mut Mistakes) -> Strategies {
    let default = Strategies::default();
    for unknown in raw.others.keys() {
        mistakes.note(format_args!(
            "strategies.{unknown}: there is no such strategy; there are forwarding_strategy, async_forwarding, \
             chunking_strategy, fairness_strategy, chunk_size"
        ));
    }
    let forwarding = raw.forwarding_strategy.as_deref();
    let forwarding = mistakes.parsed("strategies.forwarding_strategy", forwarding, default.forwarding);
    let chunking = raw.chunking_strategy.as_deref();
    let chunking = mistakes.parsed("strategies.chunking_strategy", chunking, default.chunking);
    let fairness = raw.fairness_strategy.as_deref();
    let fairness = mistakes.parsed("strategies.fairness_strategy", fairness, default.fairness);
    let chunk_size = match raw.chunk_size {
        None => default.chunk_size,
        Some(size) => match usize::try_from(size) {
            Ok(size) if (1..=LARGEST_CHUNK).contains(&size) => size,
            _ => {
                mistakes.note(format_args!("strategies.chunk_size: {size} is not from 1 to {LARGEST_CHUNK}"));
                default.chunk_size
            }
        },
    };
    let async_forwarding = raw.async_forwarding.unwrap_or(default.async_forwarding);
    Strategies { forwarding, async_forwarding, chunking, fairness, chunk_size }
}

fn placement(file: &File, mistakes: &mut Mistakes) -> DataPlacement {
    let workers = file.processes.all.values().filter(|process| process.role == Role::Worker).count();
    match (file.placement.as_deref(), file.replicas) {
        (None | Some("dates"), None) => DataPlacement::Dates,
        (None | Some("dates"), Some(_)) => {
            mistakes.note("replicas: only placement \"ring\" holds dates more than once");
            DataPlacement::Dates
        }
        (Some("ring"), replicas) => {
            let replicas = replicas.unwrap_or(2);
            if !(1..=workers.max(1)).contains(&replicas) {
                mistakes.note(format_args!(
                    "replicas: {replicas} is not from 1 to the number of workers, {workers}"
                ));
            }
            DataPlacement::Ring { replicas }
        }
        (Some(other), _) => {
            mistakes.note(format_args!("placement: '{other}' is none of dates, ring"));
            DataPlacement::Dates
        }
    }
}

fn span(key: &str, bounds: &Bounds, mistakes: &mut Mistakes) -> Option<Span> {
    let (first, last) = match bounds {
        Bounds::Pair([first, last]) => (first, last),
        Bounds::Named { start, end } => (start, end),
    };
    let mut day = |day: &super::file::Day| match day.text().parse::<Date>() {
        Ok(date) => Some(date),
        Err(error) => {
            mistakes.note(format_args!("{key}: {error}"));
            None
        }
    };
    let (first, last) = (day(first), day(last));
    let (first, last) = (first?, last?);
    let span = Span::new(first, last);
    if span.is_none() {
        mistakes.note(format_args!("{key}: it ends ({last}) before it begins ({first})"));
    }
    span
}

fn process(id: &str, raw: RawProcess, mistakes: &mut Mistakes) -> (ProcessId, Process) {
    if id.is_empty()
        || id.len() > 63
        || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        mistakes.note(format_args!(
            "processes: '{id}' is no name: letters, digits, '-', '_' and '.', at most 63"
        ));
    }
    if let Some(own) = raw.id.filter(|own| own != id) {
        mistakes.note(format_args!("processes.{id}.id: it calls itself '{own}'"));
    }
    if raw.host.is_empty() {
        mistakes.note(format_args!("processes.{id}.host: a name or an address"));
    }
    for unknown in raw.others.keys() {
        tracing::warn!(process = id, key = unknown, "the overlay's file has a key that means nothing here");
    }
    let date_bounds = raw.date_bounds.and_then(|bounds| {
        if raw.role != Role::Worker {
            mistakes.note(format_args!("processes.{id}.date_bounds: only a worker holds dates"));
        }
        span(&format!("processes.{id}.date_bounds"), &bounds, mistakes)
    });
    let neighbors = raw.neighbors.iter().map(|neighbor| ProcessId::from(neighbor.as_str())).collect();
    let (role, team, host, port) = (raw.role, raw.team, raw.host, raw.port);
    let id = ProcessId::from(id);
    (id.clone(), Process { id, role, team, host, port, neighbors, date_bounds })
}

fn doubled_ports(topology: &Topology, mistakes: &mut Mistakes) {
    let mut owners: HashMap<(String, u16), &Process> = HashMap::new();
    for process in topology.processes.values().filter(|process| process.port != 0) {
        let others = addresses(&process.host)
            .into_iter()
            .map(|address| owners.insert((address, process.port), process));
        if let Some(other) = others.collect::<Vec<_>>().into_iter().flatten().next() {
            let also = match other.host == process.host {
                true => String::new(),
                false => format!(", which is {}", other.host),
            };
            mistakes.note(format_args!(
                "processes.{}.port: {} is {}'s already on {}{also}",
                process.id, process.port, other.id, process.host
            ));
        }
    }
}

/// What a host is called, however it is written; `localhost` is either loopback.
fn addresses(host: &str) -> Vec<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => vec![address.to_canonical().to_string()],
        Err(_) if host == "localhost" => {
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|one| one.to_string()).into()
        }
        Err(_) => vec![host],
    }
}

fn neighbors(topology: &Topology, mistakes: &mut Mistakes) {
    for process in topology.processes.values() {
        let mut seen = BTreeSet::new();
        for neighbor in &process.neighbors {
            let key = format!("processes.{}.neighbors", process.id);
            if *neighbor == process.id {
                mistakes.note(format_args!("{key}: it is its own neighbor"));
            } else if !topology.processes.contains_key(neighbor) {
                mistakes.note(format_args!("{key}: there is no process '{neighbor}'"));
            } else if !seen.insert(neighbor) {
                mistakes.note(format_args!("{key}: '{neighbor}' is there twice"));
            }
        }
    }
}

fn roles(topology: &Topology, leaders: usize, mistakes: &mut Mistakes) {
    let all: Vec<_> = topology.processes.values().filter(|process| process.role == Role::Leader).collect();
    if all.len() != leaders {
        let names: Vec<_> = all.iter().map(|process| process.id.as_str()).collect();
        mistakes.note(format_args!(
            "processes: {} leaders ({}) instead of {leaders}; \"leaders\": N says how many are meant",
            all.len(),
            names.join(", ")
        ));
    }
    for worker in topology.workers() {
        for leader in &all {
            if !topology.paths(&leader.id, &worker.id, &[]).is_empty() {
                continue;
            }
            mistakes.note(match paths::shortest(topology, &leader.id, &worker.id, &[]) {
                None => format!("processes.{}: no way leads to it from the leader {}", worker.id, leader.id),
                Some(way) => format!(
                    "processes.{}: the shortest way to it from the leader {} has {} steps; {} are the most: make it \
                     the neighbor of somebody nearer",
                    worker.id,
                    leader.id,
                    way.len(),
                    paths::LONGEST
                ),
            });
        }
    }
}

fn dates(topology: &Topology, mistakes: &mut Mistakes) {
    if topology.placement != DataPlacement::Dates {
        for worker in topology.workers().filter(|worker| worker.date_bounds.is_some()) {
            mistakes
                .note(format_args!("processes.{}.date_bounds: placement \"ring\" decides that", worker.id));
        }
        if mistakes.0.is_empty()
            && topology.workers().next().is_some()
            && let Err(error) = crate::assignment::ring(topology)
        {
            mistakes.note(format_args!("placement: these workers have no place on a ring: {error}"));
        }
        let mut places = HashMap::new();
        for worker in topology.workers() {
            if let Some(other) = places.insert(identity(worker.id.as_str()), &worker.id) {
                mistakes.note(format_args!(
                    "processes.{}: on the ring its name has the same place as {other}'s; give it another id",
                    worker.id
                ));
            }
        }
        return;
    }
    let bounded: Vec<_> =
        topology.workers().filter_map(|worker| Some((worker, worker.date_bounds?))).collect();
    for (index, (worker, span)) in bounded.iter().enumerate() {
        for (other, others) in &bounded[..index] {
            if span.overlaps(others) {
                mistakes.note(format_args!(
                    "processes.{}.date_bounds: {span} overlaps {others} of {}",
                    worker.id, other.id
                ));
            }
        }
    }
    for worker in topology.workers().filter(|worker| worker.date_bounds.is_none()) {
        if !topology.teams.contains_key(&worker.team) {
            mistakes.note(format_args!(
                "processes.{}: team '{}' has no dates; give it some (\"teams\": {{\"{}\": [\"YYYYMMDD\", \"YYYYMMDD\"]}}), \
                 or the worker its date_bounds",
                worker.id, worker.team, worker.team
            ));
        }
    }
}
