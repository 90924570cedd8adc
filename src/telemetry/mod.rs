//! What the program tells of itself while it works: lines in a log, spans to a collector. Set up once, at the start.

mod bridge;
mod collector;
mod endpoint;
mod lines;
mod plain;
mod request;

pub(crate) use request::{answered, request_span};

use std::{env, io, panic, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};
use pipeline::trace::{self, TARGET};
use reqwest::Url;
use tokio::runtime::Handle;
use tracing::{Level, Subscriber, error, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::Targets,
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use self::{bridge::Bridge, collector::Collector, lines::JsonLines, plain::PlainLines};
use crate::config::Globals;

/// How long the last spans may take on their way to the collector.
const LAST_SPANS_MAX: Duration = Duration::from_secs(2);

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What has to be ended in time.
#[must_use = "spans that are still in memory are sent by `finish`"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// The level of who logs nothing, whatever `RUST_LOG` says: it draws where the log would go.
pub const SILENT: &str = "off";

/// Sets both up. `level` is what is logged unless `RUST_LOG` says otherwise; spans are exported on `runtime`.
///
/// # Errors
/// When the collector's address is none.
pub fn start(globals: &Globals, level: &str, runtime: &Handle) -> anyhow::Result<Telemetry> {
    let traces = match endpoint::traces(globals.otlp.as_deref(), |name| env::var(name).ok())? {
        Some(endpoint) => Some(provider(endpoint, runtime)?),
        None => None,
    };
    let spans = traces.as_ref().map(|traces| layer(traces.tracer("orderstream")));
    tracing_subscriber::registry().with(log(globals.log_format).with_filter(filter(level)?)).with(spans).init();
    if globals.log_format == LogFormat::Json {
        panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            error!(panic = panic.payload_as_str(), place, "a thread panicked");
        }));
    }
    if traces.is_some() {
        trace::install(Box::new(Bridge::default()));
    }
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends the last spans, for two seconds at most.
    pub fn finish(self) {
        let Some(traces) = self.traces else { return };
        if let Err(error) = traces.shutdown_with_timeout(LAST_SPANS_MAX) {
            warn!(%error, "the last spans did not reach the trace collector");
        }
    }
}

fn log(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let ansi = io::IsTerminal::is_terminal(&io::stderr()) && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let layer = fmt::layer();
    match format {
        LogFormat::Text => {
            layer.with_ansi(ansi).with_target(false).with_writer(move || PlainLines { colours: ansi }).boxed()
        }
        LogFormat::Json => {
            layer.with_writer(io::stderr).with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLines).boxed()
        }
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    if level == SILENT {
        return Ok(EnvFilter::new(SILENT));
    }
    // What sqlx has to say of lost connections, the workers say once.
    // An empty variable is one that is not set: to the library it would be nothing but errors.
    let wanted = env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
    let filter = wanted.and_then(|wanted| EnvFilter::try_new(wanted).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("{level},sqlx=error")));
    Ok(filter.add_directive(format!("{TARGET}=off").parse()?))
}

/// Exports the spans that are meant for it, and nothing of the log.
fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(tracer: SdkTracer) -> impl Layer<S> {
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, Level::INFO))
}

/// The queue is bounded and takes nothing more when it is full: whoever makes a span never waits. Its bounds, the sampler
/// and the limits of a span are read from the environment by the library.
fn provider(endpoint: Url, runtime: &Handle) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Collector::new(&endpoint, runtime.clone()))
        .with_endpoint(endpoint)
        .build()
        .context("traces cannot be exported")?;
    let processor = BatchSpanProcessor::builder(exporter).build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build())
}

/// Who we are, unless `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` say otherwise.
fn resource() -> Resource {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "orderstream"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", format!("{host}:{}", std::process::id())),
            KeyValue::new("host.name", host),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()));
    match env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}
