//! The picture of a failure: the whole run by replica, and the moment itself request by request.
//!
//! The victim has a colour that means nothing else and lies on top of the stack, where its absence shows.

use super::failure::{FailureRun, Latency, Request, bucketed};
use super::pictures::grouped;
use crate::chart::{
    ChartError, Colour, Dot, Lane, Mark, Picture, Timeline, VICTIM_COLOUR, Zoom, replica_colour,
};

/// The length of a bucket of the timeline, in milliseconds.
const BUCKET: f64 = 100.0;
/// A gap shorter than this is still shown with about so much around it, in milliseconds.
const MOMENT: f64 = 40.0;

/// The timeline of a replica struck down.
pub(super) fn failure(run: &FailureRun) -> Result<Vec<(String, Picture)>, ChartError> {
    let end = run.requests.iter().map(Request::done).fold(0.0, f64::max);
    let last_due = run.requests.iter().map(|request| request.due).fold(0.0, f64::max);
    // A last bucket that is not full would look like a dip: left out.
    let buckets = (((last_due + 1000.0 / run.rate) / BUCKET + 1e-6).floor() as usize).max(1);
    // By when they were due, not answered: what a stall held back would come as one towering bucket.
    let due = |whose: &dyn Fn(&Request) -> bool| {
        let dues = run.requests.iter().filter(|request| whose(request)).map(|request| request.due);
        bucketed(dues, BUCKET, buckets)
    };
    let lanes = lanes(run);
    let zoom = zoom(run, &lanes, end);
    let lanes = lanes.into_iter().map(|(name, colour)| Lane {
        name: name.to_owned(),
        colour,
        counts: due(&|request| request.outcome.as_ref().is_ok_and(|replica| replica == name)),
    });
    let timeline = Timeline {
        title: format!("{} is {} under load", run.victim, run.manner.participle()),
        subtitle: subtitle(run),
        bucket: BUCKET / 1000.0,
        lanes: lanes.collect(),
        errors: due(&|request| request.outcome.is_err()),
        marks: marks(run),
        zoom,
    };
    Ok(vec![(run.manner.name().to_owned(), timeline.draw()?)])
}

/// The survivors in calm colours at the bottom; the victim on top, where its absence shows.
fn lanes(run: &FailureRun) -> Vec<(&str, Colour)> {
    let survivors = run.replicas.iter().filter(|name| **name != run.victim).enumerate();
    let mut lanes: Vec<_> = survivors.map(|(i, name)| (name.as_str(), replica_colour(i))).collect();
    lanes.push((&run.victim, VICTIM_COLOUR));
    lanes
}

fn subtitle(run: &FailureRun) -> Vec<String> {
    let failed: u64 = run.figures.failures.values().sum();
    let latency = |when: &str, latency: Option<Latency>| {
        latency.map(|l| format!("{when} p50 {:.1}, p99 {:.1}, max {:.1} ms", l.p50, l.p99, l.max))
    };
    let latencies =
        [latency("while it was gone:", run.figures.during), latency("all the rest:", run.figures.calm)];
    vec![
        format!(
            "{} requests a second on a fixed schedule, {} placement, N = {}; {} after {:.1} s. {} answered, {failed} failed.",
            grouped(run.rate.round() as u64),
            run.placement,
            run.replicas.len(),
            run.manner.command(),
            run.struck_at / 1000.0,
            grouped(run.figures.answered),
        ),
        format!("Latency {}.", latencies.into_iter().flatten().collect::<Vec<_>>().join("; ")),
    ]
}

fn marks(run: &FailureRun) -> Vec<Mark> {
    let stroke = Mark { at: run.struck_at / 1000.0, label: run.manner.command().to_owned(), alarm: true };
    let back = run.figures.recovered_at.map(|at| Mark {
        at: at / 1000.0,
        label: format!(
            "{} answers again, {} ms later",
            run.victim,
            grouped((at - run.struck_at).round() as u64)
        ),
        alarm: false,
    });
    std::iter::once(stroke).chain(back).collect()
}

/// From well before the stroke to well after the recovery.
fn zoom(run: &FailureRun, lanes: &[(&str, Colour)], end: f64) -> Zoom {
    let gap = run.figures.gap.unwrap_or(end - run.struck_at);
    let around = gap.clamp(MOMENT, 1000.0);
    let from = (run.struck_at - around * 0.6).max(0.0);
    let to = (run.struck_at + gap + around * 1.2).min(end);
    let lane = |name: &String| lanes.iter().position(|(lane, _)| lane == name);
    let dots = run.requests.iter().filter(|request| request.due >= from && request.due <= to);
    let dot = |request: &Request| Dot {
        at: request.due / 1000.0,
        latency_ms: request.latency,
        lane: request.outcome.as_ref().ok().and_then(lane),
    };
    Zoom { from: from / 1000.0, to: to / 1000.0, dots: dots.map(dot).collect() }
}
