//! `kill -9` and SIGSTOP of processes in turn, under waves that begin at all others: each wave answers in time, counts nobody
//! twice, and names whoever it does not count.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use slipring_tests::overlay::{Overlay, Rows, six};
use slipring_tests::{Http, measured, wait_until};
use tempfile::TempDir;
use tokio::task::JoinSet;

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const SIX: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
/// Whatever is waited for takes no longer.
const LONG: Duration = Duration::from_secs(60);
/// Waves that are waited for in each state.
const SEVERAL: usize = 20;
/// And where each of them takes all the time that it may.
const SOME: usize = 8;
/// Seconds that a wave may take.
const TIMEOUT: f64 = 5.0;

/// Who is missing of a wave when one process does not answer: it, and those to whom no other way leads.
fn lost_with(victim: &str, initiator: &str) -> BTreeSet<&'static str> {
    let links = ["AB", "AE", "BC", "BD", "DE", "EF"];
    let mut reached = BTreeSet::from([initiator]);
    for _ in SIX {
        for link in links {
            let ends = link.split_at(1);
            if ends.0 != victim && ends.1 != victim && (reached.contains(ends.0) || reached.contains(ends.1))
            {
                reached.extend([ends.0, ends.1]);
            }
        }
    }
    SIX.into_iter().filter(|id| !reached.contains(id)).collect()
}

/// How things stand: how many changes there were, who is hurt, and whether that was already and is still so.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scene {
    changes: usize,
    victim: Option<&'static str>,
    is_changing: bool,
}

/// What those who begin waves know of each other.
struct Waves {
    all: Vec<(&'static str, Http)>,
    scene: Mutex<Scene>,
    stop: AtomicBool,
    complete: AtomicUsize,
    incomplete: AtomicUsize,
}

impl Waves {
    fn scene(&self) -> Scene {
        self.scene.lock().expect("nobody panics with it").clone()
    }

    fn change(&self, victim: Option<&'static str>, is_changing: bool) {
        let mut scene = self.scene.lock().expect("nobody panics with it");
        *scene = Scene { changes: scene.changes + 1, victim, is_changing };
    }

    /// Begins waves at one process, until it is told to stop; an `Err` is a wrong answer.
    async fn begin(self: Arc<Self>, initiator: usize) -> Result<(), String> {
        let (id, http) = self.all[initiator];
        while !self.stop.load(SeqCst) {
            let before = self.scene();
            let answer = ask(http).await;
            let after = self.scene();
            let is_steady = before == after && !before.is_changing;
            let is_hurt = [before.victim, after.victim].contains(&Some(id));
            match answer {
                // Whoever is stopped goes on one day, too late for its own waves alone.
                _ if is_hurt => tokio::task::yield_now().await,
                Err(why) => return Err(format!("{id}, {before:?} to {after:?}: {why}")),
                Ok(answer) => {
                    let judged = self.judge(id, &answer, is_steady.then_some(before.victim));
                    judged.map_err(|why| format!("{id}, {before:?} to {after:?}: {why}: {answer}"))?;
                }
            }
        }
        Ok(())
    }

