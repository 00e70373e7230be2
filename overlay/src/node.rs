//! A process of the overlay: it answers clients, and carries the questions of its neighbors.

mod client_edge;
mod http_edge;
mod journal;
mod metrics;
mod peer_edge;
mod words;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::serve::ListenerExt as _;
use dashmap::DashMap;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Rejected};
use crate::catalog::Catalog;
use crate::disk_cache::DiskCache;
use crate::gather::{Asker, Question};
use crate::holdings::{Holdings, dates_in};
use crate::peers::Peers;
use crate::plan::{Missing, Plan, scope};
use crate::query::{Basis, InvalidQuery, Layout, Mode, Query, Uid};
use crate::results::{Answer, Part, Results, records_per_chunk};
use crate::topology::{Overrides, Process, ProcessId, Role, Strategies, Topology};
use crate::wire::{Coverage, MissingPartition, NodeVisit};
use journal::Journal;
use metrics::Metrics;

pub use crate::holdings::DatasetError;

/// How long a question may take whose client does not say.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long anybody may ask for.
const LONGEST: Duration = Duration::from_secs(600);
/// How old what is known of the workers may be.
const FRESH: Duration = Duration::from_secs(2);
/// How long a worker may take to say what it holds.
const CATALOG: Duration = Duration::from_secs(2);
/// Bytes of results that are kept.
const RESULTS: u64 = 512 << 20;

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
    /// The network.
    #[error("it cannot serve")]
    Serve(#[source] std::io::Error),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) topology: Topology,
    pub(crate) process: Process,
    pub(crate) asker: Asker,
    catalog: ArcSwap<Catalog>,
    /// When it was asked for last; held while it is being asked for.
    looked: Mutex<Option<Instant>>,
    pub(crate) results: Results,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Metrics,
    pub(crate) journal: Journal,
    /// Questions under way, by the names that their clients may cancel them by.
    running: DashMap<String, CancellationToken>,
    pub(crate) stopping: CancellationToken,
}

/// A client's question.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) hops: Vec<ProcessId>,
    pub(crate) client: String,
    /// Its name; empty: none was given.
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
}

