//! `tester distribute`: for every placement and N, send, and count who answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use slipring_plots::load::client::{Answer, Client, Failure};
use slipring_plots::load::closed;
use slipring_plots::report::PlacementName;
use slipring_plots::report::distribution::{Distribution, Run, Tally};
use tokio::time::Instant;

use crate::appliance::Appliance;
use crate::cli::{Counts, DistributeArgs};
use crate::control::Control;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::progress;

/// The name under which answers are counted that do not say who gave them.
const UNNAMED: &str = "(unnamed)";

/// Measures what the arguments ask for.
pub(crate) async fn measure(args: &DistributeArgs, interrupt: &Interrupt) -> Result<Distribution, Error> {
    let mut report = Distribution {
        requests: args.requests,
        concurrency: usize::from(args.concurrency),
        runs: Vec::new(),
    };
    match &args.target.url {
        Some(url) => report.runs = running(args, url, interrupt).await?,
        None => {
            let counts = args.n.clone().unwrap_or_else(|| Counts((2..=6).collect()));
            let all = PlacementName::ALL;
            let placements = if args.placement.is_empty() { &all[..] } else { &args.placement };
            for &placement in placements {
                report.runs.extend(own(args, placement, &counts.0, interrupt).await?);
            }
        }
    }
    Ok(report)
}

/// Measures one placement on a balancer of our own, and stops it whatever happened.
async fn own(
    args: &DistributeArgs,
    placement: PlacementName,
    counts: &[u16],
    interrupt: &Interrupt,
) -> Result<Vec<Run>, Error> {
    let first = counts.first().copied().unwrap_or(2);
    let executable = args.target.slipring.as_deref();
    let appliance = interrupt.or(Appliance::start(executable, placement, first)).await?;
    let runs = interrupt.or(async {
        let bench = Bench::new(args, &appliance.url, Some(&appliance.admin_url), Some(placement))?;
        let mut runs = Vec::new();
        for &n in counts {
            bench.control.resize(n).await?;
            runs.push(bench.run().await?);
        }
        Ok(runs)
    });
    let runs = runs.await;
    appliance.stop(interrupt).await;
    runs
}

/// Measures a balancer that runs already, and leaves it with the replicas that it had.
async fn running(args: &DistributeArgs, url: &str, interrupt: &Interrupt) -> Result<Vec<Run>, Error> {
    let placement = match args.placement[..] {
        [only] => Some(only),
        _ => None,
    };
    let bench = Bench::new(args, url, args.target.admin_url.as_deref(), placement)?;
    let Some(counts) = &args.n else { return Ok(vec![interrupt.or(bench.run()).await?]) };
    let before = bench.control.names().await?;
    let runs = interrupt.or(async {
        let mut runs = Vec::new();
        for &n in &counts.0 {
            bench.control.resize(n).await?;
            runs.push(bench.run().await?);
        }
        Ok(runs)
    });
    let runs = runs.await;
    let restored = interrupt.unless_repeated(bench.control.restore(&before)).await;
    runs.and_then(|runs| restored.map(|()| runs))
}

/// A balancer under measurement.
struct Bench<'a> {
    args: &'a DistributeArgs,
    client: Arc<Client>,
    control: Control,
    placement: Option<PlacementName>,
}

