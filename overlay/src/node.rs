//! A process of the overlay: it answers clients, and carries the questions of its neighbors.

mod client_edge;
mod connections;
mod echo_edge;
mod http_edge;
mod journal;
mod leaders;
mod make;
mod metrics;
mod outgoing;
mod outlook;
mod peer_edge;
mod shares;
mod survey_edge;
mod watch_edge;
mod wave_counts;
mod wave_edge;
mod waves;
mod words;

use std::hash::{Hash as _, Hasher as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Admitted, Rejected};
use crate::disk_cache::DiskCache;
use crate::gather::Asker;
use crate::hedge::Hedging;
use crate::holdings::{Holdings, dates_in};
use crate::peer_wire::{CatalogResponse, Day};
use crate::peers::Peers;
use crate::plan::{Plan, Reach};
use crate::query::{InvalidQuery, Layout, Mode, Query, Uid};
use crate::results::{Answer, Results};
use crate::topology::{Overrides, Process, ProcessId, Role, Strategies, Topology};
use crate::wire::Coverage;
use journal::Journal;
use leaders::Leaders;
use metrics::Metrics;
use outgoing::{Leaving, Room};
use outlook::Outlook;
use waves::Waves;

pub use crate::holdings::DatasetError;

/// How long a question may take whose client does not say.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long anybody may ask for.
const LONGEST: Duration = Duration::from_secs(600);
/// How long requests under way may take when it is asked to end, and when it is asked to end at once.
const DRAIN: Duration = Duration::from_secs(5);
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Bytes of a question's name, and of the name of a hop: both go on with the question to every process that works for it.
const LONGEST_NAME: usize = 128;

/// What a process allows itself and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of results that are kept; the least recently used go first.
    pub result_bytes: u64,
    /// Bytes of answers that are being streamed.
    pub stream_bytes: u64,
    /// How long a reader of a stream may take nothing.
    pub stalled: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// How long a connection may take for the head of a request, waiting for one included.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            result_bytes: 512 << 20,
            stream_bytes: 512 << 20,
            stalled: Duration::from_secs(30),
            connections: 4096,
            // Longer than a balancer keeps an idle connection.
            header_timeout: Duration::from_secs(60),
        }
    }
}

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who there is.
    pub topology: Topology,
    /// Who this is.
    pub id: String,
    /// What the command line says otherwise than the file.
    pub overrides: Overrides,
    /// The folder that holds YYYYMMDD/*.csv; a worker needs it.
    pub dataset_root: Option<PathBuf>,
    /// Threads that load partitions.
    pub threads: NonZeroUsize,
    /// Where understood partitions are kept for the next start.
    pub cache: Option<DiskCache>,
    /// What it allows.
    pub limits: Limits,
}

/// Why a process did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// It is not in the file.
    #[error(transparent)]
    Topology(#[from] crate::topology::TopologyError),
    /// A worker without data.
    #[error("process {id} is a worker and needs --dataset-root, the folder that holds YYYYMMDD/*.csv")]
    NoDataset { id: String },
    /// The folder of the data.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A neighbor's address.
    #[error("a neighbor's address cannot be one")]
    Neighbor(#[source] tonic::transport::Error),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) topology: Topology,
    pub(crate) process: Process,
    pub(crate) asker: Asker,
    pub(crate) reach: Reach,
    outlook: Outlook,
    waves: Waves,
    /// Places for those who watch.
    watching: Arc<Semaphore>,
    pub(crate) results: Results<Refusal>,
    /// For answers on their way out.
    room: Room,
    /// The other leaders, who may have what a client gives back here.
    leaders: Leaders,
    pub(crate) admission: Arc<Admission>,
    /// Other processes' questions under way.
    pub(crate) carried: AtomicUsize,
    pub(crate) metrics: Metrics,
    pub(crate) journal: Journal,
    /// Questions under way, by the names that their clients may cancel them by, and how many have each name.
    running: DashMap<String, (CancellationToken, usize)>,
    pub(crate) stopping: CancellationToken,
    /// Whether what is under way may not even be finished.
    at_once: AtomicBool,
}

/// A client's question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) hops: Vec<ProcessId>,
    pub(crate) client: String,
    /// Its name: what it can be cancelled by.
    pub(crate) query_id: String,
    pub(crate) within: Option<Duration>,
}

