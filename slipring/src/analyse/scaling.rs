//! `slipring analyse --scaling`: what more workers bring, beside what one thread of others takes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use slipring_analyser::run::{Ended, Options, Tell, analyse};

use super::{cores, runtime, store};
use crate::report::complain;
use crate::text::table;

const WORKERS: [usize; 4] = [1, 2, 4, 8];
/// The best of so many counts: what else the machine does only ever takes time.
const ROUNDS: usize = 3;

pub(super) fn run(options: &Options) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let mut times = [Duration::MAX; WORKERS.len()];
    let (mut bytes, mut files) = (0, Vec::new());
    // Round by round, so that a busy moment meets all of them; the first one of all brings the files into memory.
    for round in 0..=ROUNDS {
        for (time, workers) in times.iter_mut().zip(WORKERS) {
            let options =
                Options { workers, is_shared: false, standby: false, checkpoints: None, ..options.clone() };
            let took = runtime.block_on(async {
                let store = store("memory:", options.patience).await?;
                match analyse(store, options, Tell::nobody()).await {
                    Ok(Ended::Here(analysis, _)) => {
                        bytes = analysis.fold.bytes;
                        files = analysis.files.iter().map(|log| log.path.clone()).collect();
                        Ok(analysis.run.took)
                    }
                    Ok(Ended::Elsewhere { .. }) => unreachable!("a store in memory is nobody else's"),
                    Err(error) => {
                        complain(&error);
                        Err(ExitCode::FAILURE)
                    }
                }
            });
            match took {
                Ok(took) if round > 0 => *time = took.min(*time),
                Ok(_) => {}
                Err(code) => return code,
            }
        }
    }
    let one = times[0].as_secs_f64();
    let rate = |seconds: f64| format!("{:.2}", bytes as f64 / seconds / 1e9);
    let rows: Vec<Vec<String>> = WORKERS
        .iter()
        .zip(times)
        .map(|(workers, time)| {
            let seconds = time.as_secs_f64();
            let speed_up = one / seconds;
            // Amdahl 1967, solved for the serial part (Karp and Flatt 1990).
            let serial = (1.0 / speed_up - 1.0 / *workers as f64) / (1.0 - 1.0 / *workers as f64);
            let serial = if *workers == 1 { String::new() } else { format!("{serial:.3}") };
            let efficiency = format!("{:.0} %", 100.0 * speed_up / *workers as f64);
            vec![
                workers.to_string(),
                format!("{seconds:.3}"),
                rate(seconds),
                format!("{speed_up:.2}"),
                efficiency,
                serial,
            ]
        })
        .collect();
    println!("{bytes} bytes in {} files, {} cores, the best of {ROUNDS} rounds", files.len(), cores());
    print!(
        "{}",
        table(&[">workers", ">seconds", ">GB/s", ">speed-up", ">efficiency", ">serial fraction"], &rows)
    );
    let best = times.iter().min().map_or(one, Duration::as_secs_f64);
    println!();
    for (what, arguments) in [("wc", &["-l"][..]), ("rg", &["-j1", "-c", "-F", "[ERROR]"])] {
        let name = format!("{what} {}", arguments.join(" "));
        match beside(what, arguments, &files) {
            Some(time) => {
                let seconds = time.as_secs_f64();
                let than = if best < seconds { "slower than" } else { "faster than" };
                let ratio = if best < seconds { seconds / best } else { best / seconds };
                println!(
                    "{name}: {seconds:.3} s, {} GB/s, one thread; {ratio:.2} times {than} the fastest above",
                    rate(seconds)
                );
            }
            None => println!("{name}: not compared, as it is not here, or does not take these files"),
        }
    }
    ExitCode::SUCCESS
}

/// The best of a few rounds.
fn beside(what: &str, arguments: &[&str], files: &[PathBuf]) -> Option<Duration> {
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).take(10_000).collect();
    (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            let mut command = Command::new(what);
            command.args(arguments).arg("--").args(&files).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).status().ok().filter(std::process::ExitStatus::success)?;
            Some(begin.elapsed())
        })
        .min()?
}
