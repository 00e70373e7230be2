//! `slipring overlay`: one process of it, all of this host, or load on them; and an overlay as a pool of the balancer.

mod bench;
mod children;
mod generate;
mod here;
mod node;
mod pool;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
pub(crate) use pool::members;
use slipring_overlay::disk_cache::DiskCache;
use slipring_overlay::node::Limits;
use slipring_overlay::topology::{Chunking, Fairness, Forwarding, Overrides, Profile, Topology};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one process of an overlay.
    Node(node::Arguments),
    /// Run every process whose host is this one.
    Up(up::Arguments),
    /// Put load on an overlay, watch its processes meanwhile, and write the figures to two files.
    Bench(bench::Arguments),
    /// Write a data set of the shape of the real one.
    Generate(generate::Arguments),
}

/// What a process is told beside its file.
#[derive(clap::Args, Clone, Debug)]
struct Settings {
    /// The folder that holds YYYYMMDD/*.csv.
    #[arg(long, env = "SLIPRING_DATASET_ROOT", value_name = "FOLDER")]
    dataset_root: Option<PathBuf>,
    /// All strategies at once: baseline, parallel, balanced.
    #[arg(long)]
    profile: Option<Profile>,
    /// round_robin, parallel, capacity.
    #[arg(long, value_name = "STRATEGY")]
    forwarding: Option<Forwarding>,
    /// Ask the next processes concurrently: true or false.
    #[arg(long, value_name = "BOOL")]
    async_forwarding: Option<bool>,
    /// fixed, adaptive, query_based.
    #[arg(long, value_name = "STRATEGY")]
    chunking: Option<Chunking>,
    /// strict, weighted, hybrid.
    #[arg(long, value_name = "STRATEGY")]
    fairness: Option<Fairness>,
    /// Records of a chunk, to begin with.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    chunk_size: Option<u32>,
    /// Threads that load partitions; as many as there are cores if it is not said.
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// Where partitions are kept that were read once, for the next start; `none` keeps none [default: slipring in
    /// $XDG_CACHE_HOME or ~/.cache].
    #[arg(long, env = "SLIPRING_CACHE", value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Memory for results that may be asked for again [default: 512].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    results: Option<u32>,
    /// Memory for answers on their way to readers; who asks when it is full is asked to come later [default: 512].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    streams: Option<u32>,
    /// Connections at a time [default: 4096].
    #[arg(long, value_name = "N")]
    connections: Option<std::num::NonZeroU32>,
}

impl Settings {
    fn overrides(&self) -> Overrides {
        Overrides {
            profile: self.profile,
            forwarding: self.forwarding,
            async_forwarding: self.async_forwarding,
            chunking: self.chunking,
            fairness: self.fairness,
            chunk_size: self.chunk_size.map(|size| size as usize),
        }
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        let bytes = |mib: Option<u32>, usual: u64| mib.map_or(usual, |mib| u64::from(mib) << 20);
        Limits {
            result_bytes: bytes(self.results, usual.result_bytes),
            stream_bytes: bytes(self.streams, usual.stream_bytes),
            connections: self.connections.map_or(usual.connections, |most| most.get() as usize),
            ..usual
        }
    }

    fn cache(&self) -> Option<DiskCache> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let usual = || {
            let home = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
            Some(home.join("slipring"))
        };
        match &self.cache {
            Some(folder) if folder.as_os_str() == "none" => None,
            Some(folder) => Some(DiskCache::new(folder.clone())),
            None => usual().map(DiskCache::new),
        }
    }

    /// The same as arguments, for a process of this program.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([flag.to_owned(), value]);
            }
        };
        add("--dataset-root", self.dataset_root.as_ref().map(|path| path.display().to_string()));
        add("--profile", self.profile.map(|profile| profile.name().to_owned()));
        add("--forwarding", self.forwarding.map(|strategy| strategy.name().to_owned()));
        add("--async-forwarding", self.async_forwarding.map(|value| value.to_string()));
        add("--chunking", self.chunking.map(|strategy| strategy.name().to_owned()));
        add("--fairness", self.fairness.map(|strategy| strategy.name().to_owned()));
        add("--chunk-size", self.chunk_size.map(|size| size.to_string()));
        add("--cache", self.cache.as_ref().map(|path| path.display().to_string()));
        add("--results", self.results.map(|mib| mib.to_string()));
        add("--streams", self.streams.map(|mib| mib.to_string()));
        add("--connections", self.connections.map(|most| most.to_string()));
        add("--threads", self.threads.map(|threads| threads.to_string()));
        arguments
    }
}

/// Reads an overlay's file, or its text; what is wrong with it is told, and the exit code to end with.
fn read(path: &Path) -> Result<Topology, ExitCode> {
    // A balancer hands on what it has read, because the file may change while it runs.
    let inline = path.to_str().filter(|text| text.starts_with('{'));
    let text = inline.map_or_else(|| std::fs::read_to_string(path), |text| Ok(text.to_owned())).map_err(
        |error| {
            eprintln!("slipring: {} cannot be read: {error}", path.display());
            ExitCode::from(2)
        },
    )?;
    Topology::parse(&text).map_err(|error| {
        eprintln!("slipring: {} is no overlay:", path.display());
        crate::report::complain(&error);
        ExitCode::from(2)
    })
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Node(arguments) => node::run(arguments),
        Command::Up(arguments) => up::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
    }
}