impl Node {
    fn new(options: Options) -> Result<Arc<Self>, NodeError> {
        let process = options.topology.process(&options.id)?.clone();
        let strategies: Strategies = options.overrides.apply(options.topology.strategies);
        let holdings = match (process.role, options.dataset_root) {
            (Role::Worker, None) => return Err(NodeError::NoDataset { id: options.id }),
            (Role::Worker, Some(root)) => {
                let dates = options.topology.dates_of(&process, &dates_in(&root)?);
                Holdings::load(root, dates, options.threads, options.cache)
            }
            _ => Holdings::none(),
        };
        let peers = Peers::of(&options.topology, &process).map_err(NodeError::Neighbor)?;
        let asker = Asker { own: process.id.clone(), peers, holdings, strategies, turn: AtomicUsize::new(0) };
        let metrics = Metrics::new(&process);
        Ok(Arc::new(Self {
            topology: options.topology,
            process,
            asker,
            catalog: ArcSwap::default(),
            looked: Mutex::new(None),
            results: Results::new(RESULTS),
            admission: Admission::new(strategies.fairness),
            metrics,
            journal: Journal::default(),
            running: DashMap::new(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Answers a client's question: from what is kept, or by asking.
    pub(crate) async fn answer(self: &Arc<Self>, asked: Asked) -> Result<Arc<Answer>, Refusal> {
        if asked.hops.contains(&self.process.id) {
            return Err(Refusal::Loop);
        }
        let name = asked.query_id.clone();
        let cancelled = CancellationToken::new();
        if !name.is_empty() {
            self.running.insert(name.clone(), cancelled.clone());
        }
        let _named = Named { node: self, name };
        let within = asked.within.unwrap_or(DEADLINE).min(LONGEST);
        let deadline = Instant::now() + within;
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = self.admitted(&asked, deadline) => outcome,
            () = cancelled.cancelled() => Err(Refusal::Cancelled),
        };
        self.metrics.answered(&outcome, began.elapsed());
        self.journal.note(&asked, &outcome, began.elapsed());
        outcome
    }

    async fn admitted(self: &Arc<Self>, asked: &Asked, deadline: Instant) -> Result<Arc<Answer>, Refusal> {
        let team = asked.query.team.as_deref().unwrap_or(&self.process.team);
        let _admitted = self.admission.enter(team, &asked.client).await.map_err(Refusal::Rejected)?;
        let Strategies { chunking, chunk_size, .. } = self.asker.strategies;
        self.find(asked, Layout { chunking, chunk_size }, deadline).await
    }

    async fn find(
        self: &Arc<Self>,
        asked: &Asked,
        layout: Layout,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Refusal> {
        self.look_around(deadline).await;
        let plan = self.plan(asked);
        if !plan.missing.is_empty() && asked.query.mode == Mode::Complete {
            return Err(Refusal::Incomplete(coverage(&plan, 0, &plan.missing, &[])));
        }
        let missing: String = plan.missing.iter().map(|missing| format!("{} ", missing.name)).collect();
        let basis = Basis { data: plan.fingerprint(), missing: &missing, layout };
        let uid = Uid::new(&asked.query, basis);
        let make = Box::pin(self.make(&uid, asked, layout, plan, deadline));
        Box::pin(self.results.get_or_make(&uid, make)).await
    }

    fn plan(&self, asked: &Asked) -> Plan {
        Plan::new(&self.topology, &self.process.id, &asked.hops, &self.catalog.load(), &asked.query)
    }

    /// The chunks' result: the one that is kept, or made again of what its name says.
    pub(crate) async fn result(self: &Arc<Self>, uid: &str) -> Option<Arc<Answer>> {
        if let Some(answer) = self.results.get(uid).await {
            return Some(answer);
        }
        let (uid, layout, query) = Uid::parse(uid).ok()?;
        if self.results.has_ended(uid.as_str()) {
            return None;
        }
        let asked =
            Asked { query, hops: Vec::new(), client: String::new(), query_id: String::new(), within: None };
        let team = asked.query.team.as_deref().unwrap_or(&self.process.team);
        let _admitted = self.admission.enter(team, "").await.ok()?;
        let answer = self.find(&asked, layout, Instant::now() + DEADLINE).await.ok()?;
        (answer.uid == uid).then_some(answer)
    }

    async fn make(
        &self,
        uid: &Uid,
        asked: &Asked,
        layout: Layout,
        plan: Plan,
        deadline: Instant,
    ) -> Result<Arc<Answer>, Refusal> {
        let Asked { query, hops, query_id, .. } = asked;
        let question = Question { query_id, query, hops, deadline };
        let mut tally = Tally::default();
        // All rows are wanted: counting them first would be a way for nothing.
        let first_take = if query.limit.is_none() { -1 } else { 0 };
        let wanted = plan.wanted.iter().map(|wanted| (wanted.clone(), first_take)).collect();
        let missing = self.asker.gather(question, wanted, |part| tally.take(part)).await;
        let mut all_missing = plan.missing.clone();
        all_missing.extend(missing);
        all_missing.append(&mut tally.garbled);
        let complete = |missing: &[Missing], tally: &Tally| match missing {
            [] => Ok(()),
            _ if query.mode == Mode::Partial => Ok(()),
            _ => Err(Refusal::Incomplete(coverage(&plan, tally.days.len(), missing, &tally.visits()))),
        };
        complete(&all_missing, &tally)?;
        if let Some(limit) = query.limit {
            let mut left = limit;
            let mut wanted = Vec::new();
            for one in &plan.wanted {
                let Some(day) = tally.days.get(&one.date.number()) else { continue };
                let take = left.min(day.matched);
                left -= take;
                if take > 0 {
                    wanted.push((one.clone(), i64::try_from(take).unwrap_or(i64::MAX)));
                }
            }
            let again = self.asker.gather(question, wanted, |part| tally.take(part)).await;
            all_missing.extend(again);
            all_missing.append(&mut tally.garbled);
            complete(&all_missing, &tally)?;
        }
        let matched: u64 = tally.days.values().map(|day| day.matched).sum();
        let coverage = coverage(&plan, tally.days.len(), &all_missing, &tally.visits());
        let parts: Vec<Part> = tally.days.into_values().filter_map(|day| day.part).collect();
        let returned: u64 = parts.iter().map(|part| part.batch.num_rows() as u64).sum();
        let strategies =
            Strategies { chunking: layout.chunking, chunk_size: layout.chunk_size, ..self.asker.strategies };
        let chunk = records_per_chunk(&strategies, returned, query);
        Ok(Arc::new(Answer { uid: uid.clone(), parts, matched, returned, coverage, chunk }))
    }

    /// Asks the workers what they hold, if that was long ago. Who does not answer keeps what is known of it.
    async fn look_around(&self, deadline: Instant) {
        let Ok(mut looked) = tokio::time::timeout_at(deadline, self.looked.lock()).await else { return };
        let workers = scope(&self.topology, &self.process.id);
        let known = self.catalog.load();
        let all_known = workers.iter().all(|worker| known.workers.contains_key(worker));
        let fresh = if all_known { FRESH } else { FRESH / 20 };
        if looked.is_some_and(|looked| looked.elapsed() < fresh) {
            return;
        }
        let deadline = deadline.min(Instant::now() + CATALOG);
        let said = join_all(workers.iter().map(|worker| self.catalog_of(worker, deadline))).await;
        let mut next = (**known).clone();
        for (worker, said) in workers.iter().zip(said) {
            match said {
                Ok(said) => next.learn(worker, said),
                Err(why) => tracing::debug!(%worker, why, "a worker does not say what it holds"),
            }
        }
        if next != **known {
            self.catalog.store(Arc::new(next));
        }
        *looked = Some(Instant::now());
    }

    async fn catalog_of(
        &self,
        worker: &ProcessId,
        deadline: Instant,
    ) -> Result<crate::peer_wire::CatalogResponse, String> {
        if *worker == self.process.id {
            return Ok(self.own_catalog().await);
        }
        let mut why = "no way leads to it".to_owned();
        let hops = vec![self.process.id.to_string()];
        for path in self.topology.paths(&self.process.id, worker, &[]) {
            let Some(peer) = self.asker.peers.get(&path[0]) else { continue };
            match peer.catalog(&path[1..], hops.clone(), deadline).await {
                Ok(said) => return Ok(said),
                Err(status) => why = status.message().to_owned(),
            }
        }
        Err(why)
    }

    /// What this process holds.
    pub(crate) async fn own_catalog(&self) -> crate::peer_wire::CatalogResponse {
        let held = self.asker.holdings.all().await;
        let days = held.iter().map(|(date, held)| {
            let day = crate::holdings::described(held);
            let files = held.as_ref().map_or(0, |partition| partition.files);
            crate::peer_wire::Day {
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
        let (active, _) = self.admission.load();
        crate::peer_wire::CatalogResponse {
            process: self.process.id.to_string(),
            days: days.collect(),
            active: i32::try_from(active).unwrap_or(i32::MAX),
            capacity: i32::try_from(crate::admission::MOST).unwrap_or(i32::MAX),
        }
    }

    /// Ends a question that is under way; whether there is one of this name.
    pub(crate) fn cancel(&self, query_id: &str) -> bool {
        self.running.get(query_id).map(|running| running.cancel()).is_some()
    }
}

struct Named<'a> {
    node: &'a Node,
    name: String,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        self.node.running.remove(&self.name);
    }
}

/// What has come of each day.
#[derive(Debug, Default)]
struct Tally {
    days: BTreeMap<u32, Came>,
    /// Those whose records are none.
    garbled: Vec<Missing>,
}

#[derive(Debug)]
struct Came {
    process: String,
    matched: u64,
    scanned: u64,
    elapsed_us: i64,
    part: Option<Part>,
}

impl Tally {
    fn take(&mut self, said: crate::peer_wire::ScanPart) {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let part = match said.arrow.is_empty() {
            true => None,
            false => match Part::of(&said) {
                Ok(part) => Some(part),
                Err(error) => {
                    let why = format!("what it sent are no records: {error}");
                    self.garbled.push(Missing {
                        name: format!("{:08}", said.date),
                        process: said.process,
                        why,
                    });
                    return;
                }
            },
        };
        let before = self.days.get(&said.date).map_or(0, |came| came.elapsed_us);
        let came = Came {
            process: said.process,
            matched: count(said.matched),
            scanned: count(said.rows_scanned),
            elapsed_us: before + said.elapsed_us,
            part,
        };
        self.days.insert(said.date, came);
    }

    fn visits(&self) -> Vec<NodeVisit> {
        let mut visits: BTreeMap<&str, NodeVisit> = BTreeMap::new();
        for came in self.days.values() {
            let process = came.process.clone();
            let visit =
                visits.entry(&came.process).or_insert_with(|| NodeVisit { process, ..NodeVisit::default() });
            visit.elapsed_us += came.elapsed_us;
            visit.partitions += 1;
            visit.rows_scanned += i64::try_from(came.scanned).unwrap_or(i64::MAX);
        }
        visits.into_values().collect()
    }
}

fn coverage(plan: &Plan, answered: usize, missing: &[Missing], visited: &[NodeVisit]) -> Coverage {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let named = |missing: &Missing| MissingPartition {
        name: missing.name.clone(),
        process: missing.process.clone(),
        why: missing.why.clone(),
    };
    Coverage {
        partitions: number(plan.wanted.len() + plan.missing.len()),
        answered: number(answered),
        missing: missing.iter().map(named).collect(),
        rows_scanned: visited.iter().map(|visit| visit.rows_scanned).sum(),
        visited: visited.to_vec(),
    }
}

/// Serves on `listener` until `shutdown`, and what is under way for a while longer.
///
/// # Errors
/// When it cannot start.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NodeError> {
    let node = Node::new(options)?;
    let app = http_edge::router(node.clone()).merge(client_edge::routes(&node).await.into_axum_router());
    let stopping = node.stopping.clone();
    let ended = async move {
        tokio::select! {
            () = shutdown => {}
            () = stopping.cancelled() => {}
        }
    };
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a client was gone before its first request");
        }
    });
    axum::serve(listener, app).with_graceful_shutdown(ended).await.map_err(NodeError::Serve)
}
