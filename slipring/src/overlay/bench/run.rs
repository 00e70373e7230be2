//! A run from beginning to end: somebody answers (or is started), the load, the figures.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slipring_overlay::survey::Survey;
use slipring_overlay::topology::{Process, Role, Topology};
use slipring_overlay::wire::MetricsResponse;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::transport::Endpoint;

use super::question::Questions;
use super::report::Report;
use super::screen::Screen;
use super::state::{Bench, Plan, Seen, Strategies};
use super::{Arguments, here, load};
use crate::overlay::children::Children;
use crate::signals::{ENDED_AT_ONCE, Signals};

/// How long a process may take to say how it is.
const LOOK: Duration = Duration::from_secs(1);
/// From one look at the processes to the next, and from one picture to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// How long processes that were started may take to load their partitions.
const LOADING: Duration = Duration::from_secs(300);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("'{0}' is no address: it looks like 127.0.0.1:60051")]
    Target(String, #[source] tonic::transport::Error),
    #[error("the file names no leader: say with --target whom to ask")]
    NoLeader,
    #[error(
        "nobody answers at {target} ({why}): run `slipring overlay up CONFIG`, or give --start with the overlay's file"
    )]
    Nobody { target: String, why: String },
    #[error("no process of the file is on this host: nothing can be started here")]
    NoneHere,
    #[error("after {LOADING:?} not every process is ready: {0}")]
    NotReady(String),
    #[error("{0} runs already and its {1} is {2}, not {3}: end it, and give --start")]
    Otherwise(String, &'static str, String, String),
    #[error("ended before it began")]
    Ended,
    #[error("the figures cannot be written to {0}")]
    Files(String, #[source] io::Error),
    #[error("it cannot be run")]
    Local(#[from] io::Error),
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Target(..) | Self::NoLeader | Self::Otherwise(..) => 2,
            Self::Nobody { .. } | Self::NotReady(_) => 3,
            Self::Ended => ENDED_AT_ONCE,
            Self::NoneHere | Self::Files(..) | Self::Local(_) => 1,
        }
    }
}

pub(super) async fn run(
    arguments: &Arguments,
    topology: Option<&Topology>,
    questions: Questions,
    load: &Handle,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()?;
    let target = match (&arguments.target, topology) {
        (Some(target), _) => target.clone(),
        (None, topology) => topology.and_then(leader).ok_or(Failure::NoLeader)?.authority(),
    };
    let endpoint = Endpoint::from_shared(format!("http://{target}"));
    let endpoint = endpoint.map_err(|error| Failure::Target(target.clone(), error))?;
    let entry = Survey::of([target.clone()]);
    let (children, asked) = match (only(entry.look(LOOK).await), topology) {
        (Ok(asked), _) => (None, asked),
        (Err(_), Some(topology)) if arguments.start => {
            let children = start(arguments, topology)?;
            tokio::select! {
                ready = ready(topology) => ready?,
                () = signals.next() => {
                    children.end().await;
                    return Err(Failure::Ended);
                }
            }
            let asked = only(entry.look(LOOK).await);
            (Some(children), asked.map_err(|why| Failure::Nobody { target: target.clone(), why })?)
        }
        (Err(why), _) => return Err(Failure::Nobody { target, why }),
    };
    let measured = match behaves(arguments, &target, &asked) {
        Ok(()) => {
            let plan = Plan {
                target: target.clone(),
                question: questions.text(),
                requests: arguments.requests,
                concurrency: arguments.concurrency.into(),
                strategies: Strategies::of(&asked),
            };
            let (survey, seen) = match topology {
                Some(topology) => (survey_of(topology), topology.processes.values().map(of_file).collect()),
                None => (entry, vec![of_metrics(&asked)]),
            };
            measure(arguments, Bench::new(plan, seen), survey, questions, (load, &endpoint), &mut signals)
                .await
        }
        Err(failure) => Err(failure),
    };
    if let Some(children) = children {
        tokio::select! {
            () = children.end() => {}
            () = signals.next() => return Ok(ExitCode::from(ENDED_AT_ONCE)),
        }
    }
    measured
}

fn leader(topology: &Topology) -> Option<&Process> {
    topology.processes.values().find(|process| process.role == Role::Leader)
}

fn survey_of(topology: &Topology) -> Survey {
    Survey::of(topology.processes.values().map(Process::authority))
}

fn only(said: Vec<Result<MetricsResponse, String>>) -> Result<MetricsResponse, String> {
    said.into_iter().next().unwrap_or_else(|| Err("it has no address".into()))
}

fn of_file(process: &Process) -> Seen {
    let (id, role) = (process.id.to_string(), process.role.name().to_owned());
    Seen { id, role, team: process.team.clone(), metrics: None, why: None }
}

