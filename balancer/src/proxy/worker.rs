//! One thread of the data plane: its own listener, its own connections, its own clock.
//!
//! The kernel spreads clients over the threads (`SO_REUSEPORT`); from then on a request, its replica's connection
//! and its answer stay on one thread, and nobody waits for a lock or wakes a neighbour.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::clients::Guest;
use super::error::ProxyError;
use super::front::Front;
use super::http2::grpc::{Calls, Known};
use super::pools::{Present, Reader};
use super::proxy_protocol;
use super::serve::Session;
use super::stream::Stream;
use super::upstream::Alarm;
use super::watch::Watch;
use super::whose::Whose;
use crate::limit::Limit;
use crate::metrics::Connection;
use crate::socket;

/// How long `accept` waits after an error that time alone can mend (no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long clients may take to read what their connections end with.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often idle connections to replicas are looked through.
const PRUNING: Duration = Duration::from_secs(1);

/// Idle connections of HTTP/2 that a thread keeps to all replicas.
const MOST_IDLE: usize = 512;

/// The listener for clients over TLS, if there are to be any, and what is agreed with them.
type OverTls = Option<(TcpListener, TlsAcceptor)>;

/// What the tasks of a thread share.
#[derive(Debug)]
pub struct Worker {
    /// What requests are served with.
    pub front: Arc<Front>,
    /// Which thread this is.
    pub index: usize,
    /// Its clock.
    pub watch: Rc<Watch>,
    /// Since when, by its clock, connections end after their present request.
    pub draining: Cell<Option<u64>>,
    /// Connections to replicas that carry gRPC, whosever.
    pub calls: Calls,
    /// Those of single clients.
    known: RefCell<Vec<Known>>,
    phase: watch::Receiver<Phase>,
    connections: Cell<usize>,
    ended: Notify,
    random: RefCell<SmallRng>,
    pools: RefCell<Reader>,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It accepts connections.
    Serving,
    /// It accepts no more, and every connection ends after its present request.
    Draining,
    /// It ends what is left.
    Ending,
}

/// What a thread is told by the rest of the program.
#[derive(Debug)]
pub struct Orders {
    /// What to do.
    pub phase: watch::Receiver<Phase>,
    /// Dropped when it drains and the last connection has ended.
    pub idle: oneshot::Sender<()>,
    /// Rung when a replica is given up.
    pub alarm: Alarm,
    /// Places for clients, over all threads.
    pub places: Arc<Semaphore>,
}

impl Worker {
    /// A name for a request that came without one: 128 random bits in hexadecimal.
    pub fn request_id(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 16];
        self.random.borrow_mut().fill_bytes(&mut bytes);
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// The pools at this moment.
    pub fn pools(&self) -> Rc<Present> {
        self.pools.borrow_mut().present()
    }

    /// Looks through these connections as through all others, for as long as there are any.
    pub fn knows(&self, calls: Known) {
        self.known.borrow_mut().push(calls);
    }

    /// Ends idle connections to replicas that are this client's alone: it is gone, and nobody else may use them.
    fn forget(&self, client: SocketAddr) {
        for pool in self.pools().all().filter(|pool| pool.transport().says_whose()) {
            for upstream in pool.fleet.look().upstreams() {
                upstream.pool(self.index).forget(client);
            }
        }
    }

    /// Resolves when connections are to end after what they have in hand.
    pub async fn drain_begun(&self) {
        // Also when nobody is left to say so.
        drop(self.phase.clone().wait_for(|phase| *phase > Phase::Serving).await);
    }

    /// A random number below `bound`.
    pub fn random_below(&self, bound: u32) -> u32 {
        use rand::Rng;
        self.random.borrow_mut().random_range(0..bound)
    }
}

/// The sockets of a thread.
#[derive(Debug)]
pub struct Listeners {
    /// For clients in the clear.
    pub plain: std::net::TcpListener,
    /// For clients over TLS.
    pub tls: Option<(std::net::TcpListener, Arc<rustls::ServerConfig>)>,
}

/// Serves `listeners` until told to stop, and what is in flight for a while longer. Takes the whole thread, and drops
/// `ready` when nothing can fail any more.
pub fn run(
    front: Arc<Front>,
    index: usize,
    listeners: Listeners,
    orders: Orders,
    ready: mpsc::Sender<io::Error>,
) {
    let (runtime, plain, tls) = match prepared(listeners) {
        Ok(prepared) => prepared,
        Err(error) => return ready.send(error).unwrap_or_default(), // another thread's failure was told already
    };
    drop(ready);
    runtime.block_on(async {
        let worker = Rc::new(Worker {
            pools: RefCell::new(Reader::new(front.pools.clone())),
            front,
            index,
            watch: Watch::new(),
            draining: Cell::new(None),
            calls: Calls::default(),
            known: RefCell::default(),
            phase: orders.phase.clone(),
            connections: Cell::new(0),
            ended: Notify::new(),
            random: RefCell::new(SmallRng::from_os_rng()),
        });
        tokio::task::spawn_local(clone_run(worker.watch.clone()));
        tokio::task::spawn_local(hear(worker.clone(), orders.alarm.clone()));
        tokio::task::spawn_local(prune(worker.clone()));
        serve(worker, plain, tls, orders).await;
    });
}

