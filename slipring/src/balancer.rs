//! `slipring balancer`: the appliance.
//!
//! Its exit codes are in its help ([`EXIT_CODES`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use slipring_balancer::app::Balancer;
use slipring_balancer::config::{Config, Given, LoadError};
use slipring_balancer::inherit::Inherited;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::report::complain;
use crate::signals::{Signals, Stop};

const MISTAKE: u8 = 2;
const LEFT: u8 = 3;

/// What `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
    0  an orderly stop: nothing accepted, requests in flight finished, replicas stopped
    1  it could not start
    2  a mistake in arguments or configuration
    3  stopped, but some replicas could not be: they are named on standard error
  130  ended at once by a second signal";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
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
    /// auto, process, docker or static, which needs fleet.upstreams (fleet.runtime).
    #[arg(long)]
    runtime: Option<String>,
    /// given, modified or sha256: the original's ring (ring.hash).
    #[arg(long)]
    hash: Option<String>,
    /// Any key of the configuration.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("expected KEY=VALUE, like fleet.replicas=5")?;
    Ok((pair.0.trim().to_owned(), pair.1.to_owned()))
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    if arguments.print_config {
        print!("{}", Config::example());
        return ExitCode::SUCCESS;
    }
    let check = arguments.check;
    start(given(arguments), check)
}

/// Runs the appliance with these settings, or only checks them.
pub(crate) fn start(mut given: Given, check: bool) -> ExitCode {
    let config = match given.load() {
        Ok(config) => config,
        Err(LoadError::Mistakes(mistakes)) => {
            eprintln!("{mistakes}");
            return ExitCode::from(MISTAKE);
        }
        Err(error) => {
            eprintln!("slipring: {error}");
            return ExitCode::from(MISTAKE);
        }
    };
    if check {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    raise_file_limit();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config, given)),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn given(arguments: Arguments) -> Given {
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
    Given {
        file: arguments.config,
        flags,
        overlay: Some(crate::overlay::members),
        waves: Some(crate::waves::members),
    }
}

async fn serve(config: Config, given: Given) -> ExitCode {
    // From the beginning: what a terminal's hangup does by default is no reload.
    let signals = Signals::new().and_then(|signals| Ok((signals, signal(SignalKind::hangup())?)));
    match signals {
        Ok((signals, hangup)) => {
            let work = |stop| start_and_run(config, given, hangup, stop);
            Box::pin(signals.run_until("the balancer", work)).await
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn start_and_run(config: Config, given: Given, mut hangup: Signal, mut stop: Stop) -> ExitCode {
    let inherited = match Inherited::from_environment(config.tls.is_some()) {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let started = tokio::select! {
        started = Balancer::start(config, given, inherited) => started,
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
    match opened {
        Ok(true) => {}
        Ok(false) => return ended(&balancer.give_up().await),
        Err(error) => {
            complain(&error);
            balancer.give_up().await;
            return ExitCode::FAILURE;
        }
    }
    match (balancer.address(), balancer.admin_url()) {
        (Ok(main), Ok(admin)) => {
            println!("listening on http://{main}\nadmin on {admin}");
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
    let reload = balancer.reload();
    let reloading = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // What comes of it is told in the log and the events.
            drop(reload.clone().reload().await);
        }
    });
    let left = balancer.run(stop.asked()).await;
    reloading.abort();
    match left {
        Ok(left) => ended(&left),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// After an orderly end, with whom could not be stopped.
fn ended(left: &[String]) -> ExitCode {
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
