//! Replaces `traces` in a build without the feature `otel`: the types are empty and cost nothing at run time.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use hyper::Request;
use prometheus_client::registry::Registry;
use tracing::info;

/// The exporter of spans, which does not exist without the feature `otel`.
#[derive(Clone, Debug)]
pub enum Traces {}

/// A span, which does not exist without the feature `otel`.
#[derive(Debug)]
pub enum Span {}

impl Traces {
    /// Always `None`. Logs a hint if the environment asks for spans.
    ///
    /// # Errors
    /// Never; the version with the feature `otel` returns errors.
    pub fn from_env(
        _identity: &str,
        _scheme: &'static str,
        _registry: &mut Registry,
    ) -> Result<Option<Self>, Infallible> {
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
            if std::env::var_os(name).is_some() {
                info!(
                    name,
                    "spans are not exported, because this binary was built without the feature otel"
                );
            }
        }
        Ok(None)
    }

    /// Never called.
    pub fn begin<B>(&self, _request: &Request<B>, _peer: IpAddr, _ago: Duration) -> Option<Span> {
        match *self {}
    }

    /// Never called.
    pub async fn end(&self, _within: Duration) {
        match *self {}
    }
}

impl Span {
    /// Never called.
    pub fn answered(self, _route: Option<&'static str>, _status: u16) {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_traces_and_spans_take_no_memory() {
        assert_eq!((size_of::<Option<Traces>>(), size_of::<Option<Span>>()), (0, 0));
    }
}
