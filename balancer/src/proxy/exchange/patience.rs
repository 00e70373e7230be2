//! How long an exchange waits for whom.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Client, Departure, Exchange, Failure, Outcome, Patience, Stage};
use crate::proxy::error::ProxyError;

/// How often the speed of a client that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the client was waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    sending_ms: u64,
    taking_ms: u64,
    since_ms: u64,
}

impl Waited {
    /// Not at all, up to `now_ms`.
    pub(super) fn since(now_ms: u64) -> Self {
        Self { sending_ms: 0, taking_ms: 0, since_ms: now_ms }
    }
}

impl<C: Client> Exchange<'_, C> {
    /// Adds the time since the last look to whatever was waited for.
    pub(super) fn account(&mut self) {
        let now = self.terms.ticket.now_ms();
        let passed = now.saturating_sub(self.waited.since_ms);
        self.waited.since_ms = now;
        if self.client_waits && !self.awaits_continue() {
            self.waited.sending_ms += passed;
        }
        if self.reader_waits {
            self.waited.taking_ms += passed;
        }
    }

    /// Whether the client has yet to be told that its body is wanted: it is the replica that says nothing.
    fn awaits_continue(&self) -> bool {
        self.expects && self.received == 0
    }

    /// Whether the client is slower than it may be.
    fn drags(&self) -> Option<Failure> {
        let Patience { min_rate, grace, .. } = self.terms.patience;
        let slow = |bytes: u64, ms: u64| {
            u128::from(ms) > grace.as_millis()
                && u128::from(bytes) * 1000 < u128::from(min_rate) * u128::from(ms)
        };
        if self.client_waits && self.stage == Stage::Head && slow(self.received, self.waited.sending_ms) {
            return Some(Failure::Before(ProxyError::SlowBody(min_rate)));
        }
        (self.reader_waits && slow(self.sent, self.waited.taking_ms))
            .then_some(Failure::During(ProxyError::SlowReader(min_rate)))
    }

    /// Nobody looks while it may still be slow: most bodies are over by then.
    fn until_it_may_drag(&self) -> Duration {
        let waited = match self.reader_waits {
            true => self.waited.taking_ms,
            false => self.waited.sending_ms,
        };
        self.terms.patience.grace.saturating_sub(Duration::from_millis(waited)).max(LOOK)
    }

    /// Whether the client is gone, or has ended its side and nothing was there for it since.
    ///
    /// Most who end their side have left, and what their request costs is to be given back; some listen on (RFC 9112
    /// section 9.6 has a server do so itself). Those get an answer that begins, or goes on, within
    /// [`Patience::half_closed`]: a middle between nginx, which takes the end for leaving, and HAProxy, which
    /// answers until a write fails.
    pub(super) fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended_ms.is_none() {
            match self.client.poll_departure(cx) {
                Poll::Pending => return false,
                Poll::Ready(Departure::Gone) => return true,
                Poll::Ready(Departure::Ended) => self.ended_ms = Some(self.terms.ticket.now_ms()),
            }
        }
        self.left_for_an_ended_client() == Some(Duration::ZERO)
    }

    /// How much longer a client is waited for that has ended its side.
    pub(super) fn left_for_an_ended_client(&self) -> Option<Duration> {
        let since_ms = self.ended_ms?.max(self.since_ms);
        let passed = Duration::from_millis(self.terms.ticket.now_ms().saturating_sub(since_ms));
        Some(self.terms.patience.half_closed.saturating_sub(passed))
    }

    /// Whether anyone has waited too long, and who is to blame.
    pub(super) fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        waits: bool,
    ) -> Poll<Result<Outcome, Failure>> {
        let now = self.terms.ticket.now_ms();
        let awaits_head = self.stage == Stage::Head
            && (self.refused || self.upload.is_none() || self.client_waits && self.awaits_continue());
        let patience = if awaits_head { self.first_byte } else { self.terms.patience.idle };
        if self.terms.patience.min_rate > 0 && (self.client_waits || self.reader_waits) {
            if let Some(failure) = self.drags() {
                return Poll::Ready(Err(failure));
            }
            let left = patience.saturating_sub(Duration::from_millis(now - self.since_ms));
            if !left.is_zero() {
                self.terms.ticket.set(left.min(self.until_it_may_drag()));
                if !self.terms.ticket.has_expired(cx) {
                    return Poll::Pending;
                }
            }
        }
        match self.left_for_an_ended_client().filter(|_| waits) {
            Some(left) if now + ms(left) < self.since_ms + ms(patience) => self.terms.ticket.set(left),
            _ => self.terms.ticket.set_from(self.since_ms, patience),
        }
        if !self.terms.ticket.has_expired(cx) {
            return Poll::Pending;
        }
        Poll::Ready(Err(match self.stage {
            Stage::Head if !awaits_head && self.client_waits => {
                Failure::Before(ProxyError::ClientStalled(patience))
            }
            Stage::Head if !awaits_head => Failure::Before(ProxyError::Unread(patience)),
            Stage::Head => Failure::Before(ProxyError::Timeout(patience)),
            _ if self.reader_waits => Failure::During(ProxyError::Unheard(patience)),
            _ => Failure::During(ProxyError::Stalled(patience)),
        }))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}
