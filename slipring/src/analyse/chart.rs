//! A report as a picture: how many records of each level there were over time, or, where nobody asked for time, in all.

use slipring_analyser::Time;
use slipring_analyser::fold::OverTime;
use slipring_analyser::output::{Report, stack};
use slipring_plots::chart::{Layer, Stacked, level_colour};

use crate::text::{counted, grouped};

/// Bars at most: narrower ones cannot be told apart on the page that plots draw on.
const BARS: usize = 200;
/// Times written under the bars at most.
const TICKS: u64 = 8;
/// What lies between two of them, in seconds: lengths that a clock and a calendar show.
const STEPS: [u64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
    604_800,
];

/// The picture, to be drawn.
pub(super) fn chart(report: &Report<'_>) -> Stacked {
    let mut subtitle = vec![about(report)];
    let unread = report.run.unread.len() as u64;
    if unread > 0 {
        subtitle.push(format!("Not counted, or not wholly: {}.", counted(unread, "file")));
    }
    match &report.fold.over_time {
        Some(counts) => over_time(counts, subtitle),
        None => levels(report, subtitle),
    }
}

fn about(report: &Report<'_>) -> String {
    let (fold, query) = (report.fold, report.query);
    let files = counted(report.run.files_processed, "file");
    let mut about = format!("{files}, {}, {}", counted(fold.lines, "line"), counted(fold.records, "record"));
    if !query.conditions.is_empty() {
        let conditions: Vec<String> = query.conditions.iter().map(ToString::to_string).collect();
        about += &format!("; {} where {}", grouped(fold.matched()), conditions.join(" and "));
    }
    about + "."
}

fn levels(report: &Report<'_>, subtitle: Vec<String>) -> Stacked {
    let levels = &report.fold.levels;
    let mut seen: Vec<_> = levels.seen().collect();
    seen.sort_by_key(|(level, _)| *level);
    let none = (levels[None] > 0).then_some(("no level", levels[None]));
    let seen: Vec<_> = seen.into_iter().map(|(level, count)| (level.name(), count)).chain(none).collect();
    let layer = |(at, (name, count)): (usize, &(&str, u64))| {
        let mut counts = vec![0; seen.len()];
        counts[at] = *count;
        Layer { name: (*name).to_owned(), colour: level_colour(name), counts }
    };
    let tick = |(at, (name, _)): (usize, &(&str, u64))| (at as f64 + 0.5, (*name).to_owned());
    Stacked {
        title: "Records by level".to_owned(),
        subtitle,
        x_name: String::new(),
        y_name: "records".to_owned(),
        bars: seen.len(),
        is_apart: true,
        ticks: seen.iter().enumerate().map(tick).collect(),
        layers: seen.iter().enumerate().map(layer).collect(),
    }
}

fn over_time(counts: &OverTime, mut subtitle: Vec<String>) -> Stacked {
    if counts.untimed > 0 {
        subtitle
            .push(format!("Without a time, and not in the picture: {}.", counted(counts.untimed, "record")));
    }
    let title = "Records over time, by level".to_owned();
    let Some(stack) = stack(counts, BARS) else {
        subtitle.push("No record has a time.".to_owned());
        let (x_name, y_name) = ("time".to_owned(), "records".to_owned());
        let (ticks, layers) = (Vec::new(), Vec::new());
        return Stacked { title, subtitle, x_name, y_name, bars: 0, is_apart: false, ticks, layers };
    };
    let mut series = stack.series;
    // The worst on the ground.
    series.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let layer = |(level, counts): (Option<slipring_analyser::Level>, Vec<u64>)| {
        let name = level.map_or("no level", slipring_analyser::Level::name);
        Layer { name: name.to_owned(), colour: level_colour(name), counts }
    };
    let end = after(stack.begin, stack.seconds * stack.bars as u64);
    Stacked {
        title,
        subtitle,
        x_name: format!("{} to {}, as the logs write it", spaced(stack.begin), spaced(end)),
        y_name: format!("records in each {}", length(stack.seconds)),
        bars: stack.bars,
        is_apart: false,
        ticks: ticks(stack.begin, stack.seconds, stack.bars),
        layers: series.into_iter().map(layer).collect(),
    }
}

fn after(time: Time, seconds: u64) -> Time {
    Time(time.0.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)))
}

/// `2025-11-05 23:20:00`.
fn spaced(time: Time) -> String {
    time.to_string().replacen('T', " ", 1)
}

/// `minute`, `15 minutes`.
fn length(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    if seconds == unit { name.to_owned() } else { counted(seconds / unit, name) }
}

