//! Spans of requests, in a rollcall that is built without the feature `otel`: there are none, and nothing is spent on them.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use hyper::Request;
use prometheus_client::registry::Registry;
use tracing::info;

/// Nobody takes spans.
#[derive(Clone, Debug)]
pub enum Traces {}

/// There is none.
#[derive(Debug)]
pub enum Span {}

impl Traces {
    /// None, and says so to whoever wants to have some.
    ///
    /// # Errors
    /// None; with the feature there are.
    pub fn from_env(
        _identity: &str,
        _scheme: &'static str,
        _registry: &mut Registry,
    ) -> Result<Option<Self>, Infallible> {
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
            if std::env::var_os(name).is_some() {
                info!(
                    name,
                    "no spans are exported: this rollcall is built without the feature otel"
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
    fn nothing_is_spent_on_what_is_not_there() {
        assert_eq!((size_of::<Option<Traces>>(), size_of::<Option<Span>>()), (0, 0));
    }
}
