//! The kernel's own accounts: processor time and memory of a process group, and how busy each CPU was.
//!
//! A proxy is its process group: nginx's master and workers are one, and nothing else is in it. Processor time is
//! summed from every thread's `schedstat`, in nanoseconds; `stat` counts in hundredths of a second and is used for
//! the split between user and system. A thread that ends takes its account with it; the proxies' threads do not.

use std::fs;
use std::io;

use serde::Serialize;

/// What a process group has used since it began, or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    /// Processor time.
    pub(crate) cpu_ns: u64,
    /// Of that, outside the kernel, in ticks.
    pub(crate) user_ticks: u64,
    /// And inside.
    pub(crate) system_ticks: u64,
}

impl Usage {
    /// What was used since an earlier look.
    pub(crate) fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    pub(crate) fn cpu_seconds(self) -> f64 {
        self.cpu_ns as f64 / 1e9
    }

    /// The share of the time outside the kernel.
    pub(crate) fn user_share(self) -> f64 {
        let ticks = self.user_ticks + self.system_ticks;
        if ticks == 0 { 0.0 } else { self.user_ticks as f64 / ticks as f64 }
    }
}

/// The memory of a process group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Resident pages of each process, summed: what several share counts several times.
    pub(crate) rss_kib: u64,
    /// What several share counts once.
    pub(crate) pss_kib: u64,
}

/// Of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    group: u32,
    user_ticks: u64,
    system_ticks: u64,
    /// Of children that were waited for.
    children_ticks: u64,
}

fn stat(text: &str) -> Option<Stat> {
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number: usize| field(number)?.parse::<u64>().ok();
    Some(Stat {
        group: field(5)?.parse().ok()?,
        user_ticks: ticks(14)?,
        system_ticks: ticks(15)?,
        children_ticks: ticks(16)? + ticks(17)?,
    })
}

/// The first field of `schedstat`: time on a CPU.
fn schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The processes of a group, with what `stat` says of them.
fn members(group: u32) -> io::Result<Vec<(u32, Stat)>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended since it was listed is no member.
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        members.extend(stat(&text).filter(|stat| stat.group == group).map(|stat| (pid, stat)));
    }
    if members.is_empty() { Err(io::Error::other("no process of it is left")) } else { Ok(members) }
}

/// What the processes of a group have used so far.
pub(crate) fn usage(group: u32) -> io::Result<Usage> {
    let mut sum = Usage::default();
    for (pid, stat) in members(group)? {
        sum.user_ticks += stat.user_ticks;
        sum.system_ticks += stat.system_ticks;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            sum.cpu_ns += schedstat(&text).ok_or_else(|| io::Error::other("schedstat without a number"))?;
        }
    }
    Ok(sum)
}

/// What the processes of a group hold now.
pub(crate) fn memory(group: u32) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for (pid, _) in members(group)? {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib =
            |key| smaps(&text, key).ok_or_else(|| io::Error::other(format!("smaps_rollup without {key}")));
        sum.rss_kib += kib("Rss:")?;
        sum.pss_kib += kib("Pss:")?;
    }
    Ok(sum)
}

fn smaps(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The ticks that children of ours have used which have ended and were waited for.
pub(crate) fn ended_children_ticks() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    stat(&text).map(|stat| stat.children_ticks).ok_or_else(|| io::Error::other("stat without children"))
}

/// The ticks that each CPU was busy so far, with whatever and whoever. Others' work on a proxy's CPU shows here.
pub(crate) fn busy_ticks() -> io::Result<Vec<u64>> {
    let text = fs::read_to_string("/proc/stat")?;
    Ok(text.lines().filter_map(busy).collect())
}

/// One `cpuN` line: user nice system idle iowait irq softirq steal.
fn busy(line: &str) -> Option<u64> {
    let mut fields = line.strip_prefix("cpu")?.split_whitespace();
    // The first line sums the others and has no number.
    line.as_bytes().get(3).filter(|byte| byte.is_ascii_digit())?;
    fields.next();
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(ticks.iter().take(8).sum::<u64>() - idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "71 (a (b) c) S 1 70 70 0 -1 4194560 1087 0 0 0 123 456 7 8 20 0 1 0 99 0 0";
        assert_eq!(
            stat(text),
            Some(Stat { group: 70, user_ticks: 123, system_ticks: 456, children_ticks: 15 })
        );
        assert_eq!(stat("71 (cut"), None);
    }

    #[test]
    fn schedstat_begins_with_nanoseconds() {
        assert_eq!(schedstat("96145123456 86599 2\n"), Some(96_145_123_456));
        assert_eq!(schedstat(""), None);
    }

    #[test]
    fn smaps_has_a_line_for_each() {
        let text =
            "55d8-7ffc ---p 00000000 00:00 0 [rollup]\nRss:    8140 kB\nPss:    4611 kB\nPss_Anon: 9 kB\n";
        assert_eq!((smaps(text, "Rss:"), smaps(text, "Pss:")), (Some(8140), Some(4611)));
        assert_eq!(smaps(text, "Swap:"), None);
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        assert_eq!(busy("cpu0 10 1 20 500 30 2 3 4 99 98"), Some(40));
        assert_eq!(busy("cpu  10 1 20 500 30 2 3 4 0 0"), None);
        assert_eq!(busy("intr 5"), None);
    }

    #[test]
    fn a_group_has_an_account() {
        use std::io::{Read as _, Write as _};
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};
        // A group of its own: threads of this one come and go with other tests.
        let piped = || Stdio::piped();
        let mut child = Command::new("cat").process_group(0).stdin(piped()).stdout(piped()).spawn().unwrap();
        let group = child.id();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let before = usage(group).unwrap();
        assert!(before.cpu_ns > 0, "{before:?}");
        assert!(usage(group).unwrap().since(before).cpu_ns < before.cpu_ns + 1_000_000_000);
        let memory = memory(group).unwrap();
        assert!(memory.rss_kib >= memory.pss_kib && memory.pss_kib > 0, "{memory:?}");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
