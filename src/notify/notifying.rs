//! The notifier as a part of a process that runs workers.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use pipeline::{
    shutdown::Shutdown,
    store::{self, FirstTold, WorkerSettings},
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
    /// A notifier that is to be started; none if no channel is chosen. From now on there is something to tell, also on
    /// channels that were never switched on before. Its connections are its own: nobody waits for one because a mail was
    /// slow.
    ///
    /// # Errors
    /// When the configuration is wrong, or Postgres is away.
    pub async fn prepare(
        backends: &Backends,
        args: &NotifyArgs,
        metrics: &ProcessMetrics,
    ) -> anyhow::Result<Option<Notifier>> {
        let Some(channels) = Channels::new(args, &NotifySecrets::from_env()?)? else { return Ok(None) };
        let store =
            backends.store(WorkerSettings::Worker, CONNECTIONS + args.channels().len().try_into().unwrap_or(1))?;
        metrics.watch_pool("notifier", &store);
        let first = if args.notify_last_day { FirstTold::LastDay } else { FirstTold::News };
        Ok(Some(Notifier::new(store, backends.redis()?, channels, first).await?))
    }

    /// Starts it. It ends with the signal.
    pub fn start(notifier: Notifier, shutdown: &Shutdown) -> Self {
        let notifier = Arc::new(notifier);
        let (running, shutdown) = (Arc::clone(&notifier), shutdown.clone());
        let task = tokio::spawn(async move {
            while AssertUnwindSafe(running.run(&shutdown)).catch_unwind().await.is_err() {
                error!("the notifier panicked and starts again");
                shutdown.sleep(AFTER_PANIC).await;
            }
        });
        Self { notifier, task }
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
