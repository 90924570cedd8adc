//! The notifier as a part of a process that runs workers.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use pipeline::{
    shutdown::Shutdown,
    store::{self, WorkerSettings},
};
use tokio::task::JoinHandle;
use tracing::error;

use super::{Channels, Notifier, NotifySecrets};
use crate::{backends::Backends, cli::notify::NotifyArgs, metrics::ProcessMetrics};

/// Pause before a notifier that panicked starts again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Connections beside those of the tries: the lock, the queue.
const CONNECTIONS: u32 = 3;

/// A notifier that runs.
#[derive(Debug)]
pub struct Notifying {
    notifier: Arc<Notifier>,
    task: JoinHandle<()>,
}

impl Notifying {
    /// Starts a notifier that ends with the signal; none if no channel is chosen. Its connections are its own: nobody
    /// waits for one because a mail was slow.
    ///
    /// # Errors
    /// When the configuration is wrong, or Postgres is away.
    pub async fn start(
        backends: &Backends,
        args: &NotifyArgs,
        metrics: &ProcessMetrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Option<Self>> {
        let Some(channels) = Channels::new(args, &NotifySecrets::from_env()?)? else { return Ok(None) };
        let store =
            backends.store(WorkerSettings::Worker, CONNECTIONS + args.channels().len().try_into().unwrap_or(1))?;
        metrics.watch_pool("notifier", &store);
        let notifier = Arc::new(Notifier::new(store, backends.redis()?, channels).await?);
        let (running, shutdown) = (Arc::clone(&notifier), shutdown.clone());
        let task = tokio::spawn(async move {
            while AssertUnwindSafe(running.run(&shutdown)).catch_unwind().await.is_err() {
                error!("the notifier panicked and starts again");
                shutdown.sleep(AFTER_PANIC).await;
            }
        });
        Ok(Some(Self { notifier, task }))
    }

    /// As [`Notifier::is_done`].
    ///
    /// # Errors
    /// As any statement.
    pub async fn is_done(&self) -> Result<bool, store::Error> {
        self.notifier.is_done().await
    }

    /// Waits for what is being sent, up to `deadline`, once the signal is given; whether it came to its end.
    pub async fn stop(self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.task).await.is_ok()
    }
}
