//! A connection that waits for a request.

use std::task::Poll;
use std::time::Duration;

use super::Talk;
use crate::limit::Limit;
use crate::proxy::error::ProxyError;
use crate::proxy::stream::Stream;
use crate::proxy::watch::Ticket;
use crate::proxy::worker::Place;

/// When a drain begins, an idle client may still ask within this, and is told then that it was the last time: what it
/// sends while its connection is closed would be lost.
const LAST_CHANCE: Duration = Duration::from_millis(500);

/// What an idle connection waited for.
enum Comes {
    /// Bytes, or the end of them.
    News,
    /// Not its first request.
    TooLate,
    /// Not another one for as long as it may be idle.
    TooIdle,
    /// Nothing more.
    Nothing,
}

/// A client's connection, idle: it holds no more than it needs to hear of the next request.
pub struct Session {
    pub(super) stream: Stream,
    pub(super) place: Place,
    pub(super) ticket: Ticket,
    pub(super) requests: u64,
    /// Since when nothing is asked.
    pub(super) idle_since_ms: u64,
}

impl Session {
    /// A connection on which nothing was said, and which was accepted at this moment of the thread's clock: the time for
    /// its first head runs from there, whatever came before the head.
    pub fn new(stream: Stream, place: Place, since_ms: u64) -> Self {
        let ticket = place.worker.watch.ticket();
        Self { stream, place, ticket, requests: 0, idle_since_ms: since_ms }
    }

    /// Serves it to its end.
    ///
    /// What serving takes is in a box that an idle connection does not have: there may be ten thousand of those. A
    /// busy one keeps its box from request to request.
    pub fn run(self) -> impl Future<Output = ()> {
        let mut session = self;
        // Not an `async fn`: that would hold the session twice, once as its argument.
        async move {
            // TLS may have read ahead.
            let mut comes = match session.stream {
                Stream::Plain(_) => session.rests().await,
                Stream::Tls(_) => Comes::News,
            };
            loop {
                let busy = match comes {
                    Comes::News => Box::pin(Talk::new(session).busy()).await,
                    Comes::TooLate => return Box::pin(session.end_too_slow()).await,
                    Comes::TooIdle => {
                        session.place.worker.front.metrics.limit_hit(Limit::IdleTime);
                        return Box::pin(Talk::new(session).leave()).await;
                    }
                    Comes::Nothing => return Box::pin(Talk::new(session).leave()).await,
                };
                let Some(idle) = busy else { return };
                session = idle;
                comes = session.rests().await;
            }
        }
    }

    async fn end_too_slow(self) {
        let patience = self.place.worker.pools().config.header_timeout;
        self.turn_away(ProxyError::SlowHead(patience)).await;
    }

    /// Refuses whatever it is going to ask, and ends it.
    pub async fn turn_away(self, error: ProxyError) {
        Talk::new(self).turn_away(error).await;
    }

    /// Goes on in HTTP/2.
    pub async fn become_http2(self) {
        Talk::new(self).become_http2().await;
    }

    /// Waits for a request, with as little as there is to that.
    async fn rests(&mut self) -> Comes {
        let worker = &self.place.worker;
        let header_timeout = worker.pools().config.header_timeout;
        let first = self.requests == 0;
        let patience = if first { header_timeout } else { worker.pools().config.idle_timeout };
        self.ticket.set_from(self.idle_since_ms, patience);
        let mut leaving = false;
        std::future::poll_fn(|cx| {
            if self.stream.has_news(cx) {
                return Poll::Ready(Comes::News);
            }
            if let Some(drained_ms) = worker.draining.get().filter(|_| !leaving) {
                leaving = true;
                // From a fixed moment: empty lines, which are no request, do not renew it.
                self.ticket.set_from(drained_ms.max(self.idle_since_ms), LAST_CHANCE.min(patience));
            }
            Poll::Ready(match self.ticket.has_expired(cx) {
                false => return Poll::Pending,
                true if first && !leaving => Comes::TooLate,
                true if !leaving => Comes::TooIdle,
                true => Comes::Nothing,
            })
        })
        .await
    }
}