    /// Of a wave during which nothing changed it is known who has to be missing.
    fn judge(&self, id: &str, answer: &Value, steady: Option<Option<&str>>) -> Result<(), String> {
        let nodes: BTreeSet<_> =
            answer["nodes"].as_object().ok_or("no nodes")?.keys().map(String::as_str).collect();
        let missing = answer["missing"].as_array().ok_or("nothing of missing ones")?;
        let missing: BTreeSet<_> = missing.iter().filter_map(|one| one["process"].as_str()).collect();
        let is_complete = answer["is_complete"] == true;
        if !nodes.is_disjoint(&missing) || nodes.union(&missing).copied().ne(SIX) {
            return Err("not everybody is there or missing".into());
        }
        if is_complete != missing.is_empty() {
            return Err("it calls itself what it is not".into());
        }
        if answer["took_ms"].as_f64().is_none_or(|ms| ms > 2000.0 * TIMEOUT) {
            return Err("it came too late".into());
        }
        match steady {
            Some(None) if !is_complete || answer["messages"] != 12 || !answer["mismatch"].is_null() => {
                return Err("it should be complete, with two messages on each of six links".into());
            }
            Some(Some(victim)) if missing != lost_with(victim, id) => return Err("others are missing".into()),
            _ => {}
        }
        if is_complete { &self.complete } else { &self.incomplete }.fetch_add(1, SeqCst);
        Ok(())
    }
}

async fn ask(http: Http) -> Result<Value, String> {
    let request =
        http.request(Method::GET, &format!("/overlay/echo?timeout={TIMEOUT}")).body(Default::default());
    let answer = http.send(request.expect("a valid request")).await?;
    if answer.status != 200 { Err(format!("{answer:?}")) } else { Ok(answer.json()) }
}

/// Those who begin waves, until they are ended or one of them got a wrong answer.
struct Initiators {
    waves: Arc<Waves>,
    tasks: JoinSet<Result<(), String>>,
}

impl Initiators {
    fn begin(overlay: &Overlay) -> Self {
        let waves = Arc::new(Waves {
            all: SIX.iter().map(|id| (*id, overlay.http(id))).collect(),
            scene: Mutex::new(Scene::default()),
            stop: AtomicBool::new(false),
            complete: AtomicUsize::new(0),
            incomplete: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        (0..SIX.len()).for_each(|initiator| drop(tasks.spawn(waves.clone().begin(initiator))));
        Self { waves, tasks }
    }

    async fn several(&mut self, what: &str, most: usize, count: impl Fn(&Waves) -> usize) {
        let waves = self.waves.clone();
        let from = count(&waves);
        let seen = wait_until(what, LONG, async || match count(&waves) - from {
            enough if enough >= most => Ok(()),
            some => Err(format!("{some} in {:?}", waves.scene())),
        });
        tokio::select! {
            biased;
            ended = self.tasks.join_next() => panic!("one has ended: {ended:?}"),
            () = seen => {}
        }
    }

    async fn complete(&mut self) {
        self.several("complete waves", SEVERAL, |waves| waves.complete.load(SeqCst)).await;
    }

    async fn incomplete(&mut self, most: usize) {
        self.several("incomplete waves", most, |waves| waves.incomplete.load(SeqCst)).await;
    }

    /// Until a wave of each process is complete, and no change of before can be felt.
    async fn well(&self) {
        for (id, http) in &self.waves.all {
            wait_until(&format!("{id} has a complete wave"), LONG, async || match ask(*http).await {
                Ok(answer) if answer["is_complete"] == true && answer["mismatch"].is_null() => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
    }

    async fn end(mut self) {
        self.waves.stop.store(true, SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("nobody panics").expect("no wrong answer");
        }
        let count = |waves: &AtomicUsize| waves.load(SeqCst);
        measured(&format!(
            "{} waves complete, {} incomplete, all in time",
            count(&self.waves.complete),
            count(&self.waves.incomplete)
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_or_stopped_waves_end_in_time_and_name_who_is_missing() {
    let data = TempDir::new().expect("a temporary folder can be made");
    Rows::write(data.path(), 5);
    let mut overlay = Overlay::new(SLIPRING, six(), data.path());
    overlay.start().await;
    let mut initiators = Initiators::begin(&overlay);
    let waves = initiators.waves.clone();
    initiators.well().await;
    initiators.complete().await;
    for victim in SIX {
        waves.change(Some(victim), true);
        overlay.kill(victim).await;
        waves.change(Some(victim), false);
        initiators.incomplete(SEVERAL).await;
        waves.change(Some(victim), true);
        overlay.spawn(victim);
        overlay.live(victim).await;
        initiators.well().await;
        waves.change(None, false);
        initiators.complete().await;
    }
    // One that is there and does nothing: only its silence tells.
    for victim in ["D", "B"] {
        waves.change(Some(victim), true);
        overlay.process(victim).pause();
        initiators.incomplete(SOME).await;
        overlay.process(victim).resume();
        initiators.well().await;
        waves.change(None, false);
        initiators.complete().await;
    }
    initiators.end().await;
}
