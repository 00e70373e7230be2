//! `slipring overlay bench`: load as the original's clients make it, and the original's dashboard meanwhile.
//!
//! `state` knows, `page` and `report` show, all of them pure; `load` asks, `screen` is the terminal, `run` here has
//! them meet. The processes are watched over gRPC like any other client would.

mod load;
mod page;
mod question;
mod report;
mod run;
mod screen;
mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Settings, here};
use question::Questions;

/// What `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
    0  every request was answered completely
    1  some were not: both files count them; or the files cannot be written
    2  a mistake in the arguments, or the overlay behaves otherwise than they say
    3  nobody answered
  130  ended early: the files hold what was measured by then";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The overlay's file: its leader is asked, all its processes are watched.
    #[arg(required_unless_present = "target")]
    config: Option<PathBuf>,
    /// The process to ask, instead of the leader; without a file it alone is watched.
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// Questions in all.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Clients, each with one question at a time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// What is asked: a JSON object, as in query_params.
    #[arg(
        long,
        value_name = "JSON",
        default_value = r#"{"parameter":"PM2.5","min_value":5,"max_value":35}"#
    )]
    query: String,
    /// Records of an answer, if the question does not say.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    limit: u64,
    /// Ask exactly the same each time, so that the overlay answers with the result that it keeps.
    #[arg(long)]
    same: bool,
    /// If nobody answers, run the file's processes of this host, and end them afterwards.
    #[arg(long, requires = "config")]
    start: bool,
    /// Where the two files go (and with --start the processes' log).
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// Lines instead of the page, on a terminal, too.
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let topology = match arguments.config.as_deref().map(super::read).transpose() {
        Ok(topology) => topology,
        Err(code) => return code,
    };
    let questions = match Questions::of(&arguments.query, arguments.limit, arguments.same) {
        Ok(questions) => questions,
        Err(why) => {
            eprintln!("slipring: --query is no question: {why}");
            return ExitCode::from(2);
        }
    };
    // Children end with the thread that started them: this one, whatever becomes of those that make the load.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let load = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let (own, load) = match own.and_then(|own| Ok((own, load?))) {
        Ok(both) => both,
        Err(error) => {
            crate::report::complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let ended = own.block_on(run::run(arguments, topology.as_ref(), questions, load.handle()));
    load.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(failure) => {
            crate::report::complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}
