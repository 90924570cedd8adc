//! What is shipped for people with Prometheus, Alertmanager and Grafana.

mod prometheus;
mod shipped;
