//! A page of its own: nothing is loaded from elsewhere, nothing runs, and it is dark where the reader's screen is.

use std::fmt::Write as _;

use super::Report;
use super::chart::stack;
use crate::level::Level;

/// Bars of the chart at most: each is two pixels wide at least.
const BARS: usize = 400;
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#fff;--ink:#1b2430;--muted:#5b6775;--line:#e6eaee;\
--TRACE:#9aa6b2;--DEBUG:#56b4e9;--INFO:#0072b2;--NOTICE:#009e73;--WARN:#e69f00;--ERROR:#d55e00;--FATAL:#c41e3a;--none:#cc79a7}\
@media(prefers-color-scheme:dark){:root{--page:#14181d;--ink:#e6eaee;--muted:#9aa6b2;--line:#2b333c;--INFO:#4aa3df}}\
body{background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);\
vertical-align:top;overflow-wrap:anywhere}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
code{font:14px/1.4 ui-monospace,monospace}.bar{height:.8rem;min-width:1px}.muted{color:var(--muted)}svg{width:100%;height:auto}\
svg text{fill:var(--muted);font:12px system-ui,sans-serif}.warn{border-left:4px solid var(--ERROR);padding-left:.75rem}";

/// The report as a page.
#[must_use]
pub fn html(report: &Report<'_>) -> String {
    let Report { fold, run, query, .. } = report;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Log analysis</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Log analysis</h1>\n"
    );
    put(
        &mut out,
        format_args!(
            "<p>{} files, {} bytes, {} lines, {} records in {:.2} s. Failed workers: {}. Checkpoints saved: {}.</p>\n",
            run.files_processed,
            fold.bytes,
            fold.lines,
            fold.records,
            run.took.as_secs_f64(),
            run.failed_workers,
            run.checkpoints_saved
        ),
    );
    if !query.conditions.is_empty() {
        let conditions: Vec<String> = query.conditions.iter().map(ToString::to_string).collect();
        let conditions = escaped(&conditions.join(" and "));
        put(
            &mut out,
            format_args!("<p>Counted where <code>{conditions}</code>: {} records.</p>\n", fold.matched()),
        );
    }
    if fold.unrecognised > 0 {
        put(&mut out, format_args!("<p class=\"muted\">Lines not recognised: {}.</p>\n", fold.unrecognised));
    }
    if !run.unread.is_empty() {
        out.push_str("<h2>Not counted, or not wholly</h2>\n<ul class=\"warn\">\n");
        for file in &run.unread {
            let (path, why) = (escaped(&file.path), escaped(&file.why));
            put(&mut out, format_args!("<li><code>{path}</code>: {why}</li>\n"));
        }
        out.push_str("</ul>\n");
    }
    levels(&mut out, report);
    over_time(&mut out, report);
    templates(&mut out, report);
    out.push_str("</body>\n</html>\n");
    out
}

fn name(level: Option<Level>) -> &'static str {
    level.map_or("none", Level::name)
}

fn levels(out: &mut String, report: &Report<'_>) {
    let levels = &report.fold.levels;
    let none = (levels[None] > 0).then_some((None, levels[None]));
    let seen: Vec<_> = levels.seen().map(|(level, count)| (Some(level), count)).chain(none).collect();
    let most = seen.iter().map(|(_, count)| *count).max().unwrap_or(1);
    out.push_str("<h2>Levels</h2>\n<table>\n<tr><th>Level</th><th class=\"n\">Records</th><th style=\"width:60%\"></th></tr>\n");
    for (level, count) in seen {
        let (name, share) = (name(level), count as f64 / most as f64 * 100.0);
        put(
            out,
            format_args!(
                "<tr><td>{name}</td><td class=\"n\">{count}</td>\
             <td><div class=\"bar\" style=\"width:{share:.2}%;background:var(--{name})\"></div></td></tr>\n"
            ),
        );
    }
    out.push_str("</table>\n");
}

fn over_time(out: &mut String, report: &Report<'_>) {
    let Some(counts) = &report.fold.over_time else { return };
    put(out, format_args!("<h2>Counts per {}</h2>\n", counts.unit()));
    if let Some(chart) = stack(counts, BARS) {
        let (highest, bar) = (chart.highest().max(1), WIDTH / chart.bars as f64);
        let begin = chart.begin;
        put(
            out,
            format_args!(
                "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"Records over time, by level\">\n\
             <text x=\"0\" y=\"12\">{highest} records in {} s</text>\n<text x=\"0\" y=\"{}\">{begin}</text>\n",
                HEIGHT + 40.0,
                chart.seconds,
                HEIGHT + 36.0
            ),
        );
        let mut floors = vec![0; chart.bars];
        for (level, heights) in &chart.series {
            put(out, format_args!("<path fill=\"var(--{})\" d=\"", name(*level)));
            for ((at, height), floor) in heights.iter().enumerate().zip(&mut floors) {
                if *height > 0 {
                    let scaled = |count: u64| count as f64 / highest as f64 * HEIGHT;
                    let (x, bottom, up) = (at as f64 * bar, HEIGHT + 20.0 - scaled(*floor), scaled(*height));
                    put(out, format_args!("M{x:.1} {bottom:.1}h{bar:.2}v-{up:.2}h-{bar:.2}z"));
                    *floor += height;
                }
            }
            put(out, format_args!("\"><title>{}</title></path>\n", name(*level)));
        }
        out.push_str("</svg>\n");
    }
    if counts.untimed > 0 {
        put(out, format_args!("<p class=\"muted\">Records without a time: {}.</p>\n", counts.untimed));
    }
}

fn templates(out: &mut String, report: &Report<'_>) {
    let Some(templates) = &report.fold.templates else { return };
    let ranked = templates.ranked();
    let shown = ranked.len().min(report.top);
    put(
        out,
        format_args!("<h2>Templates</h2>\n<p class=\"muted\">{shown} of {}.</p>\n<table>\n", ranked.len()),
    );
    out.push_str("<tr><th class=\"n\">Records</th><th>Template and example</th></tr>\n");
    for template in &ranked[..shown] {
        let (text, example) = (escaped(&template.text), escaped(&template.example));
        put(
            out,
            format_args!(
                "<tr><td class=\"n\">{}</td><td><code>{text}</code><br><code class=\"muted\">{example}</code></td></tr>\n",
                template.count
            ),
        );
    }
    out.push_str("</table>\n");
    if templates.other() > 0 {
        let other = templates.other();
        put(
            out,
            format_args!(
                "<p class=\"muted\">Messages of templates that were too many to keep: {other}.</p>\n"
            ),
        );
    }
}

/// Somebody else's text, as text; control characters have no place on a page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' => escaped.push(' '),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}
