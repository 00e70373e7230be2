//! Whether a request is offered once more, of whichever protocol: the budget decides, unless the replica that cost the
//! last offer is dead.

use std::sync::Arc;

use super::connection::{ConnectError, Connection};
use super::forward::Pool;
use super::transport::Transport;
use super::upstream::Upstream;

impl Pool {
    /// Whether a request that was not answered may be offered once more, after a replica that cost it time if one did;
    /// then it counts as a retry. What a dead replica took with it is no load on it: asking another for that
    /// multiplies nothing, so it is not for the budget to refuse.
    pub(super) async fn may_offer_again(&self, failed: Option<Arc<Upstream>>, now: (usize, u64)) -> bool {
        if let Some(failed) = failed
            && !failed.is_gone()
            && !self.budget.withdraw()
            && !self.is_dead(&failed, now).await
        {
            self.metrics.retries_denied.inc();
            return false;
        }
        self.metrics.retries.inc();
        true
    }

    /// Whether nobody listens there any more. A connection that shows the opposite is kept for the next request of this
    /// thread.
    async fn is_dead(&self, upstream: &Arc<Upstream>, (worker, now_ms): (usize, u64)) -> bool {
        // The look needs a place like any connection; a replica without a free one is alive and busy.
        let Some(mut flight) = upstream.enter() else { return upstream.is_gone() };
        if !flight.try_place() {
            return false;
        }
        let within = self.config.forward.connect_timeout;
        let in_the_clear = (&Transport::default(), None);
        match Connection::open(upstream.address, in_the_clear, within, self.patience.idle).await {
            Ok(connection) => {
                if !upstream.is_gone() && self.transport().is_plain() {
                    upstream.pool(worker).give_back(connection, now_ms);
                }
                false
            }
            Err(ConnectError::Refused) => {
                self.fleet.report_refused(&upstream.instance);
                true
            }
            Err(_) => upstream.is_gone(),
        }
    }
}
