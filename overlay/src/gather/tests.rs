//! Neighbors over a pipe in memory that do what a test says: the clock is the test's.

use std::sync::{Arc, Mutex};

use futures_util::stream::{self, BoxStream};
use hyper_util::rt::TokioIo;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::*;
use crate::date::Date;
use crate::peer_wire::peer_server::{Peer, PeerServer};
use crate::peer_wire::{CatalogRequest, CatalogResponse, GiveBackRequest, GiveBackResponse, ScanParts};
use crate::topology::{Overrides, Profile, Topology};

/// What a neighbor says to a request, and when.
type Behaviour = dyn Fn(ScanRequest) -> BoxStream<'static, ScanPart> + Send + Sync;

/// What was asked of whom: its name, and the dates.
type Asked = Arc<Mutex<Vec<(String, Vec<u32>)>>>;

#[derive(Clone)]
struct Neighbor {
    id: String,
    behaviour: Arc<Behaviour>,
    asked: Asked,
}

fn dates(request: &ScanRequest) -> Vec<u32> {
    request.routes.iter().flat_map(|route| route.asks.iter().map(|ask| ask.date)).collect()
}

#[tonic::async_trait]
impl Peer for Neighbor {
    async fn catalog(&self, _: Request<CatalogRequest>) -> Result<Response<CatalogResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it here"))
    }

    async fn give_back(&self, _: Request<GiveBackRequest>) -> Result<Response<GiveBackResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it here"))
    }

    type ScanStream = BoxStream<'static, Result<ScanParts, Status>>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let request = request.into_inner();
        self.asked.lock().unwrap().push((self.id.clone(), dates(&request)));
        let said = (self.behaviour)(request);
        let said = said.map(|part| Ok(ScanParts { parts: vec![part], active: 0, capacity: 1 }));
        Ok(Response::new(said.boxed()))
    }
}

impl Neighbor {
    fn channel(self) -> Channel {
        let connect = move |_| {
            let neighbor = self.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(1 << 20);
                let incoming = stream::iter([Ok::<_, std::io::Error>(theirs)]).chain(stream::pending());
                tokio::spawn(
                    Server::builder().add_service(PeerServer::new(neighbor)).serve_with_incoming(incoming),
                );
                Ok::<_, std::io::Error>(TokioIo::new(ours))
            }
        };
        Endpoint::from_static("http://in.memory").connect_with_connector_lazy(tower::service_fn(connect))
    }
}

/// A asks, with these neighbors.
fn asker<const N: usize>(profile: Profile, neighbors: [(&str, Arc<Behaviour>); N]) -> (Asker, Asked) {
    let asked = Asked::default();
    let channel = |(id, behaviour): (&str, Arc<Behaviour>)| {
        let neighbor = Neighbor { id: id.to_owned(), behaviour, asked: asked.clone() };
        (ProcessId::from(id), neighbor.channel())
    };
    let file = Topology::parse(include_str!("../../topologies/baseline.json")).unwrap();
    let strategies = Overrides { profile: Some(profile), ..Overrides::default() }.apply(file.strategies);
    let asker = Asker {
        own: "A".into(),
        peers: Peers::over(neighbors.map(channel)),
        holdings: Holdings::none(),
        strategies,
        turn: AtomicU32::new(0),
        hedging: Hedging::default(),
    };
    (asker, asked)
}

fn part(date: u32) -> ScanPart {
    ScanPart { date, process: "D".into(), matched: 1, ..ScanPart::default() }
}

/// Says what it is asked for, a part each `pause`; after `most` of them nothing, and it never ends.
fn says(pause: Duration, most: usize) -> Arc<Behaviour> {
    Arc::new(move |request| {
        let parts = dates(&request).into_iter().take(most);
        let said = stream::iter(parts).then(move |date| async move {
            sleep(pause).await; // paused clock
            part(date)
        });
        said.chain(stream::pending()).boxed()
    })
}

fn wanted(day: u32, routes: &[Route]) -> (Wanted, i64) {
    let date = Date::from_number(20_200_800 + day).unwrap();
    (Wanted { date, routes: routes.iter().cloned().collect(), malformed: 0 }, 0)
}

