//! JSON, for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Report, Unread};
use crate::fold::Levels;
use crate::templates::Template;

#[derive(Serialize)]
struct Document<'a> {
    levels: BTreeMap<&'static str, u64>,
    records: u64,
    matched: u64,
    without_level: u64,
    lines: u64,
    continued_lines: u64,
    unrecognised_lines: u64,
    bytes: u64,
    conditions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_time: Option<OverTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    templates: Option<Templates>,
    files_processed: u64,
    /// Empty if the result is complete.
    unread: &'a [Unread],
    failed_workers: u64,
    checkpoints_saved: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct OverTime {
    per: &'static str,
    buckets: Vec<Bucket>,
    without_time: u64,
}

#[derive(Serialize)]
struct Bucket {
    begin: String,
    levels: BTreeMap<&'static str, u64>,
    without_level: u64,
}

#[derive(Serialize)]
struct Templates {
    shown: Vec<Template>,
    all: usize,
    other: u64,
}

fn named(levels: &Levels) -> BTreeMap<&'static str, u64> {
    levels.seen().map(|(level, count)| (level.name(), count)).collect()
}

/// The report as one object, with a newline behind it.
#[must_use]
pub fn json(report: &Report<'_>) -> String {
    let Report { fold, query, run, top } = *report;
    let over_time = fold.over_time.as_ref().map(|counts| OverTime {
        per: counts.unit().name(),
        buckets: counts
            .buckets()
            .map(|(begin, levels)| Bucket {
                begin: begin.to_string(),
                levels: named(levels),
                without_level: levels[None],
            })
            .collect(),
        without_time: counts.untimed,
    });
    let templates = fold.templates.as_ref().map(|templates| {
        let mut shown = templates.ranked();
        let all = shown.len();
        shown.truncate(top);
        Templates { shown, all, other: templates.other() }
    });
    let document = Document {
        levels: named(&fold.levels),
        records: fold.records,
        matched: fold.matched(),
        without_level: fold.levels[None],
        lines: fold.lines,
        continued_lines: fold.continued,
        unrecognised_lines: fold.unrecognised,
        bytes: fold.bytes,
        conditions: query.conditions.iter().map(ToString::to_string).collect(),
        over_time,
        templates,
        files_processed: run.files_processed,
        unread: &run.unread,
        failed_workers: run.failed_workers,
        checkpoints_saved: run.checkpoints_saved,
        seconds: run.took.as_secs_f64(),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("names are texts and numbers are finite");
    text.push('\n');
    text
}
