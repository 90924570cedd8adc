//! What this process says of itself, once a second, so that others can show it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::Utc;
use pipeline::{
    retry::POSTGRES,
    runner::Counters,
    shutdown::Shutdown,
    streams::{self, KeptConnection, ProcessReport, StageReport},
    topology::StageName,
};
use tracing::debug;

use super::{Monitor, PATIENCE};

/// How often it is said.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What a process does.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Its stages, with what they have done so far.
    pub stages: BTreeMap<StageName, Arc<Counters>>,
    /// What it does beside them.
    pub roles: Vec<String>,
}

impl Work {
    /// Of a process that serves HTTP and runs no stage.
    pub fn server() -> Self {
        Self { stages: BTreeMap::new(), roles: vec!["http".to_owned()] }
    }

    /// Whether it does nothing that anybody needs to know: it only looks.
    pub(super) fn is_nothing(&self) -> bool {
        self.stages.is_empty() && self.roles.is_empty()
    }

    fn report(&self) -> BTreeMap<String, StageReport> {
        let stages = self.stages.iter().map(|(stage, counters)| {
            let counts = counters.snapshot();
            let report = StageReport {
                messages: counts.messages,
                retries: counts.retries,
                dead: counts.dead,
                claimed: counts.claimed,
                busy_seconds: counts.busy_seconds,
            };
            (stage.as_str().to_owned(), report)
        });
        stages.collect()
    }
}

/// A name for this start of this process.
pub(crate) fn process_id() -> String {
    format!("{}:{}:{:x}", host(), std::process::id(), Utc::now().timestamp_micros())
}

fn host() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

impl Monitor {
    pub(super) async fn report_until(self, work: Work, shutdown: Shutdown) {
        let mut report = ProcessReport {
            id: self.0.id.clone(),
            host: host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: u64::try_from(Utc::now().timestamp_millis()).unwrap_or_default(),
            roles: work.roles.clone(),
            counts: true,
            ..ProcessReport::default()
        };
        let mut connection = KeptConnection::new(&self.0.redis);
        // Beyond the shutdown: a process that drains is still there.
        loop {
            report.stages = work.report();
            report.postgres_refuses = POSTGRES.refuses().map(str::to_owned);
            report.redis_refuses = streams::denied().map(str::to_owned);
            report.draining = shutdown.has_begun();
            report.http = self.0.http.get().cloned();
            match tokio::time::timeout(PATIENCE, self.report(&mut connection, &mut report)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    debug!(%error, "this process could not report");
                    connection.forget();
                }
                Err(_) => connection.forget(),
            }
            if !self.0.over.sleep(REPORT_EVERY).await {
                break;
            }
        }
        // Without it, the process is shown as silent for some minutes.
        let told = async { self.0.redis.forget_process(connection.get().await?, &self.0.id).await };
        if !matches!(tokio::time::timeout(PATIENCE, told).await, Ok(Ok(()))) {
            debug!("this process could not say that it ends");
        }
    }

    async fn report(&self, connection: &mut KeptConnection, report: &mut ProcessReport) -> Result<(), streams::Error> {
        let connection = connection.get().await?;
        report.at_ms = self.0.redis.now_ms(connection).await?;
        self.0.redis.report_process(connection, report).await
    }

    /// Takes back what this process said: it ends.
    pub async fn farewell(&self) {
        self.0.over.begin();
        let reporter = self.0.reporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reporter) = reporter
            && let Err(error) = reporter.await
        {
            debug!(%error, "the report of this process ended early");
        }
    }
}
