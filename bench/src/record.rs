//! The raw data of a run, as JSON: enough to repeat it and to compute everything that was printed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::measure::Measured;
use crate::plan::{Plan, name};
use crate::run::{CaseRun, Run};

#[derive(Serialize)]
struct Sample<'a> {
    peer: &'static str,
    round: u32,
    raw: &'a Value,
    figures: BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    does_not_compare: Option<&'a str>,
}

/// Writes the data into `out`, or into the folder of this day, and says where.
pub(crate) fn save(run: &Run, plan: &Plan, out: Option<&Path>) -> Result<PathBuf, Error> {
    let date = run.began.date();
    let folder = out.map_or_else(|| Path::new("bench/runs").join(format!("{date}-proxy")), Path::to_owned);
    let kind = if plan.quick { "quick-" } else { "" };
    let path = folder.join(format!("{kind}{}-{}.json", name(&plan.table), run.began.time()));
    let failed = |source| Error::Write { path: path.clone(), source };
    let mut text = serde_json::to_string_pretty(&record(run, plan)).map_err(Error::Json)?;
    text.push('\n');
    fs::create_dir_all(&folder).map_err(failed)?;
    fs::write(&path, text).map_err(failed)?;
    Ok(path)
}

fn record(run: &Run, plan: &Plan) -> Value {
    json!({
        "began": run.began.rfc3339(),
        "command": plan.command(),
        "commit": run.commit,
        "machine": run.machine,
        "programs": run.tools.versions(),
        "plan": plan,
        "cases": run.cases.iter().map(case).collect::<Vec<Value>>(),
    })
}

fn case(run: &CaseRun) -> Value {
    let samples: Vec<Sample<'_>> = run.measured.iter().map(sample).collect();
    json!({ "case": run.case, "samples": samples, "configurations": run.configurations })
}

fn sample(measured: &Measured) -> Sample<'_> {
    Sample {
        peer: measured.peer.name(),
        round: measured.round,
        raw: &measured.raw,
        figures: measured.figures.iter().map(|figure| (figure.name.trim(), figure.value)).collect(),
        does_not_compare: measured.blemish.as_deref(),
    }
}
