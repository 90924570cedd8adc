//! The figures of a process for Prometheus: what it has done, what its connections do, how the pipeline stands.
//!
//! Nothing here asks a server: counts are in memory, and how the pipeline stands was looked at by the monitor. What each
//! figure means is in `docs/METRICS.md`, which a test compares with what is served.

mod pools;
mod standing;

use std::sync::Arc;

use chrono::Utc;
use pipeline::{
    metrics::{Metrics, counters, gauges},
    store::Store,
};
use prometheus::{IntCounterVec, Registry, TextEncoder};

use self::pools::Pools;
use crate::{gateway::GatewayFigures, monitor::Snapshot};

/// The media type of the text format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Methods that are told apart; there is no end to what clients may send.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The figures of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct ProcessMetrics {
    /// Of workers, relay and reconciler.
    pub pipeline: Metrics,
    /// Of calls of the payment provider.
    pub gateway: GatewayFigures,
    requests: IntCounterVec,
    pools: Pools,
    registry: Arc<Registry>,
}

impl ProcessMetrics {
    /// All of them, at zero.
    ///
    /// # Errors
    /// When two figures have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = gauges("orderstream_build_info", "Which version runs: always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let metrics = Self {
            pipeline: Metrics::default(),
            gateway: GatewayFigures::default(),
            requests: counters("orderstream_http_requests_total", "Requests answered.", &["method", "route", "status"]),
            pools: Pools::default(),
            registry: Arc::new(registry),
        };
        let registry = &metrics.registry;
        metrics.pipeline.register(registry)?;
        metrics.gateway.register(registry)?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.pools.clone()))?;
        Ok(metrics)
    }

    /// Shows the connections of a pool under this name, in the place of another that had it.
    pub fn watch_pool(&self, name: &'static str, store: &Store) {
        self.pools.watch(name, store);
    }

    /// Counts a request. Routes are those that were declared, and few; what matches none is one of them.
    pub fn answered(&self, method: &str, route: &str, status: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
    }

    /// Everything, with how the pipeline stood at the last look, in the text format of Prometheus.
    ///
    /// # Errors
    /// When a figure cannot be written, which is a defect.
    pub fn text(&self, standing: &Snapshot) -> Result<String, prometheus::Error> {
        let families = [standing::families(standing, Utc::now()), self.registry.gather()].concat();
        TextEncoder::new().encode_to_string(&families)
    }
}
