//! Processes that tests hurt, told apart from later ones that may get the same number.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::wait::wait_until;

/// The kernel counts processor time in hundredths of a second (`USER_HZ`, the same on every Linux).
const TICK: Duration = Duration::from_millis(10);

/// One process, as the kernel knew it when it was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since the machine did.
    began: u64,
}

struct Stat {
    state: char,
    parent: u32,
    began: u64,
    cpu: Duration,
}

impl Process {
    /// The process with this number.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(pid: u32) -> Self {
        let stat = stat(pid).unwrap_or_else(|| panic!("there is no process {pid}"));
        Self { pid, began: stat.began }
    }

    fn stat(self) -> Option<Stat> {
        stat(self.pid).filter(|stat| stat.began == self.began)
    }

    /// Its state: `R`unning, `S`leeping, s`T`opped, … `None` when it has ended, whether or not somebody has
    /// taken note.
    pub fn state(self) -> Option<char> {
        self.stat().map(|stat| stat.state).filter(|state| !matches!(state, 'Z' | 'X'))
    }

    /// Whether it has not ended.
    pub fn is_running(self) -> bool {
        self.state().is_some()
    }

    /// Whether it has ended and its parent has not taken note.
    pub fn is_zombie(self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'Z')
    }

    /// Processor time that it has used.
    pub fn cpu(self) -> Duration {
        self.stat().map(|stat| stat.cpu).unwrap_or_default()
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory that it has, in bytes.
    pub fn memory(self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it runs");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("the kernel writes numbers")
    }

    /// Files and connections that it has open.
    pub fn open_files(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(self, signal: Signal) {
        assert!(self.stat().is_some(), "process {} has ended", self.pid);
        kill_process(self.id(), signal).unwrap_or_else(|error| panic!("{signal:?} to {}: {error}", self.pid));
    }

    fn id(self) -> Pid {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// From now on it opens nothing whose number would not be below `most`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn allow_open_files(self, most: u64) {
        // Ours is its own, too: what is taken can be given back.
        let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(Some(self.id()), Resource::Nofile, limit).expect("it is ours and runs");
    }

    /// `kill -9`.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// `kill -STOP`: it is there and does nothing.
    pub fn pause(self) {
        self.signal(Signal::STOP);
    }

    /// The same where it keeps nobody out: not in the middle of a write to SQLite, whose lock it would hold.
    pub async fn pause_between_writes(self) {
        wait_until("it stands still and holds no lock", Duration::from_secs(60), async || {
            self.pause();
            // A signal needs a moment to reach each thread.
            if let Some(state) = self.threads().into_iter().find(|state| *state != 'T') {
                return Err(format!("a thread of it is in state {state}"));
            }
            let locks = std::fs::read_to_string("/proc/locks").expect("this is Linux");
            let pid = self.pid.to_string();
            let is_its =
                |lock: &&str| lock.contains(" WRITE ") && lock.split_whitespace().any(|word| word == pid);
            let Some(lock) = locks.lines().find(is_its) else { return Ok(()) };
            self.resume();
            Err(format!("it held {lock}"))
        })
        .await;
    }

    /// The states of its threads.
    fn threads(self) -> Vec<char> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let ids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        ids.filter_map(stat).map(|stat| stat.state).collect()
    }

    /// `kill -CONT`: it goes on.
    pub fn resume(self) {
        self.signal(Signal::CONT);
    }
}

/// Every process there is.
fn all() -> HashMap<u32, Stat> {
    let folders = std::fs::read_dir("/proc").expect("this is Linux").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

impl Process {
    /// The process that it started.
    ///
    /// # Panics
    /// When there is not just one.
    pub fn only_child(self) -> Self {
        let children: Vec<_> = all().into_iter().filter(|(_, stat)| stat.parent == self.pid).collect();
        assert_eq!(children.len(), 1, "children of {}", self.pid);
        Self { pid: children[0].0, began: children[0].1.began }
    }

    /// All that it started, and what those did, and so on.
    pub fn descendants(self) -> Vec<Self> {
        let all = all();
        let is_below = |stat: &Stat| {
            let parent = |pid: &u32| all.get(pid).map(|stat| stat.parent);
            std::iter::successors(Some(stat.parent), parent).any(|ancestor| ancestor == self.pid)
        };
        let below = all.iter().filter(|(_, stat)| is_below(stat));
        below.map(|(pid, stat)| Self { pid: *pid, began: stat.began }).collect()
    }

    /// How many of its descendants have ended and were not waited for.
    pub fn zombies_below(self) -> usize {
        let all = all();
        let is_below = |stat: &&Stat| {
            let parent = |pid: &u32| all.get(pid).map(|stat| stat.parent);
            std::iter::successors(Some(stat.parent), parent).any(|ancestor| ancestor == self.pid)
        };
        all.values().filter(|stat| stat.state == 'Z').filter(is_below).count()
    }
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    let cpu = TICK * u32::try_from(ticks).ok()?;
    let parent = u32::try_from(number(4)?).ok()?;
    Some(Stat { state: fields.first()?.chars().next()?, parent, began: number(22)?, cpu })
}
