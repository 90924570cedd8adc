//! Waiting for servers that are away, for as long as it takes.

use std::time::{Duration, Instant};

use pipeline::{
    retry::{self, POSTGRES, REDIS},
    shutdown::Shutdown,
    store, streams,
};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A try that takes longer has met a server that hangs: Postgres itself ends a statement after 30 s.
const TRY_MAX: Duration = Duration::from_secs(60);

/// A failed exchange with one of the servers.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Redis, or the way to it.
    #[error("Redis at {} failed", REDIS.address())]
    Streams(#[from] streams::Error),
    /// Postgres, or the way to it.
    #[error("Postgres at {} failed", POSTGRES.address())]
    Store(#[from] store::Error),
}

/// A server that does not do what it is asked for, and may later.
#[derive(Debug)]
pub struct Outage {
    /// Its name.
    pub server: &'static str,
    /// What is the matter with it: the end of a sentence.
    pub state: String,
    /// It answers, and says why it does not.
    pub refuses: bool,
}

impl ServerError {
    /// Which server to wait for, and what is the matter with it, where waiting may help: the one place that decides it.
    pub fn outage(&self) -> Option<Outage> {
        let (server, refusal) = match self {
            Self::Streams(error) if error.is_transient() => ("Redis", error.refusal().map(streams::Refusal::as_str)),
            Self::Store(error) if error.is_transient() => ("Postgres", error.refusal().map(store::Refusal::as_str)),
            Self::Streams(_) | Self::Store(_) => return None,
        };
        let state = match refusal.map(|why| why.strip_prefix("it ").ok_or(why)) {
            None => "is away".to_owned(),
            Some(Ok(state)) => state.to_owned(),
            Some(Err(why)) => format!("refuses: {why}"),
        };
        Some(Outage { server, state, refuses: refusal.is_some() })
    }
}

/// Tries until it works, through outages of any length; `None` when the signal came first. The beginning and the end of
/// an outage are told once each. A try may be dropped half-way, and may be made again although it worked.
///
/// # Errors
/// When a try fails in a way that waiting does not heal.
pub async fn patiently<T>(
    shutdown: &Shutdown,
    mut tell: impl FnMut(&str),
    mut attempt: impl AsyncFnMut() -> Result<T, ServerError>,
) -> Result<Option<T>, ServerError> {
    let mut delays = retry::delays_up_to(PAUSE_MAX);
    let mut told: Option<(&str, Instant)> = None;
    loop {
        let tried = tokio::select! {
            tried = tokio::time::timeout(TRY_MAX, attempt()) => tried,
            () = shutdown.begun() => return Ok(None),
        };
        let (Outage { server, state, refuses }, why) = match tried {
            Ok(Ok(done)) => {
                if let Some((server, since)) = told {
                    tell(&format!("{server} is back after {} s", since.elapsed().as_secs()));
                }
                return Ok(Some(done));
            }
            Ok(Err(error)) => match error.outage() {
                Some(outage) => (outage, crate::exit::chain(&anyhow::Error::new(error))),
                None => return Err(error),
            },
            Err(_) => (
                Outage { server: "The server", state: "hangs".to_owned(), refuses: false },
                format!("no answer in {} s", TRY_MAX.as_secs()),
            ),
        };
        if told.is_none() {
            told = Some((server, Instant::now()));
            let way_out = if refuses { "; docs/runbooks/ServerRefuses.md says what to do about it" } else { "" };
            tell(&format!("{server} {state}, waiting; Ctrl-C is safe ({why}){way_out}"));
        }
        if !shutdown.sleep(delays.next().unwrap_or(PAUSE_MAX)).await {
            return Ok(None);
        }
    }
}
