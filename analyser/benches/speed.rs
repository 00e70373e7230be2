//! How fast a folder is analysed, beside `wc -l` and ripgrep on the same bytes.
//!
//! All are timed in turn, in rounds, and medians are printed: what else the machine does hits all alike. The data are
//! warm. The line that is one file has `ANALYSER_BENCH_LINE_MB` (500), and is read in ranges like any other file. `ANALYSER_BENCH_MB` (256) says how much is generated, `ANALYSER_BENCH_ROUNDS` (7) how often all are timed. `make
//! bench`; an argument chooses contestants by a part of their name. The figures a decision rests on are archived under `bench/runs`.

#![allow(clippy::print_stdout, reason = "it has figures to print")]

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slipring_analyser::Unit;
use slipring_analyser::fold::{Fold, Query};
use slipring_analyser::format::Format;
use slipring_analyser::generate::{Amount, write_folder};
use slipring_analyser::ranges::{Range, cut};
use slipring_analyser::run::{self, Checkpoints, Ended, Options, Tell};
use slipring_analyser::scan::scan;
use slipring_analyser::source::LogFile;
use slipring_store::open;

const RANGE: NonZeroU64 = NonZeroU64::new(16 << 20).expect("not 0");
const SMALL_FILES: u64 = 10_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// One line of zeros, which takes no room on the disk.
fn long_line(megabytes: u64) -> LogFile {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("analyser-line.log");
    let file = std::fs::File::create(&path).expect("the target folder is writable");
    file.set_len(megabytes * 1_000_000).expect("the target folder is writable");
    LogFile::look_at(&path).expect("it was just written")
}

/// The most memory that this process ever had, in megabytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// Generated once for each size.
fn data(name: &str, files: u64, amount: Amount) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !folder.join("whole").exists() {
        let began = Instant::now();
        write_folder(&folder, 1, files, amount).expect("the target folder is writable");
        std::fs::write(folder.join("whole"), "").expect("the target folder is writable");
        println!("generated {name} in {:.1} s", began.elapsed().as_secs_f64());
    }
    folder
}

fn logs(folder: &Path, files: u64) -> Vec<LogFile> {
    let look_at = |node| LogFile::look_at(&folder.join(format!("node{node}.log")));
    (1..=files).map(|node| look_at(node).expect("it was just written")).collect()
}

fn analyse(logs: &[LogFile], query: &Query, threads: usize) -> Fold {
    let ranges: Vec<Range> = cut(logs, RANGE);
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Fold::new(query)));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Fold::new(query);
                while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let go_on = &mut |_| ControlFlow::Continue(());
                    let part = scan(&logs[range.file], *range, Format::seed(), query, go_on);
                    own.merge(part.expect("it was just written").fold);
                }
                sum.lock().expect("nobody panics").merge(own);
            });
        }
    });
    sum.into_inner().expect("nobody panics")
}

/// What is around a run beside its threads.
#[derive(Clone, Copy)]
enum Around {
    Nothing,
    Checkpoints,
    Sqlite,
}

/// A whole run: the plan, two workers and a coordinator, and what is around them.
fn whole(folder: &Path, around: Around) -> Fold {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("analyser-around");
    drop(std::fs::remove_dir_all(&place));
    std::fs::create_dir(&place).expect("the target folder is writable");
    let every = Duration::from_secs(10);
    let checkpoints = Checkpoints { folder: place.join("checkpoints"), every, fresh: false };
    let options = Options {
        folder: folder.to_owned(),
        query: Query::default(),
        format: Some(Format::seed()),
        workers: 2,
        size: None,
        lease: Duration::from_secs(5),
        patience: Duration::from_secs(5),
        standby: false,
        is_shared: matches!(around, Around::Sqlite),
        checkpoints: matches!(around, Around::Checkpoints).then_some(checkpoints),
    };
    let url = match around {
        Around::Sqlite => format!("sqlite:{}", place.join("store.db").display()),
        Around::Nothing | Around::Checkpoints => "memory:".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = open(&url).await.expect("the target folder is writable");
        match run::analyse(store, options, Tell::nobody()).await.expect("it was just written") {
            Ended::Here(analysis, conclusion) => {
                conclusion.conclude().await.expect("the target folder is writable");
                analysis.fold
            }
            Ended::Elsewhere { .. } => unreachable!("a store of its own"),
        }
    })
}

struct Contestant<'a> {
    name: &'a str,
    run: Box<dyn Fn() + 'a>,
    took: Vec<Duration>,
    /// Processor time, of all threads and of the program started.
    used: Vec<Duration>,
}

