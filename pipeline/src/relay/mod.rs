//! The relay: carries events from Postgres to the board in Redis — KPIs, leaderboards, the events stream.
//!
//! The cursor lives beside the data and moves in the same script, so a Redis that lost its last second lost both
//! alike, and the relay goes on from there. From zero it *is* the rebuild.

mod apply;
mod board;

pub use apply::EVENTS_KEPT;
pub(crate) use apply::day_board_end;
pub use board::{Board, BoardSnapshot};

use std::time::Duration;

use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use sqlx::PgConnection;
use tracing::{error, warn};

use crate::{
    metrics::Metrics,
    retry::{EVENTS, Failure, Outage, POSTGRES, REDIS},
    shutdown::Shutdown,
    store::{self, Reconciliation, Store},
    streams::{self, KeptConnection, Redis},
};

/// Most events in one step.
const STEP_EVENTS_MAX: i64 = 5_000;

/// How long to rest after a step that was not full. A customer's or product's score changes once a step, so larger
/// steps are cheaper ones.
const REST: Duration = Duration::from_millis(100);

/// How often a relay that is not the active one looks whether it may be.
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// How long an exchange with one of the servers may take. A relay that waits for longer cannot do its work, and another
/// one may be able to: it gives the lock up and begins anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to clear a board, which is many exchanges.
const CLEAR_PATIENCE: Duration = Duration::from_secs(300);

