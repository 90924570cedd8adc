//! Memory, streams and connections over time.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use super::{
    control::{Control, Gauge},
    supervisor::Supervisor,
};
use crate::{ledger::Ledger, program::Urls};

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(2);

/// One look at everything.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    /// Since the start.
    seconds: f64,
    /// Resident memory of all processes of `run`, bytes.
    run_bytes: u64,
    /// Processes of `run`.
    run_processes: u64,
    /// Memory that Redis uses, bytes.
    redis_bytes: u64,
    /// The streams.
    streams: [Gauge; 3],
    /// Connections to Redis and to Postgres, ours included.
    connections: [u64; 2],
    /// Events so far: orders that are settled.
    settled: i64,
}

/// All samples of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Samples {
    samples: Vec<Sample>,
}

impl Samples {
    /// Takes samples until it is dropped. Moments at which a server is away are left out.
    pub(super) async fn collect(&mut self, urls: &Urls, supervisor: &Supervisor) {
        let started = Instant::now();
        let mut control = Control::new(&urls.redis);
        loop {
            if let Ok(sample) = look(started, urls, &mut control, supervisor).await {
                self.samples.push(sample);
            }
            sleep(EVERY).await;
        }
    }

    /// The last sample of each minute, with the highest figures of that minute for memory.
    fn minutes(&self) -> Vec<Sample> {
        let minute = |sample: &Sample| (sample.seconds / 60.0).floor();
        self.samples
            .chunk_by(|a, b| (minute(a) - minute(b)).abs() < 0.5)
            .filter_map(|samples| {
                let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max();
                let last = samples.last()?;
                let (run_bytes, redis_bytes) = (most(|it| it.run_bytes)?, most(|it| it.redis_bytes)?);
                Some(Sample { run_bytes, redis_bytes, ..*last })
            })
            .collect()
    }
}

async fn look(started: Instant, urls: &Urls, control: &mut Control, supervisor: &Supervisor) -> Result<Sample> {
    let processes = supervisor.processes();
    let mut ledger = Ledger::connect(&urls.database).await?;
    Ok(Sample {
        seconds: started.elapsed().as_secs_f64(),
        run_bytes: processes.iter().map(|process| resident_bytes(*process)).sum(),
        run_processes: processes.len() as u64,
        redis_bytes: control.info("memory", "used_memory").await?,
        streams: control.gauges().await?,
        connections: [control.info("clients", "connected_clients").await?, ledger.connections().await?],
        settled: ledger.last_event().await?,
    })
}

fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    resident_kib(&status).unwrap_or(0) << 10
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        writeln!(
            f,
            "{:>6} {:>8} {:>7} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>10}",
            "MINUTE", "RUN MiB", "REDIS", "INCOMING", "RESERVED", "PAID", "PENDING", "CLIENTS", "BACKENDS", "SETTLED"
        )?;
        for sample in self.minutes() {
            let [incoming, reserved, paid] = sample.streams.map(|stream| stream.length);
            let pending: u64 = sample.streams.iter().map(|stream| stream.pending).sum();
            let [clients, backends] = sample.connections;
            writeln!(
                f,
                "{:6.0} {:8} {:7} {incoming:9} {reserved:9} {paid:9} {pending:8} {clients:9} {backends:9} {:10}",
                (sample.seconds / 60.0).ceil(),
                mib(sample.run_bytes),
                mib(sample.redis_bytes),
                sample.settled
            )?;
        }
        for (name, of) in [
            ("memory of run", (|sample| sample.run_bytes) as fn(&Sample) -> u64),
            ("memory of Redis", |sample| sample.redis_bytes),
        ] {
            let figures = || self.samples.iter().map(of);
            if let (Some(first), Some(last), Some(most)) = (figures().next(), figures().next_back(), figures().max()) {
                writeln!(f, "{name:20} first {} MiB, last {} MiB, most {} MiB", mib(first), mib(last), mib(most))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, run_bytes: u64) -> Sample {
        Sample {
            seconds,
            run_bytes,
            run_processes: 2,
            redis_bytes: 1,
            streams: [Gauge::default(); 3],
            connections: [1, 1],
            settled: 0,
        }
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_kib("Name:\torderstream\nVmRSS:\t   12345 kB\nThreads:\t3\n"), Some(12_345));
        assert_eq!(resident_kib("Name:\tgone\n"), None);
    }

    #[test]
    fn a_minute_is_its_last_sample_with_the_most_memory() {
        let samples = [(1.0, 5), (59.0, 9), (59.9, 7), (61.0, 8), (200.0, 6)];
        let samples = Samples { samples: samples.map(|(seconds, bytes)| sample(seconds, bytes)).to_vec() };
        let minutes: Vec<_> = samples.minutes().iter().map(|minute| (minute.seconds, minute.run_bytes)).collect();
        assert_eq!(minutes, [(59.9, 9), (61.0, 8), (200.0, 6)]);
    }
}
