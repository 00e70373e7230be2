//! `slipring analyse FOLDER`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use slipring_analyser::Unit;
use slipring_analyser::archive::{Archive, ArchiveError, MOST_COPIES};
use slipring_analyser::fold::{Condition, Query};
use slipring_analyser::folder::look_into;
use slipring_analyser::format::Format;
use slipring_analyser::output;
use slipring_analyser::run::view::leave;
use slipring_analyser::run::{Analysis, Checkpoints, Ended, Options, RunError, analyse, follow, ledger};
use slipring_analyser::templates::DEFAULT_MOST;
use slipring_plots::chart::ChartError;
use slipring_store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::chart::chart;
use super::edge::{self, Edge, now_ms};
use super::show::Show;
use super::{Sharing, bytes, cores, runtime, store, time};
use crate::report::complain;
use crate::signals::{ENDED_AT_ONCE, Signals, Stop};

/// Templates that are shown unless it is said how many.
const TOP: usize = 20;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Asked {
    /// The folder that holds the logs: *.log, *.log.gz, *.log.zst.
    #[arg(required = true)]
    folder: Option<PathBuf>,
    /// Threads that read [default: all cores]; 0 leaves it to workers elsewhere.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    workers: Option<u16>,
    /// The format of all logs [default: what fits each best].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// What kinds of messages there are, the most frequent first: templates, or templates=K for K of them.
    #[arg(long, value_name = "WHAT[=K]", value_parser = top)]
    top: Option<usize>,
    /// Counts over time: per second, minute, hour or day.
    #[arg(long, value_name = "UNIT")]
    per: Option<Unit>,
    /// Only records of which this is true, such as level=ERROR, level>=WARN, message~timeout; all of them, if more than one.
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    conditions: Vec<Condition>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Where the result is written [default: standard output].
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    file: Option<PathBuf>,
    /// strong: the result, once it is whole. eventual: on standard error also what is counted so far, as it grows.
    #[arg(long, value_enum, default_value_t = Consistency::Strong)]
    consistency: Consistency,
    /// Where checkpoints are written, and looked for at the start; `none`: nowhere.
    #[arg(long, value_name = "FOLDER", default_value = "checkpoints")]
    checkpoints: PathBuf,
    /// How often a checkpoint is written at least; one is written after every five files, too.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    checkpoint_interval: Duration,
    /// Begin anew, whatever checkpoints there are.
    #[arg(long)]
    fresh: bool,
    /// Write a line for each range that was counted: `slipring analyse verify FILE` adds them up again.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Where tasks are kept: memory:, sqlite:PATH, or postgres://…; workers elsewhere share the last two.
    #[arg(
        long,
        value_name = "URL",
        default_value = "memory:",
        env = "SLIPRING_ANALYSE_STORE",
        hide_env_values = true
    )]
    store: String,
    /// If another process coordinates this analysis in the store: wait, and take over when it dies.
    #[arg(long)]
    standby: bool,
    /// Go on with what is written to the logs, and with new ones, until SIGINT or SIGTERM: then the result of all of it.
    #[arg(long, conflicts_with_all = ["standby", "scaling", "split", "page", "replicate"])]
    follow: bool,
    /// Bytes of a range at most, like 4MiB [default: what suits the folder].
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    split: Option<NonZeroU64>,
    /// Keep so many copies of each log in --archive, and mend those that are bad, before anything is counted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_COPIES)))]
    replicate: Option<u8>,
    /// The folder that copies are kept in; each of its folders copy-1, copy-2, … may be a disk of its own.
    #[arg(long, value_name = "FOLDER", default_value = "archive", requires = "replicate")]
    archive: PathBuf,
    /// Show the run on a page at this address, until this process is stopped; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "scaling")]
    page: Option<SocketAddr>,
    /// How speed grows with workers: 1, 2, 4 and 8 of them on this folder, beside `wc -l` and ripgrep.
    #[arg(long)]
    scaling: bool,
    #[command(flatten)]
    sharing: Sharing,
    /// Say who reads what, and what happens to whom.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
    Csv,
    Html,
    /// A chart of levels; with --per over time.
    Svg,
    /// The same chart in pixels.
    Png,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Consistency {
    Strong,
    Eventual,
}

fn top(text: &str) -> Result<usize, String> {
    let (what, count) = text.split_once('=').map_or((text, None), |(what, count)| (what, Some(count)));
    if what != "templates" {
        return Err(format!("'{what}' cannot be ranked: templates can"));
    }
    count.map_or(Ok(TOP), |count| {
        let number: Result<NonZeroU32, _> = count.parse();
        number
            .map(|number| number.get() as usize)
            .map_err(|_| format!("'{count}' is no number of templates: write templates=20"))
    })
}

impl Asked {
    fn query(&self) -> Query {
        let templates = self.top.map(|top| DEFAULT_MOST.max(u32::try_from(top).unwrap_or(u32::MAX)));
        Query { per: self.per, conditions: self.conditions.clone(), templates }
    }

