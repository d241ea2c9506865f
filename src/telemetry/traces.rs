//! Spans of HTTP requests for OpenTelemetry (cargo feature `otel`).
//!
//! Owns: which requests have a span, and its attributes. Does not own: the queue and the batches (`opentelemetry_sdk`:
//! at most 2,048 queued spans, further ones are dropped, `OTEL_BSP_…`), and the export (`otlp`). Without an endpoint
//! there is no thread and no series, and the only cost is one check for each request.
//!
//! Sources: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/> (HTTP server), W3C Trace Context.

use std::{env, net::IpAddr, sync::Arc, time::Duration};

use hyper::{Method, Request, Version, header::USER_AGENT};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span as Recording},
};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{info, warn};

use crate::telemetry::otlp::{self, SpanMetrics};

/// Maximum length of a client-supplied text in a span, in characters.
const MAX_TEXT: usize = 256;

/// The export of spans is misconfigured.
#[derive(Debug, Error)]
pub enum TracesError {
    /// An environment variable has an unusable value.
    #[error("{name} {value:?} cannot be used: {fix}")]
    Variable {
        /// The name of the variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What to give instead.
        fix: &'static str,
    },
    /// The library rejects one of the other variables.
    #[error("spans cannot be exported; check the variables OTEL_EXPORTER_OTLP_…")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Creates and exports spans. Clones share the exporter.
#[derive(Clone, Debug)]
pub struct Traces(Arc<TracesState>);

#[derive(Debug)]
struct TracesState {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    metrics: SpanMetrics,
    /// The scheme of every request: `http` or `https`.
    scheme: &'static str,
}

/// The span of a request in progress. A span that is dropped ends without an answer, because the client has gone.
#[derive(Debug)]
pub struct Span {
    recording: Box<Recording>,
    method: &'static str,
}

impl Traces {
    /// Configures the export from the standard variables of OpenTelemetry. `None` without an endpoint.
    ///
    /// # Errors
    /// Names the variable that cannot be used.
    pub fn from_env(
        identity: &str,
        scheme: &'static str,
        registry: &mut Registry,
    ) -> Result<Option<Self>, TracesError> {
        let Some(endpoint) = endpoint()? else { return Ok(None) };
        let metrics = SpanMetrics::new(registry);
        let exporter = otlp::exporter(metrics.clone())?;
        let attribute = |name, value: &str| KeyValue::new(name, value.to_owned());
        // `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` can add attributes and change the name.
        let mut resource = Resource::builder().with_attributes([
            attribute("service.instance.id", identity),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        if env_var("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("rollcall");
        }
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("rollcall");
        info!(endpoint, "exporting spans of requests");
        let propagator = TraceContextPropagator::new();
        Ok(Some(Self(Arc::new(TracesState { provider, tracer, propagator, metrics, scheme }))))
    }

    /// Starts the span of a request that arrived `ago` before now. `None` if the sampler does not record it.
    pub fn begin<B>(&self, request: &Request<B>, peer: IpAddr, ago: Duration) -> Option<Span> {
        let TracesState { tracer, propagator, metrics, scheme, .. } = &*self.0;
        let headers = HeaderExtractor(request.headers());
        let parent = propagator.extract_with_context(&Context::new(), &headers);
        let method = method_name(request.method());
        let builder = tracer.span_builder(method).with_kind(SpanKind::Server);
        let builder = builder.with_start_time(opentelemetry::time::now() - ago);
        let mut recording = tracer.build_with_context(builder, &parent);
        if !recording.is_recording() {
            return None;
        }
        metrics.begun();
        let peer = peer.to_string();
        recording.set_attributes([
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", *scheme),
            KeyValue::new("url.path", truncate(request.uri().path())),
            KeyValue::new("client.address", peer.clone()),
            KeyValue::new("network.peer.address", peer),
            KeyValue::new("network.protocol.version", version(request.version())),
        ]);
        if method == OTHER {
            let original = truncate(request.method().as_str());
            recording.set_attribute(KeyValue::new("http.request.method_original", original));
        }
        let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        if let Some(agent) = agent {
            recording.set_attribute(KeyValue::new("user_agent.original", truncate(agent)));
        }
        Some(Span { recording: Box::new(recording), method })
    }

    /// Exports the remaining spans, within a deadline.
    pub async fn end(&self, within: Duration) {
        let provider = self.0.provider.clone();
        // The call blocks while it waits for the exporting thread.
        let ended = spawn_blocking(move || provider.shutdown_with_timeout(within));
        match timeout(within, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => warn!("the last spans were not exported within {within:?}"),
        }
    }
}

impl Span {
    /// Ends the span of a request that was answered.
    pub fn answered(mut self, route: Option<&'static str>, status: u16) {
        let span = &mut self.recording;
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Some(route) = route {
            span.update_name(format!("{} {route}", self.method));
            span.set_attribute(KeyValue::new("http.route", route));
        }
        // An error of the client (4xx) is not an error of the server.
        if status >= 500 {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// The endpoint of the collector, if one is configured.
fn endpoint() -> Result<Option<String>, TracesError> {
    let is = |name, expected: &str| {
        env_var(name).is_some_and(|value| value.eq_ignore_ascii_case(expected))
    };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| env_var(name).map(|value| (name, value)))
    };
    let Some((name, value)) =
        first([OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT])
    else {
        return Ok(None);
    };
    if !value.starts_with("http://") {
        let fix = "give the URL of a collector with http://, such as http://collector:4318; TLS is not supported";
        return Err(TracesError::Variable { name, value, fix });
    }
    let protocol = first([OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL]);
    match protocol {
        Some((name, value)) if value != "http/protobuf" => {
            let fix = "only http/protobuf is supported; a collector accepts it at port 4318";
            Err(TracesError::Variable { name, value, fix })
        }
        _ => Ok(Some(value)),
    }
}

/// The value of a variable that is set and not empty.
fn env_var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Replaces unknown methods, so that the names of spans are bounded.
const OTHER: &str = "_OTHER";

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => OTHER,
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn truncate(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