/// A thread's reactor, and its listeners there.
fn prepared(listeners: Listeners) -> io::Result<(LocalRuntime, TcpListener, OverTls)> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let (plain, tls) = runtime.block_on(async {
        let tls = match listeners.tls {
            Some((listener, config)) => Some((TcpListener::from_std(listener)?, TlsAcceptor::from(config))),
            None => None,
        };
        io::Result::Ok((TcpListener::from_std(listeners.plain)?, tls))
    })?;
    Ok((runtime, plain, tls))
}

async fn clone_run(watch: Rc<Watch>) {
    watch.run().await;
}

/// Wakes whoever waits for a replica when one is given up: it may be theirs.
async fn hear(worker: Rc<Worker>, alarm: Alarm) {
    let mut rung = alarm.listen();
    while rung.changed().await.is_ok() {
        worker.watch.wake_engaged();
    }
}

async fn prune(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(PRUNING);
    loop {
        ticks.tick().await;
        // Also that what a reload took away is known to no thread for longer.
        let pools = worker.pools();
        if worker.index == 0 {
            pools.calm.clients.tick();
        }
        let mut there = HashMap::new();
        for pool in pools.all() {
            let snapshot = pool.fleet.look();
            if worker.index == 0 {
                pool.tick(&snapshot);
            }
            for upstream in snapshot.upstreams() {
                let timeout = pool.config.forward.replica_idle_timeout;
                there.insert((upstream.serial, pool.transport().mark()), timeout);
                upstream.pool(worker.index).prune(worker.watch.now_ms(), timeout);
            }
        }
        // A replica that is none any more would keep its connection for as long as it lives, and one that is spoken to
        // in another way now would keep the old one.
        let (now_ms, mut room) = (worker.watch.now_ms(), MOST_IDLE);
        worker.calls.prune(now_ms, &there, &mut room);
        // Those of the latest clients are kept: the oldest make room.
        let mut known = worker.known.borrow_mut();
        known.reverse();
        known.retain(|calls| calls.prune(now_ms, &there, &mut room));
        known.reverse();
    }
}

async fn serve(worker: Rc<Worker>, plain: TcpListener, tls: OverTls, mut orders: Orders) {
    let mut accepting = JoinSet::new();
    accepting.spawn_local(accept(worker.clone(), plain, None, orders.places.clone()));
    if let Some((listener, acceptor)) = tls {
        accepting.spawn_local(accept(worker.clone(), listener, Some(acceptor), orders.places.clone()));
    }
    // Those who came before the end are served.
    while accepting.join_next().await.is_some() {}
    worker.draining.set(Some(worker.watch.now_ms()));
    worker.watch.wake_all();
    let none_left = async || {
        while worker.connections.get() > 0 {
            worker.ended.notified().await;
        }
    };
    tokio::select! {
        () = none_left() => {}
        _ = orders.phase.wait_for(|phase| *phase == Phase::Ending) => {
            // Their replicas have just ended: what that means for them is said at once, or never.
            if tokio::time::timeout(LAST_WORDS, none_left()).await.is_err() {
                tracing::warn!(connections = worker.connections.get(), "clients were cut off");
            }
        }
    }
    drop(orders.idle);
}

/// Accepts until the drain begins, and then whoever is waiting already: a listening socket that is closed resets
/// those in its queue. A client that connects between the last look and the close is still lost, unless the kernel
/// moves it to another socket of the same address (net.ipv4.tcp_migrate_req) or somebody else keeps the socket open.
async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
) {
    // Looked at each time: while clients crowd, or no descriptor is left, there is always something to accept.
    while *worker.phase.borrow() == Phase::Serving {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = worker.drain_begun() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // First a client, then a place for it: a place that a thread held for nobody would be missing elsewhere.
        let place = match places.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                worker.front.metrics.limit_hit(Limit::Connections);
                tokio::select! {
                    biased;
                    place = places.clone().acquire_owned() => place.ok(),
                    () = worker.drain_begun() => None,
                }
            }
        };
        begin(&worker, stream, peer, &acceptor, place);
    }
    // The reactor may not have looked since the last one came: the kernel itself is asked.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        let place = places.clone().try_acquire_owned().ok();
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => begin(&worker, stream, peer, &acceptor, place),
            Err(error) => tracing::debug!(%error, %peer, "a client was gone before its first request"),
        }
    }
}

