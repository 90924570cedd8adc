//! What is shipped for people with Prometheus, Alertmanager and Grafana.

#[path = "observability/shipped.rs"]
mod shipped;