fn of_metrics(said: &MetricsResponse) -> Seen {
    let MetricsResponse { process_id, role, team, .. } = said.clone();
    Seen { id: process_id, role, team, metrics: Some(said.clone()), why: None }
}

fn start(arguments: &Arguments, topology: &Topology) -> Result<Children, Failure> {
    let here = here::processes(topology);
    let Some(config) = arguments.config.as_deref().filter(|_| !here.is_empty()) else {
        return Err(Failure::NoneHere);
    };
    std::fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join("overlay.log");
    let log = File::create(&path)?;
    println!(
        "starting {} of {} processes; their log is {}",
        here.len(),
        topology.processes.len(),
        path.display()
    );
    Ok(Children::start(config, &arguments.settings, &here, Some(&log))?)
}

/// Waits until every process of the file can answer.
async fn ready(topology: &Topology) -> Result<(), Failure> {
    let survey = survey_of(topology);
    let deadline = Instant::now() + LOADING;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut seen: Vec<_> = topology.processes.values().map(of_file).collect();
        for (seen, said) in seen.iter_mut().zip(survey.look(LOOK).await) {
            match said {
                Ok(metrics) => seen.metrics = Some(metrics),
                Err(why) => seen.why = Some(why),
            }
        }
        let not_up: Vec<_> = seen.iter().filter(|seen| seen.state() != "up").collect();
        if not_up.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let words = not_up.iter().map(|seen| format!("{} is {}", seen.id, seen.state()));
            return Err(Failure::NotReady(words.collect::<Vec<_>>().join(", ")));
        }
    }
}

/// Whether the process that is asked behaves as the arguments say, wherever they say anything.
fn behaves(arguments: &Arguments, target: &str, said: &MetricsResponse) -> Result<(), Failure> {
    let settings = &arguments.settings;
    let all = settings.profile.map(slipring_overlay::topology::Profile::strategies);
    let wanted = [
        (
            "forwarding",
            settings.forwarding.or(all.map(|all| all.forwarding)).map(|wanted| wanted.name().to_owned()),
            said.forwarding_strategy.clone(),
        ),
        (
            "async forwarding",
            settings
                .async_forwarding
                .or(all.map(|all| all.async_forwarding))
                .map(|wanted| wanted.to_string()),
            said.async_forwarding.to_string(),
        ),
        (
            "chunking",
            settings.chunking.or(all.map(|all| all.chunking)).map(|wanted| wanted.name().to_owned()),
            said.chunking_strategy.clone(),
        ),
        (
            "fairness",
            settings.fairness.or(all.map(|all| all.fairness)).map(|wanted| wanted.name().to_owned()),
            said.fairness_strategy.clone(),
        ),
    ];
    for (what, wanted, is) in wanted {
        match wanted {
            Some(wanted) if wanted != is => {
                return Err(Failure::Otherwise(target.to_owned(), what, is, wanted));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn measure(
    arguments: &Arguments,
    mut bench: Bench,
    survey: Survey,
    questions: Questions,
    (runtime, endpoint): (&Handle, &Endpoint),
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let distinct = !questions.are_same();
    let mut screen = Screen::new(arguments.plain)?;
    let mut looks = watch(survey.clone());
    let mut pictures = interval(SHOW_EVERY);
    pictures.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = Instant::now();
    let mut load =
        load::start(runtime, endpoint, questions, arguments.requests, arguments.concurrency.into());
    let interrupted = loop {
        tokio::select! {
            done = load.recv() => match done {
                Some(done) => bench.finished(done.took, done.outcome),
                None => break false,
            },
            Some(said) = looks.recv() => bench.looked(said),
            _ = pictures.tick() => screen.show(&bench, began.elapsed())?,
            () = screen.ended() => break true,
            () = signals.next() => break true,
        }
    };
    let figures = bench.figures(began.elapsed());
    drop((screen, load, looks));
    bench.looked(survey.look(LOOK).await);
    let report = Report { bench: &bench, figures, distinct, interrupted, began: since_1970.as_secs() };
    let paths = report.write(&arguments.out);
    let [text, json] = paths.map_err(|error| Failure::Files(arguments.out.display().to_string(), error))?;
    // Whoever reads no further, as `head` does, has it in the files.
    drop(writeln!(std::io::stdout().lock(), "{}\n{}\n{}", report.text(), text.display(), json.display()));
    Ok(match (interrupted, report.figures.failed) {
        (true, _) => ExitCode::from(ENDED_AT_ONCE),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

/// Looks at the processes again and again, until nobody receives what was seen.
fn watch(survey: Survey) -> mpsc::Receiver<Vec<Result<MetricsResponse, String>>> {
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if tell.send(survey.look(LOOK).await).await.is_err() {
                return;
            }
        }
    });
    told
}