/// Begins a connection. Who got no place, because the drain began while it waited for one, is told so.
fn begin(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &Option<TlsAcceptor>,
    permit: Option<OwnedSemaphorePermit>,
) {
    let gauge = worker.front.metrics.connection();
    worker.connections.set(worker.connections.get() + 1);
    let whose = Whose::own(peer);
    let place = Place { worker: worker.clone(), whose, _gauge: gauge, permit, guest: None };
    let since_ms = worker.watch.now_ms();
    if let Err(error) = socket::prepare(&stream, worker.pools().config.idle_timeout) {
        tracing::debug!(%error, %peer, "a client was gone before its first request");
        return;
    }
    let pools = worker.pools();
    let config = &pools.config;
    if acceptor.is_none() && !(config.calm.accept_proxy_protocol && config.trusts(peer.ip())) {
        // The task of a connection in the clear is its session and nothing else: there may be ten thousand.
        if let Some(session) = admit(Stream::Plain(stream), place, since_ms) {
            tokio::task::spawn_local(session.run());
        }
        return;
    }
    let acceptor = acceptor.clone();
    tokio::task::spawn_local(async move {
        match Box::pin(agree(stream, acceptor, place, since_ms)).await {
            Some(Agreed::Http1(session)) => session.run().await,
            Some(Agreed::Http2(session)) => Box::pin(session.become_http2()).await,
            None => {}
        }
    });
}

/// A client's place on this thread and among all clients, until it is dropped.
#[derive(Debug)]
pub struct Place {
    /// The thread.
    pub worker: Rc<Worker>,
    /// Whose connection has it.
    pub whose: Whose,
    _gauge: Connection,
    /// `None`: it is only told that there is none.
    permit: Option<OwnedSemaphorePermit>,
    guest: Option<Guest>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.forget(self.whose.peer);
        self.worker.connections.set(self.worker.connections.get() - 1);
        self.worker.ended.notify_waiters();
    }
}

/// What a client and we have agreed to speak.
enum Agreed {
    Http1(Session),
    Http2(Session),
}

/// Lets a client in, unless it has as many connections as it may, or there is no place; then it is told.
fn admit(stream: Stream, mut place: Place, since_ms: u64) -> Option<Session> {
    place.guest = welcome(&place.worker.pools(), &place.whose);
    let refused = match (&place.permit, &place.guest) {
        (None, _) => Some(ProxyError::NoRoom),
        (_, None) => Some(ProxyError::TooManyConnections),
        _ => None,
    };
    let session = Session::new(stream, place, since_ms);
    if let Some(error) = refused {
        tokio::task::spawn_local(session.turn_away(error));
        return None;
    }
    Some(session)
}

/// Counts a client's connection; `None`: it has as many as it may. A proxy that is trusted brings many clients, whom we
/// cannot count.
fn welcome(pools: &Present, whose: &Whose) -> Option<Guest> {
    match whose.is_trusted(&pools.config) {
        true => Some(Guest::uncounted()),
        false => pools.calm.clients.enter(whose.peer.ip()),
    }
}

/// Comes to know whose connection it is, if a proxy has to say so, and agrees on TLS, if that is spoken.
async fn agree(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    mut place: Place,
    since_ms: u64,
) -> Option<Agreed> {
    let worker = place.worker.clone();
    let pools = worker.pools();
    // One time for all that comes before the end of its first head.
    let deadline = tokio::time::Instant::now() + pools.config.header_timeout;
    let metrics = &worker.front.metrics;
    let peer = place.whose.peer;
    if pools.config.calm.accept_proxy_protocol && pools.config.trusts(peer.ip()) {
        match tokio::time::timeout_at(deadline, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(said)) => place.whose = place.whose.told(said),
            failed => {
                let slow = failed.is_err();
                metrics.limit_hit(if slow { Limit::HeaderTime } else { Limit::ProxyProtocol });
                tracing::debug!(?failed, %peer, "a proxy did not say whose connection it is");
                return None;
            }
        }
    }
    let Some(acceptor) = acceptor else {
        return admit(Stream::Plain(stream), place, since_ms).map(Agreed::Http1);
    };
    let peer = place.whose.peer;
    place.guest = welcome(&pools, &place.whose);
    drop(pools); // what it is now is no concern of a connection's whole life
    if place.guest.is_none() {
        worker.front.refused(&ProxyError::TooManyConnections.into(), peer.ip());
        return None;
    }
    let stream = match tokio::time::timeout_at(deadline, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "no TLS with a client");
            return None;
        }
        Err(_) => {
            metrics.limit_hit(Limit::HeaderTime);
            tracing::debug!(%peer, "a client was too slow to agree on TLS");
            return None;
        }
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let has_place = place.permit.is_some();
    let session = Session::new(Stream::Tls(Box::new(stream.into())), place, since_ms);
    // One that speaks HTTP/2 is sent away in its own words: the drain has begun.
    if !has_place && !is_http2 {
        session.turn_away(ProxyError::NoRoom).await;
        return None;
    }
    Some(if is_http2 { Agreed::Http2(session) } else { Agreed::Http1(session) })
}
