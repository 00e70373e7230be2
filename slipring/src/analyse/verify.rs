//! `slipring analyse verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_analyser::run::ledger;

use crate::report::complain;
use crate::text::counted;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What `slipring analyse --ledger` wrote.
    ledger: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let found = match ledger::verify(&arguments.ledger) {
        Ok(found) => found,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let total = &found.total;
    println!(
        "{}, {}, {}, {} in {}",
        counted(total.files as u64, "file"),
        counted(total.bytes, "byte"),
        counted(total.lines, "line"),
        counted(total.records, "record"),
        counted(total.parts as u64, "part"),
    );
    for (level, count) in total.levels.seen() {
        println!("{level}: {count}");
    }
    println!("{} as counted, {} gone", counted(found.same as u64, "file"), found.missing.len());
    if found.mistakes.is_empty() {
        println!("every byte of every file is counted once");
        return ExitCode::SUCCESS;
    }
    for mistake in &found.mistakes {
        eprintln!("slipring: {mistake}");
    }
    if found.more_mistakes > 0 {
        eprintln!("slipring: and {} more", found.more_mistakes);
    }
    ExitCode::FAILURE
}
