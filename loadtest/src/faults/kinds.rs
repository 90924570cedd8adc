//! The kinds of faults, and how each is made.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};
use tokio::time::sleep;

use super::{
    control::{Control, STAGES},
    schedule::pause,
    servers::Servers,
    supervisor::Supervisor,
};
use crate::ledger::Ledger;

/// How long a process is watched for a batch in hand before it is killed anyway.
const AIM_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const AIM_POLL: Duration = Duration::from_millis(1);

/// How long a killed server is away, on average.
const AWAY: Duration = Duration::from_millis(700);

/// How long a stopped process is stopped, on average: longer than `--claim-idle` at times.
const STOPPED: Duration = Duration::from_secs(3);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// kill -9 of one `orderstream run`.
    RunKill,
    /// A process stands still for a while, and goes on as if nothing had been.
    RunStop,
    /// A process is asked to end.
    RunTerm,
    /// kill -9 of Redis.
    RedisKill,
    /// kill -9 of all of Postgres.
    PostgresKill,
    /// Redis cuts all connections.
    ClientKill,
    /// Redis answers nobody for a while.
    ClientPause,
    /// Redis forgets all scripts.
    ScriptFlush,
    /// Postgres ends all other connections.
    TerminateBackends,
    /// An inner stream is deleted with all its messages.
    DeleteStream,
    /// A consumer group is destroyed with all that it knows.
    DestroyGroup,
    /// Redis loses everything.
    FlushAll,
    /// Postgres is stopped for long.
    PostgresAway,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::RunKill => "kill -9 of run",
            Self::RunStop => "SIGSTOP of run",
            Self::RunTerm => "SIGTERM of run",
            Self::RedisKill => "kill -9 of Redis",
            Self::PostgresKill => "kill -9 of Postgres",
            Self::ClientKill => "CLIENT KILL",
            Self::ClientPause => "CLIENT PAUSE",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::TerminateBackends => "pg_terminate_backend",
            Self::DeleteStream => "DEL of an inner stream",
            Self::DestroyGroup => "XGROUP DESTROY",
            Self::FlushAll => "FLUSHALL",
            Self::PostgresAway => "Postgres away",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How often a kind of fault was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    /// In all.
    pub(super) made: u32,
    /// When somebody had messages in hand: the process that was hit, or any where a server was.
    pub(super) with_work: u32,
    /// By stage of the messages in hand, in the order of the stages.
    pub(super) by_stage: [u32; 3],
}

/// What came of an outage that was made on purpose.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Outage {
    /// How long it took.
    pub(super) seconds: f64,
    /// Lines that all processes logged meanwhile.
    pub(super) log_lines: u64,
    /// Most of them in one second.
    pub(super) log_lines_per_second_max: u32,
    /// From the first accepted connection to the next settled order; null when none came.
    pub(super) seconds_to_next_order: Option<f64>,
}

/// Makes faults, and keeps count.
pub(super) struct Injector<'a> {
    pub(super) servers: &'a mut Servers,
    pub(super) supervisor: &'a Supervisor,
    pub(super) control: Control,
    pub(super) rng: ChaCha8Rng,
    pub(super) tallies: BTreeMap<Kind, Tally>,
    pub(super) outages: Vec<Outage>,
    /// How long Postgres stays away when that is the fault.
    pub(super) away: Duration,
}

