//! No traces: what a build without the feature `otel` has in their place.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use super::TraceConfig;
use crate::metrics::Metrics;
use crate::proxy::access_log::{Noted, Tally};

/// Nowhere.
#[derive(Clone, Debug)]
pub struct Traces;

/// None.
#[derive(Clone, Debug, Default)]
pub struct Span(());

/// A request goes on under the name that it came with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Onward<'a>(PhantomData<&'a ()>);

impl Traces {
    /// Nothing begins.
    pub fn begin(_: &TraceConfig, _: &Metrics) -> Self {
        Self
    }

    /// Nothing changes.
    #[must_use]
    pub fn again(&self, _: &TraceConfig) -> Self {
        Self
    }

    /// None.
    pub fn span<'a>(&self, _: impl FnOnce() -> Option<&'a [u8]>) -> Span {
        Span(())
    }

    /// Nothing is left to be sent.
    pub async fn end(&self, _: Duration) {}
}

impl Span {
    /// It is not.
    pub const fn is_recorded(&self) -> bool {
        false
    }

    /// As it came.
    pub const fn onward(&self) -> Onward<'_> {
        Onward(PhantomData)
    }

    /// Nobody is told.
    pub fn end(&self, _: &Noted, _: IpAddr, _: &Tally) {}
}

impl Onward<'_> {
    /// None is.
    pub const fn replaces(&self, _: &str) -> bool {
        false
    }

    /// None.
    pub const fn traceparent(&self) -> Option<&[u8]> {
        None
    }
}
