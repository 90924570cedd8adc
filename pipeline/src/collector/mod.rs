//! The collector: sees to money that is owed. It applies what providers tell, asks them about what they have not
//! answered, ends payments that have taken too long, and looks again at refunds that wait.
//!
//! Any number of collectors may run. What one takes in hand it takes with a lease, so that no two ask about the same, and
//! what a dead one leaves behind is due again soon. Messages for settlement are emitted after the commit; should they be
//! lost in between, the reconciler emits them.

use std::{collections::BTreeMap, time::Duration};

use tracing::debug;

use crate::{
    failpoint,
    message::OrderRef,
    payments::{Payments, Settleable},
    retry::{Outage, POSTGRES, REDIS},
    shutdown::Shutdown,
    store::{self, CallbacksOf},
    streams::{self, KeptConnection, Redis},
    topology::StageName,
};

/// How long to rest when there was nothing to do. Somebody may be waiting for what a provider told.
const REST: Duration = Duration::from_millis(100);

/// The same where what comes is due by the second: an idle collector costs the servers little.
const LONG_REST: Duration = Duration::from_millis(500);

/// Looks after payments and refunds.
#[derive(Debug, Clone)]
pub struct Collector {
    payments: Payments,
    redis: Redis,
}

/// What a collector does, each on its own: a provider that hangs holds up only the questions.
#[derive(Debug, Clone, Copy)]
enum Duty {
    Callbacks(CallbacksOf),
    Charges,
    Refunds,
    WaitingRefunds,
}

impl Duty {
    fn rest(self) -> Duration {
        match self {
            Self::Callbacks(_) => REST,
            Self::Charges | Self::Refunds | Self::WaitingRefunds => LONG_REST,
        }
    }
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum CollectorError {
    #[error("Postgres: {0}")]
    Store(#[from] store::Error),
    #[error("Redis: {0}")]
    Streams(#[from] streams::Error),
}

impl Collector {
    /// A collector at this desk.
    pub fn new(payments: Payments, redis: Redis) -> Self {
        Self { payments, redis }
    }

    /// Works until the signal, through any number of lost connections.
    pub async fn run(&self, shutdown: &Shutdown) {
        tokio::join!(
            self.attend(Duty::Callbacks(CallbacksOf::Charges), shutdown),
            self.attend(Duty::Callbacks(CallbacksOf::Refunds), shutdown),
            self.attend(Duty::Charges, shutdown),
            self.attend(Duty::Refunds, shutdown),
            self.attend(Duty::WaitingRefunds, shutdown),
        );
    }

    async fn attend(&self, duty: Duty, shutdown: &Shutdown) {
        let mut outage = Outage::default();
        let mut redis = KeptConnection::new(&self.redis);
        while !shutdown.has_begun() {
            match self.round(duty, &mut redis).await {
                Ok(0) => {
                    outage.is_over();
                    shutdown.sleep(duty.rest()).await;
                }
                Ok(_) => outage.has_written(),
                Err(error) => {
                    redis.forget();
                    match &error {
                        CollectorError::Store(error) if error.kind() == store::ErrorKind::Contention => {
                            debug!(role = "collector", ?duty, %error, "another transaction was in the way");
                        }
                        CollectorError::Store(error) => outage.goes_on(&POSTGRES, error),
                        CollectorError::Streams(error) => outage.goes_on(&REDIS, error),
                    }
                    shutdown.sleep(outage.delay()).await;
                }
            }
        }
    }

    /// Does what is due now, up to a bound; how much there was.
    async fn round(&self, duty: Duty, redis: &mut KeptConnection) -> Result<usize, CollectorError> {
        let (done, settled) = match duty {
            Duty::Callbacks(of) => self.payments.apply_callbacks(of).await?,
            Duty::Charges => self.payments.ask_about_charges().await?,
            Duty::Refunds => (self.payments.ask_about_refunds().await?, Vec::new()),
            Duty::WaitingRefunds => (self.payments.look_at_waiting_refunds().await?, Vec::new()),
        };
        if !settled.is_empty() {
            self.emit(redis, settled).await?;
        }
        Ok(done)
    }

    /// Gives orders whose payment has its answer a message for settlement.
    async fn emit(&self, redis: &mut KeptConnection, settled: Vec<Settleable>) -> Result<(), streams::Error> {
        let mut partitions: BTreeMap<u16, Vec<OrderRef>> = BTreeMap::new();
        for Settleable { order, partition } in settled {
            partitions.entry(partition).or_default().push(order);
        }
        for (partition, orders) in partitions {
            failpoint::hit::<streams::Error>("collector.before_emit")?;
            self.redis.emit(redis.get().await?, partition, StageName::Settlement, &orders).await?;
            failpoint::hit::<streams::Error>("collector.emitted")?;
        }
        Ok(())
    }
}