/// Asks; which dates came, which did not, and how long it took.
async fn gather(asker: &Asker, wanted: Vec<(Wanted, i64)>, turn: u32) -> (Vec<u32>, usize, Duration) {
    let query = Query::default();
    let began = Instant::now();
    let question =
        Question { query_id: "q", query: &query, hops: &[], deadline: began + Duration::from_secs(8), turn };
    let mut came = Vec::new();
    let took = |part: ScanPart| {
        came.push(part.date);
        Ok(())
    };
    let missing = asker.gather(question, wanted, took).await;
    (came.into_iter().filter(|date| *date != 0).collect(), missing.len(), began.elapsed())
}

const SHORT: Duration = Duration::from_millis(1);

/// Rounds in which nobody was silent for longer than that.
fn knows(asker: &Asker) {
    (0..50).for_each(|_| asker.hedging.took(SHORT, true));
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_that_flows_is_not_asked_for_twice() {
    let (b, e) = (says(Duration::from_millis(4), 31), says(SHORT, 31));
    let (asker, asked) = asker(Profile::Parallel, [("B", b), ("E", e)]);
    knows(&asker);
    let days = (1..=31).map(|day| wanted(day, &[route(&["B", "D"]), route(&["E", "D"])])).collect();
    let (came, missing, took) = gather(&asker, days, 0).await;
    assert_eq!((came.len(), missing, asker.hedging.hedges()), (31, 0, 0));
    assert!(took > Duration::from_millis(100), "many times the patience: {took:?}");
    assert!(asked.lock().unwrap().iter().all(|(id, _)| id == "B"), "{asked:?}");
    // And what is usual has not become that long.
    (0..50).for_each(|_| assert!(asker.hedging.patience() < Duration::from_millis(10)));
}

#[tokio::test(start_paused = true)]
async fn what_falls_silent_on_the_way_is_asked_for_elsewhere_and_is_not_distrusted_for_it() {
    let (b, e) = (says(SHORT, 3), says(SHORT, 31));
    let (asker, asked) = asker(Profile::Parallel, [("B", b), ("E", e)]);
    knows(&asker);
    let days = || (1..=6).map(|day| wanted(day, &[route(&["B", "D"]), route(&["E", "D"])])).collect();
    let (came, missing, took) = gather(&asker, days(), 0).await;
    assert_eq!((came.len(), missing, asker.hedging.hedges()), (6, 0, 1));
    assert!(took < Duration::from_millis(50), "{took:?}");
    let mut first = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(first.remove(0).0, "B");
    assert_eq!(first, [("E".to_owned(), vec![20_200_804, 20_200_805, 20_200_806])], "what has not come");
    for _ in 0..4 {
        gather(&asker, days(), 0).await;
        assert_eq!(asker.hedging.distrusted(Instant::now()), [], "in each round it says something");
    }
}

/// Rounds until somebody is distrusted: who, and how many they were.
async fn until_distrust(asker: &Asker, days: impl Fn() -> Vec<(Wanted, i64)>) -> (Vec<ProcessId>, u64) {
    for rounds in 1..=10 {
        let (came, missing, took) = gather(asker, days(), 0).await;
        assert_eq!((came.len(), missing), (days().len(), 0));
        assert!(took < Duration::from_millis(50), "{took:?}");
        let distrusted = asker.hedging.distrusted(Instant::now());
        if !distrusted.is_empty() {
            return (distrusted, rounds);
        }
    }
    panic!("nobody is distrusted");
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_in_several_rounds_is_asked_last() {
    let (b, e) = (says(SHORT, 0), says(SHORT, 31));
    let (asker, asked) = asker(Profile::Parallel, [("B", b), ("E", e)]);
    knows(&asker);
    let days = || (1..=3).map(|day| wanted(day, &[route(&["B", "D"]), route(&["E", "D"])])).collect();
    let (distrusted, rounds) = until_distrust(&asker, days).await;
    assert_eq!(distrusted, ["B".into()]);
    assert!((2..=5).contains(&rounds), "{rounds}");
    asked.lock().unwrap().clear();
    gather(&asker, days(), 0).await;
    assert!(asked.lock().unwrap().iter().all(|(id, _)| id == "E"), "{asked:?}");
    tokio::time::advance(Duration::from_secs(3)).await;
    gather(&asker, days(), 0).await;
    assert!(asked.lock().unwrap().iter().any(|(id, _)| id == "B"), "it may be well again: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_with_little_time_names_nobody() {
    let late: Arc<Behaviour> = Arc::new(|request| {
        let said = stream::iter(dates(&request)).then(|date| async move {
            sleep(SHORT).await; // paused clock
            let failure = Failure { kind: Kind::Deadline.into(), process: "D".into(), words: "late".into() };
            ScanPart { failure: Some(failure), ..part(date) }
        });
        said.boxed()
    });
    let (asker, _) = asker(Profile::Parallel, [("B", late)]);
    knows(&asker);
    let (came, missing, _) = gather(&asker, vec![wanted(1, &[route(&["B", "D"])])], 0).await;
    assert_eq!((came.len(), missing), (0, 1));
    assert_eq!(asker.hedging.distrusted(Instant::now()), []);
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_waits_for_no_last_words() {
    let (asker, _) = asker(Profile::Parallel, [("B", says(Duration::ZERO, 31))]);
    let day = |day| wanted(day, &[route(&["B", "D"])]);
    let (came, missing, took) = gather(&asker, (1..=5).map(day).collect(), 0).await;
    assert_eq!((came.len(), missing), (5, 0));
    assert!(took < Duration::from_millis(10), "its stream never ends: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_one_after_another_is_never_asked_with_somebody_else() {
    let in_hand = Arc::new(Mutex::new((0_usize, 0_usize)));
    let counted = || -> Arc<Behaviour> {
        let in_hand = in_hand.clone();
        Arc::new(move |request| {
            {
                let mut now = in_hand.lock().unwrap();
                now.0 += 1;
                now.1 = now.1.max(now.0);
            }
            let (in_hand, last) = (in_hand.clone(), *dates(&request).last().unwrap());
            let said = stream::iter(dates(&request)).then(move |date| {
                let in_hand = in_hand.clone();
                async move {
                    sleep(SHORT).await; // paused clock
                    in_hand.lock().unwrap().0 -= usize::from(date == last);
                    part(date)
                }
            });
            said.boxed()
        })
    };
    let neighbors = || [("B", counted()), ("D", counted()), ("F", counted())];
    let (asker, asked) = asker(Profile::Baseline, neighbors());
    // F has one way, D two.
    let days = || vec![wanted(1, &[route(&["D"]), route(&["B", "D"])]), wanted(2, &[route(&["F"])])];
    let (came, missing, _) = gather(&asker, days(), 0).await;
    assert_eq!((came.len(), missing, *in_hand.lock().unwrap()), (2, 0, (0, 1)));
    let order: Vec<_> = asked.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(order, ["D", "F"], "those with another way first");
}

#[tokio::test(start_paused = true)]
async fn one_after_another_nobody_waits_for_one_that_is_asked_for_elsewhere() {
    let neighbors = [("B", says(SHORT, 0)), ("E", says(SHORT, 31))];
    let (asker, asked) = asker(Profile::Baseline, neighbors);
    let days = vec![wanted(1, &[route(&["B", "D"]), route(&["E", "D"])]), wanted(2, &[route(&["E", "F"])])];
    let (came, missing, took) = gather(&asker, days, 0).await;
    assert_eq!((came.len(), missing), (2, 0), "{asked:?}");
    assert!(took < Duration::from_secs(1), "B has half of the time, and is silent: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_begins_one_further_than_the_last_and_all_its_rounds_alike() {
    let said = |_| says(Duration::ZERO, 31);
    let (asker, asked) = asker(Profile::Baseline, ["B", "E"].map(|id| (id, said(id))));
    // They never end their streams: the second is asked when the first has said all.
    let mut first = Vec::new();
    for turn in [asker.next_turn(), asker.next_turn(), asker.next_turn()] {
        for _round in 0..2 {
            let days = vec![wanted(1, &[route(&["B", "C"])]), wanted(2, &[route(&["E", "F"])])];
            gather(&asker, days, turn).await;
            first.push(asked.lock().unwrap().remove(0).0);
            asked.lock().unwrap().clear();
        }
    }
    assert_eq!(first.concat(), "BBEEBB");
}

fn route(path: &[&str]) -> Route {
    let path: Vec<_> = path.iter().map(|&id| ProcessId::from(id)).collect();
    Route { worker: path.last().unwrap().clone(), path, fingerprint: 1 }
}

fn left(kind: Kind, process: &str) -> Vec<String> {
    let failed = route(&["B", "D"]);
    let mut routes = VecDeque::from([
        route(&["E", "D"]),
        route(&["B", "C", "D"]),
        route(&["E", "B", "D"]),
        route(&["E", "F"]),
    ]);
    let failure = Failure { kind: kind.into(), process: process.into(), words: String::new() };
    strike(&mut routes, &"A".into(), &failed, &failure);
    routes.iter().map(|route| route.path.iter().map(ProcessId::as_str).collect()).collect()
}

#[test]
fn only_the_step_that_failed_is_struck() {
    assert_eq!(left(Kind::Unreachable, "D"), ["ED", "BCD", "EF"], "from B to D");
    assert_eq!(left(Kind::Deadline, "B"), ["ED", "EBD", "EF"], "from A to B");
    assert_eq!(left(Kind::Unreadable, "D"), ["EF"], "D has said it");
    assert_eq!(left(Kind::Changed, "D"), ["EF"]);
    assert_eq!(left(Kind::Unreachable, "X"), ["ED", "BCD", "EBD", "EF"], "a stranger");
}

/// A neighbor that passes on: for `silent` it waits and says so; the other workers answer at once.
fn passes_on(id: &'static str, silent: &'static str) -> Arc<Behaviour> {
    Arc::new(move |request| {
        let said: Vec<_> = request
            .routes
            .iter()
            .filter(|route| route.path.last().map(String::as_str) != Some(silent))
            .flat_map(|route| route.asks.iter().map(|ask| (ask.date, route.path.last().cloned())))
            .map(|(date, worker)| ScanPart { process: worker.unwrap_or_default(), ..part(date) })
            .collect();
        let waits = stream::unfold((), move |()| async move {
            sleep(SHORT).await; // paused clock
            Some((ScanPart { process: id.to_owned(), elapsed_us: 1, ..ScanPart::default() }, ()))
        });
        stream::iter(said).chain(waits).boxed()
    })
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_behind_others_is_asked_last_and_not_those_who_wait_for_it() {
    let (b, e) = (passes_on("B", "D"), passes_on("E", "D"));
    let (asker, asked) = asker(Profile::Parallel, [("B", b), ("E", e)]);
    knows(&asker);
    // Each day on D and on one other, D first.
    let ways = |other: &str| [&["B", "D"], &["B", other], &["E", "D"], &["E", other]].map(|way| route(way));
    let days = || vec![wanted(1, &ways("C")), wanted(2, &ways("F")), wanted(3, &ways("G"))];
    let (distrusted, rounds) = until_distrust(&asker, days).await;
    assert_eq!((distrusted, asker.hedging.hedges()), (vec!["D".into()], rounds));
    assert!((2..=5).contains(&rounds), "{rounds}");
    asked.lock().unwrap().clear();
    for _ in 0..50 {
        let (came, missing, took) = gather(&asker, days(), 0).await;
        assert_eq!((came.len(), missing), (3, 0));
        assert!(took < Duration::from_millis(2), "it is not waited for: {took:?}");
    }
    assert_eq!(asker.hedging.hedges(), rounds);
    assert!(asked.lock().unwrap().iter().all(|(id, _)| id == "B"), "it is well: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_asked_for_elsewhere() {
    let (b, e) = (says(SHORT, 31), says(SHORT, 31));
    let (asker, asked) = asker(Profile::Parallel, [("B", b), ("E", e)]);
    let query = Query::default();
    let deadline = Instant::now() + Duration::from_secs(8);
    let question = Question { query_id: "q", query: &query, hops: &[], deadline, turn: 0 };
    let days = vec![wanted(1, &[route(&["B", "C"]), route(&["E", "C"]), route(&["E", "D"])])];
    let mut parts = 0;
    let refuse_the_first = |part: ScanPart| {
        parts += u32::from(part.date != 0);
        if parts == 1 && part.date != 0 { Err("what it sent are no records".to_owned()) } else { Ok(()) }
    };
    let missing = asker.gather(question, days, refuse_the_first).await;
    assert_eq!((missing, parts), (Vec::new(), 2));
    let order: Vec<_> = asked.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(order, ["B", "E"], "not the same worker over another way");
    let days = vec![wanted(1, &[route(&["B", "C"])])];
    let missing =
        asker.gather(question, days, |part| if part.date == 0 { Ok(()) } else { Err("no".into()) }).await;
    assert_eq!((missing[0].why.as_str(), missing[0].process.as_str()), ("no", "D"), "as it calls itself");
}
