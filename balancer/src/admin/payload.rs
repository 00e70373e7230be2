//! The body of a call: all of it, in time, and not too much.

use std::error::Error as _;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use tokio::time::timeout;

use super::refusal::Refusal;
use super::{Admin, LARGEST_BODY};

/// A body, read to its end. A handler takes it as the last of its arguments, where an error is an answer by itself.
pub(super) struct Payload(pub(super) Bytes);

impl FromRequest<Admin> for Payload {
    type Rejection = Refusal;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, Refusal> {
        Self::read(request, admin, LARGEST_BODY).await
    }
}

impl Payload {
    /// Reads it on a route whose bodies may have `largest` bytes.
    pub(super) async fn read(request: Request, admin: &Admin, largest: usize) -> Result<Self, Refusal> {
        let within = admin.payload_timeout();
        match timeout(within, Bytes::from_request(request, admin)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
                Err(Refusal::TooLarge(largest))
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, cause = ?error.source(), "a payload broke off");
                Err(Refusal::Broken)
            }
            Err(_) => Err(Refusal::Stalled(within)),
        }
    }
}
