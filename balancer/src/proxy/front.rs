//! The main port: its listeners, its threads, and their orderly end.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::sync::{oneshot, watch};

use super::error::Refusal;
use super::pools::Shared;
use super::upstream::Alarm;
use super::worker::{self, Listeners, Orders, Phase};
use crate::metrics::Metrics;
use crate::places::Places;
use crate::sampled::Sampled;

/// Connections that wait for `accept`; the kernel may allow fewer (net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// What the threads of the main port share.
#[derive(Debug)]
pub struct Front {
    /// Who takes which request.
    pub pools: Shared,
    /// Requests for `/rep`, `/add`, `/rm`.
    pub contract: axum::Router,
    /// Places for clients, over all threads.
    pub places: Places,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failures, told in the log now and then.
    pub complaints: Sampled,
}

impl Front {
    /// Notes a refusal.
    pub fn refused(&self, refusal: &Refusal, client: IpAddr) {
        let error = &refusal.error;
        self.metrics.refused(error.status());
        if let Some(limit) = error.limit() {
            self.metrics.limit_hit(limit);
        }
        if error.status().is_server_error()
            && let Some(silent) = self.complaints.pass(Instant::now())
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, %client, silent, "a request failed");
        }
    }

    /// Serves `listeners`, a thread each, from now on: each has what it takes when this returns.
    ///
    /// # Errors
    /// When a thread could not be started, or has no reactor; the others end.
    pub fn serve(self: Arc<Self>, listeners: Vec<Listeners>, alarm: &Alarm) -> io::Result<Threads> {
        let (phase, _) = watch::channel(Phase::Serving);
        let (mut idle, mut ends) = (Vec::new(), Vec::new());
        let (ready, failures) = mpsc::channel();
        for (index, listeners) in listeners.into_iter().enumerate() {
            let (when_idle, is_idle) = oneshot::channel();
            let (when_over, is_over) = oneshot::channel::<()>();
            let orders = Orders {
                phase: phase.subscribe(),
                idle: when_idle,
                alarm: alarm.clone(),
                places: self.places.semaphore().clone(),
            };
            let (front, ready) = (self.clone(), ready.clone());
            let thread = std::thread::Builder::new().name(format!("proxy-{index}"));
            thread.spawn(move || {
                worker::run(front, index, listeners, orders, ready);
                drop(when_over);
            })?;
            idle.push(is_idle);
            ends.push(is_over);
        }
        drop(ready);
        // Over when every thread has let go of its end.
        match failures.recv() {
            Ok(error) => Err(error),
            Err(mpsc::RecvError) => Ok(Threads { phase, idle, ends }),
        }
    }
}

/// The threads of a [`Front`].
#[derive(Debug)]
pub struct Threads {
    phase: watch::Sender<Phase>,
    idle: Vec<oneshot::Receiver<()>>,
    ends: Vec<oneshot::Receiver<()>>,
}

impl Threads {
    /// Accepts no more, and lets what is in flight finish, for at most `within`.
    pub async fn drain(&mut self, within: Duration) {
        self.phase.send_replace(Phase::Draining);
        let idle = async {
            for idle in self.idle.drain(..) {
                idle.await.unwrap_or_default(); // it only ever ends by being dropped
            }
        };
        if tokio::time::timeout(within, idle).await.is_err() {
            tracing::warn!(?within, "requests were still in flight at the end of the drain");
        }
    }

    /// Ends what is left, and the threads.
    pub async fn end(self) {
        self.phase.send_replace(Phase::Ending);
        for end in self.ends {
            end.await.unwrap_or_default();
        }
    }
}

/// Binds `address` once for each of `count` threads; `beside`: also where another balancer has it and shares it. Nobody
/// can connect before [`listen`].
///
/// # Errors
/// When it is taken, or is none of ours.
pub fn bind(address: SocketAddr, count: usize, beside: bool) -> io::Result<Vec<TcpListener>> {
    // Whether another program is there shows only without sharing.
    if !beside {
        drop(listener(address, false)?);
    }
    let first = listener(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listener(address, true)?);
    }
    Ok(listeners)
}

/// Lets clients connect.
///
/// # Errors
/// When another program has begun to listen there since it was bound.
pub fn listen(listeners: &[TcpListener]) -> io::Result<()> {
    for listener in listeners {
        rustix::net::listen(listener, BACKLOG)?;
    }
    Ok(())
}

/// The socket that somebody else listens on for us, for each of `count` threads.
///
/// # Errors
/// When the kernel has no more descriptors.
pub fn share(inherited: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    inherited.set_nonblocking(true)?;
    let mut listeners = Vec::with_capacity(count);
    for _ in 1..count {
        listeners.push(inherited.try_clone()?);
    }
    listeners.push(inherited);
    Ok(listeners)
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    rustix::net::bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}
