//! A little language for tests of the core: each line is `what happens | commands that must come of it`.
//!
//! Instances are written `name#incarnation`, or just `name` for the present or latest life; `-name#5` is a dead
//! one, `+name#5` one that is at another address, and `:3` after a name is its number where it cannot be known; a random name is shown as `new`. `Publish`,
//! `Abandon` and news are left out of the commands; lines that only look (`news`, `state`, `views`, `why`, `ring`, …)
//! show what there is to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slipring_hashing::{HashPair, Member, Placement, ReplicaId, Table, Weight};

use super::super::{
    Beat, Command, Core, Event, Found, Instance, News, Remembered, Running, Settings, SpawnFailure,
};
use super::ms;
use crate::fleet::state::Handle;

/// Runs a script on a new core; `check_invariants` follows every event.
pub(super) fn check(settings: Settings, script: &str) {
    check_on(&Placement::contract(HashPair::Given), settings, script);
}

/// The same on another ring.
pub(super) fn check_on(placement: &Placement, settings: Settings, script: &str) {
    let table = placement.build(&[]).unwrap();
    let mut run = Run {
        ring: Arc::new(table.clone()),
        core: Core::new(settings.clone(), table),
        settings,
        now: ms(0),
        known: BTreeMap::new(),
        news: Vec::new(),
    };
    for (number, line) in script.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (action, expected) = line.split_once('|').unwrap_or((line, ""));
        let got = without_dice(&run.line(action.trim()));
        assert_eq!(got, expected.trim(), "line {number}, {:?}: {}\n{script}", run.now, action.trim());
    }
}

pub(super) fn running(incarnation: u64) -> Running {
    let port = 1000 + incarnation as u16;
    Running { address: ([127, 0, 0, 1], port).into(), handle: Handle::Pid(u32::from(port)) }
}

struct Run {
    core: Core,
    settings: Settings,
    now: Duration,
    known: BTreeMap<u64, Instance>,
    news: Vec<News>,
    /// At the last line that looked at it.
    ring: Arc<Table>,
}

impl Run {
    fn line(&mut self, action: &str) -> String {
        let mut words = action.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let words: Vec<_> = words.collect();
        match verb {
            "begin" => self.begin(&words),
            "wait" => self.wait(ms(words[0].parse().unwrap())),
            "live" => {
                let both = words.iter().flat_map(|name| [format!("spawned {name}"), format!("good {name}")]);
                join(both.collect::<Vec<_>>().iter().map(|line| self.line(line)))
            }
            "state" => {
                join_words(self.core.members().map(|(i, state, _)| format!("{}={}", i.name, state.name())))
            }
            "views" => join_words(
                self.core.views().iter().map(|v| format!("{}:{}={}", v.name, v.id, v.state.name())),
            ),
            "why" => {
                let views = self.core.views();
                let view = views.iter().find(|view| view.name == words[0]);
                view.and_then(|view| view.last_error.clone()).unwrap_or_default()
            }
            "weights" => {
                let member = |m: &Member| {
                    let name = self.core.members().find(|(i, ..)| i.id == m.id).map(|(i, ..)| i.name.clone());
                    format!("{}={:.2}", name.unwrap_or_default(), m.weight.get())
                };
                join_words(self.core.table().members().iter().map(member))
            }
            "names" => self.core.names().join(" "),
            "remember" => join_words(self.core.remember().iter().map(|r| format!("{}:{}", r.name, r.id))),
            "empty" => self.core.is_empty().to_string(),
            "deadline" => self
                .core
                .next_deadline(self.now)
                .map_or("none".into(), |at| (at - self.now).as_millis().to_string()),
            "ring" => {
                let before = std::mem::replace(&mut self.ring, self.core.table().clone());
                if *before == *self.ring { "same".into() } else { "changed".into() }
            }
            "news" => join(std::mem::take(&mut self.news).iter().map(news)),
            _ => words_to_event(self, verb, &words),
        }
    }

