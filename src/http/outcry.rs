//! What requests say in the log of servers that fail them: each trouble once a minute, not with every request.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, warn};

/// How long the same is not said again.
const SILENCE: Duration = Duration::from_secs(60);

/// What was said last, and when.
static SAID: Mutex<BTreeMap<(&str, &str), Instant>> = Mutex::new(BTreeMap::new());

/// Says that a server fails requests, and why, if that has not been said within a minute.
pub(super) fn say(what: &'static str, why: &'static str, error: &dyn Display) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get(&(what, why)).is_some_and(|at| at.elapsed() < SILENCE) {
        debug!(%error, "{what}");
        return;
    }
    said.insert((what, why), Instant::now());
    match why {
        "" => warn!(%error, "{what}: requests fail"),
        why => warn!(%error, "{what}, so requests fail: {why}"),
    }
}
