//! Text, for people: the contract's lines byte for byte, and behind them what else was asked.

use std::fmt::Write as _;

use super::Report;

/// The contract's ruler.
const RULER: &str = "=================================================";

/// What is said before the work begins. After a resumption: [`resuming`] instead.
#[must_use]
pub fn found(files: usize) -> String {
    format!("Found {files} log file(s) to analyse\nStarting distributed analysis...\n")
}

/// What is said when a checkpoint is gone on from, of which `done` files are in it.
#[must_use]
pub fn resuming(files: usize, done: usize) -> String {
    let remaining = files.saturating_sub(done);
    format!(
        "Loading checkpoint from previous run...\n\
         Resuming from checkpoint: {done} files already processed\n\
         Found {files} log file(s) to analyse ({remaining} remaining)\n\
         Starting distributed analysis...\n"
    )
}

/// The results. A blank line comes first, as it separates them from what was said before.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let Report { fold, run, query, .. } = report;
    let mut out = format!("\n{RULER}\nANALYSIS RESULTS\n{RULER}\n");
    for (level, count) in fold.levels.seen() {
        line(&mut out, format_args!("{level}: {count}"));
    }
    line(&mut out, format_args!("{RULER}"));
    line(&mut out, format_args!("Total time: {:.2}s", run.took.as_secs_f64()));
    line(&mut out, format_args!("Files processed: {}", run.files_processed));
    line(&mut out, format_args!("Failed workers: {}", run.failed_workers));
    line(&mut out, format_args!("Checkpoints saved: {}", run.checkpoints_saved));
    line(&mut out, format_args!("{RULER}"));
    for file in &run.unread {
        line(&mut out, format_args!("Not counted, or not wholly: {}: {}", file.path, file.why));
    }
    if fold.levels[None] > 0 {
        line(&mut out, format_args!("Records without a level: {}", fold.levels[None]));
    }
    if fold.unrecognised > 0 {
        line(&mut out, format_args!("Lines not recognised: {} of {}", fold.unrecognised, fold.lines));
    }
    if !query.conditions.is_empty() {
        let conditions: Vec<String> = query.conditions.iter().map(ToString::to_string).collect();
        let (matched, all) = (fold.matched(), fold.records);
        line(&mut out, format_args!("Where {}: {matched} of {all} records", conditions.join(" and ")));
    }
    over_time(&mut out, report);
    templates(&mut out, report);
    out
}

fn over_time(out: &mut String, report: &Report<'_>) {
    let Some(counts) = &report.fold.over_time else { return };
    line(out, format_args!("\nCounts per {}", counts.unit()));
    if report.query.per.is_some_and(|asked| asked != counts.unit()) {
        line(out, format_args!("(there were too many shorter ones)"));
    }
    for (begin, levels) in counts.buckets() {
        out.push_str(&begin.to_string());
        for (level, count) in levels.seen() {
            out.push_str(&format!("  {level} {count}"));
        }
        if levels[None] > 0 {
            out.push_str(&format!("  without a level {}", levels[None]));
        }
        out.push('\n');
    }
    if counts.untimed > 0 {
        line(out, format_args!("without a time  {}", counts.untimed));
    }
}

fn templates(out: &mut String, report: &Report<'_>) {
    let Some(templates) = &report.fold.templates else { return };
    let ranked = templates.ranked();
    let shown = ranked.len().min(report.top);
    line(out, format_args!("\nTemplates: {shown} of {}", ranked.len()));
    for template in &ranked[..shown] {
        line(out, format_args!("{:>12}  {}", template.count, template.text.escape_debug()));
    }
    if templates.other() > 0 {
        line(
            out,
            format_args!("{:>12}  messages of templates that were too many to keep", templates.other()),
        );
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes everything");
}