    fn begin(&mut self, words: &[&str]) -> String {
        let mut halves = words.split(|word| *word == "found");
        let names = halves.next().unwrap_or_default();
        let remembered: Vec<_> = (0..)
            .zip(names)
            .map(|(id, name)| Remembered { id: ReplicaId(id), name: (*name).into(), claims: Vec::new() })
            .collect();
        let id = |name: &str| remembered.iter().find(|r| r.name == name).map_or(ReplicaId(98), |r| r.id);
        let found: Vec<_> = halves.next().unwrap_or_default().iter().map(|word| found(word, id)).collect();
        self.know(&found);
        let commands = self.core.begin(&remembered, found, self.now).unwrap();
        self.render(commands)
    }

    fn know(&mut self, found: &[Found]) {
        for Found { instance, .. } in found {
            self.known.entry(instance.incarnation).or_insert_with(|| instance.clone());
        }
    }

    /// As the shell does: a tick at every deadline.
    fn wait(&mut self, time: Duration) -> String {
        let end = self.now + time;
        let mut lines = Vec::new();
        while let Some(at) = self.core.next_deadline(self.now).filter(|&at| at <= end) {
            self.now = at;
            lines.push(self.give(Event::Tick));
        }
        self.now = end;
        lines.push(self.give(Event::Tick));
        join(lines)
    }

    fn give(&mut self, event: Event) -> String {
        let commands = self.core.handle(event, self.now);
        self.render(commands)
    }

    fn render(&mut self, commands: Vec<Command>) -> String {
        self.core.check_invariants();
        for (instance, ..) in self.core.members() {
            self.known.insert(instance.incarnation, instance.clone());
        }
        join(commands.into_iter().filter_map(|command| match command {
            Command::Spawn(i) => {
                let word = format!("spawn {}#{}", i.name, i.incarnation);
                self.known.insert(i.incarnation, i);
                Some(word)
            }
            Command::Stop { instance: i, grace } if grace.is_zero() => {
                Some(format!("kill {}#{}", i.name, i.incarnation))
            }
            Command::Stop { instance: i, .. } => Some(format!("stop {}#{}", i.name, i.incarnation)),
            Command::Probe { instance: i, .. } => Some(format!("ask {}#{}", i.name, i.incarnation)),
            Command::Drain { instance: i, .. } => Some(format!("drain {}#{}", i.name, i.incarnation)),
            Command::Answer { ticket, answer: Ok(names) } => {
                Some(format!("answer {ticket}: {}", names.join(" ")))
            }
            Command::Answer { ticket, answer: Err(_) } => Some(format!("answer {ticket}: error")),
            Command::Remember => Some("remember".into()),
            Command::Tell(told) => {
                self.news.push(told);
                None
            }
            Command::Abandon(_) | Command::Publish => None,
        }))
    }

    /// The instance that a word means.
    fn instance(&self, word: &str) -> Instance {
        let (name, incarnation) = word.split_once('#').unwrap_or((word, ""));
        let latest = || {
            let member = self.core.members().map(|(i, ..)| i).find(|i| without_dice(&i.name) == name);
            member
                .or_else(|| self.known.values().rev().find(|i| i.name == name))
                .unwrap_or_else(|| panic!("no {word}"))
                .clone()
        };
        incarnation.parse().map_or_else(|_| latest(), |incarnation: u64| self.known[&incarnation].clone())
    }
}