impl Injector<'_> {
    /// Makes one fault, and repairs what a supervisor outside would repair: killed servers are started again.
    pub(super) async fn make(&mut self, kind: Kind) -> Result<()> {
        let held = self.strike(kind).await.with_context(|| format!("{kind} could not be made"))?;
        let tally = self.tallies.entry(kind).or_default();
        tally.made += 1;
        tally.with_work += u32::from(held.iter().any(|&pending| pending > 0));
        for (count, pending) in tally.by_stage.iter_mut().zip(held) {
            *count += u32::from(pending > 0);
        }
        Ok(())
    }

    /// Returns how many messages were in hand, by stage.
    async fn strike(&mut self, kind: Kind) -> Result<[u64; 3]> {
        match kind {
            Kind::RunKill => self.kill_run().await,
            Kind::RunStop | Kind::RunTerm => self.signal_run(kind).await,
            Kind::RedisKill => {
                let held = self.await_work().await;
                self.servers.kill_redis().await?;
                self.away().await;
                self.servers.start_redis().await?;
                self.control.forget();
                Ok(held)
            }
            Kind::PostgresKill => {
                self.await_work().await;
                self.servers.kill_postgres().await?;
                // Without Postgres nothing can be acknowledged: what is in hand now was in hand when it died.
                let held = self.held_by_all().await;
                self.away().await;
                self.servers.start_postgres().await?;
                Ok(held)
            }
            Kind::PostgresAway => self.postgres_away().await,
            Kind::TerminateBackends => {
                let held = self.await_work().await;
                Ledger::connect(&self.servers.urls().database).await?.terminate_others().await?;
                Ok(held)
            }
            Kind::ClientKill | Kind::ClientPause | Kind::ScriptFlush => {
                let held = self.await_work().await;
                match kind {
                    Kind::ClientKill => self.control.ask::<u64>("CLIENT", &["KILL", "TYPE", "normal"]).await.map(drop),
                    Kind::ClientPause => {
                        let ms = pause(AWAY, &mut self.rng).as_millis().to_string();
                        self.control.ask("CLIENT", &["PAUSE", &ms, "ALL"]).await
                    }
                    _ => self.control.ask("SCRIPT", &["FLUSH"]).await,
                }?;
                Ok(held)
            }
            Kind::DeleteStream => {
                let held = self.await_work().await;
                let (_, key) = STAGES[self.rng.random_range(1..STAGES.len())];
                self.control.ask::<u64>("DEL", &[key]).await?;
                Ok(held)
            }
            Kind::DestroyGroup => {
                let held = self.await_work().await;
                let (group, key) = STAGES[self.rng.random_range(0..STAGES.len())];
                self.control.ask::<u64>("XGROUP", &["DESTROY", key, group]).await?;
                Ok(held)
            }
            Kind::FlushAll => {
                let held = self.await_work().await;
                self.control.ask::<()>("FLUSHALL", &[]).await?;
                Ok(held)
            }
        }
    }

    /// Waits until one process holds messages of a stage that chance has chosen, and kills it. What it holds after
    /// that it held when it died.
    async fn kill_run(&mut self) -> Result<[u64; 3]> {
        let stage = self.rng.random_range(0..STAGES.len());
        let mut process = self.some_process().await?;
        let deadline = Instant::now() + AIM_PATIENCE;
        // Asked without a pause: a batch may be in hand for a few milliseconds only.
        while Instant::now() < deadline && !self.control.holds(process, stage).await.unwrap_or(false) {
            if !self.supervisor.processes().contains(&process) {
                process = self.some_process().await?;
            }
            tokio::task::yield_now().await;
        }
        self.supervisor.signal(process, Signal::SIGKILL)?;
        self.control.held_by(process).await
    }

    async fn signal_run(&mut self, kind: Kind) -> Result<[u64; 3]> {
        let process = self.some_process().await?;
        if kind == Kind::RunTerm {
            let held = self.control.held_by(process).await?;
            self.supervisor.signal(process, Signal::SIGTERM)?;
            return Ok(held);
        }
        self.supervisor.signal(process, Signal::SIGSTOP)?;
        let held = self.control.held_by(process).await;
        sleep(pause(STOPPED, &mut self.rng)).await;
        self.supervisor.signal(process, Signal::SIGCONT)?;
        held
    }

    async fn some_process(&mut self) -> Result<u32> {
        loop {
            if let Some(&process) = self.supervisor.processes().choose(&mut self.rng) {
                return Ok(process);
            }
            sleep(AIM_POLL).await;
        }
    }

    /// Waits until somebody has messages in hand, and says how many.
    async fn await_work(&mut self) -> [u64; 3] {
        let deadline = Instant::now() + AIM_PATIENCE;
        loop {
            let held = self.held_by_all().await;
            if held.iter().any(|&pending| pending > 0) || Instant::now() > deadline {
                return held;
            }
            sleep(AIM_POLL).await;
        }
    }

    async fn held_by_all(&mut self) -> [u64; 3] {
        self.control.gauges().await.unwrap_or_default().map(|gauge| gauge.pending)
    }

    async fn away(&mut self) {
        sleep(pause(AWAY, &mut self.rng)).await;
    }

    async fn postgres_away(&mut self) -> Result<[u64; 3]> {
        let url = self.servers.urls().database;
        self.await_work().await;
        self.servers.stop_postgres().await?;
        let (gone_at, lines_before) = (Instant::now(), self.supervisor.seen().lines.len());
        let held = self.held_by_all().await;
        sleep(self.away).await;
        let lines: Vec<u32> = self.supervisor.seen().lines.into_iter().skip(lines_before).collect();
        let seconds = gone_at.elapsed().as_secs_f64();
        self.servers.start_postgres().await?;
        let back_at = Instant::now();
        let mut ledger = Ledger::connect(&url).await?;
        let before = ledger.last_event().await?;
        let deadline = back_at + Duration::from_secs(120);
        let mut next = None;
        while next.is_none() && Instant::now() < deadline {
            next = (ledger.last_event().await? > before).then(|| back_at.elapsed().as_secs_f64());
            sleep(Duration::from_millis(5)).await;
        }
        self.outages.push(Outage {
            seconds,
            log_lines: lines.iter().map(|&lines| u64::from(lines)).sum(),
            log_lines_per_second_max: lines.into_iter().max().unwrap_or(0),
            seconds_to_next_order: next,
        });
        Ok(held)
    }
}
