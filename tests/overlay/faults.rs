//! `kill -9` of each process in turn, under a stream of questions: every answer is complete and right to the byte, or it
//! is an error that names what is missing. Never anything else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use slipring_overlay::wire::QueryResponse;
use slipring_tests::overlay::{DAYS, Grpc, Overlay, Row, Rows, ring, six};
use slipring_tests::{measured, wait_until};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// Clients that ask at the same time.
const CLIENTS: usize = 4;
/// Rows of a file; there are three a day.
const ROWS: u64 = 40;
/// Whatever is waited for takes no longer.
const LONG: Duration = Duration::from_secs(60);
/// Answers that are waited for in each state.
const SEVERAL: usize = 25;

/// What one process is missed for when it does not run: the names that an error may hold.
fn held_by(placement_is_dates: bool, victim: &str) -> BTreeSet<String> {
    let days = match victim {
        _ if !placement_is_dates => &[],
        "B" | "C" => &DAYS[..3], // C has no other parent than B; D has
        "D" => &DAYS[3..6],
        "E" | "F" => &DAYS[6..],
        _ => &[],
    };
    days.iter().map(u32::to_string).collect()
}

/// One question of many: no two are equal, so that none is answered from what is kept.
struct Question {
    params: Value,
    min: f64,
    parameter: Option<&'static str>,
    limit: Option<usize>,
}

impl Question {
    fn new(number: u64) -> Self {
        let min = (number % 40) as f64 - 4.0;
        let parameter = [None, Some("PM2.5"), Some("OZONE"), Some("SO2")][number as usize % 4];
        let limit = (number.is_multiple_of(5)).then_some(number as usize % 50);
        let mut params = json!({ "min_value": min, "max_value": 1000 + number });
        if let Some(parameter) = parameter {
            params["parameter"] = parameter.into();
        }
        if let Some(limit) = limit {
            params["limit"] = limit.into();
        }
        Self { params, min, parameter, limit }
    }

    fn meets(&self, row: &Row) -> bool {
        row.value.is_some_and(|value| value >= self.min)
            && self.parameter.is_none_or(|parameter| parameter == row.parameter)
    }
}

/// What the clients know of each other.
struct Stream {
    rows: Rows,
    leader: Grpc,
    by_dates: bool,
    /// The next question.
    number: AtomicU64,
    /// How many changes there were, odd while somebody is or may be dead; and who was killed last.
    state: Mutex<(usize, String)>,
    stop: AtomicBool,
    counts: [AtomicUsize; 4],
}

/// What became of a question.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Ready,
    Incomplete,
    Unanswered,
    /// Its records were compared.
    Read,
}

impl Stream {
    fn count(&self, outcome: Outcome) -> usize {
        self.counts[outcome as usize].load(SeqCst)
    }