/// Carries events while it is the one active relay.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    redis: Redis,
    carried: IntCounter,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("Postgres: {0}")]
    Store(#[from] store::Error),
    #[error("Redis: {0}")]
    Streams(#[from] streams::Error),
    #[error("Redis: no answer for {} s: the connection is given up", .0.as_secs())]
    RedisSilent(Duration),
    #[error("the events after {after} are not gap-free: {found} of {expected} are there, with their orders")]
    Gap { after: i64, found: usize, expected: i64 },
}

impl Failure for RelayError {}

impl RelayError {
    fn say(&self, outage: &mut Outage) {
        match self {
            Self::Store(error) => outage.goes_on(&POSTGRES, error),
            Self::Streams(error) => outage.goes_on(&REDIS, error),
            Self::RedisSilent(_) => outage.goes_on(&REDIS, self),
            Self::Gap { .. } => outage.goes_on(&EVENTS, self),
        }
    }
}

impl From<sqlx::Error> for RelayError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Relay {
    /// A relay between these two.
    pub fn new(store: Store, redis: Redis, metrics: &Metrics) -> Self {
        Self { store, redis, carried: metrics.relay_events() }
    }

    /// Carries events until the signal, through any number of lost connections.
    pub async fn run(&self, shutdown: &Shutdown) {
        let mut outage = Outage::default();
        while !shutdown.has_begun() {
            let Err(error) = self.session(shutdown, &mut outage).await else { return };
            error.say(&mut outage);
            shutdown.sleep(outage.delay()).await;
        }
    }

    async fn session(&self, shutdown: &Shutdown, outage: &mut Outage) -> Result<(), RelayError> {
        // Who cannot reach Redis does not ask for the lock.
        let mut kept = KeptConnection::new(&self.redis);
        kept.get().await?;
        // The lock lasts as long as this session, and so must our belief in it.
        let mut postgres = self.store.session().await?;
        while !asked(store::try_become_relay(&mut postgres)).await? {
            if !shutdown.sleep(STANDBY_WAIT).await {
                return Ok(());
            }
        }
        let (postgres, redis) = (&mut postgres, kept.get().await?);
        let mut cursor = self.start(postgres, redis).await?;
        // Only now: a Redis that is loading its file accepts connections and nothing else.
        outage.is_over();
        while !shutdown.has_begun() {
            match self.step(postgres, redis, cursor).await? {
                Step::Carried(to) => {
                    outage.has_written();
                    self.carried.inc_by((to - cursor).unsigned_abs());
                    let full = to - cursor == STEP_EVENTS_MAX;
                    cursor = to;
                    if !full {
                        shutdown.sleep(REST).await;
                    }
                }
                Step::Idle => {
                    shutdown.sleep(REST).await;
                }
                Step::Moved => cursor = self.start(postgres, redis).await?,
            }
        }
        Ok(())
    }

    /// Where to go on. A board without a cursor, of another layout, ahead of Postgres, or at an event that is another in
    /// Postgres cannot be trusted and is built anew.
    async fn start(&self, postgres: &mut PgConnection, redis: &mut MultiplexedConnection) -> Result<i64, RelayError> {
        let board = Board::new(self.redis.keys().clone());
        let last = asked(store::last_event_seq(postgres)).await?;
        let found = match answered(board.cursor(redis)).await? {
            Some(cursor) if cursor > last => format!("the board shows event {cursor}, but Postgres has only {last}"),
            Some(cursor) if !self.is_same_event(postgres, redis, cursor).await? => {
                format!("the event {cursor} that the board shows is another one in Postgres")
            }
            // One that moved under another layout lacks figures that cannot be added any more.
            Some(cursor) if answered(board.layout(redis)).await? != Some(apply::layout_at(cursor)) => {
                warn!(cursor, "an earlier version wrote the board: building it anew");
                cleared(board.clear(redis)).await?;
                return Ok(0);
            }
            Some(cursor) => return Ok(cursor),
            None => {
                if cleared(board.clear(redis)).await? > 0 {
                    warn!("the board has no cursor: building it anew");
                }
                return Ok(0);
            }
        };
        error!(
            found,
            "Postgres was restored to an older state: building the board anew. Before orders since then are added again, look who \
             takes the money (orderstream provider) and compare the ledgers of all providers (docs/OPERATIONS.md, Postgres was restored)"
        );
        asked(store::note_reconciliation(postgres, &Reconciliation::postgres_restored(found))).await?;
        cleared(board.clear(redis)).await?;
        Ok(0)
    }

    async fn is_same_event(
        &self,
        postgres: &mut PgConnection,
        redis: &mut MultiplexedConnection,
        cursor: i64,
    ) -> Result<bool, RelayError> {
        let board = Board::new(self.redis.keys().clone());
        // Boards of earlier versions have no mark.
        let Some(shown) = answered(board.cursor_event(redis)).await?.filter(|_| cursor > 0) else { return Ok(true) };
        let events = asked(store::board_events_after(postgres, cursor - 1, 1)).await?;
        Ok(events.first().is_some_and(|event| apply::mark(event) == shown))
    }

    /// Carries the next events, if there are any.
    async fn step(
        &self,
        postgres: &mut PgConnection,
        redis: &mut MultiplexedConnection,
        cursor: i64,
    ) -> Result<Step, RelayError> {
        let events = asked(store::board_events_after(postgres, cursor, STEP_EVENTS_MAX)).await?;
        let Some(last) = events.last().map(|event| event.seq) else {
            // Redis may have been emptied under us; looking costs one read per idle round.
            let board = Board::new(self.redis.keys().clone());
            let unmoved = answered(board.cursor(redis)).await?.unwrap_or(0) == cursor;
            return Ok(if unmoved { Step::Idle } else { Step::Moved });
        };
        // A figure without one of its events could never be put right: better none.
        if i64::try_from(events.len()) != Ok(last - cursor) {
            return Err(RelayError::Gap { after: cursor, found: events.len(), expected: last - cursor });
        }
        let pieces = asked(store::pieces_sold_in(postgres, &events)).await?;
        let change = apply::Change::new(self.redis.keys(), cursor, &events, &pieces);
        Ok(if answered(change.apply(redis)).await? { Step::Carried(last) } else { Step::Moved })
    }
}

/// What Postgres answers in time.
async fn asked<T>(question: impl Future<Output = Result<T, store::Error>>) -> Result<T, RelayError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(store::Error::NoAnswer { seconds: PATIENCE.as_secs() }.into()),
    }
}

/// What Redis answers in time.
async fn answered<T>(question: impl Future<Output = Result<T, streams::Error>>) -> Result<T, RelayError> {
    within(PATIENCE, question).await
}

async fn cleared<T>(question: impl Future<Output = Result<T, streams::Error>>) -> Result<T, RelayError> {
    within(CLEAR_PATIENCE, question).await
}

async fn within<T>(
    patience: Duration,
    question: impl Future<Output = Result<T, streams::Error>>,
) -> Result<T, RelayError> {
    Ok(tokio::time::timeout(patience, question).await.map_err(|_| RelayError::RedisSilent(patience))??)
}

enum Step {
    /// The board now stands at this event.
    Carried(i64),
    /// Nothing to carry.
    Idle,
    /// The board stands elsewhere than we believed.
    Moved,
}
