//! Export of spans: OTLP over HTTP/1.1, protobuf, without TLS.
//!
//! Owns: the HTTP client, and the metric about spans. Does not own: the encoding (`opentelemetry_otlp`) and the batches
//! (`opentelemetry_sdk`, which exports from its own thread, so that no request waits for it).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Otlp, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{info, warn};

/// Deadline for a batch of 512 spans, about 200 KiB. The next batch waits in the queue.
const EXPORT_WITHIN: Duration = Duration::from_secs(10);

/// Upper bound for the answer of a collector, which is usually a few bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Counts spans by result. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanMetrics(Family<SpanLabels, Counter>);

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SpanLabels {
    result: &'static str,
}

impl SpanMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        for result in ["begun", "exported", "failed"] {
            drop(this.0.get_or_create(&SpanLabels { result }));
        }
        let help = "Spans by result: begun, exported or failed. Begun spans that are neither exported nor failed are queued \
                    or were dropped";
        registry.register("trace_spans", help, this.0.clone());
        this
    }

    pub(super) fn begun(&self) {
        self.0.get_or_create(&SpanLabels { result: "begun" }).inc();
    }

    fn ended(&self, spans: usize, were_exported: bool) {
        let result = if were_exported { "exported" } else { "failed" };
        self.0.get_or_create(&SpanLabels { result }).inc_by(spans as u64);
    }
}

/// An exporter that is configured by the OTEL variables and counts spans.
///
/// # Errors
/// The error of the library about these variables.
pub(super) fn exporter(metrics: SpanMetrics) -> Result<CountingExporter, ExporterBuildError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let http_client = OtlpHttpClient { client, runtime: Handle::current() };
    let otlp = Otlp::builder().with_http().with_http_client(http_client).build()?;
    Ok(CountingExporter { otlp, metrics, is_failing: Arc::default() })
}

/// Counts spans, and logs once when exports begin to fail.
#[derive(Debug)]
pub(super) struct CountingExporter {
    otlp: Otlp,
    metrics: SpanMetrics,
    is_failing: Arc<AtomicBool>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        // Bounded by the client's deadline.
        let exported = self.otlp.export(batch).await;
        self.metrics.ended(spans, exported.is_ok());
        match (self.is_failing.swap(exported.is_err(), Ordering::Relaxed), exported) {
            (false, Err(error)) => warn!(%error, "spans cannot be exported and are lost"),
            (true, Ok(())) => info!("spans are exported again"),
            _ => {}
        }
        // The error is logged above; the library would log it with every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(within)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// An HTTP client that can be called from any thread and sends on the runtime of the process.
struct OtlpHttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new));
        let send = async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // The exporting thread has no runtime, so it waits for a task on this one.
        self.runtime.spawn(async move { timeout(EXPORT_WITHIN, send).await? }).await?
    }
}

impl fmt::Debug for OtlpHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpHttpClient")
    }
}