/// Why a question has no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    Invalid(InvalidQuery),
    Loop,
    Rejected(Rejected),
    Incomplete(Coverage),
    Cancelled,
    /// There is no result of this name, or there is no more.
    NotFound,
}

impl Node {
    fn new(options: Options) -> Result<Arc<Self>, NodeError> {
        let process = options.topology.process(&options.id)?.clone();
        let strategies: Strategies = options.overrides.apply(options.topology.strategies);
        let holdings = match (process.role, options.dataset_root) {
            (Role::Worker, None) => return Err(NodeError::NoDataset { id: options.id }),
            (Role::Worker, Some(root)) => {
                let seen = dates_in(&root)?;
                let dates = options.topology.dates_of(&process, &seen);
                Holdings::load(root, seen, dates, options.threads, options.cache)
            }
            _ => Holdings::none(),
        };
        let peers = Peers::of(&options.topology, &process).map_err(NodeError::Neighbor)?;
        let leaders = Leaders::of(&options.topology, &process).map_err(NodeError::Neighbor)?;
        let waves = Waves::of(&options.topology, &process, &peers).map_err(NodeError::Neighbor)?;
        let (turn, hedging) = (AtomicU32::new(0), Hedging::default());
        let asker = Asker { own: process.id.clone(), peers, holdings, strategies, turn, hedging };
        let metrics = Metrics::new(&process);
        Ok(Arc::new(Self {
            reach: Reach::of(&options.topology, &process.id),
            topology: options.topology,
            process,
            asker,
            outlook: Outlook::default(),
            waves,
            watching: Arc::new(Semaphore::new(watch_edge::MOST)),
            results: Results::new(options.limits.result_bytes),
            room: Room::new(options.limits.stream_bytes, options.limits.stalled),
            leaders,
            admission: Admission::new(strategies.fairness),
            carried: AtomicUsize::new(0),
            metrics,
            journal: Journal::default(),
            running: DashMap::new(),
            stopping: CancellationToken::new(),
            at_once: AtomicBool::new(false),
        }))
    }