fn command<'a>(name: &'a str, arguments: &'a [&'a str], file: &'a Path) -> Option<Contestant<'a>> {
    let run = move || {
        let status = Command::new(name).args(arguments).arg(file).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let there = Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    let run = Box::new(move || assert!(run(), "{name} fails"));
    there.then(|| Contestant { name, run, took: Vec::new(), used: Vec::new() })
}

/// Processor time of this process and of those it waited for, to a hundredth of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc_pid_stat(5): the 14th field to the 17th; the second one, in parentheses, may have blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    fields.map(|ticks| Duration::from_millis(ticks.parse().unwrap_or(0) * 10)).sum()
}

fn median(took: &mut [Duration]) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

fn main() {
    let megabytes = setting("ANALYSER_BENCH_MB", 256);
    let rounds = setting("ANALYSER_BENCH_ROUNDS", 7).max(1);
    let large = data(&format!("analyser-{megabytes}mb"), 1, Amount::Bytes(megabytes * 1_000_000));
    let small = data("analyser-small", SMALL_FILES, Amount::Bytes(1700));
    let (large_logs, small_logs) = (logs(&large, 1), logs(&small, SMALL_FILES));
    let file = large.join("node1.log");

    let levels = Query::default();
    let templates = Query { templates: Some(20_000), ..Query::default() };
    let per_minute = Query { per: Some(Unit::Minute), ..Query::default() };
    let run = |logs: &'static [LogFile], query: &'static Query, threads| -> Box<dyn Fn()> {
        Box::new(move || {
            let fold = analyse(logs, query, threads);
            assert_eq!(fold.records, fold.lines, "every line has a level");
        })
    };
    let large_logs: &'static [LogFile] = large_logs.leak();
    let small_logs: &'static [LogFile] = small_logs.leak();
    let [levels, templates, per_minute] =
        [levels, templates, per_minute].map(|query| &*Box::leak(Box::new(query)));
    let read = |logs: &'static [LogFile]| -> Box<dyn Fn()> {
        Box::new(move || {
            for log in logs {
                std::hint::black_box(std::fs::read(&log.path).expect("it was just written"));
            }
        })
    };
    let line = [long_line(setting("ANALYSER_BENCH_LINE_MB", 500))];
    let own = |name, run| Contestant { name, run, took: Vec::new(), used: Vec::new() };
    let mut contestants = vec![
        own("levels, 1 thread", run(large_logs, levels, 1)),
        own("levels, 2 threads", run(large_logs, levels, 2)),
        own("templates, 1 thread", run(large_logs, templates, 1)),
        own("templates, 2 threads", run(large_logs, templates, 2)),
        own("per minute, 1 thread", run(large_logs, per_minute, 1)),
        own("a long line, levels", Box::new(|| assert_eq!(analyse(&line, levels, 1).lines, 1))),
        own("a long line, templates", Box::new(|| assert_eq!(analyse(&line, templates, 1).lines, 1))),
        own("10,000 small files, levels", run(small_logs, levels, 1)),
        own("10,000 small files, read only", read(small_logs)),
    ];
    let ten = data(&format!("analyser-ten-{megabytes}mb"), 10, Amount::Bytes(megabytes * 100_000));
    for (name, around) in [
        ("a run, nothing around it", Around::Nothing),
        ("a run, checkpoints", Around::Checkpoints),
        ("a run, SQLite", Around::Sqlite),
    ] {
        let ten = ten.clone();
        let run = move || assert!(whole(&ten, around).bytes > 0);
        contestants.push(own(name, Box::new(run)));
    }
    contestants.extend(command("wc", &["-l"], &file));
    contestants.extend(command("rg", &["-c", "-F", "[ERROR]"], &file));

    // What cargo hands on that is no option: only contestants with that in their name.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    contestants
        .retain(|contestant| wanted.is_empty() || wanted.iter().any(|part| contestant.name.contains(part)));

    for round in 0..=rounds {
        for contestant in &mut contestants {
            let (began, used) = (Instant::now(), processor_time());
            (contestant.run)();
            // The first round fills the page cache.
            if round > 0 {
                contestant.took.push(began.elapsed());
                contestant.used.push(processor_time() - used);
            }
        }
    }

    let (bytes, lines) = (large_logs[0].length as f64, analyse(large_logs, levels, 2).lines as f64);
    println!("{:.3} GB, {:.1} million lines, median of {rounds} rounds", bytes / 1e9, lines / 1e6);
    for contestant in &mut contestants {
        let took = median(&mut contestant.took).as_secs_f64();
        let used = median(&mut contestant.used).as_secs_f64();
        if contestant.name.starts_with("10,000") || contestant.name.starts_with("a long line") {
            println!("{:32} {took:8.3} s  {used:6.2} s of processors", contestant.name);
        } else {
            let (gigabytes, millions) = (bytes / took / 1e9, lines / took / 1e6);
            let name = contestant.name;
            println!(
                "{name:32} {took:8.3} s  {used:6.2} s of processors  {gigabytes:6.2} GB/s  {millions:6.1} million lines/s"
            );
        }
    }
    println!("peak memory of all of the above: {} MB", peak_memory());
}
