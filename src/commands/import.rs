//! `orderstream import`: read, publish, wait, sum up.

pub(crate) mod reading;
mod refunds;
pub(crate) mod summary;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};
use pipeline::{
    shutdown::Shutdown,
    store::{self, Currencies, ImportKind, ImportOutcome, NewImport, Store, WorkerSettings},
};

use super::{
    catalogue,
    run::{Crew, Until, demand_no_refusal},
    shutdown_on_signal,
};
use crate::{
    backends::{Backends, FIRST_CUSTOMERS, FIRST_PRODUCTS, FIRST_STOCK},
    cli::{ImportArgs, Role, WorkerArgs},
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{self, Begins, GatewayFigures, gateways},
    import::{Grouped, GroupedRefunds},
    intake::{Freight, Intake},
    metrics::ProcessMetrics,
    monitor::process_id,
    output,
    patience::{ServerError, patiently},
    progress::{Progress, Standing},
};
use reading::File;
use summary::{Outcome, Summary};

/// A process that said this recently what it does is at work.
const AT_WORK_MS: u64 = 5_000;

/// How often an import writes down how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// How long an import that did not come to its end may take to write that down.
const LAST_NOTE_MAX: Duration = Duration::from_secs(2);

pub(super) async fn run(globals: &Globals, args: &ImportArgs) -> anyhow::Result<Exit> {
    if args.rejects.is_some() && args.files.len() > 1 {
        let message = "--rejects names one file, but several are imported: leave it out, each gets its own";
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    let shutdown = shutdown_on_signal()?;
    let mut progress = Progress::new(globals.quiet);
    let mut summaries = Vec::new();
    let mut outcome = Ok(Exit::Done);
    let session = match args.dry_run {
        true => None,
        false => Some(Session::open(globals, args, &shutdown, &progress).await?),
    };
    for path in &args.files {
        let summary = match &session {
            None => dry_run(path, args, &mut progress, &shutdown).await,
            Some(session) => session.import(path, args, &mut progress, &shutdown).await,
        };
        progress.end();
        match summary {
            Ok(summary) => {
                if !globals.json {
                    summary.print()?;
                }
                let exit = summary.exit();
                summaries.push(summary);
                if exit == Exit::Interrupted {
                    outcome = Ok(exit);
                    break;
                }
                // The worst of several files counts.
                match (&outcome, exit) {
                    (Ok(Exit::Done), _) | (Ok(Exit::Rejected), Exit::Failed) => outcome = Ok(exit),
                    _ => {}
                }
            }
            // One unreadable file does not keep the others from being imported.
            Err(error) if args.files.len() > 1 => {
                crate::output::note!("error: {error:#}");
                outcome = Ok(Exit::Failed);
            }
            Err(error) => outcome = Err(error),
        }
    }
    if let Some(session) = session
        && let Err(refusal) = session.close().await
    {
        outcome = Err(refusal);
    }
    if globals.json {
        output::json(&serde_json::json!({ "imports": summaries }))?;
    }
    outcome
}

async fn dry_run(
    path: &Path,
    args: &ImportArgs,
    progress: &mut Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<Summary> {
    let started = Instant::now();
    let file = File::open(path, args)?;
    let mut summary = Summary::new(&file);
    let read = match file.kind {
        ImportKind::Orders => {
            let read = reading::read(file, args, progress, shutdown).await?;
            read.map(|read| summary.read(&read, started.elapsed()))
        }
        ImportKind::Refunds => {
            let read = reading::read_refunds(file, args, progress, shutdown).await?;
            read.map(|read| summary.read_refunds(&read, started.elapsed()))
        }
    };
    if read.is_none() {
        summary.outcome = Outcome::Interrupted;
    }
    summary.dry_run = true;
    Ok(summary)
}

/// The servers, and the workers where nobody else runs them.
pub(crate) struct Session {
    store: Store,
    backends: Backends,
    partitions: u16,
    crew: Option<Crew>,
    /// This process, by a name that no other has.
    holder: String,
}

/// An import that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    /// Its number.
    pub(crate) id: i64,
    /// Its file is kept until it is imported: interrupted, it waits for whoever has the file.
    pub(crate) is_kept: bool,
}

impl Session {
    async fn open(
        globals: &Globals,
        args: &ImportArgs,
        shutdown: &Shutdown,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        // A file that is not there should not start servers first.
        for path in &args.files {
            File::check(path, args.rejects.as_deref())?;
        }
        let backends = Backends::open(globals).await?;
        backends.check_safety().await?;
        let store = backends.store(WorkerSettings::Worker, 4)?;
        let partitions = store.partitions().await?;
        if !args.refunds && store::is_catalogue_empty(&store.pool()).await? {
            if !backends.is_local() {
                let message = "the catalogue is empty, so every order would fail: load products and customers first \
                               (orderstream load, or orderstream seed to try things out)";
                return Err(Refusal::new(Exit::Conflict, message).into());
            }
            catalogue::fill(&store, FIRST_PRODUCTS, FIRST_CUSTOMERS, FIRST_STOCK).await?;
            progress.note(&format!(
                "The catalogue was empty: made up {FIRST_PRODUCTS} products and {FIRST_CUSTOMERS} customers. \
                 Your own: orderstream load products|customers FILE"
            ));
        }
        let crew = match backends.is_local() && !args.no_wait && !is_anyone_at_work(&backends, args).await? {
            true => {
                let (workers, metrics) = (WorkerArgs::with(&args.payment), ProcessMetrics::new()?);
                Some(Crew::start(&backends, Role::ALL, &workers, &metrics, false, shutdown).await?)
            }
            false => {
                // Others take the money; what was said of it here must be true all the same.
                let gateways = gateways(&args.payment, &GatewayFigures::default(), Begins::Nothing)?;
                gateway::load(&gateways, &store).await?;
                None
            }
        };
        Ok(Self { store, backends, partitions, crew, holder: process_id() })
    }

    /// On servers whose workers somebody else runs, in the name of `holder`.
    pub(crate) fn over(backends: &Backends, store: &Store, partitions: u16, holder: &str) -> Self {
        let holder = holder.to_owned();
        Self { store: store.clone(), backends: backends.clone(), partitions, crew: None, holder }
    }

    async fn import(
        &self,
        path: &Path,
        args: &ImportArgs,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Summary> {
        let file = File::open(path, args)?;
        let mut summary = Summary::new(&file);
        let import = NewImport {
            kind: file.kind,
            file_name: &file.name,
            holder: &self.holder,
            upload: None,
            strict: args.strict,
        };
        let start = async || store::start_import(&self.store.pool(), import).await;
        let Some(id) = self.ask(progress, shutdown, start).await? else {
            summary.outcome = Outcome::Interrupted;
            return Ok(summary);
        };
        let begun = Begun { id, is_kept: false };
        self.go_on(begun, file, args, &mut summary, progress, shutdown).await?;
        Ok(summary)
    }

    /// Imports a file under its number, and writes down how that ended; ends early where another process took it over.
    ///
    /// # Errors
    /// As the command.
    pub(crate) async fn go_on(
        &self,
        import: Begun,
        file: File,
        args: &ImportArgs,
        summary: &mut Summary,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        summary.import_id = Some(import.id);
        let lost = self.hold(import.id, progress.standing());
        let work = async {
            match file.kind {
                ImportKind::Orders => self.import_as(import.id, file, args, summary, progress, shutdown).await,
                ImportKind::Refunds => self.import_refunds(import.id, file, args, summary, progress, shutdown).await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            () = lost => {
                tracing::warn!(import = import.id, "another process has taken the import over");
                summary.outcome = Outcome::Interrupted;
                return Ok(());
            }
        };
        if result.is_err() {
            summary.outcome = Outcome::Failed;
        }
        self.note_end(import, summary, progress, shutdown).await;
        result
    }

    /// Writes down every few seconds that this process lives and how far the import is. Ends when another process has
    /// taken it over.
    async fn hold(&self, import_id: i64, standing: Arc<Mutex<Standing>>) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            let Standing { position, length, .. } = standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (pool, length) = (self.store.pool(), length.map(count));
            match store::note_import_progress(&pool, import_id, &self.holder, count(position), length).await {
                Ok(true) => {}
                Ok(false) => return,
                // The next one will do; the import itself says that Postgres is away.
                Err(error) => tracing::debug!(%error, "the progress of the import is not noted"),
            }
        }
    }

    /// Asks Postgres, through outages; `None` when the signal came first.
    async fn ask<T>(
        &self,
        progress: &Progress,
        shutdown: &Shutdown,
        mut ask: impl AsyncFnMut() -> Result<T, store::Error>,
    ) -> Result<Option<T>, ServerError> {
        patiently(shutdown, |text| progress.note(text), async || Ok(ask().await?)).await
    }

    /// In what sums over orders are.
    async fn currencies(&self) -> Result<Currencies, store::Error> {
        store::currencies(&mut *self.store.pool().acquire().await?, None).await
    }

    async fn import_as(
        &self,
        import_id: i64,
        file: File,
        args: &ImportArgs,
        summary: &mut Summary,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let Some(read) = reading::read(file, args, progress, shutdown).await? else {
            summary.outcome = Outcome::Interrupted;
            return Ok(());
        };
        summary.read(&read, started.elapsed());
        summary.outcome = Outcome::Publishing;
        if self.ask(progress, shutdown, async || self.note(import_id, summary, false).await).await?.is_none() {
            summary.outcome = Outcome::Interrupted;
            return Ok(());
        }

        let intake = Intake {
            store: self.store.clone(),
            redis: self.backends.redis()?,
            partitions: self.partitions,
            import_id,
            max_backlog: args.max_backlog,
            freight: Arc::new(read.grouped),
        };
        let publishing = Instant::now();
        let published = intake.publish(summary.orders, progress, shutdown).await?;
        summary.published_orders(published.messages, publishing.elapsed());
        if !published.complete {
            summary.outcome = Outcome::Interrupted;
            return Ok(());
        }
        if args.no_wait {
            summary.outcome = Outcome::Published;
            return Ok(());
        }
        summary.outcome = Outcome::Waiting;
        if self.ask(progress, shutdown, async || self.note(import_id, summary, false).await).await?.is_none() {
            summary.outcome = Outcome::Interrupted;
            return Ok(());
        }
        let Some(known) = intake.await_known(&published, progress, shutdown).await? else {
            summary.outcome = Outcome::Interrupted;
            return Ok(());
        };
        summary.known = Some(known.into());
        if let Some(crew) = &self.crew {
            progress.phase("Settling", None);
            tokio::select! {
                drained = crew.drained(Until::Import(import_id)) => drained?,
                () = shutdown.begun() => {
                    summary.outcome = Outcome::Interrupted;
                    return Ok(());
                }
            }
            summary.settled(publishing.elapsed(), crew.counts());
            let latency = async || store::import_latency(&self.store.pool(), import_id).await;
            summary.latency = self.ask(progress, shutdown, latency).await?.flatten();
        }
        let states = async || {
            let states = store::state_counts(&self.store.pool(), Some(import_id)).await?;
            Ok((states, self.currencies().await?))
        };
        summary.outcome = match self.ask(progress, shutdown, states).await? {
            Some((states, currencies)) => {
                (summary.states, summary.currencies) = (states, currencies);
                Outcome::Done
            }
            None => Outcome::Interrupted,
        };
        Ok(())
    }

    /// Writes down how the import ended. Who interrupted it, or has an error to read, does not wait long for that.
    async fn note_end(&self, import: Begun, summary: &mut Summary, progress: &Progress, shutdown: &Shutdown) {
        let Begun { id: import_id, is_kept } = import;
        if matches!(summary.outcome, Outcome::Done | Outcome::Published) {
            match self.ask(progress, shutdown, async || self.note(import_id, summary, false).await).await {
                Ok(Some(())) => return,
                Ok(None) => summary.outcome = Outcome::Interrupted,
                Err(_) => {}
            }
        }
        let noted = tokio::time::timeout(LAST_NOTE_MAX, self.note(import_id, summary, is_kept)).await;
        if !matches!(noted, Ok(Ok(()))) {
            progress.note("Postgres was away: how this import ended is not recorded there");
        }
    }

    /// Writes down where the import stands. One that is kept can be gone on with once it is interrupted.
    async fn note(&self, import_id: i64, summary: &Summary, is_kept: bool) -> Result<(), store::Error> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let outcome = ImportOutcome {
            sha256: summary.sha256.clone(),
            rows: count(summary.rows),
            rejected: count(summary.rejected_rows),
            rejected_orders: count(summary.rejected_orders),
            orders: count(summary.published()),
            duplicates: summary.duplicates().map(count),
            conflicts: summary.conflicts().map(count),
            is_abandoned: is_kept,
        };
        let status = summary.outcome.as_str();
        store::note_import_status(&self.store.pool(), import_id, &self.holder, status, &outcome).await
    }

    /// Fails if other workers than this session was told took the money.
    async fn close(self) -> anyhow::Result<()> {
        let gateways = self.crew.as_ref().map(|crew| crew.gateways().clone());
        if let Some(crew) = self.crew {
            crew.stop().await;
        }
        self.store.close().await;
        gateways.map_or(Ok(()), |gateways| demand_no_refusal(&gateways))
    }
}

/// Whether processes say that they run the stages that an import needs. Consumers prove nothing: Redis 7.0 counts how long one is
/// idle from its last message.
async fn is_anyone_at_work(backends: &Backends, args: &ImportArgs) -> anyhow::Result<bool> {
    let redis = backends.redis()?;
    let mut connection = redis.connect().await?;
    let stages = if args.refunds { <GroupedRefunds as Freight>::WAY } else { <Grouped as Freight>::WAY };
    let now_ms = redis.now_ms(&mut connection).await?;
    let mut processes = redis.processes(&mut connection, now_ms).await?;
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    // A local stack's processes are on this machine: one that was killed is known to be gone at once.
    let lives = |pid: u32| i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
    processes.retain(|process| {
        !process.draining
            && now_ms.saturating_sub(process.at_ms) < AT_WORK_MS
            && (process.host != host || lives(process.pid))
    });
    Ok(stages.iter().all(|stage| processes.iter().any(|process| process.stages.contains_key(stage.as_str()))))
}