    /// Answers a client's question: from what is kept, or by asking. One that is to be streamed has room, or is refused.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        asked: &Asked,
        is_streamed: bool,
    ) -> Result<(Arc<Answer>, Option<Leaving>), Refusal> {
        let mut told = Told::new(self, asked);
        let outcome = self.outcome(asked).await.and_then(|answer| {
            let leaving = if is_streamed { Some(self.leaving(&answer)?) } else { None };
            Ok((answer, leaving))
        });
        told.note(&outcome.as_ref().map(|(answer, _)| answer.clone()).map_err(Clone::clone));
        outcome
    }

    async fn outcome(self: &Arc<Self>, asked: &Asked) -> Result<Arc<Answer>, Refusal> {
        asked.check()?;
        if asked.hops.contains(&self.process.id) {
            return Err(Refusal::Loop);
        }
        let running = Running::new(self, &asked.query_id);
        tokio::select! {
            outcome = self.admitted(asked, None, asked.deadline()) => outcome.map(|(answer, _)| answer),
            () = running.cancelled.cancelled() => Err(Refusal::Cancelled),
        }
    }

    /// What became of a question.
    pub(crate) fn note(&self, asked: &Asked, outcome: &Result<Arc<Answer>, Refusal>, took: Duration) {
        self.metrics.answered(self.team(asked), outcome, took);
        self.journal.note(asked, outcome, took);
    }

    /// Whose places a question takes. A team that is not there has none of its own.
    fn team<'a>(&'a self, asked: &'a Asked) -> &'a str {
        let named = asked.query.team.as_deref();
        named.filter(|team| self.topology.has_team(team)).unwrap_or(&self.process.team)
    }

    async fn admitted(
        self: &Arc<Self>,
        asked: &Asked,
        named: Option<(&Uid, Layout)>,
        deadline: Instant,
    ) -> Result<(Arc<Answer>, Admitted), Refusal> {
        if let Some(team) = asked.query.team.as_deref().filter(|team| !self.topology.has_team(team)) {
            let known = self.topology.teams().into_iter();
            return Err(Refusal::Invalid(InvalidQuery::no_team(team, known)));
        }
        let admitted = self.enter(asked, deadline).await?;
        self.outlook.ready(self.reach.scope.len(), deadline).await;
        let catalog = self.outlook.catalog.load();
        let plan = Plan::new(&self.topology, &self.reach, &asked.hops, &catalog, &asked.query);
        drop(catalog);
        if !plan.missing.is_empty() && asked.query.mode == Mode::Complete {
            return Err(Refusal::Incomplete(make::coverage(&plan, 0, &plan.missing, Vec::new())));
        }
        let Strategies { chunking, chunk_size, .. } = self.asker.strategies;
        let layout = named.map_or(Layout { chunking, chunk_size }, |(_, layout)| layout);
        let uid = plan.uid(asked, layout, &plan.missing);
        // What is asked for is not what would be made: the data is not what it was.
        let is_other = |uid: &Uid| named.is_some_and(|(named, _)| named != uid);
        if asked.query.mode == Mode::Complete && is_other(&uid) {
            return Err(Refusal::NotFound);
        }
        let make = || {
            let (node, asked) = (self.clone(), asked.clone());
            Box::pin(async move { node.make(&asked, layout, plan, deadline).await }) as _
        };
        // Other hops leave other ways.
        let mut way = std::hash::DefaultHasher::new();
        asked.hops.hash(&mut way);
        let answer = self.results.get_or_make(&uid, way.finish(), deadline, make).await?;
        if is_other(&answer.uid) { Err(Refusal::NotFound) } else { Ok((answer, admitted)) }
    }

    async fn enter(self: &Arc<Self>, asked: &Asked, deadline: Instant) -> Result<Admitted, Refusal> {
        let entered = self.admission.enter(self.team(asked), &asked.client, deadline).await;
        entered.map_err(Refusal::Rejected)
    }

    /// The chunks' result: the one that is kept, which anybody may read, or made again of what its name says, which takes
    /// a place among the requests.
    pub(crate) async fn result(
        self: &Arc<Self>,
        uid: &str,
        client: String,
        within: Option<Duration>,
    ) -> Result<(Arc<Answer>, Option<Admitted>), Refusal> {
        let (uid, layout, query) = Uid::parse(uid).map_err(|_| Refusal::NotFound)?;
        let asked = Asked { query, client, within, ..Asked::default() };
        if let Some(answer) = self.results.read(&uid).await {
            return Ok((answer, None));
        }
        // Asked for again at another leader, it is good again here, too.
        if self.results.was_released(&uid) && !self.is_out_elsewhere(&uid).await {
            return Err(Refusal::NotFound);
        }
        let mut told = Told::new(self, &asked);
        let outcome = self.admitted(&asked, Some((&uid, layout)), asked.deadline()).await;
        told.note(&outcome.as_ref().map(|(answer, _)| answer.clone()).map_err(Clone::clone));
        outcome.map(|(answer, admitted)| (answer, Some(admitted)))
    }

    /// What this process holds.
    pub(crate) async fn own_catalog(&self) -> CatalogResponse {
        let held = self.asker.holdings.all().await;
        let days = held.iter().map(|(date, held)| {
            let day = crate::holdings::described(held);
            let files = held.as_ref().map_or(0, |partition| partition.files);
            Day {
                date: date.number(),
                rows: i64::try_from(day.rows).unwrap_or(i64::MAX),
                fingerprint: day.fingerprint,
                unreadable: day.unreadable,
                files: i32::try_from(files).unwrap_or(i32::MAX),
                malformed: held
                    .as_ref()
                    .map_or(0, |partition| i64::try_from(partition.malformed).unwrap_or(i64::MAX)),
            }
        });
        CatalogResponse {
            process: self.process.id.to_string(),
            days: days.collect(),
            seen: self.asker.holdings.seen.iter().map(|date| date.number()).collect(),
        }
    }

    /// Requests in hand, its clients' and other processes'; and clients' requests that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        let (active, waiting) = self.admission.load();
        (active + self.carried.load(Ordering::Relaxed), waiting)
    }

    /// Ends the questions of this name that are under way; whether there is one.
    pub(crate) fn cancel(&self, query_id: &str) -> bool {
        let name = &query_id[..query_id.floor_char_boundary(LONGEST_NAME)];
        self.running.get(name).map(|running| running.0.cancel()).is_some()
    }

    /// Ends the process, after what is under way or before.
    pub(crate) fn stop(&self, graceful: bool) {
        self.at_once.store(!graceful, Ordering::Relaxed);
        self.stopping.cancel();
    }
}

