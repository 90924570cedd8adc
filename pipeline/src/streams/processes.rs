//! What the processes of an installation say of themselves, once a second, so that others can show them.

use std::{collections::BTreeMap, sync::LazyLock};

use redis::{AsyncCommands, Script, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};

use super::{Error, Redis};

/// Notes fields of a hash, also while Redis is full.
pub(super) static REPORT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("report.lua")));

/// Reports that were not renewed for this long are removed by whoever looks.
const KEPT_MS: u64 = 600_000;

/// Most bytes of a report that is read: others may write into the hash.
const REPORT_BYTES_MAX: usize = 16 * 1024;

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 1_000;

/// A process, as it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessReport {
    /// Its name, unique per start: host, process, start.
    pub id: String,
    /// The machine.
    pub host: String,
    /// The number of the process there.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// When it started, in Unix milliseconds.
    pub started_ms: u64,
    /// When it said this, in Unix milliseconds by the clock of Redis.
    pub at_ms: u64,
    /// Where it serves HTTP.
    pub http: Option<String>,
    /// Whether it is ending.
    pub draining: bool,
    /// What it does beside the stages: relay, collector, …
    pub roles: Vec<String>,
    /// Why Postgres refuses what this process asks of it; `None` while it does not.
    pub postgres_refuses: Option<String>,
    /// That Redis denies this process something; `None` while it does not.
    pub redis_refuses: Option<String>,
    /// Whether it counts what it acknowledges: versions before this one do not.
    pub counts: bool,
    /// What its stages have done since it started.
    pub stages: BTreeMap<String, StageReport>,
}

/// What one stage of a process has done since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageReport {
    /// Messages handed off.
    pub messages: u64,
    /// Batches processed again after a failure.
    pub retries: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Messages taken over from consumers that fell silent.
    pub claimed: u64,
    /// Seconds spent on batches.
    pub busy_seconds: f64,
}

impl Redis {
    /// Says how a process stands.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn report_process(
        &self,
        connection: &mut MultiplexedConnection,
        report: &ProcessReport,
    ) -> Result<(), Error> {
        let text = serde_json::to_string(report).expect("texts and numbers are always JSON");
        Ok(REPORT.key(self.keys().processes()).arg(&report.id).arg(text).invoke_async(connection).await?)
    }

    /// Takes a report back: the process has ended.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn forget_process(&self, connection: &mut MultiplexedConnection, id: &str) -> Result<(), Error> {
        Ok(connection.hdel(self.keys().processes(), id).await?)
    }

    /// What all processes have said last, by their ids; those that have been silent for long are removed.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn processes(
        &self,
        connection: &mut MultiplexedConnection,
        now_ms: u64,
    ) -> Result<Vec<ProcessReport>, Error> {
        let key = self.keys().processes();
        let all: BTreeMap<String, Vec<u8>> = connection.hgetall(&key).await?;
        let mut reports = Vec::new();
        let mut gone = Vec::new();
        for (id, text) in all {
            let report = Some(&text).filter(|text| text.len() <= REPORT_BYTES_MAX);
            match report.and_then(|text| serde_json::from_slice::<ProcessReport>(text).ok()) {
                Some(report) if now_ms.saturating_sub(report.at_ms) <= KEPT_MS && report.id == id => {
                    reports.push(report);
                }
                _ => gone.push(id),
            }
        }
        if !gone.is_empty() {
            match connection.hdel::<_, _, ()>(&key, gone).await.map_err(Error::from) {
                // They are left out all the same.
                Err(error) if error.refusal().is_some() => {}
                removed => removed?,
            }
        }
        reports.truncate(PROCESSES_MAX);
        Ok(reports)
    }
}
