//! What a failed statement means to whoever ran it.

use sqlx::migrate::MigrateError;

/// What the function `demand_gateway` fails with.
const OTHER_GATEWAY: &str = "OS001";

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The values themselves were refused (SQLSTATE class 22 or 23): the same batch will fail again, its good part
    /// will not.
    Values,
    /// Another transaction was in the way (deadlock, serialization, a row that appeared meanwhile): again, at once.
    Contention,
    /// Postgres is away, full, restarting, or not as expected: again, for as long as it takes.
    Unavailable,
}

/// A failed statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What Postgres, or the way to it, answered.
    #[error("{}", said(.0))]
    Sql(sqlx::Error),
    /// No connection could be had: nobody listens, nobody answers, or all connections of the pool are in use.
    #[error("no connection within {seconds} s")]
    NoConnection {
        /// How long was waited.
        seconds: u64,
    },
    /// The database cannot hold every text.
    #[error(
        "the database {database} has the encoding {encoding}, and must have UTF8; create another one: \
         CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
    )]
    Encoding {
        /// Its name.
        database: String,
        /// What it has.
        encoding: String,
    },
    /// A migration failed.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// Some of the orders, or of their ids, are taken since we looked.
    #[error("some of these orders were inserted at the same time")]
    Raced,
    /// No answer came for so long that the connection was given up.
    #[error("no answer for {seconds} s: the connection is given up")]
    NoAnswer {
        /// How long was waited.
        seconds: u64,
    },
    /// No gateway has ever been set for this installation.
    #[error("nobody takes new payments yet")]
    NoGateway,
    /// What is recorded of the gateway that takes new payments has changed since this process read it.
    #[error("the gateway {name} has another address or other keys since")]
    GatewayChanged {
        /// What payments are stored under.
        name: String,
    },
    /// The one row of `event_counter` is gone.
    #[error("the table event_counter has no row: insert the highest seq of events, or 0")]
    CounterMissing,
    /// A setting in the table `settings` cannot be read.
    #[error("the setting {name} is {value:?}, which is no number that fits")]
    Setting {
        /// Its key.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A row holds what this version does not write.
    #[error("Postgres has {value:?}, which is not {what}")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// A row holds a word that this version does not know.
    #[error(transparent)]
    UnknownWord(#[from] crate::domain::UnknownWord),
}

/// What Postgres said, without the line of its own source; else what happened on the way to it.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        error => error.to_string(),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::NoConnection { seconds: super::connection::CONNECT_TIMEOUT.as_secs() },
            error => Self::Sql(error),
        }
    }
}

/// As if the way to Postgres had failed.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Sql(error.into())
    }
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Raced | Self::GatewayChanged { .. } => ErrorKind::Contention,
            Self::Sql(sqlx::Error::Database(error)) => match error.code().as_deref() {
                Some("40001" | "40P01" | "55P03" | OTHER_GATEWAY) => ErrorKind::Contention,
                Some(code) if code.starts_with("22") || code.starts_with("23") => ErrorKind::Values,
                _ => ErrorKind::Unavailable,
            },
            // Values that cannot even be encoded.
            Self::Sql(sqlx::Error::Encode(_)) => ErrorKind::Values,
            Self::Sql(_)
            | Self::NoGateway
            | Self::NoConnection { .. }
            | Self::NoAnswer { .. }
            | Self::Encoding { .. }
            | Self::Migrate(_)
            | Self::CounterMissing
            | Self::Setting { .. }
            | Self::Unreadable { .. }
            | Self::UnknownWord(_) => ErrorKind::Unavailable,
        }
    }

    /// What Postgres says of a statement that it refused.
    pub(super) fn as_refusal(&self) -> Option<&dyn sqlx::error::DatabaseError> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => Some(&**error),
            _ => None,
        }
    }

    /// Whether no connection could be had.
    pub fn is_unreachable(&self) -> bool {
        let error = match self {
            Self::Sql(error) | Self::Migrate(MigrateError::Execute(error)) => error,
            Self::NoConnection { .. } | Self::NoAnswer { .. } => return true,
            _ => return false,
        };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
            }
            _ => false,
        }
    }

    /// Whether time may heal it: Postgres is away, starting, full, failing over, or another transaction was in the way.
    /// What else it refuses it will refuse again: somebody has to change something.
    pub fn is_transient(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, InvalidInput, PermissionDenied, Unsupported};
        match self {
            Self::Sql(sqlx::Error::Io(error)) => {
                !matches!(error.kind(), PermissionDenied | InvalidData | InvalidInput | Unsupported)
            }
            Self::Sql(sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed) => true,
            Self::NoConnection { .. } | Self::NoAnswer { .. } => true,
            // Connection lost (08), resources exhausted (53), cancelled or shutting down (57), input and output (58),
            // transaction rolled back (40), a lock not had in time, a standby that still refuses writes.
            Self::Sql(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class))
                    || matches!(&*code, "55P03" | "25006")
            }),
            Self::Raced => true,
            _ => false,
        }
    }

    /// Whether new payments are taken by another gateway than the statement named, or by one that has changed.
    pub fn is_other_gateway(&self) -> bool {
        matches!(self, Self::GatewayChanged { .. })
            || matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.code().as_deref() == Some(OTHER_GATEWAY))
    }

    /// Whether the server lets nobody in who comes like this: a wrong password, no such user or database, no such host
    /// in `pg_hba.conf`.
    pub fn is_turned_away(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code.starts_with("28") || code == "3D000")
    }

    /// Whether what answers is no Postgres.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Protocol(_)))
    }

    /// Whether the schema is missing, or of an earlier version: `orderstream migrate` has not been run. Every statement was
    /// checked against the schema of this version, so that a table, column, function or setting that is not there says so.
    pub fn is_schema_old(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::RowNotFound) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| matches!(&*code, "42P01" | "42703" | "42883" | "42704"))
            }
            _ => false,
        }
    }
}
