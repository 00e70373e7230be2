//! `slipring balancer`: the appliance.
//!
//! Exit codes: 0 an orderly stop, 1 it could not start, 2 a mistake in arguments or configuration, 3 stopped, but
//! some replicas could not be, 130 ended at once by a second signal.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use slipring_balancer::app::Balancer;
use slipring_balancer::config::{Config, DEFAULT_FILE, Sources};
use slipring_balancer::inherit::Inherited;

use crate::report::complain;
use crate::signals::{Signals, Stop};

const MISTAKE: u8 = 2;
const LEFT: u8 = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file [default: slipring.toml, if it is there].
    #[arg(long, env = "SLIPRING_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and end.
    #[arg(long)]
    check: bool,
    /// Print every key with its default and end.
    #[arg(long)]
    print_config: bool,
    /// Where clients connect (the key `listen`).
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where only administrators connect (admin.listen).
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// How many replicas the first start makes (fleet.replicas).
    #[arg(long, value_name = "N")]
    replicas: Option<String>,
    /// auto, process or docker (fleet.runtime).
    #[arg(long)]
    runtime: Option<String>,
    /// given, modified or sha256: the original's ring (ring.hash).
    #[arg(long)]
    hash: Option<String>,
    /// Any key of the configuration.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected KEY=VALUE, like fleet.replicas=5")?;
    Ok((pair.0.trim().to_owned(), pair.1.to_owned()))
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    if arguments.print_config {
        print!("{}", Config::example());
        return ExitCode::SUCCESS;
    }
    let check = arguments.check;
    let sources = match sources(arguments) {
        Ok(sources) => sources,
        Err(message) => {
            eprintln!("slipring: {message}");
            return ExitCode::from(MISTAKE);
        }
    };
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(MISTAKE);
        }
    };
    if check {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    raise_file_limit();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn sources(arguments: Arguments) -> Result<Sources, String> {
    let named = arguments.config.is_some();
    let path = arguments.config.unwrap_or_else(|| Path::new(DEFAULT_FILE).to_owned());
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => Some((path.display().to_string(), text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => None,
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let short = [
        ("listen", arguments.listen),
        ("admin.listen", arguments.admin_listen),
        ("fleet.replicas", arguments.replicas),
        ("fleet.runtime", arguments.runtime),
        ("ring.hash", arguments.hash),
    ];
    let mut flags: BTreeMap<_, _> =
        short.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    flags.extend(arguments.set);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Ok(Sources { file, environment, flags })
}

async fn serve(config: Config) -> ExitCode {
    match Signals::new() {
        Ok(signals) => Box::pin(signals.run_until("the balancer", |stop| start_and_run(config, stop))).await,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn start_and_run(config: Config, mut stop: Stop) -> ExitCode {
    let inherited = match Inherited::from_environment(config.tls.is_some()) {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let started = tokio::select! {
        started = Balancer::start(config, inherited) => started,
        () = stop.asked() => return ExitCode::SUCCESS,
    };
    let balancer = match started {
        Ok(balancer) => balancer,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let opened = tokio::select! {
        opened = balancer.open() => opened.map(|()| true),
        () = stop.asked() => Ok(false),
    };
    let open = match opened {
        Ok(open) => open,
        Err(error) => {
            complain(&error);
            balancer.run(std::future::ready(())).await;
            return ExitCode::FAILURE;
        }
    };
    match (balancer.address(), balancer.admin_address()) {
        (Ok(main), Ok(admin)) => {
            println!("listening on http://{main}\nadmin on http://{admin}");
            if let Some(tls) = balancer.tls_address() {
                println!("TLS on https://{tls}");
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    }
    tracing::info!(runtime = balancer.runtime(), "the balancer runs");
    let left = balancer
        .run(async {
            if open {
                stop.asked().await;
            }
        })
        .await;
    if left.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "slipring: these replicas could not be stopped: {}; the messages above say why",
        left.join(", ")
    );
    ExitCode::from(LEFT)
}

/// Every client and every replica's connection is a file descriptor: take as many as we may have.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