    fn options(&self, folder: PathBuf) -> Options {
        let checkpoints = (self.checkpoints.as_os_str() != "none").then(|| Checkpoints {
            folder: self.checkpoints.clone(),
            every: self.checkpoint_interval,
            fresh: self.fresh,
        });
        Options {
            folder,
            query: self.query(),
            format: self.format,
            workers: self.workers.map_or_else(cores, usize::from),
            size: self.split,
            lease: self.sharing.lease,
            patience: self.sharing.patience,
            standby: self.standby,
            // Who looks on reads from the store, too.
            is_shared: self.store != "memory:" || self.page.is_some(),
            checkpoints,
        }
    }

    /// What cannot be, in words.
    fn wrong(&self) -> Option<String> {
        let shared = self.store != "memory:";
        let tables = usize::from(self.per.is_some()) + usize::from(self.top.is_some());
        if self.workers == Some(0) && !shared {
            return Some("--workers 0 leaves the reading to others, who need a --store to share".to_owned());
        }
        if self.follow && shared {
            return Some(
                "--follow counts in this process, which nobody takes over from: leave --store away"
                    .to_owned(),
            );
        }
        if self.follow && self.workers == Some(0) {
            return Some("--follow needs a thread to read with: --workers 1 or more".to_owned());
        }
        if self.standby && !shared {
            return Some(
                "--standby takes over from another process, and needs the --store that they share".to_owned(),
            );
        }
        if self.output == Output::Csv && tables > 1 && self.file.is_none() {
            return Some(
                "--output csv writes one table: ask for --per or --top, or name a file with -o for several"
                    .to_owned(),
            );
        }
        if self.output == Output::Png && self.file.is_none() && std::io::stdout().is_terminal() {
            return Some("--output png is for no terminal: name a file with -o".to_owned());
        }
        None
    }
}

pub(super) fn run(arguments: &Asked) -> ExitCode {
    if let Some(wrong) = arguments.wrong() {
        eprintln!("slipring: {wrong}");
        return ExitCode::from(2);
    }
    let Some(given) = arguments.folder.clone() else {
        eprintln!("slipring: name a folder of logs");
        return ExitCode::from(2);
    };
    // Workers elsewhere start in another folder.
    let folder = std::fs::canonicalize(&given).unwrap_or(given);
    let options = arguments.options(folder);
    if arguments.scaling {
        return super::scaling::run(&options);
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let code = runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
        };
        if arguments.follow {
            return signals
                .run_until("following", async |stop| follow_logs(arguments, options, stop).await)
                .await;
        }
        let done = tokio::select! {
            done = shown(arguments, options) => done,
            // What a store or a checkpoint holds is gone on from.
            () = signals.next() => Err(ExitCode::from(ENDED_AT_ONCE)),
        };
        match done {
            Ok((code, Some(page))) => {
                eprintln!("slipring: the page stays at {} until this process is stopped", page.url);
                signals.next().await;
                code
            }
            Ok((code, None)) | Err(code) => code,
        }
    });
    // Threads that read are not waited for: nobody wants what they find.
    runtime.shutdown_background();
    code
}

/// The work, and the page that shows it.
async fn shown(arguments: &Asked, options: Options) -> Result<(ExitCode, Option<Page>), ExitCode> {
    let store = store(&arguments.store, arguments.sharing.patience).await?;
    let page = match arguments.page {
        Some(address) => Some(Page::show(address, store.clone()).await?),
        None => None,
    };
    Ok((work(arguments, options, store).await, page))
}

