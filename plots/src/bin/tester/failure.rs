//! `tester failure`: constant load, a replica struck down in the middle of it, every request remembered.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use slipring_plots::load::client::{Answer, Client, Failure};
use slipring_plots::load::closed;
use slipring_plots::load::open::{self, Plan, Sample};
use slipring_plots::load::pace::Alarm;
use slipring_plots::report::failure::{FailureRun, Figures, Latency, Manner, Request};
use tokio::time::{Instant, sleep_until, timeout};

use crate::appliance::Appliance;
use crate::cli::FailureArgs;
use crate::control::{Control, Replica};
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress;

/// Requests before the clock runs, so that connections exist and code paths are warm.
const WARM_UP: u64 = 500;

/// Measures what the arguments ask for.
pub(crate) async fn measure(args: &FailureArgs, interrupt: &Interrupt) -> Result<FailureRun, Error> {
    let plan = Plan::new(args.rate, args.seconds, args.target.timeout, usize::from(args.in_flight))?;
    if let Some(url) = &args.target.url {
        let admin = args.target.admin_url.as_deref().ok_or(Error::NoAdmin)?;
        return interrupt.or(run(args, &plan, url, admin)).await;
    }
    let start = Appliance::start(args.target.slipring.as_deref(), args.placement, args.replicas);
    let appliance = interrupt.or(start).await?;
    let measured = interrupt.or(run(args, &plan, &appliance.url, &appliance.admin_url)).await;
    appliance.stop(interrupt).await;
    measured
}

async fn run(args: &FailureArgs, plan: &Plan, url: &str, admin_url: &str) -> Result<FailureRun, Error> {
    let token = args.target.token.as_deref().filter(|_| args.target.url.is_some());
    let control = Control::new(url, Some(admin_url), token)?;
    control.ready().await?;
    let replicas = control.replicas().await?.unwrap_or_default();
    let manner = if args.freeze { Manner::Freeze } else { Manner::Kill };
    let victim = choose(&replicas, args.victim.as_deref())?;

    // The deadline of a request is the schedule's, counted from when it was due.
    let client = Arc::new(Client::new(url, None, args.target.timeout * 2)?);
    let path: Arc<str> = args.target.path.as_str().into();
    let send = |_| {
        let (client, path) = (Arc::clone(&client), Arc::clone(&path));
        async move { client.get(&path).await }
    };
    closed::run(WARM_UP, 16, send, |_| {}).await;

    let bar = progress::bar(plan.requests(), format!("{} is {}", victim.name, manner.participle()));
    let mut requests = Vec::new();
    let mut alarm = Alarm::new().map_err(Error::Timer)?;
    let start = Instant::now();
    let load = async {
        open::run(plan, &mut alarm, start, send, |sample| {
            requests.push((sample.n, request(sample)));
            bar.inc(1);
        })
        .await;
        Ok(())
    };
    let strike_at = start + args.seconds / 3;
    let patience = args.seconds + args.target.timeout;
    let death = strike(manner, &control, &victim, start, strike_at, patience);
    let ((), (struck_at, fleet_complete_at)) = tokio::try_join!(load, death)?;
    bar.finish_and_clear();

    requests.sort_by_key(|(n, _)| *n);
    let requests: Vec<Request> = requests.into_iter().map(|(_, request)| request).collect();
    let figures = Figures::of(&requests, &victim.name, struck_at);
    Ok(FailureRun {
        manner,
        placement: args.placement.as_str().to_owned(),
        rate: args.rate,
        replicas: replicas.into_iter().map(|replica| replica.name).collect(),
        victim: victim.name,
        struck_at,
        fleet_complete_at,
        figures,
        requests,
    })
}

/// The replica to strike, with its process.
struct Victim {
    name: String,
    pid: Pid,
}

