//! What a run has shown, for people and as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{latency::Latency, measure::Measurement};
use crate::{cpu::Usage, orders::Shape, program::Audit};

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    shape: Shape,
    /// Orders per second by the timetable, if there was one.
    rate: Option<f64>,
    /// What the run's order codes begin with.
    prefix: String,
    orders: Orders,
    throughput: Throughput,
    stages: BTreeMap<String, Stage>,
    /// How long the board took to show the last settlement; null when it did not get there.
    relay_catch_up_ms: Option<f64>,
    latency_ms: Latencies,
    cpu: Cpu,
    wal: Wal,
    redis: Redis,
    /// Null when the program was not at hand, or failed.
    audit: Option<Audit>,
}

#[derive(Debug, Serialize)]
struct Orders {
    settled: u64,
    by_status: BTreeMap<String, u64>,
    dead_letters: u64,
}

#[derive(Debug, Serialize)]
struct Throughput {
    /// First `XADD` to last settlement seen.
    seconds: f64,
    orders_per_second: f64,
    /// First `XADD` to its last reply.
    sent_seconds: f64,
    sent_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Stage {
    orders: i64,
    batches: i64,
    mean_batch: f64,
    /// Start of the first batch to start of the last. Null with a single batch.
    orders_per_second: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latencies {
    /// From the `XADD` to the start of the transaction that settled the order.
    since_accepted: Option<Latency>,
    /// From the time at which the timetable wanted it sent.
    since_planned: Option<Latency>,
}

/// Processor time; null where a process is not on this machine or not known.
#[derive(Debug, Serialize)]
struct Cpu {
    postgres: Option<Share>,
    redis: Option<Share>,
    program: Option<Share>,
    load_generator: Share,
    /// Everything else on the machine: the kernel's own threads, and strangers.
    other: Option<Share>,
    cores: usize,
    /// Cores busy on average, with whatever.
    cores_busy: f64,
    /// Cores that a hypervisor withheld on average.
    cores_stolen: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Share {
    seconds: f64,
    us_per_order: f64,
    cores: f64,
}

/// Write-ahead log of the whole cluster.
#[derive(Debug, Serialize)]
struct Wal {
    bytes_per_order: f64,
    records_per_order: f64,
    /// Not per order: they depend on the time since the last checkpoint.
    full_page_images: i64,
}

#[derive(Debug, Serialize)]
struct Redis {
    /// Null without an append-only file.
    aof_bytes_per_order: Option<f64>,
    /// Rewrites during the run; with any, the figure above misses a little.
    aof_rewrites: Option<u64>,
    memory_max_bytes: u64,
}

impl Report {
    /// Works out the figures.
    pub(super) fn new(
        shape: Shape,
        rate: Option<f64>,
        prefix: &str,
        measurement: &Measurement,
        audit: Option<Audit>,
    ) -> Self {
        let count = shape.orders as f64;
        let seconds = measurement.duration.as_secs_f64();
        let sent_seconds = measurement.sent.duration.as_secs_f64();
        let seen = &measurement.seen;
        let (wal_before, wal_after) = measurement.wal;
        Self {
            rate,
            prefix: prefix.to_owned(),
            orders: Orders {
                settled: seen.outcomes.settled,
                by_status: seen.outcomes.by_status.clone(),
                dead_letters: measurement.dead_letters,
            },
            throughput: Throughput {
                seconds,
                orders_per_second: count / seconds,
                sent_seconds,
                sent_per_second: count / sent_seconds,
            },
            stages: stages(measurement),
            relay_catch_up_ms: seen.relay_lag.map(|lag| lag.as_secs_f64() * 1_000.0),
            latency_ms: Latencies {
                since_accepted: measurement.since_accepted,
                since_planned: measurement.since_planned,
            },
            cpu: Cpu::new(&measurement.usage.0, &measurement.usage.1, count),
            wal: Wal {
                bytes_per_order: (wal_after.bytes - wal_before.bytes) as f64 / count,
                records_per_order: (wal_after.records - wal_before.records) as f64 / count,
                full_page_images: wal_after.page_images - wal_before.page_images,
            },
            redis: Redis {
                aof_bytes_per_order: seen.append_only_growth.map(|growth| growth.size as f64 / count),
                aof_rewrites: seen.append_only_growth.map(|growth| growth.rewrites),
                memory_max_bytes: seen.redis_memory_max,
            },
            audit,
            shape,
        }
    }
}

fn stages(measurement: &Measurement) -> BTreeMap<String, Stage> {
    let stage = |marks: &crate::ledger::StageMarks| Stage {
        orders: marks.orders,
        batches: marks.batches,
        mean_batch: marks.orders as f64 / marks.batches as f64,
        orders_per_second: (marks.batches > 1).then(|| marks.orders as f64 / marks.seconds),
    };
    measurement.stages.iter().map(|marks| (marks.stage.clone(), stage(marks))).collect()
}

impl Cpu {
    fn new(before: &Usage, after: &Usage, orders: f64) -> Self {
        let elapsed = (after.at - before.at).as_secs_f64();
        let share = |seconds: f64| Share {
            seconds: seconds.max(0.0),
            us_per_order: seconds.max(0.0) * 1e6 / orders,
            cores: seconds.max(0.0) / elapsed,
        };
        let between = |before: Option<f64>, after: Option<f64>| before.zip(after).map(|(before, after)| after - before);
        let postgres = between(before.postgres, after.postgres);
        let redis = between(before.redis, after.redis);
        let program = between(before.program, after.program);
        let load_generator = after.load_generator - before.load_generator;
        let busy = after.busy - before.busy;
        // Only when all of ours is known is the rest somebody else's.
        let ours = postgres.zip(redis).zip(program).map(|((postgres, redis), program)| postgres + redis + program);
        Self {
            postgres: postgres.map(share),
            redis: redis.map(share),
            program: program.map(share),
            load_generator: share(load_generator),
            other: ours.map(|ours| share(busy - ours - load_generator)),
            cores: after.cores,
            cores_busy: busy / elapsed,
            cores_stolen: (after.stolen - before.stolen) / elapsed,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let throughput = &self.throughput;
        writeln!(
            f,
            "orders      {} of {} lines settled in {:.2} s",
            self.orders.settled, self.shape.lines, throughput.seconds
        )?;
        for (status, count) in &self.orders.by_status {
            writeln!(f, "            {count} {status}")?;
        }
        writeln!(f, "            {} dead letters", self.orders.dead_letters)?;
        writeln!(f, "end to end  {:.0} orders/s", throughput.orders_per_second)?;
        writeln!(f, "sent        {:.0} orders/s", throughput.sent_per_second)?;
        for name in ["reservation", "payment", "settlement"] {
            self.stages.get(name).map_or(Ok(()), |stage| writeln!(f, "{name:12}{stage}"))?;
        }
        match self.relay_catch_up_ms {
            Some(ms) => writeln!(f, "relay       caught up {ms:.0} ms after the last settlement")?,
            None => writeln!(f, "relay       did not catch up")?,
        }
        for (name, latency) in
            [("since XADD", self.latency_ms.since_accepted), ("since plan", self.latency_ms.since_planned)]
        {
            latency.map_or(Ok(()), |latency| writeln!(f, "{name:12}{latency}"))?;
        }
        write!(f, "{}", self.cpu)?;
        let wal = &self.wal;
        writeln!(
            f,
            "WAL         {:.0} bytes and {:.2} records an order, {} full pages in all",
            wal.bytes_per_order, wal.records_per_order, wal.full_page_images
        )?;
        if let (Some(bytes), Some(rewrites)) = (self.redis.aof_bytes_per_order, self.redis.aof_rewrites) {
            writeln!(f, "AOF         {bytes:.0} bytes an order, {rewrites} rewrites")?;
        }
        writeln!(f, "Redis       {} MiB at most", self.redis.memory_max_bytes >> 20)?;
        match &self.audit {
            Some(Audit { clean: true, .. }) => writeln!(f, "audit       clean"),
            Some(Audit { report, .. }) => writeln!(f, "audit       DIFFERENCES {report}"),
            None => writeln!(f, "audit       not run"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.orders_per_second {
            write!(f, "{rate:.0} orders/s, ")?;
        }
        write!(f, "{} orders in {} batches of {:.0}", self.orders, self.batches, self.mean_batch)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, p50, p90, p99, p99_9, max } = self;
        write!(f, "mean {mean:.1}  p50 {p50:.1}  p90 {p90:.1}  p99 {p99:.1}  p99.9 {p99_9:.1}  max {max:.1} ms")
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = [
            ("Postgres", self.postgres),
            ("Redis", self.redis),
            ("program", self.program),
            ("generator", Some(self.load_generator)),
            ("others", self.other),
        ];
        for (name, share) in shares {
            if let Some(share) = share {
                writeln!(f, "CPU {name:10}{:6.1} µs an order, {:.2} cores", share.us_per_order, share.cores)?;
            }
        }
        writeln!(f, "CPU         {:.2} of {} cores busy, {:.2} stolen", self.cores_busy, self.cores, self.cores_stolen)
    }
}