impl<'a> Bench<'a> {
    fn new(
        args: &'a DistributeArgs,
        url: &str,
        admin_url: Option<&str>,
        placement: Option<PlacementName>,
    ) -> Result<Bench<'a>, Error> {
        let token = args.target.token.as_deref().filter(|_| args.target.url.is_some());
        Ok(Bench {
            args,
            client: Arc::new(Client::new(url, None, args.target.timeout)?),
            control: Control::new(url, admin_url, token)?,
            placement,
        })
    }

    /// Sends all requests to the replicas as they are now.
    async fn run(&self) -> Result<Run, Error> {
        self.control.ready().await?;
        let names = self.control.names().await?;
        let shares = self.shares(&names).await?;
        let label = self.placement.map_or("as found", PlacementName::as_str);
        let bar = progress::bar(self.args.requests, format!("{label}, N = {}", names.len()));
        let mut counted = Counted::default();
        let began = Instant::now();
        let path: Arc<str> = self.args.target.path.as_str().into();
        let send = |_| {
            let (client, path) = (Arc::clone(&self.client), Arc::clone(&path));
            async move { client.get(&path).await }
        };
        closed::run(self.args.requests, usize::from(self.args.concurrency), send, |outcome| {
            counted.count(outcome);
            bar.inc(1);
        })
        .await;
        let seconds = began.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let (ring, strangers) = counted.tallies(&names, shares.as_deref());
        Ok(Run::new(label, ring, strangers, counted.failures, seconds))
    }

    /// The exact shares of these replicas, where placement and identities are known.
    async fn shares(&self, names: &[String]) -> Result<Option<Vec<f64>>, Error> {
        let (Some(placement), Some(replicas)) = (self.placement, self.control.replicas().await?) else {
            return Ok(None);
        };
        let id_of = |name: &String| replicas.iter().find(|replica| replica.name == *name)?.id.checked_sub(1);
        let ids: Option<Vec<u16>> = names.iter().map(id_of).collect();
        Ok(ids.and_then(|ids| placement.shares(&ids)))
    }
}

/// Answers by replica, failures by kind.
#[derive(Default)]
struct Counted {
    answers: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
}

impl Counted {
    fn count(&mut self, outcome: Result<Answer, Failure>) {
        let (table, key) = match outcome {
            Ok(answer) if answer.status.is_success() => {
                (&mut self.answers, answer.replica().unwrap_or_else(|| UNNAMED.to_owned()))
            }
            Ok(answer) => (&mut self.failures, format!("status {}", answer.status.as_u16())),
            Err(failure) => (&mut self.failures, failure.kind().to_owned()),
        };
        *table.entry(key).or_insert(0) += 1;
    }

    /// A tally for every replica on the ring, and one for everybody else who answered.
    fn tallies(&self, names: &[String], shares: Option<&[f64]>) -> (Vec<Tally>, Vec<Tally>) {
        let ring = names.iter().enumerate().map(|(i, name)| Tally {
            name: name.clone(),
            requests: self.answers.get(name).copied().unwrap_or(0),
            share: shares.and_then(|shares| shares.get(i).copied()),
        });
        let strangers = self.answers.iter().filter(|(name, _)| !names.contains(name));
        let strangers =
            strangers.map(|(name, &requests)| Tally { name: name.clone(), requests, share: None });
        (ring.collect(), strangers.collect())
    }
}

/// A line for every run.
pub(crate) fn summary(report: &Distribution) -> String {
    let mut lines = vec![format!(
        "{:<11} {:>2} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}  {:<7} requests/s",
        "placement", "N", "answered", "failed", "mean", "σ", "expected", "uniform", "p"
    )];
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
    };
    for run in &report.runs {
        let balance = &run.balance;
        lines.push(format!(
            "{:<11} {:>2} {:>9} {:>7} {:>9.1} {:>9.1} {:>9} {:>9.1}  {:<7} {:.0}",
            run.placement,
            run.n,
            run.answered(),
            run.failed(),
            balance.mean,
            balance.stddev,
            number(balance.stddev_expected, 1),
            balance.stddev_uniform,
            number(balance.chi_squared_placement.map(|test| test.p_value), 4),
            run.answered() as f64 / run.seconds.max(1e-9),
        ));
        lines.extend(run.failures.iter().map(|(kind, count)| format!("{count:>30} {kind}")));
    }
    lines.push("expected, p: against the placement's own exact shares; uniform: √(n·p·(1 − p))\n".to_owned());
    lines.join("\n")
}