fn words_to_event(run: &mut Run, verb: &str, words: &[&str]) -> String {
    let names = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let beat = |beat| Event::Beat { instance: run.instance(words[0]), beat };
    let event = match verb {
        "add" => Event::Add { ticket: words[0].parse().unwrap(), names: names(&words[1..]) },
        "rm" => Event::Remove { names: names(words) },
        "spawned" => {
            let instance = run.instance(words[0]);
            Event::Spawned { running: running(instance.incarnation), instance }
        }
        "fails" => Event::SpawnFailed {
            instance: run.instance(words[0]),
            failure: SpawnFailure::new("it fails", "do something"),
        },
        "exits" => Event::Exited { instance: run.instance(words[0]), why: "exit status: 1".into() },
        "refused" => Event::Refused { instance: run.instance(words[0]) },
        "serves" => Event::Served { instance: run.instance(words[0]) },
        "good" => beat(Beat::Good),
        "missed" => beat(Beat::Missed("no answer".into())),
        "beat-refused" => beat(Beat::Refused),
        "drained" => Event::Drained { instance: run.instance(words[0]) },
        "stopped" => Event::Stopped { instance: run.instance(words[0]) },
        "stop-fails" => Event::StopFailed { instance: run.instance(words[0]), why: "it hangs".into() },
        "sees" => {
            let asked = ms(words[0].trim_start_matches('@').parse().unwrap());
            let id = |word: &str| {
                run.known.values().rev().find(|i| i.name == word).map_or(ReplicaId(98), |i| i.id)
            };
            let found: Vec<_> = words[1..].iter().map(|word| found(word, id)).collect();
            run.know(&found);
            Event::Observed { asked, found }
        }
        "set" => {
            words.iter().for_each(|word| set(&mut run.settings, word));
            Event::Configured { settings: Box::new(run.settings.clone()), ticket: 99 }
        }
        "shutdown" => Event::Shutdown,
        _ => panic!("no such line: {verb}"),
    };
    run.give(event)
}

/// `failures=2`, or `list=a,b:2`.
fn set(settings: &mut Settings, word: &str) {
    let (key, value) = word.split_once('=').unwrap();
    let number = || value.parse().unwrap();
    match key {
        "failures" => settings.failures = number() as u32,
        "interval" => settings.heartbeat_interval = ms(number()),
        "timeout" => settings.heartbeat_timeout = ms(number()),
        "stop" => settings.stop_timeout = ms(number()),
        "backoff" => settings.backoff.max = ms(number()),
        "tasks" => settings.task_batch = number() as usize,
        "slow" => settings.slow_start = ms(number()),
        "most" => settings.max_replicas = number() as usize,
        "list" => {
            let listed = value.split(',').filter(|item| !item.is_empty());
            let member = |item: &str| {
                let (name, weight) = item.split_once(':').unwrap_or((item, "1"));
                (name.to_owned(), Weight::new(weight.parse().unwrap()).unwrap())
            };
            settings.listed = listed.map(member).collect();
        }
        _ => panic!("no such setting: {key}"),
    }
}

fn found(word: &str, id: impl Fn(&str) -> ReplicaId) -> Found {
    let (word, incarnation) = word.split_once('#').unwrap();
    let incarnation: u64 = incarnation.parse().unwrap();
    let alive = !word.starts_with('-');
    let place = if word.starts_with('+') { incarnation + 500 } else { incarnation };
    let word = word.trim_start_matches(['-', '+']);
    let (name, id) = word
        .split_once(':')
        .map_or_else(|| (word, id(word)), |(name, n)| (name, ReplicaId(n.parse::<u16>().unwrap() - 1)));
    Found {
        instance: Instance { id, name: name.into(), incarnation },
        running: alive.then(|| running(place)),
    }
}

fn news(news: &News) -> String {
    let what = news.name();
    match news {
        News::Respawning { replica, backoff_ms, .. } => format!("{what} {replica} +{backoff_ms}"),
        News::Suspect { replica, missed, .. } => format!("{what} {replica} {missed}"),
        News::Added { replica, .. }
        | News::Adopted { replica, .. }
        | News::Spawning { replica, .. }
        | News::Started { replica, .. }
        | News::SpawnFailed { replica, .. }
        | News::Live { replica }
        | News::Flatlined { replica, .. }
        | News::Renamed { replica, .. }
        | News::Draining { replica }
        | News::Stopped { replica }
        | News::Orphan { replica }
        | News::StopFailed { replica, .. } => format!("{what} {replica}"),
        News::Reloaded { .. } | News::ReloadRefused { .. } => what.to_owned(),
        News::Warning { why } => format!("{what} {why}"),
    }
}

fn join(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn join_words(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

/// `Server-830-000#3` as `new#3`: what the dice say is their own affair.
fn without_dice(text: &str) -> String {
    let hide = |word: &str| match word.strip_prefix("Server-") {
        Some(digits) => format!("new{}", digits.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-')),
        None => word.to_owned(),
    };
    join_words(text.split(' ').map(hide))
}