/// Where round times fall, in bars from the first one's beginning, and what is written there.
fn ticks(begin: Time, seconds: u64, bars: usize) -> Vec<(f64, String)> {
    let (span, first) = (seconds * bars as u64, begin.0.unsigned_abs() / 1_000_000);
    let fits = |step: &u64| span / step < TICKS;
    // Of longer spans whole weeks.
    let weeks = |longest: u64| span.div_ceil(TICKS * longest).max(1) * longest;
    let step = STEPS.into_iter().find(fits).unwrap_or_else(|| weeks(STEPS[STEPS.len() - 1]));
    let days = |at: u64| at / 86_400;
    let one_day = days(first) == days((first + span).saturating_sub(1));
    let written = |at: u64| {
        let text = spaced(after(Time(0), at));
        match (step, one_day) {
            (86_400.., _) => text[..10].to_owned(),
            (60.., false) => text[5..16].to_owned(),
            (_, false) => text[5..19].to_owned(),
            (60.., true) => text[11..16].to_owned(),
            (_, true) => text[11..19].to_owned(),
        }
    };
    let from = first.div_ceil(step) * step;
    let times = std::iter::successors(Some(from), |at| Some(at + step)).take_while(|at| *at <= first + span);
    times.map(|at| ((at - first) as f64 / seconds as f64, written(at))).collect()
}

#[cfg(test)]
mod tests {
    use slipring_analyser::fold::{Fold, Query};
    use slipring_analyser::format::Record;
    use slipring_analyser::output::{Report, Run};
    use slipring_analyser::{Level, Time, Unit};

    use super::{chart, length, ticks};

    fn minutes(count: i64) -> Time {
        // 2025-11-05T23:20:00
        Time((1_762_384_800 + count * 60) * 1_000_000)
    }

    fn drawn(per: Option<Unit>, records: &[(Option<Level>, Option<Time>)]) -> slipring_plots::chart::Stacked {
        let query = Query { per, ..Query::default() };
        let mut fold = Fold::new(&query);
        for (level, time) in records {
            fold.record(&query, b"x", &Record { time: *time, level: *level, message: 0..1 });
        }
        let run = Run { files_processed: 2, ..Run::default() };
        chart(&Report { query: &query, fold: &fold, run: &run, top: 0 })
    }

    #[test]
    fn the_worst_stands_on_the_ground_and_time_has_no_gap() {
        let records = [
            (Some(Level::Info), Some(minutes(0))),
            (Some(Level::Error), Some(minutes(0))),
            (Some(Level::Info), Some(minutes(3))),
            (None, Some(minutes(3))),
            (Some(Level::Warn), None),
        ];
        let picture = drawn(Some(Unit::Minute), &records);
        let layers: Vec<_> =
            picture.layers.iter().map(|layer| (layer.name.as_str(), layer.counts.clone())).collect();
        let expected =
            [("ERROR", vec![1, 0, 0, 0]), ("INFO", vec![1, 0, 0, 1]), ("no level", vec![0, 0, 0, 1])];
        assert_eq!((picture.bars, layers), (4, expected.to_vec()));
        assert_eq!(picture.x_name, "2025-11-05 23:20:00 to 2025-11-05 23:24:00, as the logs write it");
        assert_eq!(picture.subtitle[1], "Without a time, and not in the picture: 1 record.");
        picture.draw().expect("it can be drawn");
    }

    #[test]
    fn without_time_each_level_has_its_bar_the_mildest_first() {
        let picture = drawn(None, &[(Some(Level::Fatal), None), (Some(Level::Debug), None), (None, None)]);
        let names: Vec<_> = picture.ticks.iter().map(|(at, name)| (*at, name.as_str())).collect();
        assert_eq!(names, [(0.5, "DEBUG"), (1.5, "FATAL"), (2.5, "no level")]);
        assert!(picture.is_apart);
        for nothing in [drawn(None, &[]), drawn(Some(Unit::Day), &[(Some(Level::Info), None)])] {
            assert_eq!(nothing.bars, 0);
            nothing.draw().expect("nothing counted is still a picture");
        }
    }

    #[test]
    fn times_under_the_bars_are_round_and_few() {
        let written = |seconds, bars| -> Vec<String> {
            ticks(minutes(0), seconds, bars).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(written(60, 4)[..2], ["23:20", "23:21"]);
        assert_eq!(written(1, 20)[..2], ["23:20:00", "23:20:05"]);
        assert_eq!(written(60, 60)[..2], ["11-05 23:20", "11-05 23:30"]);
        assert_eq!(written(3600, 48)[..2], ["11-06 00:00", "11-06 12:00"]);
        assert_eq!(written(86_400, 30)[..2], ["2025-11-06", "2025-11-13"]);
        for seconds in [1, 60, 3600, 86_400] {
            for bars in 1..=200 {
                let all = ticks(minutes(7), seconds, bars);
                assert!(all.len() <= 9, "{seconds} {bars}: {all:?}");
                assert!(
                    all.iter().all(|(at, _)| (0.0..=bars as f64).contains(at)),
                    "{seconds} {bars}: {all:?}"
                );
            }
        }
        assert_eq!(
            (length(60), length(900), length(172_800)),
            ("minute".into(), "15 minutes".into(), "2 days".into())
        );
    }
}
