//! Why a Redis that answers does not do what it is asked for.

use redis::aio::MultiplexedConnection;

use super::{Error, Redis, StreamState};
use crate::{
    message::EntryId,
    retry::{Failure, REDIS},
};

/// Longest life of what is written to see whether something can be written, in milliseconds.
const PROBE_KEPT_MS: u64 = 10_000;

/// A state in which Redis answers, and refuses to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has reached its `maxmemory`.
    Full,
    /// Its last snapshot failed, and it is told to stop then.
    SnapshotFailed,
    /// It cannot write its append-only file.
    AppendFailed,
    /// It is a replica.
    ReadOnly,
    /// Fewer replicas follow it than it wants.
    TooFewReplicas,
    /// It takes no more clients.
    TooManyClients,
    /// A stream has given out the greatest id.
    IdsExhausted,
    /// Whoever we come as may not do that, or has no password.
    Denied,
}

impl Refusal {
    /// What is wrong: the end of a sentence that says that Redis refuses writes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "it is full (maxmemory)",
            Self::SnapshotFailed => "its last snapshot failed (stop-writes-on-bgsave-error): its disk may be full",
            Self::AppendFailed => "it cannot write its append-only file: its disk may be full",
            Self::ReadOnly => "it is a read-only replica",
            Self::TooFewReplicas => "too few replicas follow it (min-replicas-to-write)",
            Self::TooManyClients => "it has too many clients (maxclients)",
            Self::IdsExhausted => "a stream has given out the greatest id (docs/runbooks/ServerRefuses.md)",
            Self::Denied => "it denies us a command or a key (ACL), or wants another password (REDIS_URL)",
        }
    }

    /// Whether it passes without anybody who changes something: when there is room, or a primary, again.
    const fn passes(self) -> bool {
        !matches!(self, Self::IdsExhausted | Self::Denied)
    }

    /// What a refusal with this code says.
    fn of(code: &str, detail: &str) -> Option<Self> {
        Some(match code {
            "OOM" => Self::Full,
            "MISCONF" if detail.contains("AOF") => Self::AppendFailed,
            "MISCONF" => Self::SnapshotFailed,
            // Of who waits for entries while it becomes one.
            "UNBLOCKED" if detail.contains("replica") => Self::ReadOnly,
            "READONLY" => Self::ReadOnly,
            "NOREPLICAS" => Self::TooFewReplicas,
            "NOAUTH" | "NOPERM" | "WRONGPASS" => Self::Denied,
            // Of a command within a script, in the words of 7.0 and of later versions.
            "ERR" if detail.contains("user executing the script can't") => Self::Denied,
            "ERR" if detail.contains("ACL failure in script") => Self::Denied,
            "ERR" if detail.contains("max number of clients") => Self::TooManyClients,
            // Of an id that we did not choose.
            "ERR" if detail.contains("XADD") && detail.contains("equal or smaller") => Self::IdsExhausted,
            "ERR" if detail.contains("stream has exhausted the last possible ID") => Self::IdsExhausted,
            _ => return None,
        })
    }
}

impl Failure for Error {
    fn refusal(&self) -> Option<&'static str> {
        self.refusal().map(Refusal::as_str)
    }
}

impl Error {
    /// Why Redis refuses to write, if that is what failed.
    pub fn refusal(&self) -> Option<Refusal> {
        let Self::Redis(error) = self else { return None };
        // In a pipeline each command has an error of its own.
        let refusals = error.clone().into_server_errors()?;
        refusals.iter().find_map(|(_, refusal)| Refusal::of(refusal.code(), refusal.details().unwrap_or_default()))
    }
}

/// That Redis denies this process a command or a key; `None` while it does not. Who writes something else sees nothing of it.
pub fn denied() -> Option<&'static str> {
    REDIS.refuses().filter(|why| *why == Refusal::Denied.as_str())
}

/// Whether a refusal with this code passes without anybody who deletes something.
pub(super) fn passes(code: &str, detail: &str) -> bool {
    Refusal::of(code, detail).is_some_and(Refusal::passes)
}

impl StreamState {
    /// That the stream has given out the greatest id, so that nobody can add to it; `None` while it has not.
    pub fn ids_exhausted(&self) -> Option<String> {
        (self.last_id == Some(EntryId::MAX)).then(|| ids_exhausted(&self.key))
    }
}

/// That a stream has given out the greatest id, for people.
fn ids_exhausted(key: &str) -> String {
    let way_out = match key.ends_with(":dead") {
        true => format!(
            "Keep its letters (orderstream dead export letters.ndjson), delete it with: redis-cli DEL '{key}', and put them \
             back (orderstream dead import letters.ndjson)"
        ),
        false => format!("Once all in it is processed, delete it with: redis-cli DEL '{key}'; workers make it anew"),
    };
    format!(
        "{key} has given out the greatest id there is ({}), so nothing can be added to it. {way_out}. See \
         docs/runbooks/ServerRefuses.md",
        EntryId::MAX,
    )
}

impl Redis {
    /// Whether Redis takes writes now: writes a key of its own that expires. `Some` says why it does not.
    ///
    /// # Errors
    /// When Redis cannot be reached, or fails otherwise.
    pub async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<Option<Refusal>, Error> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys().probe()).arg("1").arg("PX").arg(PROBE_KEPT_MS);
        match set.exec_async(connection).await.map_err(Error::from) {
            Ok(()) => Ok(None),
            Err(error) => error.refusal().map(Some).ok_or(error),
        }
    }
}