    fn note(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, SeqCst);
    }

    /// Asks until it is told to stop; an `Err` is a wrong answer.
    async fn client(self: Arc<Self>) -> Result<(), String> {
        while !self.stop.load(SeqCst) {
            self.one().await?;
        }
        Ok(())
    }

    /// Who may be dead, of those who were at two moments; nobody, if everybody lived all the time.
    fn victims(&self, before: &(usize, String)) -> Vec<String> {
        let after = self.state();
        if *before == after && after.0.is_multiple_of(2) {
            Vec::new()
        } else {
            vec![before.1.clone(), after.1]
        }
    }

    fn change(&self, victim: &str) {
        let mut state = self.state.lock().expect("nobody panics with it");
        *state = (state.0 + 1, victim.to_owned());
    }

    /// How many changes there were, and who was killed last.
    fn state(&self) -> (usize, String) {
        self.state.lock().expect("nobody panics with it").clone()
    }

    async fn one(&self) -> Result<(), String> {
        let question = Question::new(self.number.fetch_add(1, SeqCst));
        let before = self.state();
        let answer = self.leader.ask(&question.params).await;
        let victims = self.victims(&before);
        let said = |why: &str| Err(format!("{why} (victims: {victims:?}): {} {answer:?}", question.params));
        match &answer {
            Err(_) if victims.iter().any(|victim| victim == "A") => self.note(Outcome::Unanswered),
            Err(_) => return said("no answer"),
            Ok(answer) if answer.status == "ready" => {
                if let Err(why) = self.is_right(&question, answer) {
                    return said(&why);
                }
                if question.limit.is_some() || question.parameter.is_some() {
                    self.read(&question, answer).await?;
                }
                self.note(Outcome::Ready);
            }
            Ok(answer) => {
                if let Err(why) = self.is_named(answer, &victims) {
                    return said(&why);
                }
                self.note(Outcome::Incomplete);
            }
        }
        Ok(())
    }

    /// What an answer says of itself.
    fn is_right(&self, question: &Question, answer: &QueryResponse) -> Result<(), String> {
        let matched = self.rows.records(|row| question.meets(row)).len();
        let returned = question.limit.map_or(matched, |limit| limit.min(matched));
        let coverage = answer.coverage.as_ref().ok_or("no coverage")?;
        let said = (answer.matched as usize, answer.total_records as usize, answer.truncated);
        if said != (matched, returned, returned < matched) {
            return Err(format!("wrong: it should be {matched}, {returned}"));
        }
        if (coverage.partitions, coverage.answered, coverage.missing.len()) != (9, 9, 0) {
            return Err("it calls itself ready and is not".into());
        }
        Ok(())
    }

    /// Its records, to the byte. What was found cannot be lost, but by the death of who found it.
    async fn read(&self, question: &Question, answer: &QueryResponse) -> Result<(), String> {
        let before = self.state();
        let records = match self.leader.records(answer).await {
            Ok(records) => records,
            Err(_) if self.victims(&before).iter().any(|victim| victim == "A") => return Ok(()),
            Err(why) => return Err(format!("chunks that are not read ({before:?}): {why}; {answer:?}")),
        };
        let expected = self.rows.records(|row| question.meets(row));
        let expected = expected[..expected.len().min(answer.total_records as usize)].join(",");
        if records != expected {
            return Err(format!("wrong records ({before:?}): {}\n{records}\n{expected}", question.params));
        }
        self.note(Outcome::Read);
        Ok(())
    }

    /// An error names what is missing, and nothing that is not.
    fn is_named(&self, answer: &QueryResponse, victims: &[String]) -> Result<(), String> {
        let Some(first) = answer.status.strip_prefix("incomplete:") else {
            return Err("another status".into());
        };
        let coverage = answer.coverage.as_ref().ok_or("no coverage")?;
        let Some(missing) = coverage.missing.first() else { return Err("it names nothing".into()) };
        if !first.starts_with(&missing.name) || !answer.uid.is_empty() || answer.total_chunks != 0 {
            return Err("status and coverage differ".into());
        }
        let held: BTreeSet<_> = victims.iter().flat_map(|victim| held_by(self.by_dates, victim)).collect();
        match coverage.missing.iter().find(|missing| !held.contains(&missing.name)) {
            Some(stranger) => Err(format!("{} is not missing", stranger.name)),
            None => Ok(()),
        }
    }
}

/// The clients, until they are ended or one of them got a wrong answer.
struct Clients {
    stream: Arc<Stream>,
    tasks: JoinSet<Result<(), String>>,
}

impl Clients {
    async fn begin(overlay: &Overlay, rows: Rows, by_dates: bool) -> Self {
        let (number, state, counts) = (AtomicU64::new(1), Mutex::default(), Default::default());
        let (leader, stop) = (overlay.grpc("A"), AtomicBool::new(false));
        let stream = Stream { rows, leader, by_dates, number, state, stop, counts };
        let stream = Arc::new(stream);
        let mut tasks = JoinSet::new();
        (0..CLIENTS).for_each(|_| drop(tasks.spawn(stream.clone().client())));
        let mut clients = Self { stream, tasks };
        clients.several(Outcome::Ready).await;
        clients
    }

    /// Waits for several answers more of a kind.
    async fn several(&mut self, outcome: Outcome) {
        let stream = self.stream.clone();
        let (from, what) = (stream.count(outcome), format!("{SEVERAL} more that are {outcome:?}"));
        let seen = wait_until(&what, LONG, async || match stream.count(outcome) - from {
            SEVERAL.. => Ok(()),
            _ => Err(format!("{:?}, and {from} before", stream.counts)),
        });
        tokio::select! {
            biased;
            ended = self.tasks.join_next() => panic!("a client has ended: {ended:?}"),
            () = seen => {}
        }
    }

