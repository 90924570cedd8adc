//! What is shipped for people with Prometheus, Alertmanager and Grafana.

mod program;
#[path = "observability/prometheus.rs"]
mod prometheus;
#[path = "observability/shipped.rs"]
mod shipped;
