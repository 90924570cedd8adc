//! `orderstream import`: read, publish, wait, sum up.

pub(crate) mod reading;
mod refunds;
pub(crate) mod summary;

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pipeline::{
    shutdown::Shutdown,
    store::{self, ImportKind, ImportOutcome, Store, WorkerSettings},
};

use super::{catalogue, run::Crew, shutdown_on_signal};
use crate::{
    backends::{Backends, FIRST_CUSTOMERS, FIRST_PRODUCTS, FIRST_STOCK},
    cli::{ImportArgs, Role, WorkerArgs},
    config::Globals,
    exit::{Exit, Refusal},
    import::{Grouped, GroupedRefunds},
    intake::{Freight, Intake},
    metrics::ProcessMetrics,
    output,
    patience::{ServerError, patiently},
    progress::{Progress, Standing},
};
use reading::File;
use summary::{Outcome, Summary};

/// A consumer that asked for work this recently is at work.
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
                eprintln!("error: {error:#}");
                outcome = Ok(Exit::Failed);
            }
            Err(error) => outcome = Err(error),
        }
    }
    if let Some(session) = session {
        session.close().await;
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
        let crew = match backends.is_local() && !args.no_wait && !is_anyone_at_work(&backends, partitions, args).await?
        {
            true => {
                let (workers, metrics) = (WorkerArgs::with(&args.payment), ProcessMetrics::new()?);
                Some(Crew::start(&backends, Role::ALL, &workers, &metrics, false, shutdown).await?)
            }
            false => None,
        };
        Ok(Self { store, backends, partitions, crew })
    }

    /// On servers whose workers somebody else runs.
    pub(crate) fn over(backends: &Backends, store: &Store, partitions: u16) -> Self {
        Self { store: store.clone(), backends: backends.clone(), partitions, crew: None }
    }

    /// Records that a file of orders is being read; the import's number.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub(crate) async fn begin(&self, file: &str) -> Result<i64, store::Error> {
        store::start_import(&self.store.pool(), ImportKind::Orders, file).await
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
        let start = async || store::start_import(&self.store.pool(), summary.kind, &summary.file).await;
        let Some(import_id) = self.ask(progress, shutdown, start).await? else {
            summary.outcome = Outcome::Interrupted;
            return Ok(summary);
        };
        self.go_on(import_id, file, args, &mut summary, progress, shutdown).await?;
        Ok(summary)
    }

    /// Imports a file under its number, and writes down how that ended.
    ///
    /// # Errors
    /// As the command.
    pub(crate) async fn go_on(
        &self,
        import_id: i64,
        file: File,
        args: &ImportArgs,
        summary: &mut Summary,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        summary.import_id = Some(import_id);
        let noting = self.note_progress(import_id, progress.standing());
        let work = async {
            match file.kind {
                ImportKind::Orders => self.import_as(import_id, file, args, summary, progress, shutdown).await,
                ImportKind::Refunds => self.import_refunds(import_id, file, args, summary, progress, shutdown).await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            never = noting => match never {},
        };
        if result.is_err() {
            summary.outcome = Outcome::Failed;
        }
        self.note_end(import_id, summary, progress, shutdown).await;
        result
    }

    /// Writes down every few seconds how far the import is, for whoever watches from another process.
    async fn note_progress(&self, import_id: i64, standing: Arc<Mutex<Standing>>) -> Infallible {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            let Standing { position, length, .. } = standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let noted =
                store::note_import_progress(&self.store.pool(), import_id, count(position), length.map(count)).await;
            if let Err(error) = noted {
                // The next one will do; the import itself says that Postgres is away.
                tracing::debug!(%error, "the progress of the import is not noted");
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
        if self.ask(progress, shutdown, async || self.note(import_id, summary).await).await?.is_none() {
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
        if self.ask(progress, shutdown, async || self.note(import_id, summary).await).await?.is_none() {
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
                drained = crew.drained() => drained?,
                () = shutdown.begun() => {
                    summary.outcome = Outcome::Interrupted;
                    return Ok(());
                }
            }
            summary.settled(publishing.elapsed(), crew.counts());
            let latency = async || store::import_latency(&self.store.pool(), import_id).await;
            summary.latency = self.ask(progress, shutdown, latency).await?.flatten();
        }
        let states = async || store::state_counts(&self.store.pool(), Some(import_id)).await;
        summary.outcome = match self.ask(progress, shutdown, states).await? {
            Some(states) => {
                summary.states = states;
                Outcome::Done
            }
            None => Outcome::Interrupted,
        };
        Ok(())
    }

    /// Writes down how the import ended. Who interrupted it, or has an error to read, does not wait long for that.
    async fn note_end(&self, import_id: i64, summary: &mut Summary, progress: &Progress, shutdown: &Shutdown) {
        if matches!(summary.outcome, Outcome::Done | Outcome::Published) {
            match self.ask(progress, shutdown, async || self.note(import_id, summary).await).await {
                Ok(Some(())) => return,
                Ok(None) => summary.outcome = Outcome::Interrupted,
                Err(_) => {}
            }
        }
        let noted = tokio::time::timeout(LAST_NOTE_MAX, self.note(import_id, summary)).await;
        if !matches!(noted, Ok(Ok(()))) {
            progress.note("Postgres was away: how this import ended is not recorded there");
        }
    }

    /// Writes down where the import stands.
    async fn note(&self, import_id: i64, summary: &Summary) -> Result<(), store::Error> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let outcome = ImportOutcome {
            sha256: summary.sha256.clone(),
            rows: count(summary.rows),
            rejected: count(summary.rejected_rows),
            rejected_orders: count(summary.rejected_orders),
            orders: count(summary.published()),
            duplicates: summary.duplicates().map(count),
            conflicts: summary.conflicts().map(count),
        };
        store::note_import_status(&self.store.pool(), import_id, summary.outcome.as_str(), &outcome).await
    }

    async fn close(self) {
        if let Some(crew) = self.crew {
            crew.stop().await;
        }
        self.store.close().await;
    }
}

/// Whether some process already runs workers on these servers.
async fn is_anyone_at_work(backends: &Backends, partitions: u16, args: &ImportArgs) -> anyhow::Result<bool> {
    let redis = backends.redis()?;
    let mut connection = redis.connect().await?;
    let stages = if args.refunds { <GroupedRefunds as Freight>::WAY } else { <Grouped as Freight>::WAY };
    for partition in 0..partitions {
        for stage in stages {
            let group = redis.group_state(&mut connection, partition, *stage).await?;
            let busy = group.is_some_and(|group| group.consumers.iter().any(|consumer| consumer.idle_ms < AT_WORK_MS));
            if !busy {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
