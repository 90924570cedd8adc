//! Whether Postgres and Redis do what requests need of them: asked once a second at most, however often it is asked here.

use std::time::{Duration, Instant};

use pipeline::{retry::POSTGRES, store, streams};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{App, problem::Problem};

/// A server that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a look is good for.
const KEPT: Duration = Duration::from_secs(1);

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, State)>>);

/// How each of them stands: `ok`, or what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    postgres: String,
    schema: &'static str,
    redis: String,
}

const OK: &str = "ok";

impl State {
    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let Self { postgres, schema, redis } = self;
        let is_well = [postgres.as_str(), schema, redis].iter().all(|state| *state == OK);
        (!is_well).then(|| format!("postgres: {postgres}, schema: {schema}, redis: {redis}"))
    }
}

impl Readiness {
    /// How they stand. A change is said in the log.
    pub(super) async fn look(&self, app: &App) -> State {
        let mut kept = self.0.lock().await;
        if let Some((_, state)) = kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return state.clone();
        }
        let ((postgres, schema), redis) = tokio::join!(postgres(app), redis(app));
        let state = State { postgres, schema, redis };
        let before = kept.as_ref().and_then(|(_, state)| state.trouble());
        match (before, state.trouble()) {
            (before, Some(trouble)) if before.as_ref() != Some(&trouble) => warn!(trouble, "not ready"),
            (Some(_), None) => info!("ready again"),
            _ => {}
        }
        *kept = Some((Instant::now(), state.clone()));
        state
    }
}

async fn postgres(app: &App) -> (String, &'static str) {
    let look = async {
        let is_current = app.store.is_schema_current().await?;
        Ok::<_, store::Error>((is_current, app.store.probe().await?))
    };
    let refuses = |why: &str| format!("refuses ({why})");
    let error = match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok((is_current, refusal))) => {
            let told = || app.monitor.latest().postgres_refuses.as_ref().map(|away| away.error.clone());
            let refusal = refusal.map(store::Refusal::as_str).or_else(|| POSTGRES.refuses()).map(str::to_owned);
            let state = refusal.or_else(told).map_or_else(|| OK.to_owned(), |why| refuses(&why));
            return (state, if is_current { OK } else { "behind" });
        }
        Ok(Err(error)) if error.is_schema_old() => return (OK.to_owned(), "missing"),
        Ok(Err(error)) if !error.is_unreachable() => Some(error),
        Ok(Err(_)) | Err(_) => app.store.why_unreachable().await,
    };
    match error.and_then(|error| error.refusal()) {
        Some(refusal) => (refuses(refusal.as_str()), "unknown"),
        None => ("away".to_owned(), "unknown"),
    }
}

async fn redis(app: &App) -> String {
    let probe = async {
        let mut connection = app.connection().await?;
        app.answered(app.redis.probe(&mut connection).await).await
    };
    let refuses = |why: &str| format!("refuses writes ({why})");
    match tokio::time::timeout(PATIENCE, probe).await {
        Ok(Ok(Some(refusal))) => refuses(refusal.as_str()),
        Ok(Ok(None)) => {
            // A stream that takes no more, or a command that is denied, is not seen by writing elsewhere.
            let told = || app.monitor.latest().redis_refuses.as_ref().map(|away| away.error.clone());
            let refusal = streams::denied().map(str::to_owned).or_else(told);
            refusal.map_or_else(|| OK.to_owned(), |why| refuses(&why))
        }
        Ok(Err::<Option<streams::Refusal>, Problem>(problem)) if problem.code() == super::Code::RedisRefuses => {
            problem.detail().to_owned()
        }
        Ok(Err(_)) | Err(_) => "away".to_owned(),
    }
}
