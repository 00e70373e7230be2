//! A request's body on its way to a replica: when it ended, and whether it was the client who failed.
//!
//! A replica owes its answer from the end of the request, not from its beginning: an upload that makes progress
//! may take as long as it takes.

use std::time::Duration;

use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::body::{AtEnd, BodyError, Forwarded};
use super::error::ProxyError;

/// Goes with the body and reports its end.
#[derive(Debug)]
pub struct Upload {
    end: oneshot::Sender<Option<ProxyError>>,
}

impl AtEnd for Upload {
    fn at_end(self) {
        drop(self.end.send(None)); // whoever waited may have an early answer already
    }

    fn at_failure(self, error: &BodyError) {
        let failure = match error {
            BodyError::Stalled(patience) => ProxyError::ClientStalled(*patience),
            BodyError::Broken(_) => ProxyError::ClientGone,
        };
        drop(self.end.send(Some(failure)));
    }
}

/// Stays with the request and learns of the end.
#[derive(Debug)]
pub struct UploadEnd {
    end: Option<oneshot::Receiver<Option<ProxyError>>>,
    failure: Option<ProxyError>,
}

impl UploadEnd {
    /// Resolves when the body has ended, or will never be asked for again.
    pub async fn ended(&mut self) {
        if let Some(end) = &mut self.end {
            self.failure = end.await.unwrap_or_default();
            self.end = None;
        }
    }

    /// Why the client's side of the body failed, if it did.
    pub fn failure(&mut self) -> Option<ProxyError> {
        if let Some(end) = &mut self.end
            && let Ok(failure) = end.try_recv()
        {
            self.failure = failure;
            self.end = None;
        }
        self.failure.take()
    }
}

/// Splits a body from the knowledge of its end.
pub fn watched(body: Incoming, idle_timeout: Duration) -> (Forwarded<Upload>, UploadEnd) {
    if body.is_end_stream() {
        return (Forwarded::none(), UploadEnd { end: None, failure: None });
    }
    let (sender, end) = oneshot::channel();
    (Forwarded::new(body, idle_timeout, Upload { end: sender }), UploadEnd { end: Some(end), failure: None })
}
