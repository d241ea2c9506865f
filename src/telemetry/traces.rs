//! Spans of requests, for whoever collects traces: cargo feature `otel`.
//!
//! Sources: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/> (HTTP server), W3C Trace Context. Owns: when a
//! request has a span, and what it says. Does not own: batches and the queue (`opentelemetry_sdk`: 2,048 spans, beyond which
//! they are dropped, `OTEL_BSP_…`), sending (`otlp`). Where no endpoint is named there is nothing of it: no thread, no
//! series, and a request costs one look.

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

/// The most octets of what a client sent that a span holds.
const MAX_TEXT: usize = 256;

/// Spans that cannot be exported as asked for.
#[derive(Debug, Error)]
pub enum TracesError {
    /// A variable that cannot be used.
    #[error("{name} {value:?} cannot be used: {fix}")]
    Variable {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What to give instead.
        fix: &'static str,
    },
    /// What the library says of the rest of them.
    #[error("spans cannot be exported; look at the variables OTEL_EXPORTER_OTLP_…")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Takes spans. Clones share it.
#[derive(Clone, Debug)]
pub struct Traces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    metrics: SpanMetrics,
    /// Of every request: `http` or `https`.
    scheme: &'static str,
}

/// A request that is under way. Dropped, it has ended without an answer: its client has gone.
#[derive(Debug)]
pub struct Span {
    recording: Box<Recording>,
    method: &'static str,
}

impl Traces {
    /// As the standard variables of OpenTelemetry say; none without an endpoint.
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
        let own = |name, value: &str| KeyValue::new(name, value.to_owned());
        // By `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` somebody may say more, and another name.
        let mut resource = Resource::builder().with_attributes([
            own("service.instance.id", identity),
            own("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        if said("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("rollcall");
        }
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("rollcall");
        info!(endpoint, "spans of requests are exported");
        let propagator = TraceContextPropagator::new();
        Ok(Some(Self(Arc::new(Shared { provider, tracer, propagator, metrics, scheme }))))
    }

    /// A request that came so long ago; none when nobody wants its span.
    pub fn begin<B>(&self, request: &Request<B>, peer: IpAddr, ago: Duration) -> Option<Span> {
        let Shared { tracer, propagator, metrics, scheme, .. } = &*self.0;
        let headers = HeaderExtractor(request.headers());
        let parent = propagator.extract_with_context(&Context::new(), &headers);
        let method = word(request.method());
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
            KeyValue::new("url.path", cut(request.uri().path())),
            KeyValue::new("client.address", peer.clone()),
            KeyValue::new("network.peer.address", peer),
            KeyValue::new("network.protocol.version", version(request.version())),
        ]);
        if method == OTHER {
            let original = cut(request.method().as_str());
            recording.set_attribute(KeyValue::new("http.request.method_original", original));
        }
        let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        if let Some(agent) = agent {
            recording.set_attribute(KeyValue::new("user_agent.original", cut(agent)));
        }
        Some(Span { recording: Box::new(recording), method })
    }

    /// Sends what is left, for as long at most.
    pub async fn end(&self, within: Duration) {
        let provider = self.0.provider.clone();
        // It blocks: the sender is a thread of its own.
        let ended = spawn_blocking(move || provider.shutdown_with_timeout(within));
        match timeout(within, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => warn!("the last spans were not exported within {within:?}"),
        }
    }
}

impl Span {
    /// It is answered.
    pub fn answered(mut self, route: Option<&'static str>, status: u16) {
        let span = &mut self.recording;
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Some(route) = route {
            span.update_name(format!("{} {route}", self.method));
            span.set_attribute(KeyValue::new("http.route", route));
        }
        // What the client did wrong is no fault of the server.
        if status >= 500 {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Where to, if anywhere.
fn endpoint() -> Result<Option<String>, TracesError> {
    let is = |name, word: &str| said(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| said(name).map(|value| (name, value)))
    };
    let Some((name, value)) =
        first([OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT])
    else {
        return Ok(None);
    };
    if !value.starts_with("http://") {
        let fix =
            "name a collector by http://, such as http://collector:4318; TLS is not spoken here";
        return Err(TracesError::Variable { name, value, fix });
    }
    let protocol = first([OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL]);
    match protocol {
        Some((name, value)) if value != "http/protobuf" => {
            let fix = "only http/protobuf is spoken here: a collector takes it at port 4318";
            Err(TracesError::Variable { name, value, fix })
        }
        _ => Ok(Some(value)),
    }
}

/// A variable that is set to something.
fn said(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A method that is none of the known: labels of spans are bounded, too.
const OTHER: &str = "_OTHER";

fn word(method: &Method) -> &'static str {
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

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
