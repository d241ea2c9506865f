//! Sending spans: OTLP over HTTP/1.1, protobuf, without TLS.
//!
//! Owns: the HTTP client, and what becomes of spans in figures. Does not own: what is sent (`opentelemetry_otlp`), and when
//! (`opentelemetry_sdk`, from a thread of its own, so that no request waits for it).

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

/// For a batch of 512 spans, which is some 200 KiB; the next waits in the queue meanwhile.
const WITHIN: Duration = Duration::from_secs(10);

/// What a collector answers is a word or two.
const MAX_ANSWER: usize = 64 * 1024;

/// What becomes of spans. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanMetrics(Family<Of, Counter>);

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    result: &'static str,
}

impl SpanMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        for result in ["begun", "exported", "failed"] {
            drop(this.0.get_or_create(&Of { result }));
        }
        let help = "Spans by what became of them; those begun that are neither exported nor failed wait, or were dropped";
        registry.register("trace_spans", help, this.0.clone());
        this
    }

    pub(super) fn begun(&self) {
        self.0.get_or_create(&Of { result: "begun" }).inc();
    }

    fn ended(&self, spans: usize, were_exported: bool) {
        let result = if were_exported { "exported" } else { "failed" };
        self.0.get_or_create(&Of { result }).inc_by(spans as u64);
    }
}

/// An exporter as the variables say, that counts.
///
/// # Errors
/// What the library says of them.
pub(super) fn exporter(metrics: SpanMetrics) -> Result<Counted, ExporterBuildError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let post = Post { client, runtime: Handle::current() };
    let otlp = Otlp::builder().with_http().with_http_client(post).build()?;
    Ok(Counted { otlp, metrics, is_failing: Arc::default() })
}

/// Counts, and says once when it begins to fail.
#[derive(Debug)]
pub(super) struct Counted {
    otlp: Otlp,
    metrics: SpanMetrics,
    is_failing: Arc<AtomicBool>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        // Bounded by the client's deadline.
        let exported = self.otlp.export(batch).await;
        self.metrics.ended(spans, exported.is_ok());
        match (self.is_failing.swap(exported.is_err(), Ordering::Relaxed), exported) {
            (false, Err(error)) => warn!(%error, "spans cannot be exported, and are lost"),
            (true, Ok(())) => info!("spans are exported again"),
            _ => {}
        }
        // It was said; the library would say it with every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(within)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// Sends from whatever thread, by the runtime of the process.
struct Post {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new));
        let send = async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // The thread that asks has no runtime; it waits for this one's.
        self.runtime.spawn(async move { timeout(WITHIN, send).await? }).await?
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client over HTTP/1.1")
    }
}
