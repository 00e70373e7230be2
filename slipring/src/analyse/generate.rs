//! `slipring analyse generate`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

use slipring_analyser::generate::{Amount, write_folder};

use super::bytes;
use crate::text::counted;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where node1.log, node2.log, … come to be.
    folder: PathBuf,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many logs.
    #[arg(long, value_name = "N", default_value_t = 10)]
    files: u64,
    /// Lines of each.
    #[arg(long, value_name = "N", default_value_t = 5000, conflicts_with = "bytes")]
    lines: u64,
    /// Bytes of all of them together, like 1GB, at most.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    bytes: Option<NonZeroU64>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let files = arguments.files.max(1);
    let amount =
        arguments.bytes.map_or(Amount::Lines(arguments.lines), |bytes| Amount::Bytes(bytes.get() / files));
    match write_folder(&arguments.folder, arguments.seed, files, amount) {
        Ok(written) => {
            println!(
                "{}: {}, {}",
                arguments.folder.display(),
                counted(files, "log"),
                counted(written.lines, "line")
            );
            for (level, count) in [
                ("DEBUG", written.debug),
                ("ERROR", written.error),
                ("INFO", written.info),
                ("WARN", written.warn),
            ] {
                println!("{level}: {count}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("slipring: {} cannot be written: {error}", arguments.folder.display());
            ExitCode::FAILURE
        }
    }
}
