//! What the figures were taken on, and of which commit. No host name and no path: the data is published.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use rustix::system::uname;
use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_mib: u64,
    kernel: String,
    /// Runnable processes over the last minute before the run: others' work is noise.
    load_average: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let name = uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let kernel = [text(name.sysname()), text(name.release()), text(name.machine())].join(" ");
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor: value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: processors(),
            memory_mib: value("/proc/meminfo", "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or_default()
                / 1024,
            kernel,
            load_average: load.split_whitespace().next().unwrap_or("unknown").to_owned(),
        }
    }
}

/// CPUs that we may use.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Of a file of `key : value` lines.
fn value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The commit that is checked out, with `+` when files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    if changed { format!("{commit}+") } else { commit }
}