fn choose(replicas: &[Replica], wanted: Option<&str>) -> Result<Victim, Error> {
    let candidates: Vec<(&Replica, Pid)> = replicas
        .iter()
        .filter(|replica| replica.is_live())
        .filter_map(|replica| Some((replica, Pid::from_raw(replica.pid?)?)))
        .collect();
    let chosen = match wanted {
        Some(name) => candidates.iter().find(|(replica, _)| replica.name == name),
        None => candidates.get(1).or_else(|| candidates.first()),
    };
    chosen.map(|(replica, pid)| Victim { name: replica.name.clone(), pid: *pid }).ok_or_else(|| {
        let there: Vec<String> =
            replicas.iter().map(|replica| format!("{} ({})", replica.name, replica.state)).collect();
        Error::NoVictim { wanted: wanted.unwrap_or("any").to_owned(), there: there.join(", ") }
    })
}

/// Strikes at `at`; returns when, and when the balancer said that its fleet is complete again, if it did
/// within `patience`.
async fn strike(
    manner: Manner,
    control: &Control,
    victim: &Victim,
    start: Instant,
    at: Instant,
    patience: Duration,
) -> Result<(f64, Option<f64>), Error> {
    sleep_until(at).await;
    let pid = victim.pid.as_raw_nonzero().get();
    if !is_replica(pid) {
        return Err(Error::NoReplica { pid });
    }
    let signal = match manner {
        Manner::Kill => Signal::KILL,
        Manner::Freeze => Signal::STOP,
    };
    kill_process(victim.pid, signal).map_err(|source| Error::Kill { pid, source })?;
    let struck_at = start.elapsed();
    let healed = timeout(patience, control.healed(&victim.name, pid)).await;
    Ok((milliseconds(struck_at), healed.is_ok().then(|| milliseconds(start.elapsed()))))
}

/// Whether a process of this machine is a replica, by the contract's `SERVER_ID` in its environment. The
/// balancer may run elsewhere, and its numbers mean somebody else here.
fn is_replica(pid: i32) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|entry| entry.starts_with(b"SERVER_ID="))
}

fn request(sample: Sample<Result<Answer, Failure>>) -> Request {
    let (due, lateness, latency) = (sample.due, sample.lateness(), sample.latency());
    let outcome = match sample.outcome {
        Some(Ok(answer)) if answer.status.is_success() => {
            Ok(answer.replica().unwrap_or_else(|| "(unnamed)".to_owned()))
        }
        Some(Ok(answer)) => Err(format!("status {}", answer.status.as_u16())),
        Some(Err(failure)) => Err(failure.kind().to_owned()),
        None => Err("timeout".to_owned()),
    };
    Request {
        due: milliseconds(due),
        lateness: milliseconds(lateness),
        latency: milliseconds(latency),
        outcome,
    }
}

/// Whole microseconds, written in milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// What happened, in a few lines.
pub(crate) fn summary(run: &FailureRun) -> String {
    let figures = &run.figures;
    let failed: u64 = figures.failures.values().sum();
    let mut lines = vec![
        format!("{:.0} requests/s, {} replicas, {} placement", run.rate, run.replicas.len(), run.placement),
        format!("{} {} at {:.0} ms", run.victim, run.manner.participle(), run.struck_at),
        match figures.gap {
            Some(gap) => format!("it answered again {gap:.0} ms later"),
            None => "it did not answer again before the load ended".to_owned(),
        },
        match run.fleet_complete_at {
            Some(at) => {
                format!(
                    "the balancer called the fleet complete {:.0} ms after the stroke",
                    at - run.struck_at
                )
            }
            None => "the balancer did not call the fleet complete again".to_owned(),
        },
        format!("{} answered, {failed} failed", figures.answered),
    ];
    lines.extend(figures.failures.iter().map(|(reason, count)| format!("  {count} {reason}")));
    let latency = |when: &str, latency: Option<Latency>| {
        let Latency { p50, p99, max } = latency?;
        Some(format!("latency {when}: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"))
    };
    lines.extend(latency("while it was gone", figures.during));
    lines.extend(latency("all the rest", figures.calm));
    lines.push(format!("of which the generator's own lateness: p99 {:.2} ms\n", figures.lateness_p99));
    lines.join("\n")
}
