//! `slipring analyse restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_analyser::archive::Archive;

use super::runtime;
use crate::report::complain;
use crate::text::counted;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where `--replicate` keeps copies.
    archive: PathBuf,
    /// The folder that the logs are written to; what is there already stays.
    folder: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(restore(arguments))
}

async fn restore(arguments: &Arguments) -> ExitCode {
    let failed = |error: &dyn std::error::Error| {
        complain(error);
        ExitCode::FAILURE
    };
    if !arguments.archive.is_dir() {
        eprintln!(
            "slipring: there is no archive in {}: name what --archive named",
            arguments.archive.display()
        );
        return ExitCode::FAILURE;
    }
    if let Err(error) = std::fs::create_dir_all(&arguments.folder) {
        eprintln!("slipring: the folder {} cannot be made: {error}", arguments.folder.display());
        return ExitCode::FAILURE;
    }
    let archive = match Archive::in_folder(&arguments.archive) {
        Ok(archive) => archive,
        Err(error) => return failed(&error),
    };
    let names = match archive.names().await {
        Ok(names) => names,
        Err(error) => return failed(&error),
    };
    let (mut restored, mut lost) = (0, 0_u64);
    // One that is lost is no reason to lose the others.
    for name in &names {
        match archive.restore(name, &arguments.folder).await {
            Ok(mended) => {
                restored += 1;
                mended.iter().for_each(|mended| eprintln!("slipring: {mended}"));
            }
            Err(error) => {
                lost += 1;
                complain(&error);
            }
        }
    }
    println!("{} restored, {lost} lost", counted(restored, "log"));
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
