//! Traces: a span for each request that is carried, refused or administered on the main port, for an OpenTelemetry
//! collector.
//!
//! What a span tells is what the access log tells ([`Noted`], [`Tally`]): it begins and ends with a request's line, so
//! that the data plane knows nothing of traces but the name under which a request goes on to its replica ([`Onward`]).
//! One span a request, and none for each offer: the head that a replica gets is made once, and what was offered in vain
//! is counted.
//!
//! Without the feature `otel` everything here is of no size and does nothing, and no crate of OpenTelemetry is linked.
//! With it, theirs is the wire format (`opentelemetry-proto`); the queue, the deadline and the counting are ours, because
//! the batch processor of their SDK tells nobody in numbers what it drops, and its exporter brings a client that blocks
//! a thread.
//!
//! [`Noted`]: super::access_log::Noted
//! [`Tally`]: super::access_log::Tally

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod none;
#[cfg(any(test, feature = "otel"))]
mod parent;
#[cfg(feature = "otel")]
mod span;

#[cfg(not(feature = "otel"))]
pub use none::{Onward, Span, Traces};
#[cfg(feature = "otel")]
pub use span::{Onward, Span, Traces};

use http::Uri;

/// Where spans go, and of which requests.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// Who takes OTLP over HTTP; `None`: there are no spans.
    pub endpoint: Option<Uri>,
    /// The share of the requests without a parent that get a span.
    pub sample: f64,
    /// What the balancer is called among other services.
    pub service: String,
}

/// Whether this build can have spans.
pub const IS_BUILT: bool = cfg!(feature = "otel");

/// The value of a field that is there once.
pub fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    values.next().filter(|_| values.next().is_none())
}