    /// Until a question is answered completely.
    async fn ready(&mut self) {
        let stream = self.stream.clone();
        let again = wait_until("ready again", LONG, async || {
            let question = Question::new(stream.number.fetch_add(1, SeqCst));
            match stream.leader.ask(&question.params).await {
                Ok(answer) if answer.status == "ready" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        tokio::select! {
            biased;
            ended = self.tasks.join_next() => panic!("a client has ended: {ended:?}"),
            () = again => {}
        }
    }

    /// Kills one, has a look at what clients see, starts it again, and waits until all is well; how long that took.
    async fn lose(&mut self, overlay: &mut Overlay, victim: &str, seen: Outcome) -> Duration {
        self.stream.change(victim);
        overlay.kill(victim).await;
        self.several(seen).await;
        let began = Instant::now();
        overlay.spawn(victim);
        overlay.live(victim).await;
        self.ready().await;
        let took = began.elapsed();
        self.stream.change(victim);
        // And it stays so: from here on each answer has to be complete.
        self.several(Outcome::Ready).await;
        took
    }

    async fn end(mut self) {
        self.stream.stop.store(true, SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic").expect("no wrong answer");
        }
        assert!(self.stream.count(Outcome::Read) > SEVERAL, "chunks were read, too");
        measured(&format!(
            "{} answers ready ({} compared byte by byte), {} incomplete, {} without an answer",
            self.stream.count(Outcome::Ready),
            self.stream.count(Outcome::Read),
            self.stream.count(Outcome::Incomplete),
            self.stream.count(Outcome::Unanswered)
        ));
    }
}

/// How many partitions a process took from its folder of them when it started.
fn cached(overlay: &Overlay, id: &str) -> String {
    let log = overlay.log(id);
    let loaded = log.lines().find(|line| line.contains("the partitions are loaded"));
    let cached =
        loaded.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("cached=")));
    cached.unwrap_or_else(|| panic!("{id} does not say what it loaded: {log}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_dates_any_process_may_be_killed_and_no_answer_is_wrong() {
    let data = TempDir::new().expect("a temporary folder can be made");
    let rows = Rows::write(data.path(), ROWS);
    let mut overlay = Overlay::new(SLIPRING, six(), data.path()).cached();
    overlay.start().await;
    assert_eq!(cached(&overlay, "D"), "0");
    let cache = overlay.cache();
    wait_until("all partitions are kept", LONG, async || {
        let names: Vec<_> = std::fs::read_dir(&cache)
            .map(|files| files.flatten().map(|file| file.file_name()).collect())
            .unwrap_or_default();
        let kept = names.iter().filter(|name| !name.to_string_lossy().ends_with(".half")).count();
        if kept == DAYS.len() { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    let mut clients = Clients::begin(&overlay, rows, true).await;
    let mut took = Vec::new();
    for victim in overlay.ids() {
        let seen = if victim == "A" { Outcome::Unanswered } else { Outcome::Incomplete };
        took.push(format!("{victim} {:.1?}", clients.lose(&mut overlay, &victim, seen).await));
    }
    measured(&format!("from the start of a process until an answer is complete: {}", took.join(", ")));
    clients.end().await;
    for worker in ["C", "D", "F"] {
        assert_eq!(cached(&overlay, worker), "3", "{worker} read what it had understood before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_each_day_on_two_workers_every_answer_is_complete_whichever_is_killed() {
    let data = TempDir::new().expect("a temporary folder can be made");
    let rows = Rows::write(data.path(), ROWS);
    let mut overlay = Overlay::new(SLIPRING, ring(), data.path());
    overlay.start().await;
    let mut clients = Clients::begin(&overlay, rows, false).await;
    // A team leader may be lost as well: the other one knows all workers.
    for victim in ["C", "D", "F", "G", "B", "E"] {
        clients.lose(&mut overlay, victim, Outcome::Ready).await;
    }
    assert_eq!(clients.stream.count(Outcome::Incomplete), 0);
    clients.end().await;
}

/// A process that does nothing at all, until this is dropped.
struct Frozen(slipring_tests::Process);

impl Frozen {
    fn new(process: slipring_tests::Process) -> Self {
        process.pause();
        Self(process)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_with_copies_elsewhere_slows_the_first_questions_and_not_those_after_them() {
    let data = TempDir::new().expect("a temporary folder can be made");
    drop(Rows::write(data.path(), ROWS));
    let mut overlay = Overlay::new(SLIPRING, ring(), data.path());
    overlay.start_as(&["--profile", "parallel"]).await;
    let leader = overlay.grpc("A");
    let mut number = 0;
    let mut ask = async |questions: usize| {
        let mut took = Vec::new();
        for _ in 0..questions {
            number += 1;
            let began = Instant::now();
            let answer = leader.ask(&Question::new(number).params).await.expect("an answer");
            assert_eq!(answer.status, "ready", "{answer:?}");
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took
    };
    let calm = ask(100).await;
    let _frozen = Frozen::new(overlay.process("D"));
    // Until it is known that it is D, and nobody else, who is silent.
    let first = ask(10).await;
    let after = ask(200).await;
    let [calm, usual] = [&calm, &after].map(|took| took[took.len() * 95 / 100]);
    measured(&format!(
        "p95 {calm:.1?} before; with a frozen worker the first ones {:.1?} at most, then p95 {usual:.1?}, {:.1?} at most",
        first[9], after[199]
    ));
    // Keep-alive would give it up after four seconds, in each question.
    assert!(usual < calm * 4 + Duration::from_millis(50), "{usual:?} instead of {calm:?}");
}