impl Asked {
    /// Names go on with the question, and are no longer than a neighbor takes them.
    fn check(&self) -> Result<(), Refusal> {
        let too_long = |what: &str, bytes: usize| {
            let words = format!("{what} has {bytes} bytes; at most {LONGEST_NAME}");
            Err(Refusal::Invalid(InvalidQuery::other(words)))
        };
        match self.hops.iter().map(|hop| hop.as_str().len()).max() {
            Some(longest) if longest > LONGEST_NAME => too_long("a hop", longest),
            _ if self.query_id.len() > LONGEST_NAME => too_long("query_id", self.query_id.len()),
            _ => Ok(()),
        }
    }

    /// A little before the client stops waiting, so that what is known by then still arrives.
    fn deadline(&self) -> Instant {
        Instant::now() + self.within.unwrap_or(DEADLINE).min(LONGEST).mul_f64(0.95)
    }
}

/// A question that is counted once, whatever becomes of it: whoever does not wait for its end has cancelled it.
struct Told<'a> {
    node: &'a Node,
    asked: &'a Asked,
    began: Instant,
    is_noted: bool,
}

impl<'a> Told<'a> {
    fn new(node: &'a Node, asked: &'a Asked) -> Self {
        Self { node, asked, began: Instant::now(), is_noted: false }
    }

    fn note(&mut self, outcome: &Result<Arc<Answer>, Refusal>) {
        self.is_noted = true;
        self.node.note(self.asked, outcome, self.began.elapsed());
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.is_noted {
            self.note(&Err(Refusal::Cancelled));
        }
    }
}

/// A question that can be cancelled by its name while this lives.
struct Running<'a> {
    node: &'a Node,
    name: &'a str,
    cancelled: CancellationToken,
}

impl<'a> Running<'a> {
    fn new(node: &'a Node, name: &'a str) -> Self {
        let mut named = node.running.entry(name.to_owned()).or_default();
        if named.0.is_cancelled() {
            named.0 = CancellationToken::new(); // those before it have ended, or are about to
        }
        named.1 += 1;
        Self { node, name, cancelled: named.0.clone() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut named) = self.node.running.get_mut(self.name) {
            named.1 -= 1;
        }
        self.node.running.remove_if(self.name, |_, named| named.1 == 0);
    }
}

/// Serves on `listener` until `shutdown`, and what is under way for five seconds longer.
///
/// # Errors
/// When it cannot start.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NodeError> {
    let limits = options.limits;
    let node = Node::new(options)?;
    let looking = tokio::spawn(outlook::look_around(node.clone()));
    let app = http_edge::router(&node, client_edge::routes(&node).await);
    let ended = {
        let node = node.clone();
        async move {
            tokio::select! {
                () = shutdown => node.stop(true),
                () = node.stopping.cancelled() => {}
            }
        }
    };
    let late = async {
        node.stopping.cancelled().await;
        let at_once = node.at_once.load(Ordering::Relaxed);
        tokio::time::sleep(if at_once { LAST_WORDS } else { DRAIN }).await;
    };
    let served = connections::serve(listener, app, limits, node.stopping.clone());
    tokio::select! {
        ((), ()) = async { tokio::join!(served, ended) } => {}
        () = late => {}
    }
    looking.abort();
    Ok(())
}

#[cfg(test)]
impl Node {
    /// The leader of the six, which nobody serves: the others are not there.
    fn leader() -> Arc<Self> {
        let topology = Topology::parse(include_str!("../topologies/baseline.json")).unwrap();
        let (id, threads) = ("A".to_owned(), NonZeroUsize::MIN);
        let (overrides, limits) = (Overrides::default(), Limits::default());
        Self::new(Options { topology, id, overrides, dataset_root: None, threads, cache: None, limits })
            .unwrap()
    }
}
