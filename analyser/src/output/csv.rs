//! CSV (RFC 4180, with newlines alone), a table for each thing that can be asked.

use super::Report;
use crate::fold::Levels;

/// `level,count`, a row for each level that was seen; records without one have an empty name.
#[must_use]
pub fn levels_csv(report: &Report<'_>) -> String {
    let mut out = "level,count\n".to_owned();
    rows(&mut out, "", &report.fold.levels);
    out
}

/// `begin,level,count`, a row for each level in each bucket; records without a time have no begin. `None` if it was not
/// asked.
#[must_use]
pub fn over_time_csv(report: &Report<'_>) -> Option<String> {
    let counts = report.fold.over_time.as_ref()?;
    let mut out = "begin,level,count\n".to_owned();
    for (begin, levels) in counts.buckets() {
        rows(&mut out, &format!("{begin},"), levels);
    }
    if counts.untimed > 0 {
        out += &format!(",,{}\n", counts.untimed);
    }
    Some(out)
}

/// `count,template,example`, the most frequent first; messages of templates that were too many to keep come last, with
/// an empty template. `None` if it was not asked.
#[must_use]
pub fn templates_csv(report: &Report<'_>) -> Option<String> {
    let templates = report.fold.templates.as_ref()?;
    let mut out = "count,template,example\n".to_owned();
    for template in templates.ranked().iter().take(report.top) {
        out += &format!("{},{},{}\n", template.count, field(&template.text), field(&template.example));
    }
    if templates.other() > 0 {
        out += &format!("{},,\n", templates.other());
    }
    Some(out)
}

fn rows(out: &mut String, before: &str, levels: &Levels) {
    for (level, count) in levels.seen() {
        *out += &format!("{before}{level},{count}\n");
    }
    if levels[None] > 0 {
        *out += &format!("{before},{}\n", levels[None]);
    }
}

/// In quotes if it has to be. A spreadsheet takes what begins with `=`, `+`, `-` or `@` for a formula: that is somebody
/// else's log, so an apostrophe keeps it a text.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
