//! Why a Postgres that answers does not do what it is asked for.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection,
    error::DatabaseError,
    postgres::{PgDatabaseError, PgSeverity},
};

use super::{Error, Store};
use crate::retry::Failure;

/// How long a connection may take that is only to say why others fail.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A state in which Postgres answers, and refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A standby, or told to be read-only.
    ReadOnly,
    /// A disk is full.
    DiskFull,
    /// It takes no more connections.
    TooManyConnections,
    /// It has no memory left.
    OutOfMemory,
    /// Nobody may connect to the database.
    Closed,
    /// Whoever we come as may not do that, or is not let in.
    Denied,
}

impl Refusal {
    /// What is wrong: the end of a sentence that says that Postgres refuses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "it is read-only (a standby, or default_transaction_read_only)",
            Self::DiskFull => "its disk is full",
            Self::TooManyConnections => "it has too many connections (max_connections)",
            Self::OutOfMemory => "it is out of memory",
            Self::Closed => "its database takes no connections (ALTER DATABASE … ALLOW_CONNECTIONS)",
            Self::Denied => {
                "it denies us a table, or does not let us in: the role, its privileges or its password (DATABASE_URL)"
            }
        }
    }
}

impl Failure for Error {
    fn refusal(&self) -> Option<&'static str> {
        self.refusal().map(Refusal::as_str)
    }

    fn refuses_writes_only(&self) -> bool {
        matches!(self.refusal(), Some(Refusal::ReadOnly | Refusal::DiskFull))
    }
}

impl Error {
    /// Why Postgres refuses, if that is what failed.
    pub fn refusal(&self) -> Option<Refusal> {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return None };
        Some(match error.code().as_deref()? {
            "25006" => Refusal::ReadOnly,
            "53100" => Refusal::DiskFull,
            "53200" => Refusal::OutOfMemory,
            "53300" => Refusal::TooManyConnections,
            // A statement that comes at the wrong time has this code, too, and does not end the session.
            "55000" if is_fatal(&**error) => Refusal::Closed,
            "42501" | "28000" | "28P01" => Refusal::Denied,
            _ => return None,
        })
    }
}

/// Whether Postgres hangs up with it.
fn is_fatal(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

impl Store {
    /// Whether Postgres takes writes now, as far as asking tells; `Some` says why it does not.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn probe(&self) -> Result<Option<Refusal>, Error> {
        let is_read_only: bool =
            sqlx::query_scalar("SELECT current_setting('transaction_read_only')::bool").fetch_one(&self.pool()).await?;
        Ok(is_read_only.then_some(Refusal::ReadOnly))
    }

    /// Why no connection can be had: what a pool waits for in silence, one connection of its own says. `None` if that one
    /// could be had, or nothing was said in time.
    pub async fn why_unreachable(&self) -> Option<Error> {
        match tokio::time::timeout(LOOK_MAX, self.options().connect()).await {
            Ok(Ok(connection)) => {
                // Whether it says goodbye changes nothing.
                connection.close().await.ok();
                None
            }
            Ok(Err(error)) => Some(error.into()),
            Err(_) => None,
        }
    }
}
