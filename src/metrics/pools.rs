//! Pools of connections to Postgres, looked at when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use pipeline::{metrics::gauges, store::Store};
use prometheus::{
    GaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// The pools of this process, by name. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    stores: Arc<Mutex<BTreeMap<&'static str, Store>>>,
    connections: GaugeVec,
    connections_max: GaugeVec,
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            stores: Arc::default(),
            connections: gauges(
                "orderstream_postgres_pool_connections",
                "Open connections to Postgres.",
                &["pool", "state"],
            ),
            connections_max: gauges(
                "orderstream_postgres_pool_connections_max",
                "Most connections to Postgres that the pool opens.",
                &["pool"],
            ),
        }
    }
}

impl Pools {
    pub(super) fn watch(&self, name: &'static str, store: &Store) {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).insert(name, store.clone());
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        [self.connections.desc(), self.connections_max.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (pool, store) in &*self.stores.lock().unwrap_or_else(PoisonError::into_inner) {
            let state = store.pool_state();
            self.connections.with_label_values(&[pool, "idle"]).set(state.idle.into());
            self.connections.with_label_values(&[pool, "used"]).set(state.used.into());
            self.connections_max.with_label_values(&[pool]).set(state.max.into());
        }
        [self.connections.collect(), self.connections_max.collect()].concat()
    }
}
