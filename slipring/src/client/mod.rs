//! `slipring client`: one call, or a prompt.
//!
//! Its exit codes are in its help ([`EXIT_CODES`]).

mod call;
mod overlay;
mod prompt;
mod trust;

use std::process::ExitCode;

use clap::Subcommand;

use crate::report::complain;
use call::{Answer, Balancer, Call};

const REFUSED: u8 = 1;
const UNREACHABLE: u8 = 3;
const INCOMPLETE: u8 = 4;

/// What `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
    0  done; of a question: the answer is complete
    1  refused
    2  a mistake in the arguments
    3  nobody answered
    4  an answer of an overlay is incomplete: what is missing is named";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The balancer.
    #[arg(long, env = "SLIPRING_URL", default_value = "http://127.0.0.1:5000", global = true)]
    url: String,
    /// Its token, when it is on another machine.
    #[arg(long, env = "SLIPRING_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    files: trust::Files,
    /// Print one JSON object: status, replica, body.
    #[arg(long, global = true)]
    json: bool,
    /// Try until the balancer answers, for at most this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the replicas.
    Rep,
    /// Add N replicas, with these names and random ones.
    Add { n: u64, names: Vec<String> },
    /// Remove N replicas: these, and the rest at random.
    #[command(alias = "del")]
    Rm { n: u64, names: Vec<String> },
    /// Ask a path of a replica.
    Get { path: String },
    /// Let the balancer read its configuration again, and say what that changed.
    Reload {
        /// Its admin port.
        #[arg(long, env = "SLIPRING_ADMIN_URL", default_value = "http://127.0.0.1:5001")]
        admin_url: String,
    },
    /// Ask an overlay, through a balancer or (--url) one of its processes.
    #[command(after_help = EXIT_CODES)]
    Query(overlay::Query),
    /// What each process of an overlay says of itself.
    #[command(after_help = EXIT_CODES)]
    Metrics(overlay::Metrics),
    /// The same, gathered by one wave that begins at whoever is asked: over which fathers, and with how many messages.
    #[command(after_help = EXIT_CODES)]
    Echo(overlay::Echo),
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let url = match &arguments.command {
        Some(Command::Reload { admin_url }) => admin_url,
        _ => &arguments.url,
    };
    let balancer = match Balancer::new(url, &arguments.files, arguments.token, arguments.wait) {
        Ok(balancer) => balancer,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let call = match arguments.command {
        None => return runtime.block_on(prompt::run(&balancer)),
        Some(Command::Rep) => Call::rep(),
        Some(Command::Add { n, names }) => Call::add(n, &names),
        Some(Command::Rm { n, names }) => Call::remove(n, &names),
        Some(Command::Get { path }) => Call::get(&path),
        Some(Command::Reload { .. }) => Call::reload(),
        Some(Command::Query(query)) => return runtime.block_on(query.run(&balancer, arguments.json)),
        Some(Command::Echo(echo)) => return runtime.block_on(echo.run(&balancer, arguments.json)),
        Some(Command::Metrics(metrics)) => return runtime.block_on(metrics.run(&balancer, arguments.json)),
    };
    match runtime.block_on(balancer.send(&call)) {
        Ok(answer) => print(&answer, arguments.json),
        Err(error) => {
            complain(&error);
            ExitCode::from(UNREACHABLE)
        }
    }
}

fn print(answer: &Answer, as_json: bool) -> ExitCode {
    if as_json {
        println!("{}", answer.to_json());
    } else {
        println!("{}", answer.text());
    }
    if answer.is_success() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}