async fn work(arguments: &Asked, options: Options, store: Arc<dyn Store>) -> ExitCode {
    let folder = options.folder.clone();
    let is_text = arguments.output == Output::Text && arguments.file.is_none();
    let show = Show::new(is_text, arguments.verbose, arguments.consistency == Consistency::Eventual);
    let mut is_well = true;
    if let Some(copies) = arguments.replicate {
        match replicate(&folder, &arguments.archive, copies).await {
            Ok(all) => is_well = all,
            Err(error) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
        }
    }
    let is_shared = options.is_shared;
    let ended = analyse(store.clone(), options, show.tell()).await;
    show.finish();
    let (analysis, conclusion) = match ended {
        Ok(Ended::Here(analysis, conclusion)) => (analysis, conclusion),
        Ok(Ended::Elsewhere { who }) => {
            eprintln!("slipring: {who} has finished this analysis, and has the result");
            return ExitCode::SUCCESS;
        }
        Err(RunError::Folder(error)) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let Some(shown) = present(arguments, &folder, &analysis) else { return ExitCode::FAILURE };
    is_well &= shown;
    if is_shared && let Err(error) = leave(&*store, &folder, &analysis, now_ms()).await {
        complain(&error);
        is_well = false;
    }
    if let Err(error) = conclusion.conclude().await {
        complain(&error);
        is_well = false;
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Counts on until it is asked to stop; interim results are shown as they come.
async fn follow_logs(arguments: &Asked, options: Options, mut stop: Stop) -> ExitCode {
    let folder = options.folder.clone();
    let is_text = arguments.output == Output::Text && arguments.file.is_none();
    let show = Show::new(is_text, arguments.verbose, true);
    let (end, ended) = watch::channel(false);
    let following = follow(options, show.tell(), ended);
    tokio::pin!(following);
    let followed = tokio::select! {
        followed = &mut following => followed,
        () = stop.asked() => {
            end.send_replace(true);
            following.await
        }
    };
    show.finish();
    match followed {
        Ok(analysis) if present(arguments, &folder, &analysis) == Some(true) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Shows a result and writes its ledger; whether all went well. `None`: it could not be shown.
fn present(arguments: &Asked, folder: &Path, analysis: &Analysis) -> Option<bool> {
    let mut is_well = analysis.run.unread.is_empty();
    for unread in &analysis.run.unread {
        eprintln!("slipring: not counted, or not wholly: {}: {}", unread.path, unread.why);
    }
    if let Some(ledger) = &arguments.ledger
        && let Err(error) = ledger::write(ledger, folder, analysis)
    {
        eprintln!("slipring: the ledger {} cannot be written: {error}", ledger.display());
        is_well = false;
    }
    if let Err(error) = write(arguments, analysis) {
        let place = arguments.file.as_deref().unwrap_or(Path::new("standard output"));
        eprintln!("slipring: the result cannot be written to {}: {error}", place.display());
        // It has not been shown: whoever starts again shows it.
        return None;
    }
    Some(is_well)
}

/// Keeps copies of all logs; whether it could of each.
async fn replicate(folder: &Path, archive: &Path, copies: u8) -> Result<bool, ArchiveError> {
    let archive = Archive::in_folder(archive)?;
    // What is wrong with the folder is told by who counts it.
    let Ok(found) = look_into(folder) else { return Ok(true) };
    let mut is_well = true;
    for log in &found.logs {
        match archive.keep(log, copies).await {
            Ok(mended) => mended.iter().for_each(|mended| eprintln!("slipring: {mended}")),
            Err(error) => {
                complain(&error);
                is_well = false;
            }
        }
    }
    Ok(is_well)
}

/// A page that is served for as long as this is there.
struct Page {
    url: String,
    _serving: AbortOnDropHandle<()>,
    _looking: AbortOnDropHandle<()>,
}

impl Page {
    async fn show(address: SocketAddr, store: Arc<dyn Store>) -> Result<Self, ExitCode> {
        let bound = TcpListener::bind(address).await;
        let (url, listener) = match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => (format!("http://{address}/analyse"), listener),
            Err(error) => {
                eprintln!(
                    "slipring: the page cannot be shown at {address}: {error}: end who listens there, or change the port"
                );
                return Err(ExitCode::FAILURE);
            }
        };
        let edge = Edge::new();
        eprintln!("slipring: the run is shown at {url}");
        let serving = AbortOnDropHandle::new(tokio::spawn(edge::serve(listener, edge.page())));
        let looking = AbortOnDropHandle::new(tokio::spawn(edge.look(store)));
        Ok(Self { url, _serving: serving, _looking: looking })
    }
}

fn write(arguments: &Asked, analysis: &Analysis) -> Result<(), Unwritten> {
    let Analysis { query, fold, run, .. } = analysis;
    let report = output::Report { query, fold, run, top: arguments.top.unwrap_or(TOP) };
    let documents = match arguments.output {
        Output::Text => vec![("", output::text(&report).into_bytes())],
        Output::Json => vec![("", output::json(&report).into_bytes())],
        Output::Html => vec![("", output::html(&report).into_bytes())],
        Output::Svg => vec![("", chart(&report).draw()?.svg().as_bytes().to_vec())],
        Output::Png => vec![("", chart(&report).draw()?.png()?)],
        Output::Csv => {
            let over_time = output::over_time_csv(&report).map(|table| (".over-time", table.into_bytes()));
            let templates = output::templates_csv(&report).map(|table| (".templates", table.into_bytes()));
            let levels = ("", output::levels_csv(&report).into_bytes());
            match &arguments.file {
                Some(_) => std::iter::once(levels).chain(over_time).chain(templates).collect(),
                None => vec![over_time.or(templates).unwrap_or(levels)],
            }
        }
    };
    for (suffix, bytes) in documents {
        match &arguments.file {
            None => {
                use std::io::Write as _;
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Some(file) => std::fs::write(beside(file, suffix), bytes)?,
        }
    }
    Ok(())
}

/// Why the result could not be written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Chart(#[from] ChartError),
}

/// `counts.csv` with `.templates` is `counts.templates.csv`.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = file.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    if suffix.is_empty() { file.to_owned() } else { file.with_file_name(format!("{stem}{suffix}{ending}")) }
}
