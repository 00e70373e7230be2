//! `slipring overlay generate`: a data set for those who do not have the real one.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_overlay::generate::{dates, generate};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the folders YYYYMMDD come to be.
    folder: PathBuf,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 2020)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let (all, mut written) = (dates().len(), 0);
    let told = generate(&arguments.folder, arguments.seed, |date| {
        written += 1;
        eprint!("\r{date}: {written} of {all} days");
    });
    eprintln!();
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slipring: {} cannot be written: {error}", arguments.folder.display());
            ExitCode::FAILURE
        }
    }
}
