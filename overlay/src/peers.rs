//! The neighbors, as a process talks to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::peer_wire::failure::Kind;
use crate::peer_wire::peer_client::PeerClient;
use crate::peer_wire::{CatalogRequest, CatalogResponse, Failure, ScanPart, ScanRequest};
use crate::topology::{Process, ProcessId, Topology};

/// How long a neighbor may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(1);
/// How often a neighbor is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Bytes of one part: a day with all its rows is a few of a million.
pub(crate) const LARGEST_MESSAGE: usize = 256 << 20;

/// A neighbor.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: ProcessId,
    channel: Channel,
    client: PeerClient<Channel>,
    /// What we have asked of it and is not answered.
    asked: AtomicI64,
    /// What it said of itself: requests in hand in the upper half, how many it may have in the lower.
    load: AtomicU64,
}

/// All neighbors of a process.
#[derive(Debug, Default)]
pub(crate) struct Peers(HashMap<ProcessId, Peer>);

impl Peers {
    /// Nobody is called yet: connections are made when they are needed, and again when they break.
    pub(crate) fn of(topology: &Topology, own: &Process) -> Result<Self, tonic::transport::Error> {
        let neighbors = own.neighbors.iter().filter_map(|id| topology.processes.get(id));
        let peer = |process: &Process| {
            let channel = endpoint(&process.authority())?
                .initial_connection_window_size(16 << 20)
                .initial_stream_window_size(4 << 20)
                .connect_lazy();
            Ok((process.id.clone(), Peer::new(process.id.clone(), channel)))
        };
        neighbors.map(peer).collect::<Result<_, _>>().map(Self)
    }

    /// Those that are reached over these.
    #[cfg(test)]
    pub(crate) fn over(channels: impl IntoIterator<Item = (ProcessId, Channel)>) -> Self {
        Self(channels.into_iter().map(|(id, channel)| (id.clone(), Peer::new(id, channel))).collect())
    }

    pub(crate) fn get(&self, id: &ProcessId) -> Option<&Peer> {
        self.0.get(id)
    }
}

/// A process, as others call it: one whose packets are lost is noticed before its deadlines are.
pub(crate) fn endpoint(authority: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?;
    Ok(endpoint
        .connect_timeout(CONNECTING)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

struct Asked<'a>(&'a Peer);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    fn new(id: ProcessId, channel: Channel) -> Self {
        let client = PeerClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        Self { id, channel, client, asked: AtomicI64::new(0), load: AtomicU64::new(1) }
    }

    /// For whatever else is said to it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// It says how many requests it has in hand, and how many it may have.
    pub(crate) fn told(&self, active: i32, capacity: i32) {
        let half = |number: i32| u64::from(number.max(0).unsigned_abs());
        self.load.store(half(active) << 32 | half(capacity), Ordering::Relaxed);
    }

    /// How much of what it can do it is doing, as far as we know.
    pub(crate) fn share_in_use(&self) -> f64 {
        let load = self.load.load(Ordering::Relaxed);
        let (active, capacity) = (load >> 32, (load & 0xffff_ffff).max(1));
        (active as f64 + self.asked.load(Ordering::Relaxed) as f64) / capacity as f64
    }

    /// What the process at the end of `path` holds; the path begins at this peer.
    pub(crate) async fn catalog(
        &self,
        path: &[ProcessId],
        hops: Vec<String>,
        deadline: Instant,
    ) -> Result<CatalogResponse, Status> {
        let path = path.iter().map(ToString::to_string).collect();
        let mut request = Request::new(CatalogRequest { path, hops });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let said = timeout_at(deadline, self.client.clone().catalog(request)).await;
        let said =
            said.map_err(|_| Status::deadline_exceeded(format!("{} did not answer in time", self.id)))??;
        Ok(said.into_inner())
    }

    /// Sends on what it answers. Each of the request's partitions has its part then: what it leaves unanswered is told
    /// as a failure.
    pub(crate) async fn scan(&self, request: ScanRequest, deadline: Instant, parts: &mpsc::Sender<ScanPart>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let _asked = Asked(self);
        let mut open: Vec<u32> =
            request.routes.iter().flat_map(|route| route.asks.iter().map(|ask| ask.date)).collect();
        let failure = tokio::select! {
            ended = timeout_at(deadline, self.stream(request, deadline, &mut open, parts)) => match ended {
                Ok(Ok(())) => Failure { kind: Kind::Unreachable.into(), words: "it left this out".into(), ..Failure::default() },
                Ok(Err(status)) => failure_of(&status),
                Err(_) => Failure { kind: Kind::Deadline.into(), words: "no answer in time".into(), ..Failure::default() },
            },
            () = parts.closed() => return,
        };
        for date in open {
            let failure = Some(Failure { process: self.id.to_string(), ..failure.clone() });
            if parts.send(ScanPart { date, failure, ..ScanPart::default() }).await.is_err() {
                return;
            }
        }
    }

    async fn stream(
        &self,
        request: ScanRequest,
        deadline: Instant,
        open: &mut Vec<u32>,
        parts: &mpsc::Sender<ScanPart>,
    ) -> Result<(), Status> {
        let mut request = Request::new(request);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let mut stream = self.client.clone().scan(request).await?.into_inner();
        while let Some(said) = stream.message().await? {
            self.told(said.active, said.capacity);
            for part in said.parts {
                // What was not asked for, or comes twice, is not counted.
                let place = open.iter().position(|&date| date == part.date);
                if place.is_none() && part.date != 0 {
                    continue;
                }
                if parts.send(part).await.is_err() {
                    return Ok(());
                }
                if let Some(place) = place {
                    open.swap_remove(place);
                }
            }
            if open.is_empty() {
                return Ok(()); // nothing else is to come
            }
        }
        Ok(())
    }
}

fn failure_of(status: &Status) -> Failure {
    let kind = match status.code() {
        Code::DeadlineExceeded => Kind::Deadline,
        Code::Cancelled => Kind::Cancelled,
        Code::ResourceExhausted => Kind::Overloaded,
        Code::Aborted => Kind::Loop,
        _ => Kind::Unreachable,
    };
    let words = match status.code() {
        Code::Unavailable => "it cannot be reached".to_owned(),
        _ => status.message().to_owned(),
    };
    Failure { kind: kind.into(), process: String::new(), words }
}
